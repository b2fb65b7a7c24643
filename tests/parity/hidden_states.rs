//! Every hidden state against those of `transformers` (tests/fixtures/generate/hidden_states.py): HuBERT BASE and LARGE at full size, and
//! small networks that differ in all that the language lets differ.

use std::collections::BTreeMap;

use reprise_model::encoder::{Keep, Mode};
use reprise_model::framing::Rows;
use reprise_model::hubert::{Hubert, Masks, Taps};
use reprise_spec::arithmetic::{self, frames};
use reprise_spec::network::{LayerNormPlacement, Network};
use reprise_spec::values::Height;
use serde::Deserialize;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::fixture::{self, Arrays, pad, summary, worst};
use crate::weights;

/// What states may be off by: absolutely for post-norm, over the state's root mean square for pre-norm encoders.
const TOLERANCE: f64 = 1e-4;

/// One entry of networks.json.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Whose model gave the states.
    #[serde(rename = "reference")]
    _reference: String,
    /// Samples of every file.
    lengths: Vec<u64>,
    network: Network,
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(fixture::path("hidden-states/networks.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

struct Checked {
    arrays: Arrays,
    relative: bool,
    seen: usize,
    worst: f64,
}

impl Checked {
    /// Compares B × T × D `ours` with the real frames of every row, `rows` saying whose names they have.
    fn state(&mut self, ours_btd: &Tensor, kind: &str, layer: &str, rows: impl Iterator<Item = (usize, u64)>) {
        for (place, (row, frames)) in rows.enumerate() {
            let name = format!("{kind}.{row}.{layer}");
            let theirs = &self.arrays[&name];
            let ours = summary(&ours_btd.get(place as i64).narrow(0, 0, frames as i64));
            let scale = if self.relative { theirs.double_value(&[0]) } else { 1.0 };
            let off = worst(&ours, theirs) / scale;
            assert!(off < TOLERANCE, "{name} is off by {off:e}");
            (self.seen, self.worst) = (self.seen + 1, self.worst.max(off));
        }
    }
}

/// Compares all states and returns how many parameters the network has.
fn check(name: &str) -> u64 {
    let _no_grad = tch::no_grad_guard();
    let Case { lengths, mut network, .. } = cases().remove(name).unwrap();
    network.dropout = fixture::no_dropout();
    let store = VarStore::new(Device::Cpu);
    let hubert = Hubert::new(&store.root(), &network);
    weights::fill(&store);
    let parameters = store.variables().values().map(|parameter| parameter.numel() as u64).sum();
    assert_eq!(parameters, arithmetic::parameters(&network));
    let arrays = fixture::arrays(&format!("hidden-states/{name}.npz"));
    let relative = network.encoder.norm == LayerNormPlacement::Pre;
    let mut checked = Checked { arrays, relative, seen: 0, worst: 0.0 };

    let waves: Vec<Tensor> =
        (0..).zip(&lengths).map(|(row, &n)| weights::noise(&format!("wave.{row}"), &[n as i64]) * 0.1).collect();
    let real = || lengths.iter().map(|&length| frames(length)).enumerate();
    let (depth, stride) = (hubert.depth(), network.frame_stride());
    let evaluate = |wave_bs: &Tensor, lengths: Option<&[u64]>| {
        let given = lengths.map(|lengths| Rows::of(lengths, stride));
        let mut pass = hubert.forward(wave_bs, given.as_ref(), &Masks::default(), Mode::Evaluate, Taps::Output);
        let output = pass.outputs.remove(0);
        (hubert.hidden_states(wave_bs, lengths, depth), output)
    };
    for (wave, row) in waves.iter().zip(real()) {
        let (states, output) = evaluate(&wave.unsqueeze(0), None);
        for (layer, state) in states.iter().enumerate() {
            checked.state(state, "single", &layer.to_string(), [row].into_iter());
        }
        checked.state(&output, "single", "output", [row].into_iter());
    }

    let wave_bs = pad(&waves);
    let (states, output) = evaluate(&wave_bs, Some(&lengths));
    for (layer, state) in states.iter().enumerate() {
        checked.state(state, "padded", &layer.to_string(), real());
    }
    checked.state(&output, "padded", "output", real());

    let count = lengths.len() as i64;
    let rows = Rows::of(&lengths, stride);
    let longest = *lengths.iter().max().unwrap();
    let masks = Masks {
        time_bt: Some(weights::noise("mask.time", &[count, frames(longest) as i64]).gt(0.0)),
        channel_bd: Some(weights::noise("mask.channels", &[count, network.encoder.width.get().into()]).gt(1.0)),
    };
    let skipped = vec![false; depth];
    let mode = Mode::Train { skipped: &skipped, keep: Keep::All };
    let layers: Vec<Height> = (0..=depth as u64).map(|layer| Height::try_from(layer).unwrap()).collect();
    let states = hubert.forward(&wave_bs, Some(&rows), &masks, mode, Taps::Layers(&layers)).outputs;
    for (layer, state) in states.iter().enumerate() {
        checked.state(state, "masked", &layer.to_string(), real());
    }
    let output = hubert.forward(&wave_bs, Some(&rows), &masks, mode, Taps::Output).outputs.remove(0);
    checked.state(&output, "masked", "output", real());

    assert_eq!(checked.seen, checked.arrays.len() - 1, "every state of the fixture was compared");
    let theirs: Vec<i64> = Vec::try_from(&checked.arrays["frames"]).unwrap();
    assert_eq!(theirs, real().map(|(_, frames)| frames as i64).collect::<Vec<_>>());
    eprintln!("{name}: {} states, off by at most {:.1e}", checked.seen, checked.worst);
    parameters
}

#[test]
fn base() {
    assert_eq!(check("hubert-base"), 94_371_712); // hubert.md section 0
}

#[test]
fn large() {
    assert_eq!(check("hubert-large"), 315_435_136); // hubert.md section 0
}

#[test]
fn odd_networks() {
    let odd: Vec<String> =
        cases().into_keys().filter(|name| !["hubert-base", "hubert-large"].contains(&name.as_str())).collect();
    assert_eq!(odd.len(), 7);
    for name in odd {
        check(&name);
    }
}
