//! The whole layer-wise analysis of a network whose layers are known.
//!
//! Every 0.1 s of the audio is a low tone, which is its phone and its word, and one of two high ones, which say nothing. The projection is solved
//! so that layer 0 is a linear map of both: +1 and −1 in two dimensions of its own for the low tone, and likewise for the high one. Blocks add
//! nothing. Layer 1 passes that on; layer 2 keeps the high tone alone. Each frame has the mean 0 and the same variance, so that no norm lets one
//! tone be seen through the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use reprise_model::alignment::{Interval, Tier, table as alignments};
use reprise_model::corpus::{Utterance, table};
use reprise_model::hidden_states::HiddenStates;
use reprise_model::hubert::Hubert;
use reprise_model::meaning::vectors::WordVectors;
use reprise_model::model_folder::{self, About, Family, Output};
use reprise_model::random::Draws;
use reprise_model::stage;
use reprise_spec::layers::{FILE, Findings, LayerScore};
use reprise_spec::network::Network;
use reprise_spec::stage::{LayersStage, ProbeStage, Role, Stage};
use serde_json::json;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::finetune::work;
use super::{split, turn, wav};

const LOW: [f64; 4] = [250., 600., 1_100., 1_800.];
const HIGH: [f64; 2] = [3_500., 6_000.];
const PHONES: [&str; 4] = ["AA", "IY", "S", "M"];
const WIDTH: usize = 20;
/// Samples of a tone.
const TONE: usize = 1_600;
const TONES: usize = 15;

/// The low and the high tone of each stretch of each utterance.
type Said = Vec<Vec<(usize, usize)>>;

fn said() -> Said {
    let of = |utterance: u64| {
        let mut draws = Draws::new(8, "tones", &[utterance], "");
        (0..TONES).map(|_| (draws.below(4) as usize, draws.below(2) as usize)).collect()
    };
    (0..30).map(of).collect()
}

fn wave(tones: &[(usize, usize)], seed: u64) -> Vec<i16> {
    let mut noise = Draws::new(seed, "noise", &[], "");
    let sample = |n: usize| {
        let (low, high) = tones[n / TONE];
        let sine = |pitch: f64| (n as f64 / 16_000. * pitch * std::f64::consts::TAU).sin();
        (6_000. * (sine(LOW[low]) + sine(HIGH[high])) + 200. * (noise.unit() - 0.5)) as i16
    };
    (0..tones.len() * TONE).map(sample).collect()
}

/// The corpus, and its alignments with the tones, or with tones that were dealt anew.
fn corpus(root: &Path, said: &Said) {
    let mut utterances = Vec::new();
    for name in ["tones", "aligned", "shuffled"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let (mut aligned, mut shuffled) = (Tier::new(), Tier::new());
    let mut deal = Draws::new(9, "dealt", &[], "");
    for (index, tones) in said.iter().enumerate() {
        let (id, path) = (format!("u{index:02}"), format!("tones/u{index:02}.wav"));
        let samples = wave(tones, index as u64);
        fs::write(root.join(&path), wav(&samples)).unwrap();
        let interval = |place: usize, tone: usize| {
            let start = (place * TONE) as u64;
            Interval { start, end: start + TONE as u64, label: PHONES[tone].into() }
        };
        aligned.insert(id.clone(), tones.iter().enumerate().map(|(place, (low, _))| interval(place, *low)).collect());
        shuffled.insert(id.clone(), (0..TONES).map(|place| interval(place, deal.below(4) as usize)).collect());
        utterances.push(Utterance { id, path, samples: samples.len() as u64, speaker: "s".into(), transcript: None });
    }
    fs::write(root.join("tones/utterances.tsv"), table(&utterances)).unwrap();
    fs::write(root.join("tones/corpus.json"), r#"{"transcribed":false,"conversion":"refuse"}"#).unwrap();
    for (name, tier) in [("aligned", aligned), ("shuffled", shuffled)] {
        for file in ["phones.tsv", "words.tsv"] {
            fs::write(root.join(name).join(file), alignments(&tier)).unwrap();
        }
    }
}

fn network() -> Network {
    let encoder = json!({ "layers": 2, "width": WIDTH, "heads": 2, "feed-forward": 8, "positional": { "kernel": 2, "groups": 2 } });
    let front_end = json!({ "log-mel": { "bins": WIDTH / 2 } });
    serde_json::from_value(json!({ "front-end": front_end, "projection": { "linear": "always" }, "encoder": encoder }))
        .unwrap()
}

/// What layer 0 is of a low and a high tone, up to a factor.
fn target((low, high): (usize, usize)) -> Vec<f64> {
    let mut numbers = vec![0.; WIDTH];
    (numbers[2 * low], numbers[2 * low + 1]) = (1., -1.);
    let sign = if high == 0 { 1. } else { -1. };
    (numbers[8], numbers[9]) = (sign, -sign);
    numbers
}

/// Writes the model, and the same without the layer that loses the low tone.
fn models(root: &Path, said: &Said) {
    let settings = network();
    let store = VarStore::new(Device::Cpu);
    let hubert = Hubert::new(&store.root(), &settings);
    let parameters: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
    let named = |name: &str| {
        let found = parameters.iter().find(|(known, _)| known.ends_with(name));
        found.unwrap_or_else(|| panic!("no {name} in {:?}", parameters.keys())).1
    };
    let set = |parameter: &Tensor, value: &Tensor| tch::no_grad(|| parameter.shallow_clone().copy_(value));
    for (name, parameter) in &parameters {
        let silent = ["out_proj", "output_dense", "pos_conv_embed"].iter().any(|part| name.contains(part));
        // The direction of a weight-normed weight can't be zero; its length can.
        if silent && !name.ends_with("weight_v") {
            set(parameter, &parameter.zeros_like());
        }
    }
    let projection = named("projection.weight");
    set(projection, &Tensor::eye(WIDTH as i64, (Kind::Float, Device::Cpu)));
    set(named("projection.bias"), &Tensor::zeros([WIDTH as i64], (Kind::Float, Device::Cpu)));
    let hidden = HiddenStates::of_network(hubert, settings.clone(), Device::Cpu);
    // The middle frame of each tone, as the projection takes it, with a one for the bias.
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for (index, tones) in said.iter().enumerate() {
        let samples: Vec<f32> = wave(tones, index as u64).iter().map(|sample| f32::from(*sample) / 32_768.).collect();
        let layer_0 = &hidden.whole(samples).unwrap()[0];
        for (place, tone) in tones.iter().enumerate() {
            rows.push(Vec::<f64>::try_from(layer_0.get(5 * place as i64 + 2).to_kind(Kind::Double)).unwrap());
            rows.last_mut().unwrap().push(1.);
            targets.push(target(*tone));
        }
    }
    let matrix = |rows: &[Vec<f64>]| Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1]);
    let (x, y) = (matrix(&rows), matrix(&targets));
    let ridge = Tensor::eye(WIDTH as i64 + 1, (Kind::Double, Device::Cpu)) * 1e-3;
    let solved = (x.tr().matmul(&x) + ridge).inverse().matmul(&x.tr().matmul(&y)).tr();
    set(projection, &solved.narrow(1, 0, WIDTH as i64));
    set(named("projection.bias"), &solved.select(1, WIDTH as i64));
    let about = About::trained(settings, Output::Backbone, Family::Hubert);
    save(root, "whole", &store, &about);
    let kept: Vec<f32> = (0..WIDTH).map(|dimension| if dimension < 8 { 0. } else { 1. }).collect();
    set(named("layers.1.final_layer_norm.weight"), &Tensor::from_slice(&kept));
    save(root, "model", &store, &about);
}

