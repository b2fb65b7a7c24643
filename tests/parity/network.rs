//! Hidden states, the pretraining loss and its gradients against torchaudio's HuBERT (tests/fixtures/generate/network.py).

use std::collections::BTreeMap;
use std::rc::Rc;

use reprise_model::encoder::{Keep, Mode, Places};
use reprise_model::framing::Rows;
use reprise_model::hubert::{Hubert, Masks, Taps};
use reprise_model::objective::Objective;
use reprise_model::selection::{Chosen, Selection, View};
use reprise_spec::arithmetic::frames;
use reprise_spec::network::{FrontEnd, LayerNormPlacement, Network};
use reprise_spec::stage::PretrainTargets;
use reprise_spec::training::Pretraining;
use reprise_spec::values::Clusters;
use serde::Deserialize;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::fixture::{self, Arrays, pad, summary, worst};
use crate::weights;

/// One entry of networks.json.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Samples of every file.
    lengths: Vec<u64>,
    network: Network,
    pretraining: Pretraining,
    clusters: Clusters,
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(fixture::path("network/networks.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 5);
    cases
}

/// A network with its head, and what torchaudio's gave.
struct Built {
    arrays: Arrays,
    store: VarStore,
    hubert: Hubert,
    objective: Objective,
    waves: Vec<Tensor>,
}

impl Case {
    fn build(&self, name: &str) -> Built {
        let store = VarStore::new(Device::Cpu);
        let mut network = self.network.clone();
        network.dropout = fixture::no_dropout();
        let hubert = Hubert::new(&store.root(), &network);
        let targets = PretrainTargets::Units(vec![self.clusters]);
        let objective = Objective::new(&store.root(), &self.network, &self.pretraining, &targets).unwrap();
        weights::fill(&store);
        let wave = |(row, &samples): (usize, &u64)| weights::noise(&format!("wave.{row}"), &[samples as i64]) * 0.3;
        let waves = self.lengths.iter().enumerate().map(wave).collect();
        let arrays = fixture::arrays(&format!("network/{name}.npz"));
        Built { arrays, store, hubert, objective, waves }
    }

    /// The masks and units that torchaudio was given.
    fn selection(&self, arrays: &Arrays) -> Selection {
        let hidden_bt = arrays["hidden"].to_kind(Kind::Bool);
        let lengths: Vec<i64> = self.lengths.iter().map(|&samples| frames(samples) as i64).collect();
        let real_bt = Tensor::arange(hidden_bt.size()[1], (Kind::Int64, Device::Cpu))
            .unsqueeze(0)
            .lt_tensor(&Tensor::from_slice(&lengths).unsqueeze(1));
        let choose = |chosen_bt: &Tensor| {
            let places_n = chosen_bt.flatten(0, -1).nonzero().squeeze_dim(1);
            let units = vec![arrays["units"].flatten(0, -1).index_select(0, &places_n)];
            Chosen { places_n, units }
        };
        let unmasked = choose(&real_bt.logical_and(&hidden_bt.logical_not()));
        let masked = choose(&hidden_bt);
        let hidden = Vec::<Vec<bool>>::try_from(&hidden_bt).unwrap();
        let places = Places::new(&hidden, hidden[0].len(), Device::Cpu).map(Rc::new);
        let masks = Masks { time_bt: Some(hidden_bt), channel_bd: None };
        Selection { masks, hidden, places, views: vec![View { masked, unmasked }] }
    }
}

#[test]
fn hidden_states_are_torchaudio_s() {
    let _no_grad = tch::no_grad_guard();
    for (name, case) in cases() {
        let Built { arrays, hubert, waves, .. } = case.build(&name);
        let relative = case.network.encoder.norm == LayerNormPlacement::Pre;
        let mut seen = 0;
        let mut check = |wave_bs: &Tensor, lengths: Option<&[u64]>, kind: &str, rows: &[usize]| {
            let given = lengths.map(|lengths| Rows::of(lengths, case.network.frame_stride()));
            let mut states = hubert.hidden_states(wave_bs, lengths, hubert.depth());
            states.push(
                hubert
                    .forward(wave_bs, given.as_ref(), &Masks::default(), Mode::Evaluate, Taps::Output)
                    .outputs
                    .remove(0),
            );
            let layers = (0..=hubert.depth()).map(|layer| layer.to_string()).chain(["output".into()]);
            for (state, layer) in states.iter().zip(layers) {
                for (place, row) in rows.iter().enumerate() {
                    let theirs = &arrays[&format!("{kind}.{row}.{layer}")];
                    let real = state.get(place as i64).narrow(0, 0, frames(case.lengths[*row]) as i64);
                    let scale = if relative { theirs.double_value(&[0]) } else { 1.0 };
                    let off = worst(&summary(&real), theirs) / scale;
                    assert!(off < 1e-4, "{name}: {kind}.{row}.{layer} is off by {off:e}");
                    seen += 1;
                }
            }
        };
        for (row, wave) in waves.iter().enumerate() {
            check(&wave.unsqueeze(0), None, "single", &[row]);
        }
        let rows: Vec<usize> = (0..waves.len()).collect();
        check(&pad(&waves), Some(&case.lengths), "padded", &rows);
        let theirs = arrays.keys().filter(|name| name.starts_with("single.") || name.starts_with("padded.")).count();
        assert_eq!(seen, theirs, "{name}: every state of the fixture was compared");
    }
}

#[test]
fn the_pretraining_loss_and_its_gradients_are_torchaudio_s() {
    for (name, case) in cases() {
        let Built { arrays, mut store, hubert, objective, waves } = case.build(&name);
        let selection = case.selection(&arrays);
        let FrontEnd::Wave(wave) = &case.network.front_end else { panic!("torchaudio has waves alone") };
        let skipped = vec![false; hubert.depth()];
        let taps = objective.taps_of(&case.pretraining, &selection);
        for kind in [Kind::Float, Kind::Double] {
            store.set_kind(kind);
            store.variables().values_mut().for_each(Tensor::zero_grad);
            let (wave_bs, mode) = (pad(&waves).to_kind(kind), Mode::Train { skipped: &skipped, keep: Keep::All });
            let rows = Rows::of(&case.lengths, case.network.frame_stride());
            let pass = hubert.forward(&wave_bs, Some(&rows), &selection.masks, mode, taps);
            let Objective::Units(units) = &objective else { panic!("torchaudio predicts units alone") };
            let losses = units.losses(&pass, &selection, &case.pretraining.loss);
            let loss = &losses.total + &pass.penalty * (wave.penalty.get() * losses.sample_size);
            (&loss / losses.sample_size).backward();
            hubert.scale_front_end_gradients(wave.gradient_scale.get());

            let relative =
                |ours: &Tensor, name: &str| (ours.double_value(&[]) / arrays[name].double_value(&[]) - 1.0).abs();
            let (loss, penalty) = (relative(&loss, "loss"), relative(&pass.penalty, "penalty"));
            assert!(loss < 1e-5 && penalty < 1e-5, "{name}: loss is off by {loss:e}, penalty by {penalty:e}");
            let theirs = arrays.keys().filter(|name| name.starts_with("gradient.")).count();
            assert_eq!(theirs, store.len(), "{name}: as many parameters");
            let shares = store.variables().into_iter().map(|(parameter, tensor)| {
                let theirs = &arrays[&format!("gradient.{parameter}")];
                let size = theirs.abs().max().double_value(&[]);
                // Gradients that are zero in exact arithmetic are sums of rounding errors of 32 bits.
                let rounding = if kind == Kind::Float && size < 1e-12 { 1e-6 } else { 1e-7 };
                let share = worst(&tensor.grad(), theirs) / (1e-4 * size + rounding);
                assert!(share <= 1.0, "{name}, {kind:?}: gradient of {parameter} is off by {share} of what is allowed");
                share
            });
            let largest = shares.fold(0.0, f64::max);
            eprintln!("{name}, {kind:?}: loss off by {loss:.1e}, gradients by at most {largest:.4} of what is allowed");
        }
    }
}
