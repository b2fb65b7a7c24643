//! The network, its hidden states, and the pretraining loss with its gradients against torchaudio's.

use std::collections::BTreeMap;
use std::path::Path;

use reprise_model::encoder::Mode;
use reprise_model::head::Head;
use reprise_model::hubert::{Hubert, Masks, Taps};
use reprise_spec::network::{FrontEnd, FrontEndNorm, LayerNormPlacement, Network};
use reprise_spec::training::{self, CosineHead};
use reprise_spec::values::{Clusters, Count};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const LENGTHS: [u64; 2] = [6001, 4237];

struct Fixture {
    arrays: BTreeMap<String, Tensor>,
    store: VarStore,
    hubert: Hubert,
    head: Head,
}

/// The architecture of `generate/network.py` with the weights of the fixture.
fn fixture(name: &str) -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/network/{name}.npz"));
    let arrays: BTreeMap<String, Tensor> = Tensor::read_npz(path).unwrap().into_iter().collect();
    let count = |value| Count::try_from(value).unwrap();
    let layer = name == "layer";
    let mut network = Network::default();
    let FrontEnd::Wave(wave) = &mut network.front_end else { unreachable!("the default front-end") };
    wave.channels = count(10);
    wave.bias = layer;
    wave.norm = if layer { FrontEndNorm::Layer } else { FrontEndNorm::Group };
    let encoder = &mut network.encoder;
    (encoder.layers, encoder.width, encoder.heads, encoder.feed_forward) = (count(3), count(24), count(3), count(40));
    encoder.norm = if layer { LayerNormPlacement::Pre } else { LayerNormPlacement::Post };
    encoder.positional.kernel = count(if layer { 6 } else { 8 });
    encoder.positional.groups = count(4);
    let store = VarStore::new(Device::Cpu);
    let hubert = Hubert::new(&store.root(), &network);
    let settings = training::Head::Cosine(CosineHead { dimension: count(9), ..CosineHead::default() });
    let head = Head::new(&store.root(), &network, &settings, &[Clusters::try_from(11).unwrap()]);
    let theirs: Vec<&str> = arrays.keys().filter_map(|name| name.strip_prefix("model.")).collect();
    assert_eq!(theirs.len(), store.len(), "{name}: as many parameters");
    tch::no_grad(|| {
        for (name, mut parameter) in store.variables() {
            parameter.copy_(&arrays[&format!("model.{name}")]);
        }
    });
    Fixture { arrays, store, hubert, head }
}

fn worst(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    (ours - theirs).abs().max().double_value(&[])
}

#[test]
fn hidden_states_are_torchaudio_s() {
    let _no_grad = tch::no_grad_guard();
    for name in ["group", "layer"] {
        let Fixture { arrays, hubert, .. } = fixture(name);
        let wave_bs = &arrays["wave"];
        for (row, samples) in LENGTHS.into_iter().enumerate() {
            let alone = wave_bs.narrow(0, row as i64, 1).narrow(1, 0, samples as i64);
            for (layer, state) in hubert.hidden_states(&alone, None, 3).iter().enumerate() {
                let off = worst(state, &arrays[&format!("alone.{row}.{layer}")]);
                assert!(off < 1e-4, "{name}: row {row}, layer {layer} is off by {off}");
            }
        }
        // What torchaudio computes at padding has no meaning, so frames are compared up to each length.
        let padded = hubert.hidden_states(wave_bs, Some(&LENGTHS), 3);
        let pass = hubert.forward(wave_bs, Some(&LENGTHS), &Masks::default(), Mode::Evaluate, Taps::Output);
        let output = &pass.outputs[0];
        let names = (0..4).map(|layer| format!("padded.{layer}")).chain(["padded.output".into()]);
        for (state, array) in padded.iter().chain([output]).zip(names) {
            for (row, frames) in [18, 12].into_iter().enumerate() {
                let valid = |x: &Tensor| x.get(row as i64).narrow(0, 0, frames);
                let off = worst(&valid(state), &valid(&arrays[&array]));
                assert!(off < 1e-4, "{name}: {array}, row {row} is off by {off}");
            }
        }
    }
}

#[test]
fn the_pretraining_loss_and_its_gradients_are_torchaudio_s() {
    for name in ["group", "layer"] {
        let Fixture { arrays, store, hubert, head } = fixture(name);
        let hidden_bt = arrays["hidden"].to_kind(Kind::Bool);
        let frames = Tensor::arange(18, (Kind::Int64, Device::Cpu));
        let valid_bt = Tensor::stack(&[frames.lt(18), frames.lt(12)], 0);
        let masks = Masks { time_bt: Some(hidden_bt.shallow_clone()), channel_bd: None };
        let pass = hubert.forward(&arrays["wave"], Some(&LENGTHS), &masks, Mode::Evaluate, Taps::Output);
        let score = |chosen_bt: &Tensor| {
            let select = |x: &Tensor| x.index(&[Some(chosen_bt)]);
            head.score(&select(&pass.outputs[0]), &[select(&arrays["units"])]).remove(0)
        };
        let (masked, unmasked) = (score(&hidden_bt), score(&valid_bt.logical_and(&hidden_bt.logical_not())));
        let count = masked.frames as f64;
        let loss: Tensor = &masked.loss + 0.5 * &unmasked.loss + 10.0 * count * &pass.penalty;
        (&loss / count).backward();
        hubert.scale_front_end_gradients(0.1);
        assert!(worst(&pass.penalty, &arrays["penalty"]) < 1e-5, "{name}: penalty");
        let relative = worst(&loss, &arrays["loss"]) / arrays["loss"].double_value(&[]);
        assert!(relative < 1e-5, "{name}: loss is off by {relative}");
        for (parameter, tensor) in store.variables() {
            let theirs = &arrays[&format!("gradient.{parameter}")];
            let off = worst(&tensor.grad(), theirs) / theirs.abs().max().double_value(&[]).max(1.0);
            assert!(off < 1e-4, "{name}: gradient of {parameter} is off by {off}");
        }
    }
}
