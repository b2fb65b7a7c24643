//! Log-mel front-ends, label alignment, initial weights and AdamW against tests/fixtures/generate/frontends.py.

use std::fs;

use reprise_model::batch::Crop;
use reprise_model::ctc::CtcModel;
use reprise_model::encoder::Mode;
use reprise_model::framing::Framing;
use reprise_model::front_end::FrontEnd;
use reprise_model::optimiser::Adam;
use reprise_spec::network::{self, Initialisation, Network};
use reprise_spec::training::{self, Batching, EpsilonPlacement};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::fixture::{arrays, pad, path, worst};
use crate::weights;

const WAVES: [u64; 4] = [4_000, 5_237, 400, 999];

fn front_end(subsampling: Value) -> Network {
    let json = json!({"front-end": {"log-mel": {"bins": 11, "subsampling": subsampling}}});
    serde_json::from_value(json).unwrap()
}

fn waves() -> Vec<Tensor> {
    WAVES.iter().map(|samples| weights::noise(&format!("wave.{samples}"), &[*samples as i64]) * 0.1).collect()
}

/// Every wave alone and all in one padded batch, with the gradients of all parameters.
#[test]
fn subsampled_log_mel_is_the_transcription_s() {
    let theirs = arrays("frontends/subsampling.npz");
    let convolution = |kernels: Value, strides: Value| json!({"convolution": {"kernels": kernels, "strides": strides, "channels": 16, "width": 10}});
    for (name, subsampling) in [
        ("fast", convolution(json!([5, 5]), json!([2, 2]))),
        ("wide", convolution(json!([3, 7]), json!([1, 2]))),
        ("single", convolution(json!([5]), json!([4]))),
        ("stack2", json!({"stack": {"frames": 2}})),
        ("stack4", json!({"stack": {"frames": 4}})),
    ] {
        let store = VarStore::new(Device::Cpu);
        let front_end = FrontEnd::new(&store.root(), &front_end(subsampling));
        weights::fill(&store);
        let alone: Vec<Tensor> = waves()
            .iter()
            .map(|wave| front_end.forward(&wave.unsqueeze(0), None, Mode::Evaluate).squeeze_dim(0))
            .collect();
        let together = front_end.forward(&pad(&waves()), Some(&WAVES), Mode::Evaluate);
        let mut total = Tensor::zeros([1], (Kind::Float, Device::Cpu));
        for (row, (samples, alone)) in WAVES.iter().zip(&alone).enumerate() {
            let expected = &theirs[&format!("{name}.{samples}")];
            let among = together.get(row as i64).narrow(0, 0, alone.size()[0]);
            for ours in [alone, &among] {
                let off = worst(ours, expected);
                assert!(off < 1e-4, "{name}: {samples} samples are off by {off:e}");
            }
            total += (among * weights::noise(&format!("direction.{samples}"), &alone.size())).sum(Kind::Float);
        }
        let gradients = theirs.keys().filter(|key| key.starts_with(&format!("{name}.gradient."))).count();
        assert_eq!(gradients, store.len(), "{name}: as many parameters");
        if gradients > 0 {
            total.sum(Kind::Float).backward();
        }
        for (parameter, tensor) in store.variables() {
            let expected = &theirs[&format!("{name}.gradient.{parameter}")];
            let off = worst(&tensor.grad(), expected) / expected.abs().max().double_value(&[]);
            assert!(off < 1e-4, "{name}: gradient of {parameter} is off by {off:e}");
        }
    }
}

#[derive(Deserialize)]
struct Case {
    alignment: String,
    lengths: String,
    padding: String,
    rate: u32,
    stride: u64,
    rows: Vec<Row>,
    expected: Vec<Vec<usize>>,
}

#[derive(Deserialize)]
struct Row {
    start: u64,
    samples: u64,
    labels: usize,
}

