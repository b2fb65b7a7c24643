//! MR-HuBERT and ILS-HuBERT against a transcription of their formulas (tests/fixtures/generate/multires.py).

use std::fs;

use reprise_model::batch::Crop;
use reprise_model::corpus::{self, Corpora, Corpus, Utterance};
use reprise_model::encoder::Mode;
use reprise_model::framing::{Framing, Rows};
use reprise_model::hierarchy::{Change, Sampler};
use reprise_model::hubert::{Hubert, Masks, Taps};
use reprise_model::kmeans::Centroids;
use reprise_model::labels::{Codebook, LabelWriter, Labels, Units};
use reprise_model::objective::Objective;
use reprise_model::selection::{Labelled, Selection};
use reprise_spec::arithmetic::frames_at;
use reprise_spec::extraction::State;
use reprise_spec::network::{Hierarchy, Network, Sampling};
use reprise_spec::stage::{PretrainTargets, UnitSource};
use reprise_spec::training::Pretraining;
use reprise_spec::values::SplitName;
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::fixture::{self, Arrays, worst};
use crate::weights::{fill, noise};

const SAMPLES: [u64; 2] = [6801, 4401];
const FRAMES: [usize; 2] = [21, 13];

/// Small odd architectures: the name of the fixture, layers of the blocks, what differs from the defaults, and where units are predicted.
fn cases() -> Vec<(&'static str, Vec<u32>, Value, Value)> {
    let sampling = |form: &str, kernel: u32| json!({ "form": form, "kernel": kernel });
    let relative = json!({ "buckets": 8, "max-distance": 12 });
    let (shared, separate) = (json!({ "resolutions": "shared" }), json!({ "resolutions": "separate" }));
    vec![
        ("two-rates", vec![2, 1, 2], json!({ "ratios": [2], "sampling": sampling("residual", 1) }), separate),
        (
            "three-rates",
            vec![1, 1, 2, 1, 1],
            json!({ "ratios": [2, 2], "sampling": sampling("residual", 7), "norm": "pre" }),
            shared.clone(),
        ),
        (
            "ratio-3",
            vec![1, 1, 1],
            json!({ "ratios": [3], "sampling": sampling("plain", 7), "relative-positions": relative }),
            shared,
        ),
        (
            "one-rate",
            vec![1, 2, 1],
            json!({ "ratios": [1], "sampling": sampling("residual", 1), "norm": "pre" }),
            json!("output"),
        ),
        ("layers-post", vec![3], json!({}), json!({ "layers": [1, 3] })),
        ("layers-pre", vec![3], json!({ "norm": "pre", "relative-positions": relative }), json!({ "layers": [2, 3] })),
    ]
}

struct Fixture {
    name: &'static str,
    arrays: Arrays,
    network: Network,
    pretraining: Pretraining,
    sets: Vec<u64>,
    store: VarStore,
    hubert: Hubert,
    objective: Objective,
}

fn fixtures() -> Vec<Fixture> {
    let fixture = |(name, layers, differs, predict_at): (&'static str, Vec<u32>, Value, Value)| {
        let mut encoder = json!({
            "layers": layers.iter().sum::<u32>(), "width": 8, "heads": 2, "feed-forward": 12, "layer-drop": 0.0,
            "positional": { "kernel": 6, "groups": 2 },
        });
        for key in ["norm", "relative-positions"] {
            if let Some(value) = differs.get(key) {
                encoder[key] = value.clone();
            }
        }
        let hierarchy = differs
            .get("ratios")
            .map(|ratios| json!({ "layers": layers, "ratios": ratios, "sampling": differs["sampling"] }));
        let network = json!({ "front-end": { "wave": { "channels": 6 } }, "encoder": encoder, "hierarchy": hierarchy });
        let network: Network = serde_json::from_value(network).unwrap();
        let sets = if predict_at["resolutions"] == "separate" { vec![7, 5] } else { vec![7] };
        let targets: PretrainTargets = serde_json::from_value(json!({ "units": sets })).unwrap();
        let pretraining = json!({ "head": { "cosine": { "dimension": 5 } }, "predict-at": predict_at, "batching": { "lengths": "pad" } });
        let pretraining: Pretraining = serde_json::from_value(pretraining).unwrap();
        let store = VarStore::new(Device::Cpu);
        let hubert = Hubert::new(&store.root(), &network);
        let objective = Objective::new(&store.root(), &network, &pretraining, &targets).unwrap();
        fill(&store);
        let arrays = fixture::arrays(&format!("multires/{name}.npz"));
        Fixture { name, arrays, network, pretraining, sets, store, hubert, objective }
    };
    cases().into_iter().map(fixture).collect()
}

