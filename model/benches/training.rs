//! A training step of HuBERT on the CPU beside `transformers`: forward, loss at masked frames with the front-end's penalty, backward, clipping
//! and AdamW, on the same shapes with the same dropout.
//!
//! `cargo xtask bench training`, or a part: `cargo bench -p reprise-model --bench training -- base-fp32`.

use reprise_model::encoder::Mode;
use reprise_model::head::Head;
use reprise_model::hubert::{Hubert, Masks, Taps};
use reprise_model::optimiser::Adam;
use reprise_model::shim::{self, Autocast};
use reprise_spec::network::Network;
use reprise_spec::training::{self, Pretraining};
use reprise_spec::values::Clusters;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

#[path = "../../harness/benches/versus/mod.rs"]
mod versus;

use versus::{Measured, Peer, Record, compare, timed};

/// One size of network, batch and precision.
struct Case {
    name: &'static str,
    what: &'static str,
    network: Network,
    pretraining: Pretraining,
    rows: i64,
    samples: i64,
    clusters: u64,
    half: bool,
    wanted: f64,
    rounds: usize,
}

/// A network that is trained on noise.
struct Ours {
    hubert: Hubert,
    head: Head,
    adam: Adam,
    wave_bs: Tensor,
    masks: Masks,
    places_n: Tensor,
    units_n: Tensor,
    depth: usize,
    half: bool,
}

impl Ours {
    fn new(case: &Case) -> Self {
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let hubert = Hubert::new(&store.root(), &case.network);
        let clusters = [Clusters::try_from(case.clusters).expect("in range")];
        let head = Head::new(&store.root(), &case.network, &case.pretraining.head, &clusters);
        let adam = Adam::new(&store, &case.pretraining.optimiser);
        let wave_bs = Tensor::randn([case.rows, case.samples], (Kind::Float, Device::Cpu));
        let frames = reprise_spec::arithmetic::frames(case.samples as u64) as i64;
        // Every other frame, as many as the published settings hide.
        let time_bt = Tensor::arange(frames, (Kind::Int64, Device::Cpu)).remainder(2).eq(0).repeat([case.rows, 1]);
        let places_n = time_bt.flatten(0, -1).nonzero().squeeze_dim(1);
        let units_n = Tensor::randint(case.clusters as i64, [places_n.size()[0]], (Kind::Int64, Device::Cpu));
        let masks = Masks { time_bt: Some(time_bt), channel_bd: None };
        let depth = hubert.depth();
        Self { hubert, head, adam, wave_bs, masks, places_n, units_n, depth, half: case.half }
    }

    fn step(&mut self) -> f64 {
        let skipped = vec![false; self.depth];
        let mode = Mode::Train { skipped: &skipped };
        let pass = {
            let _autocast = self.half.then(|| Autocast::set(Device::Cpu, true).expect("autocast"));
            self.hubert.forward(&self.wave_bs, None, &self.masks, mode, Taps::Output)
        };
        let output_btd = &pass.outputs[0];
        let x_nd = output_btd.reshape([-1, output_btd.size()[2]]).index_select(0, &self.places_n);
        let score = self.head.score(&x_nd, &[self.units_n.shallow_clone()]).remove(0);
        let loss = score.loss / score.frames as f64 + pass.penalty * 10.0;
        loss.backward();
        self.hubert.scale_front_end_gradients(0.1);
        let gradients = self.adam.gradients();
        self.adam.step_at(5e-4, gradients).expect("a step");
        loss.double_value(&[])
    }
}

fn cases() -> Vec<Case> {
    let base = |name, what, half| Case {
        name,
        what,
        network: Network::default(),
        pretraining: Pretraining::default(),
        rows: 2,
        samples: 160_000,
        clusters: 500,
        half,
        wanted: 1.3,
        rounds: 7,
    };
    let nano: serde_json::Value = serde_json::json!({
        "model": {
            "front-end": { "log-mel": { "bins": 40 } },
            "encoder": {
                "layers": 4, "width": 192, "heads": 4, "feed-forward": 768, "layer-drop": 0.0,
                "positional": { "kernel": 32, "groups": 16 },
            },
            "dropout": { "residual": 0.05, "attention": 0.0, "input": 0.05 },
        },
        "head": { "cosine": { "dimension": 64 } },
    });
    let nano_network: Network = serde_json::from_value(nano["model"].clone()).expect("the preset's network");
    let head: training::Head = serde_json::from_value(nano["head"].clone()).expect("the preset's head");
    vec![
        base("base-fp32", "HuBERT BASE training step, 2 × 10 s, fp32", false),
        base("base-bf16", "HuBERT BASE training step, 2 × 10 s, bf16", true),
        Case {
            name: "nano",
            what: "nano training step, 4 × 8 s, fp32",
            network: nano_network,
            pretraining: Pretraining { head, ..Pretraining::default() },
            rows: 4,
            samples: 128_000,
            clusters: 100,
            half: false,
            wanted: 2.0,
            rounds: 21,
        },
    ]
}

fn main() {
    let threads = versus::threads();
    tch::set_num_threads(threads as i32);
    shim::keep_memory();
    let mut record = Record::new(threads);
    for case in cases().into_iter().filter(|case| versus::wanted(case.name)) {
        let mut ours = Ours::new(&case);
        let mut peer = Peer::start("model/benches/peers/training.py", &[case.name], threads);
        let first = ours.step();
        ours.step();
        let turn = || -> Measured {
            let (loss, mut measured) = timed(|| ours.step());
            measured.insert("loss".into(), loss);
            measured
        };
        let comparison = compare(case.what, "transformers", case.wanted, case.rounds, &mut peer, turn);
        assert!(comparison.ours.iter().all(|turn| turn["loss"].is_finite() && turn["loss"] < 2.0 * first));
        record.comparisons.push(comparison);
    }
    record.keep("training");
}
