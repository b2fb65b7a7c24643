//! wav2vec 2.0 pretraining against transformers': targets, losses and gradients (tests/fixtures/generate/wav2vec2.py).

use std::collections::BTreeMap;

use reprise_model::contrastive::{Contrastive, Masked};
use reprise_model::encoder::{Keep, Mode};
use reprise_model::framing::Rows;
use reprise_model::hubert::{Encoding, Hubert, Masks, Taps};
use reprise_model::quantiser::Choice;
use reprise_spec::arithmetic::{parameters, quantiser_parameters};
use reprise_spec::network::{FrontEnd, FrontEndNorm, LayerNormPlacement, Network};
use reprise_spec::strategy::Quantiser;
use reprise_spec::training::CosineHead;
use reprise_spec::values::Count;
use serde::Deserialize;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::fixture::{self, Arrays, pad, worst};
use crate::weights;

const TEMPERATURE: f64 = 1.7;

/// One entry of networks.json.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Samples of every file.
    lengths: Vec<u64>,
    network: Network,
    quantiser: Quantiser,
    head: CosineHead,
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(fixture::path("wav2vec2/networks.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 2);
    cases
}

/// A network with its quantiser, and what transformers' gave.
struct Built {
    arrays: Arrays,
    store: VarStore,
    hubert: Hubert,
    contrastive: Contrastive,
    masked: Masked,
}

fn wave(network: &Network) -> &reprise_spec::network::WaveFrontEnd {
    let FrontEnd::Wave(wave) = &network.front_end else { panic!("wav2vec 2.0 has waves alone") };
    wave
}

impl Case {
    fn build(&self, name: &str) -> Built {
        let store = VarStore::new(Device::Cpu);
        let mut network = self.network.clone();
        network.dropout = fixture::no_dropout();
        let quantiser = Quantiser { dropout: network.dropout.input, ..self.quantiser.clone() };
        let width = wave(&network).channels.get().into();
        let hubert = Hubert::new(&store.root(), &network);
        let contrastive = Contrastive::new(&store.root(), &network, width, &self.head, &quantiser);
        weights::fill(&store);
        tch::no_grad(|| {
            let _ = store.variables()["quantizer.weight_proj.weight"].shallow_clone().g_mul_scalar_(4.0);
        });
        let arrays = fixture::arrays(&format!("wav2vec2/{name}.npz"));
        let masked = masked(&arrays);
        Built { arrays, store, hubert, contrastive, masked }
    }

    fn pass(&self, built: &Built, kind: Kind, mode: Mode) -> Encoding {
        let wave = |(row, &samples): (usize, &u64)| weights::noise(&format!("wave.{row}"), &[samples as i64]) * 0.3;
        let waves: Vec<Tensor> = self.lengths.iter().enumerate().map(wave).collect();
        let masks = Masks { time_bt: Some(built.arrays["hidden"].to_kind(Kind::Bool)), channel_bd: None };
        let rows = Rows::of(&self.lengths, self.network.frame_stride());
        built.hubert.forward(&pad(&waves).to_kind(kind), Some(&rows), &masks, mode, Taps::Output)
    }
}

/// The fixture's distractors are places among the masked frames of the batch, ours among those of one utterance.
fn masked(arrays: &Arrays) -> Masked {
    let hidden_bt = arrays["hidden"].to_kind(Kind::Int64);
    let mut start = 0;
    let of_row = |row: i64| {
        let frames = hidden_bt.get(row).sum(Kind::Int64).int64_value(&[]);
        let others = arrays["distractors"].narrow(0, start, frames) - start;
        start += frames;
        others
    };
    let distractors = (0..hidden_bt.size()[0]).map(of_row).collect();
    Masked { places_n: hidden_bt.flatten(0, 1).nonzero().squeeze_dim(1), distractors }
}

fn relative(ours: f64, theirs: &Tensor) -> f64 {
    (ours / theirs.double_value(&[]) - 1.0).abs()
}

#[test]
fn evaluation_takes_the_likeliest_entries_as_transformers_does() {
    let _no_grad = tch::no_grad_guard();
    for (name, case) in cases() {
        let built = case.build(&name);
        let pass = case.pass(&built, Kind::Float, Mode::Evaluate);
        let contrast = built.contrastive.forward(&pass, &built.masked, Choice::Best, Mode::Evaluate);
        assert!(contrast.quantised.vectors_nd.equal(&built.arrays["evaluated.vectors"]), "{name}: targets");
        let off = relative(contrast.loss.double_value(&[]), &built.arrays["evaluated.contrastive"]);
        assert!(off < 1e-5, "{name}: loss is off by {off}");
        // In evaluation transformers measures the perplexity of the chosen codes, which is ours of codes.
        let usage = built.contrastive.quantiser.usage(&contrast.quantised.codes_ng);
        let off = relative(usage.perplexity, &built.arrays["evaluated.perplexity"]);
        assert!(off < 1e-5, "{name}: perplexity is off by {off}");
    }
}

#[test]
fn the_contrastive_loss_and_its_gradients_are_those_of_transformers() {
    for (name, case) in cases() {
        let mut built = case.build(&name);
        let skipped = vec![false; built.hubert.depth()];
        let mode = Mode::Train { skipped: &skipped, keep: Keep::All };
        for kind in [Kind::Float, Kind::Double] {
            built.store.set_kind(kind);
            built.store.variables().values_mut().for_each(Tensor::zero_grad);
            let Built { arrays, store, hubert, contrastive, masked } = &built;
            let pass = case.pass(&built, kind, mode);
            let noise_ngv = arrays["noise"].to_kind(kind);
            let choice = Choice::Sampled { noise_ngv: &noise_ngv, temperature: TEMPERATURE };
            let contrast = contrastive.forward(&pass, masked, choice, mode);
            let frames = masked.places_n.size()[0] as f64;
            let diversity = &contrast.idle * frames;
            let terms = &contrast.loss + &diversity * contrastive.diversity();
            let loss = terms + &pass.penalty * (wave(&case.network).penalty.get() * frames);
            (&loss / frames).backward();
            hubert.scale_front_end_gradients(wave(&case.network).gradient_scale.get());

            let vectors_nd = contrast.quantised.vectors_nd.to_kind(Kind::Float);
            assert!(vectors_nd.equal(&arrays["trained.vectors"]), "{name}: targets");
            for (what, ours) in [
                ("trained.contrastive", &contrast.loss),
                ("trained.diversity", &diversity),
                ("penalty", &pass.penalty),
                ("loss", &loss),
            ] {
                let off = relative(ours.double_value(&[]), &arrays[what]);
                assert!(off < 1e-5, "{name}, {kind:?}: {what} is off by {off:e}");
            }
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
            eprintln!("{name}, {kind:?}: gradients are off by at most {largest:.4} of what is allowed");
        }
    }
}

/// Counted with transformers 5.23.0: `Wav2Vec2ForPreTraining(Wav2Vec2Config())`, and the shapes of LARGE (biased convolutions).
#[test]
fn pretraining_models_have_as_many_parameters_as_those_of_transformers() {
    let count = |value: u64| Count::try_from(value).unwrap();
    let base = Network::default();
    assert_eq!(parameters(&base) + quantiser_parameters(&base, &Quantiser::default(), 256), 95_044_608);
    let mut large = Network::default();
    let FrontEnd::Wave(wave) = &mut large.front_end else { panic!("the default is a wave front-end") };
    (wave.norm, wave.bias) = (FrontEndNorm::Layer, true);
    let encoder = &mut large.encoder;
    (encoder.layers, encoder.width, encoder.heads, encoder.feed_forward) =
        (count(24), count(1024), count(16), count(4096));
    encoder.norm = LayerNormPlacement::Pre;
    let quantiser = Quantiser { dimension: count(768), ..Quantiser::default() };
    assert_eq!(parameters(&large) + quantiser_parameters(&large, &quantiser, 768), 317_390_592);

    let store = VarStore::new(Device::Cpu);
    let _contrastive = Contrastive::new(&store.root(), &base, 512, &CosineHead::default(), &Quantiser::default());
    let registered: usize = store.variables().values().map(Tensor::numel).sum();
    assert_eq!(registered as u64, quantiser_parameters(&base, &Quantiser::default(), 256));
    let mut names: Vec<String> = store.variables().into_keys().collect();
    names.sort();
    let expected = [
        "project_hid.bias",
        "project_hid.weight",
        "project_q.bias",
        "project_q.weight",
        "quantizer.codevectors",
        "quantizer.weight_proj.bias",
        "quantizer.weight_proj.weight",
    ];
    assert_eq!(names, expected);
}