#[test]
fn frames_and_labels_of_crops_are_those_of_fairseq_and_torchaudio() {
    let text = fs::read(path("frontends/alignment.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&text).unwrap();
    for Case { alignment, lengths, padding, rate, stride, rows, expected } in cases {
        let words = json!({"lengths": lengths, "label-alignment": alignment, "padding-rule": padding});
        let batching: Batching = serde_json::from_value(words.clone()).unwrap();
        let framing = Framing::new(&front_end(json!({"stack": {"frames": stride / 160}})), &batching);
        let crop = |row: &Row| Crop { utterance: 0, start: row.start, samples: row.samples };
        let crops: Vec<Crop> = rows.iter().map(crop).collect();
        let labelled: Vec<_> =
            rows.iter().zip(&crops).map(|(row, crop)| framing.labelled(crop, row.labels, rate)).collect();
        let frames = framing.rows(&crops, &labelled).frames;
        for ((crop, frames), expected) in crops.iter().zip(frames).zip(expected) {
            let found: Vec<usize> = (0..frames).map(|t| framing.label(crop, t * stride, rate)).collect();
            assert_eq!(found, expected, "{words}, {rate} Hz, stride {stride}, {crop:?}");
        }
    }
}

/// Means, deviations and kurtoses within what their standard errors allow; constants exactly.
#[test]
fn initial_weights_are_distributed_as_hugging_face_s() {
    let theirs = arrays("frontends/initialisation.npz");
    let network: Network = serde_json::from_value(json!({
        "front-end": {"wave": {"channels": 48, "bias": true}},
        "encoder": {"layers": 1, "width": 96, "heads": 4, "feed-forward": 128, "positional": {"kernel": 16, "groups": 4},
            "initialisation": "hugging-face"},
    }))
    .unwrap();
    let moments = |network: &Network| {
        let store = VarStore::new(Device::Cpu);
        let _model = CtcModel::new(&store.root(), network, 32, 0.0);
        let mut named: Vec<_> = store.variables().into_iter().collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        named.into_iter().map(|(name, x)| (name, x.numel() as f64, summary(&x))).collect::<Vec<_>>()
    };
    let ours = moments(&network);
    assert_eq!(ours.iter().map(|(name, ..)| name).collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let strange = |of: &[(String, f64, [f64; 3])]| {
        let differs = |(name, count, [mean, deviation, kurtosis]): &(String, f64, [f64; 3])| {
            let their: Vec<f64> = Vec::try_from(&theirs[name]).unwrap();
            if their[1] == 0.0 || name.ends_with("weight_g") {
                return (*mean - their[0]).abs() > 0.05 * their[0].abs();
            }
            let shapes = *count > 2_000.0 && (kurtosis - their[2]).abs() > 6.0 * (48.0 / count).sqrt();
            let spreads = (deviation / their[1] - 1.0).abs() > 6.0 / count.sqrt();
            shapes || spreads || (*mean - their[0]).abs() > 6.0 * their[1] * (2.0 / count).sqrt()
        };
        of.iter().filter(|one| differs(one)).map(|(name, ..)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(strange(&ours), [""; 0]);
    // fairseq's differ where they should.
    let fairseq = Network {
        encoder: network::Encoder { initialisation: Initialisation::Fairseq, ..network.encoder.clone() },
        ..network
    };
    let found = strange(&moments(&fairseq));
    for part in [
        "pos_conv_embed.conv.weight_v",
        "feature_projection.projection.weight",
        "lm_head.weight",
        "conv_layers.6.conv.bias",
    ] {
        assert!(found.iter().any(|name| name.ends_with(part)), "{part} among {found:?}");
    }
    assert!(found.iter().all(|name| !name.contains("encoder.layers")), "{found:?}");
}

/// Mean, deviation and kurtosis (0 where nothing deviates).
fn summary(x: &Tensor) -> [f64; 3] {
    let x = x.detach().to_kind(Kind::Double);
    let mean = x.mean(Kind::Double).double_value(&[]);
    let deviation = (&x - mean).square().mean(Kind::Double).sqrt().double_value(&[]);
    let fourth = (&x - mean).pow_tensor_scalar(4).mean(Kind::Double).double_value(&[]);
    [mean, deviation, if deviation > 0.0 { fourth / deviation.powi(4) } else { 0.0 }]
}

#[test]
fn adam_with_epsilon_inside_is_pytorch_s() {
    let theirs = arrays("frontends/adamw.npz");
    let words = json!({"beta2": 0.98, "epsilon": 0.01, "weight-decay": 0.1, "epsilon-placement": "inside"});
    let settings: training::Adam = serde_json::from_value(words).unwrap();
    assert_eq!(settings.epsilon_placement, EpsilonPlacement::Inside);
    let store = VarStore::new(Device::Cpu);
    let parameter = store.root().var_copy("parameter", &weights::noise("parameter", &[5]));
    let mut adam = Adam::new(&store, &settings);
    for step in 0..8 {
        (&parameter * weights::noise(&format!("gradient.{step}"), &[5])).sum(Kind::Float).backward();
        let gradients = adam.gradients();
        adam.step_at(0.05, gradients).unwrap();
        let off = worst(&parameter.detach().to_kind(Kind::Double), &theirs[&format!("after.{step}")]);
        assert!(off < 1e-6, "step {step} is off by {off:e}");
    }
}
