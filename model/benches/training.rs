//! A training step of HuBERT on the CPU beside `transformers`: forward, loss at masked frames with the front-end's penalty, backward, clipping
//! and AdamW, on the same shapes with the same dropout.
//!
//! `cargo xtask bench training`, or a part: `cargo bench -p reprise-model --bench training -- base-fp32`.

use reprise_model::encoder::{Keep, Mode, Places};
use std::rc::Rc;

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

use versus::{Comparison, Growth, Measured, Peer, Record, compare, timed};

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
    recompute: bool,
    wanted: f64,
    rounds: usize,
}

/// A network that is trained on noise.
struct Ours {
    store: VarStore,
    hubert: Hubert,
    head: Head,
    adam: Adam,
    wave_bs: Tensor,
    masks: Masks,
    places: Rc<Places>,
    places_n: Tensor,
    units_n: Tensor,
    depth: usize,
    half: bool,
    recompute: bool,
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
        let hidden = vec![(0..frames).map(|frame| frame % 2 == 0).collect(); case.rows as usize];
        let places = Places::new(&hidden, frames as usize, Device::Cpu).expect("some frames").into();
        let masks = Masks { time_bt: Some(time_bt), channel_bd: None };
        let depth = hubert.depth();
        let &Case { half, recompute, .. } = case;
        Self { store, hubert, head, adam, wave_bs, masks, places, places_n, units_n, depth, half, recompute }
    }

    fn step(&mut self) -> f64 {
        let skipped = vec![false; self.depth];
        let keep = if self.recompute { Keep::Inputs { shown: &[] } } else { Keep::All };
        let mode = Mode::Train { skipped: &skipped, keep };
        let pass = {
            let _autocast = self.half.then(|| Autocast::set(Device::Cpu, true).expect("autocast"));
            self.hubert.forward(&self.wave_bs, None, &self.masks, mode, Taps::OutputAt(&self.places))
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

    fn measure(&mut self) -> Measured {
        let (loss, mut measured) = timed(|| self.step());
        measured.insert("loss".into(), loss);
        measured
    }

    fn parameters(&self) -> usize {
        self.store.trainable_variables().iter().map(Tensor::numel).sum()
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
        recompute: false,
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
    let nano = |name, what, half| Case {
        name,
        what,
        network: nano_network.clone(),
        pretraining: Pretraining { head: head.clone(), ..Pretraining::default() },
        rows: 4,
        samples: 128_000,
        clusters: 100,
        half,
        recompute: false,
        wanted: 2.0,
        rounds: 21,
    };
    vec![
        base("base-fp32", "HuBERT BASE training step, 2 × 10 s, fp32", false),
        base("base-bf16", "HuBERT BASE training step, 2 × 10 s, bf16", true),
        nano("nano", "nano training step, 4 × 8 s, fp32", false),
        nano("nano-bf16", "nano training step, 4 × 8 s, bf16", true),
    ]
}

fn main() {
    let threads = versus::threads();
    tch::set_num_threads(threads as i32);
    shim::keep_memory();
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == POINT) {
        let numbers: Vec<i64> = arguments[place + 3..].iter().filter_map(|number| number.parse().ok()).collect();
        let point = at(numbers.try_into().expect("the numbers of a point"));
        return println!("{}", serde_json::to_string(&point).expect("numbers"));
    }
    for case in cases().into_iter().filter(|case| versus::wanted(case.name)) {
        let mut record = Record::new(threads);
        record.comparisons.push(beside(&case, threads));
        record.keep(&format!("training-{}", case.name));
    }
    if versus::wanted("growth") {
        let mut record = Record::new(threads);
        record.growth = growth();
        record.keep("training-growth");
    }
}

fn beside(case: &Case, threads: usize) -> Comparison {
    let mut ours = Ours::new(case);
    let mut peer = Peer::start("model/benches/peers/training.py", &[case.name], threads);
    let first = ours.step();
    ours.step();
    let comparison = compare(case.what, "transformers", case.wanted, case.rounds, &mut peer, || ours.measure());
    assert!(comparison.ours.iter().all(|turn| turn["loss"].is_finite() && turn["loss"] < 2.0 * first));
    comparison
}

/// Rows of ten seconds; layers, width and heads of an encoder; 1 where its layers are computed again in the backward pass.
type Point = [i64; 5];

/// Seconds and memory of our steps, against the audio in a batch and against parameters.
fn growth() -> Vec<Growth> {
    let by_batch = |recompute| [1, 2, 4, 8].map(|rows| ([rows, 12, 768, 12, recompute], "audio-seconds"));
    let by_size = [[2, 4, 256, 4, 0], [2, 12, 512, 8, 0], [2, 12, 768, 12, 0], [2, 24, 1024, 16, 0]]
        .map(|point| (point, "million-parameters"));
    let grown = |what: &str, size: &str, points: &[(Point, &str)]| {
        let points = points.iter().map(|(point, size)| {
            let mut measured = apart(point);
            measured.insert("size".into(), measured[*size]);
            println!("{what}: {measured:?}");
            measured
        });
        Growth { what: what.into(), size: size.into(), points: points.collect() }
    };
    vec![
        grown("training step of HuBERT BASE, fp32", "seconds of audio in a batch", &by_batch(0)),
        grown("the same with layers computed twice (`--recompute`)", "seconds of audio in a batch", &by_batch(1)),
        grown("training step of 2 × 10 s, fp32", "million parameters", &by_size),
    ]
}

/// Measures a point in a process of its own, whose memory is that of the point alone.
fn apart(point: &Point) -> Measured {
    let program = std::env::current_exe().expect("this program");
    let arguments = [POINT.into(), "--threads".into(), versus::threads().to_string()];
    let arguments = arguments.into_iter().chain(point.iter().map(i64::to_string));
    let output = std::process::Command::new(program).args(arguments).output().expect("this program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("numbers")
}

/// The name of the part that measures one [`Point`] and prints it.
const POINT: &str = "growth-point";

fn at([rows, layers, width, heads, recompute]: Point) -> Measured {
    const STEPS: usize = 3;
    let encoder = serde_json::json!({
        "layers": layers, "width": width, "heads": heads, "feed-forward": 4 * width, "layer-drop": 0.0,
    });
    let network = serde_json::from_value(serde_json::json!({ "encoder": encoder })).expect("a network");
    let mut ours = Ours::new(&Case { network, rows, recompute: recompute == 1, ..cases().swap_remove(0) });
    ours.step();
    let steps: Vec<Measured> = (0..STEPS).map(|_| ours.measure()).collect();
    let (seconds, audio) = (versus::median(&steps, "seconds"), rows as f64 * 10.0);
    let mut point = Measured::from(
        [
            ("seconds", seconds),
            ("audio-seconds", audio),
            ("audio-seconds-a-second", audio / seconds),
            ("million-parameters", ours.parameters() as f64 / 1e6),
        ]
        .map(|(name, number)| (name.to_owned(), number)),
    );
    point.extend(versus::peak_mib().map(|peak| ("peak-mib".into(), peak)));
    point
}