fn wave() -> Tensor {
    let wave_bs = noise("wave", &[2, SAMPLES[0] as i64]) * 0.3;
    let _ = wave_bs.get(1).slice(0, SAMPLES[1] as i64, None, 1).zero_();
    wave_bs
}

fn near(ours: &Tensor, theirs: &Tensor, what: &str) {
    let off = worst(ours, theirs);
    assert!(off < 1e-5, "{what} is off by {off}");
}

#[test]
fn hidden_states_of_every_layer_and_sums_of_every_rate_agree() {
    let _no_grad = tch::no_grad_guard();
    for Fixture { name, arrays, network, hubert, .. } in fixtures() {
        let depth = hubert.depth();
        for (row, samples) in SAMPLES.into_iter().enumerate() {
            let alone = wave().narrow(0, row as i64, 1).narrow(1, 0, samples as i64);
            let states = hubert.hidden_states(&alone, None, depth);
            assert_eq!(states.len(), depth + 1);
            for (layer, state) in states.iter().enumerate() {
                let frames = frames_at(samples, network.layer_stride(layer as u32)) as i64;
                assert_eq!(state.size(), [1, frames, 8], "{name}: row {row}, layer {layer}");
                let theirs = arrays[&format!("alone.{row}.{layer}")].narrow(0, 0, frames);
                near(&state.get(0), &theirs, &format!("{name}: row {row}, layer {layer}"));
                let wanted = State { layer: layer as u32, after_final_norm: false };
                assert!(hubert.states(&alone, &[wanted])[0].equal(state), "{name}: layer {layer} by itself");
            }
        }
        // Padding included: where group norm runs over it, it decides what real frames become.
        let padded = hubert.hidden_states(&wave(), Some(&SAMPLES), depth);
        for (layer, state) in padded.iter().enumerate() {
            let theirs = arrays[&format!("padded.{layer}")].narrow(1, 0, state.size()[1]);
            near(state, &theirs, &format!("{name}: padded layer {layer}"));
        }
        let rows = Rows::of(&SAMPLES, 320);
        let pass = |taps| hubert.forward(&wave(), Some(&rows), &Masks::default(), Mode::Evaluate, taps).outputs;
        let rates = pass(Taps::Rates);
        assert_eq!(rates.len(), arrays.keys().filter(|array| array.starts_with("output.")).count());
        for (rate, output) in rates.iter().enumerate() {
            near(output, &arrays[&format!("output.{rate}")], &format!("{name}: rate {rate}"));
        }
        assert!(pass(Taps::Output)[0].equal(&rates[0]), "{name}: the output is the highest rate's");
    }
}