fn save(root: &Path, name: &str, store: &VarStore, about: &About) {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut parameters: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    parameters.sort_by(|a, b| a.0.cmp(&b.0));
    model_folder::save_tensors(&folder, parameters, &About { mask_embedding: true, ..about.clone() }).unwrap();
}

/// A folder with the corpus and the models.
fn planted() -> tempfile::TempDir {
    tch::set_num_threads(1); // small operations on two threads mostly wait for each other
    let (folder, said) = (tempfile::tempdir().unwrap(), said());
    corpus(folder.path(), &said);
    models(folder.path(), &said);
    folder
}

fn settings(analyses: &[&str]) -> LayersStage {
    let json = json!({
        "analyses": analyses,
        "layers": {
            "splits": ["tones"], "samplings": 2, "folds": 6, "trials": 2, "frames": 400,
            "tokens": { "words": { "minimum": 10, "maximum": 60 }, "phones": { "minimum": 10, "maximum": 80 } },
            "clusters": { "frames": [8], "words": [8], "phones": [2, 8] }, "null-draws": 5,
        },
        "seen": [], "control": null,
    });
    serde_json::from_value(json).unwrap()
}

/// Executes the stage in the folder `name` on the alignments of `labels`, and reads what it found.
fn analyse(root: &Path, name: &str, labels: &str, settings: &LayersStage, more: &[(Role, PathBuf)]) -> Findings {
    let inputs = [
        (Role::Corpus(split("tones")), root.join("tones")),
        (Role::Alignments(split("tones")), root.join(labels)),
        (Role::Pretrained, root.join("model")),
    ];
    let stage = Stage::Probe(ProbeStage::Layers(Box::new(settings.clone())));
    stage::execute(&mut work(root, name, stage, &[&inputs, more].concat(), 1)).unwrap();
    serde_json::from_slice(&fs::read(root.join(name).join("out").join(FILE)).unwrap()).unwrap()
}

/// The means of a metric, and what its nulls say.
fn curve(findings: &Findings, metric: &str) -> (Vec<f64>, Vec<f64>) {
    let curve = findings.curve(metric).unwrap_or_else(|| panic!("no {metric}"));
    let number = |score: &LayerScore, value: Option<f64>| value.unwrap_or_else(|| panic!("{metric}: {score:?}"));
    curve.by_layer().map(|score| (number(score, score.mean), number(score, score.null))).unzip()
}

fn assert_near(found: &[f64], expected: &[f64], within: f64, what: &str) {
    let near = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= within);
    assert!(near, "{what}: {found:?}, expected {expected:?} within {within}");
}