/// The batch of a fixture as pretraining sees it: labels on disk, two whole utterances, and their masks.
fn selection(fixture: &Fixture) -> (Selection, Rows) {
    let folder = tempfile::tempdir().unwrap();
    let split = SplitName::try_from("train".to_owned()).unwrap();
    let utterance = |row: usize| Utterance {
        id: format!("u{row}"),
        path: format!("u{row}.wav"),
        samples: SAMPLES[row],
        speaker: "s".into(),
        transcript: None,
    };
    fs::write(folder.path().join("utterances.tsv"), corpus::table(&[utterance(0), utterance(1)])).unwrap();
    fs::write(folder.path().join("corpus.json"), r#"{"transcribed":false,"conversion":"refuse"}"#).unwrap();
    let corpora = Corpora { splits: vec![(split.clone(), Corpus::read(folder.path(), folder.path()).unwrap())] };
    let labels = fixture.sets.iter().enumerate().map(|(set, &clusters)| {
        let units = folder.path().join(format!("units-{set}"));
        fs::create_dir(&units).unwrap();
        let source = UnitSource::Layer { height: 1u64.try_into().unwrap(), after_final_norm: false };
        let about = Units { clusters: clusters as u32, rate: 50 >> set, source, fit_on: Vec::new() };
        let centroids = Centroids::new(&Tensor::zeros([clusters as i64, 2], (Kind::Float, Device::Cpu)));
        Codebook { units: about, centroids }.write(&units).unwrap();
        let mut writer = LabelWriter::default();
        for (row, frames) in FRAMES.into_iter().enumerate() {
            let labels: Vec<i64> = Vec::try_from(fixture.arrays[&format!("units.{set}")].get(row as i64)).unwrap();
            let labels: Vec<u16> = labels[..frames.div_ceil(1 << set)].iter().map(|&label| label as u16).collect();
            writer.push(&split, &format!("u{row}"), &labels);
        }
        writer.write(&units).unwrap();
        std::sync::Arc::new(Labels::read(&units).unwrap())
    });
    let framing = Framing::new(&fixture.network, &fixture.pretraining.batching);
    let labelled = Labelled::new(corpora, labels.collect(), framing).unwrap();
    let crops = SAMPLES.iter().enumerate().map(|(utterance, &samples)| Crop { utterance, start: 0, samples });
    let hidden = FRAMES.iter().enumerate().map(|(row, &frames)| {
        let row: Vec<i64> = Vec::try_from(fixture.arrays["hidden"].get(row as i64).to_kind(Kind::Int64)).unwrap();
        row[..frames].iter().map(|&hidden| hidden == 1).collect()
    });
    let lowest = fixture.network.hierarchy.as_ref().map_or(1, Hierarchy::lowest);
    let crops: Vec<Crop> = crops.collect();
    let rows = labelled.rows(&crops);
    (Selection::new(&labelled, &crops, hidden.collect(), &fixture.objective.views(), lowest, Device::Cpu), rows)
}

#[test]
fn losses_their_normaliser_and_gradients_agree() {
    for fixture in fixtures() {
        let (selection, rows) = selection(&fixture);
        let Fixture { name, arrays, pretraining, store, hubert, objective, .. } = &fixture;
        let taps = objective.taps(pretraining);
        let pass = hubert.forward(&wave(), Some(&rows), &selection.masks, Mode::Evaluate, taps);
        let Objective::Units(units) = objective else { panic!("{name} predicts units") };
        let losses = units.losses(&pass, &selection, &pretraining.loss);
        let counts: Vec<i64> = Vec::try_from(&arrays["counts"]).unwrap();
        let masked: Vec<i64> = selection.views.iter().map(|view| view.masked.places_n.size()[0]).collect();
        assert_eq!(masked, counts, "{name}: masked frames of every tap");
        assert_eq!(losses.sample_size, counts[0] as f64, "{name}: what the loss is divided by");
        let loss = losses.total + pass.penalty * (10.0 * losses.sample_size);
        let relative = worst(&loss, &arrays["loss"]) / arrays["loss"].double_value(&[]);
        assert!(relative < 1e-5, "{name}: loss is off by {relative}");
        (&loss / losses.sample_size).backward();
        let mut theirs = arrays.keys().filter(|array| array.starts_with("gradient.")).count();
        let mut largest: f64 = 0.0;
        for (parameter, tensor) in store.variables() {
            let Some(gradient) = arrays.get(&format!("gradient.{parameter}")) else {
                // A bias of the keys moves all logits of a frame alike, which softmax doesn't see.
                let unseen = parameter.ends_with("k_proj.bias") && tensor.grad().abs().max().double_value(&[]) < 1e-6;
                assert!(unseen || !tensor.grad().defined(), "{name}: {parameter} has a gradient");
                continue;
            };
            theirs -= 1;
            let scale = gradient.abs().max().double_value(&[]);
            let off = worst(&tensor.grad(), gradient);
            assert!(
                off <= 1e-4 * scale + 1e-7,
                "{name}: gradient of {parameter} is off by {off}, its largest is {scale}"
            );
            largest = largest.max(off / scale);
        }
        assert_eq!(theirs, 0, "{name}: gradients of parameters that we don't have");
        eprintln!("{name}: loss off by {relative:.1e}, gradients by {largest:.1e} of their largest");
    }
}

#[test]
fn samplers_of_both_forms_agree_and_781_frames_become_391_and_782() {
    let _no_grad = tch::no_grad_guard();
    let arrays = fixture::arrays("multires/samplers.npz");
    let mut checked = 0;
    for array in arrays.keys().filter_map(|array| array.strip_suffix(".down")) {
        let [form, kernel, ratio, frames] = array.split('.').collect::<Vec<_>>()[..] else { panic!("{array}") };
        let (ratio, frames): (i64, i64) = (ratio.parse().unwrap(), frames.parse().unwrap());
        let settings = json!({ "form": form, "kernel": kernel.parse::<u32>().unwrap() });
        let settings: Sampling = serde_json::from_value(settings).unwrap();
        let store = VarStore::new(Device::Cpu);
        let sampler = |name: &str, change| Sampler::new(&(store.root() / name), 2, &settings, change);
        let (down, up) = (sampler("downsample", Change::Down(ratio)), sampler("upsample", Change::Up(ratio)));
        fill(&store);
        let lower = down.forward(&noise(array, &[1, frames, 2]));
        near(&lower, &arrays[&format!("{array}.down")], array);
        near(&up.forward(&lower), &arrays[&format!("{array}.up")], array);
        if frames == 781 {
            assert_eq!((lower.size()[1], up.forward(&lower).size()[1]), (391, 782));
        }
        checked += 1;
    }
    assert_eq!(checked, 14);
}