#[test]
fn what_was_planted_is_found_where_it_lies_and_shuffled_labels_are_not_found() {
    let _turn = turn();
    let folder = planted();
    let root = folder.path();
    let all = settings(&["cca-word", "cca-phone", "mi-word", "mi-phone", "pnmi", "abx", "cka-steps"]);
    let whole = [(Role::Reference, root.join("whole"))];
    let found = analyse(root, "found", "aligned", &all, &whole);
    for metric in ["cca-word", "cca-phone"] {
        let (means, nulls) = curve(&found, metric);
        assert_near(&means, &[1., 1., 0.], 0.15, metric);
        assert_near(&nulls, &[0.; 3], 0.15, &format!("null of {metric}"));
    }
    // Eight clusters are the low and high tones of a segment; the two of layer 2 are the high ones.
    for metric in ["mi-word-8", "mi-phone-8"] {
        assert_near(&curve(&found, metric).0[..2], &[1., 1.], 0.15, metric);
    }
    assert_near(&curve(&found, "mi-phone-2").0[2..], &[0.], 0.05, "mi-phone-2");
    // Frames between two tones are neither.
    assert!(curve(&found, "pnmi-8").0[0] > 0.6, "{:?}", curve(&found, "pnmi-8"));
    // X with A of the same high tone is nearer than B; with A of the other it is nearer only where B has the other, too. Layer 2 can't tell.
    assert_near(&curve(&found, "abx").0, &[0.75, 0.75, 0.5], 0.05, "abx");
    let (alike, unlike) = curve(&found, "cka-steps");
    assert_near(&alike[..2], &[1., 1.], 1e-9, "cka-steps");
    assert!(alike[2] < 0.97 && alike[2] > 0.7 && unlike.iter().all(|null| *null < 0.05), "{alike:?} {unlike:?}");

    let labelled = settings(&["cca-word", "cca-phone", "mi-word", "mi-phone", "abx"]);
    let shuffled = analyse(root, "lost", "shuffled", &labelled, &[]);
    for metric in ["cca-word", "cca-phone", "mi-word-8", "mi-phone-8", "abx"] {
        let (means, nulls) = curve(&shuffled, metric);
        assert_near(&means, &nulls, 0.15, metric);
    }

    // A kill after the first three analyses costs these nothing, and what follows has the same bits.
    let records = fs::read(root.join("found/checkpoints/analyses.finished")).unwrap();
    let size = |at: usize| u64::from_le_bytes(records[at..at + 8].try_into().unwrap()) as usize + 16;
    let third = size(0) + size(size(0));
    let third = third + size(third);
    fs::create_dir_all(root.join("torn/checkpoints")).unwrap();
    fs::write(root.join("torn/checkpoints/analyses.finished"), &records[..third + 20]).unwrap();
    assert_eq!(analyse(root, "torn", "aligned", &all, &whole), found);
    let bytes = |name: &str| fs::read(root.join(name).join("out").join(FILE)).unwrap();
    assert_eq!(bytes("torn"), bytes("found"));
    let events = fs::read_to_string(root.join("torn/events")).unwrap();
    assert!(!events.contains("cca-word took") && events.contains("pnmi took"), "{events}");
}

/// Layer 0 tells words apart, so that any vectors can be read from it, those of other words, too; layer 2 knows none.
#[test]
fn vectors_of_words_are_found_where_words_are() {
    let _turn = turn();
    let folder = planted();
    let root = folder.path();
    let vectors = WordVectors {
        words: ["aa", "iy", "m", "s"].map(str::to_owned).into(),
        vectors_wd: Tensor::from_slice(&[1f32, 0.5, -1., 0.25, 0.5, -2., 0., 1.]).view([4, 2]),
    };
    fs::create_dir_all(root.join("vectors")).unwrap();
    vectors.write(&root.join("vectors")).unwrap();
    fs::create_dir_all(root.join("pairs")).unwrap();
    fs::write(root.join("pairs/pairs.tsv"), "aa\tiy\t3\niy\ts\t2\ns\tm\t1\nm\tsea\t1\n").unwrap();
    let mut settings = settings(&["cca-semantic", "word-similarity"]);
    settings.layers.least_word_pairs = 3u64.try_into().unwrap();
    let inputs = [(Role::WordVectors, root.join("vectors")), (Role::WordPairs, root.join("pairs"))];
    let found = analyse(root, "found", "aligned", &settings, &inputs);
    let (means, nulls) = curve(&found, "cca-semantic");
    assert_near(&means, &[1., 1., 0.], 0.15, "cca-semantic");
    assert_near(&nulls, &[1., 1., 0.], 0.15, "null of cca-semantic");
    let (means, _) = curve(&found, "word-similarity");
    assert!(means.iter().all(|rho| (-1. ..=1.).contains(rho)), "{means:?}");
    let kinds: Vec<&str> = found.labels.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["pairs of words", "words", "words with vectors"]);
    assert_eq!(found.labels["pairs of words"].dropped, BTreeMap::from([("m sea".to_owned(), 0)]));
}
