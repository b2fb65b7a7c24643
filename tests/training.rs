//! The whole `pretrain` stage on a few seconds of generated tones whose pitch is their unit.
//!
//! A program of its own, because libtorch's generator belongs to the process and other tests draw from it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reprise_model::corpus::{Corpus, Utterance, table};
use reprise_model::features::Mfcc;
use reprise_model::kmeans::Centroids;
use reprise_model::labels::{Codebook, LabelWriter, Units};
use reprise_model::model_folder;
use reprise_model::random::Draws;
use reprise_model::report::Reporter;
use reprise_model::stage::Work;
use reprise_model::stage::pretrain::run;
use reprise_model::tensors::{self, Contents};
use reprise_spec::arithmetic::frames;
use reprise_spec::contract::{self, DataSource, Device, Input, Request};
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::network::FeatureKind;
use reprise_spec::stage::{PretrainStage, Role, Stage, UnitSource};
use reprise_spec::values::SplitName;
use tch::Tensor;

#[path = "training/accumulation.rs"]
mod accumulation;
#[path = "training/checkpoint.rs"]
mod checkpoint;
#[path = "training/finetune.rs"]
mod finetune;
#[path = "training/front_ends.rs"]
mod front_ends;
#[path = "training/guards.rs"]
mod guards;
#[path = "training/hierarchy.rs"]
mod hierarchy;
#[path = "training/layers.rs"]
mod layers;
#[path = "training/loader.rs"]
mod loader;
#[path = "training/prefix.rs"]
mod prefix;
#[path = "training/warm.rs"]
mod warm;
#[path = "training/wav2vec2.rs"]
mod wav2vec2;

const UNITS: u64 = 4;
const INPUT_UNITS: i64 = 8;

/// A WAV file of 16-bit mono samples at 16 kHz.
fn wav(samples: &[i16]) -> Vec<u8> {
    let bytes = 2 * samples.len() as u32;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + bytes).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend([1u16, 1].iter().flat_map(|n| n.to_le_bytes()));
    file.extend([16_000u32, 32_000].iter().flat_map(|n| n.to_le_bytes()));
    file.extend([2u16, 16].iter().flat_map(|n| n.to_le_bytes()));
    file.extend(b"data");
    file.extend(bytes.to_le_bytes());
    file.extend(samples.iter().flat_map(|n| n.to_le_bytes()));
    file
}

/// Tones of 0.1 s in random order, and the unit of every 20 ms.
fn speech(root: &Path, writer: &mut LabelWriter, split: &SplitName, count: usize) {
    let folder = root.join(split.as_str());
    fs::create_dir_all(&folder).unwrap();
    let mut utterances = Vec::new();
    for index in 0..count {
        let id = format!("u{index}");
        let mut draws = Draws::new(5, "tones", &[index as u64], split.as_str());
        let samples = 12_000 + 1_111 * index as u64;
        let tones: Vec<u64> = (0..samples / 1_600 + 1).map(|_| draws.below(UNITS)).collect();
        let wave: Vec<i16> = (0..samples)
            .map(|n| {
                let pitch = 300.0 * (tones[(n / 1_600) as usize] + 1) as f64;
                (9_000.0 * (n as f64 / 16_000.0 * pitch * std::f64::consts::TAU).sin()) as i16
            })
            .collect();
        let labels: Vec<u16> = (0..frames(samples)).map(|t| tones[(t / 5) as usize] as u16).collect();
        writer.push(split, &id, &labels);
        let path = format!("{split}/{id}.wav");
        fs::write(root.join(&path), wav(&wave)).unwrap();
        utterances.push(Utterance { id, path, samples, speaker: "s".into(), transcript: None });
    }
    utterances.sort_by(|a, b| a.id.cmp(&b.id));
    fs::write(folder.join("utterances.tsv"), table(&utterances)).unwrap();
    fs::write(folder.join("corpus.json"), r#"{"transcribed":false,"conversion":"refuse"}"#).unwrap();
}

fn split(name: &str) -> SplitName {
    SplitName::try_from(name.to_owned()).unwrap()
}

fn data(root: &Path) {
    let mut writer = LabelWriter::default();
    speech(root, &mut writer, &split("train"), 8);
    speech(root, &mut writer, &split("dev"), 2);
    let units = root.join("units");
    fs::create_dir_all(&units).unwrap();
    let source = UnitSource::Layer { height: 1u64.try_into().unwrap(), after_final_norm: false };
    let about = Units { clusters: UNITS as u32, rate: 50, source, fit_on: Vec::new() };
    let centroids = Centroids::new(&tch::Tensor::zeros([UNITS as i64, 2], (tch::Kind::Float, tch::Device::Cpu)));
    Codebook { units: about, centroids }.write(&units).unwrap();
    writer.write(&units).unwrap();
    input_units(root);
}

/// Every ninth MFCC frame of one utterance as the codebook that a front-end reads.
fn input_units(root: &Path) {
    let corpus = Corpus::read(&root.join("train"), root).unwrap();
    let wave = Tensor::from_slice(&corpus.wave(&corpus.utterances[0]).unwrap()).unsqueeze(0);
    let frames = Mfcc::new(tch::Device::Cpu).with_deltas(&wave).squeeze_dim(0);
    let centroids = frames.slice(0, 0, 9 * INPUT_UNITS, 9);
    let folder = root.join("input-units");
    fs::create_dir_all(&folder).unwrap();
    let source = UnitSource::Features(FeatureKind::Mfcc);
    let about = Units { clusters: INPUT_UNITS as u32, rate: 100, source, fit_on: Vec::new() };
    Codebook { units: about, centroids: Centroids::new(&centroids) }.write(&folder).unwrap();
}

fn settings(front_end: &str, steps: u64) -> PretrainStage {
    let json = serde_json::json!({
        "network": {
            "front-end": serde_json::from_str::<serde_json::Value>(front_end).unwrap(),
            "encoder": {"layers": 2, "width": 32, "heads": 2, "feed-forward": 64, "layer-drop": 0.2,
                "positional": {"kernel": 16, "groups": 4}},
        },
        "pretraining": {
            "masking": {"prob": 0.5, "length": 4},
            "head": {"cosine": {"dimension": 16}},
            "loss": {"masked": 1.0, "unmasked": 0.5},
            "schedule": {"peak": 0.005, "warm-up": 0.1},
            "batching": {"seconds": 4.0, "longest": 1.0, "shortest": 0.5},
            "validate-every": 7,
        },
        "targets": { "units": [UNITS] },
        "steps": steps,
        "start": "random",
        "span": {"before": 0, "total": steps, "cool-down-after": null},
        "train-on": ["train"],
        "validate-on": ["dev"],
    });
    serde_json::from_value(json).unwrap()
}

fn work(root: &Path, name: &str, settings: &PretrainStage, attempt: u32) -> Work {
    let folder = root.join(name);
    fs::create_dir_all(folder.join("out")).unwrap();
    let input = |role: Role, path: PathBuf| Input { role, key: StageKey([0; 32]), digest: OutputDigest([0; 32]), path };
    let request = Request {
        contract: contract::VERSION,
        key: StageKey([0; 32]),
        stage: Stage::Pretrain(settings.clone()),
        seed: Some(3),
        inputs: vec![
            input(Role::Corpus(split("train")), root.join("train")),
            input(Role::Corpus(split("dev")), root.join("dev")),
            input(Role::Targets(0), root.join("units")),
            input(Role::InputUnits, root.join("input-units")),
        ],
        prefix: None,
        data: Some(DataSource { root: root.to_owned(), files: None }),
        work: folder.clone(),
        device: Device::Cpu,
        threads: 2,
        loader_threads: 1,
        recompute: false,
        checkpoint_seconds: 0,
        attempt,
    };
    let report = Reporter::open(File::create(folder.join("events")).unwrap(), &folder, attempt).unwrap();
    Work { request, report, device: tch::Device::Cpu }
}

const WAVE: &str = r#"{"wave": {"channels": 16}}"#;
const LOG_MEL: &str = r#"{"log-mel": {"bins": 16}}"#;
const STACKED_BY_4: &str = r#"{"log-mel": {"bins": 16, "subsampling": {"stack": {"frames": 4}}}}"#;
const CONVOLVED: &str = r#"{"log-mel": {"bins": 16, "subsampling": {"convolution": {"channels": 32, "width": 16}}}}"#;
const EMBEDDED: &str = r#"{"units": {"of": "mfcc", "clusters": 8, "dimension": 16}}"#;

/// libtorch's generator belongs to the process, and a run of these tests takes it for itself. One that failed leaves the others their turn.
fn turn() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_killed_run_continues_to_the_bit() {
    let _turn = turn();
    for front_end in [WAVE, CONVOLVED, EMBEDDED] {
        continues_to_the_bit(&settings(front_end, 12));
    }
}

fn continues_to_the_bit(settings: &PretrainStage) {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    run(settings, &mut work(folder.path(), "whole", settings, 1)).unwrap();

    // What a kill after step 11, in the middle of writing step 12, leaves behind.
    let (whole, torn) = (folder.path().join("whole/checkpoints"), folder.path().join("torn/checkpoints"));
    fs::create_dir_all(&torn).unwrap();
    let name = |step: u64| format!("step-{step:012}.safetensors");
    fs::copy(whole.join(name(11)), torn.join(name(11))).unwrap();
    let last = fs::read(whole.join(name(12))).unwrap();
    fs::write(torn.join(name(12)), &last[..last.len() / 2]).unwrap();
    run(settings, &mut work(folder.path(), "torn", settings, 2)).unwrap();
    assert_same(folder.path(), "whole", "torn");
}

/// What a stage wrote: tables and descriptions as text, tensors by name, and what lies beside them.
fn outputs(root: &Path, run: &str) -> BTreeMap<String, (String, BTreeMap<String, Tensor>)> {
    let files = fs::read_dir(root.join(run).join("out")).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with("safetensors") {
            return (name, (fs::read_to_string(path).unwrap(), BTreeMap::new()));
        }
        let Contents { tensors, metadata } = tensors::read(&path).unwrap();
        (name, (metadata, tensors))
    };
    files.map(read).collect()
}

/// Two runs wrote the same bits.
fn assert_same(root: &Path, one: &str, other: &str) {
    let (one_s, other_s) = (outputs(root, one), outputs(root, other));
    assert_eq!(one_s.keys().collect::<Vec<_>>(), other_s.keys().collect::<Vec<_>>());
    for (file, (text, tensors)) in &one_s {
        assert_eq!(text, &other_s[file].0, "{file} of {one} and {other}");
        assert_same_tensors(tensors, &other_s[file].1, &format!("{file} of {one} and {other}"));
    }
}

fn assert_same_tensors(one: &BTreeMap<String, Tensor>, other: &BTreeMap<String, Tensor>, what: &str) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{what}");
    for (name, tensor) in one {
        assert!(tensor.equal(&other[name]), "{name} in {what}");
    }
}

#[test]
fn tones_are_learnt_from_every_front_end() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let all = [
        ("wave", WAVE),
        ("log-mel", LOG_MEL),
        ("stacked by 4", STACKED_BY_4),
        ("convolved", CONVOLVED),
        ("embedded", EMBEDDED),
    ];
    for (name, front_end) in all {
        let settings = settings(front_end, 60);
        let scores = run(&settings, &mut work(folder.path(), name, &settings, 1)).unwrap();
        let value = |name: &str| scores.iter().find(|score| score.name == name).unwrap().value;
        assert!(value("unmasked-accuracy") > value("most-frequent-unit") + 0.1, "{name}: {scores:?}");
        let (_store, hubert, about) =
            model_folder::load(&folder.path().join(name).join("out"), tch::Device::Cpu).unwrap();
        assert_eq!((hubert.depth(), about.network), (2, settings.network.clone()));
    }
}

/// hubert.md section 1.6: every way in which crops, labels and padding may lie on the frames trains, in batches of any lengths.
#[test]
fn every_alignment_and_padding_rule_trains() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    for (front_end, alignment, lengths, padding) in [
        (LOG_MEL, "rounded", "crop", "convolution"),
        (LOG_MEL, "floored", "pad", "reshape"),
        (CONVOLVED, "rounded", "pad", "reshape"),
        (EMBEDDED, "floored", "pad", "convolution"),
    ] {
        let mut settings = settings(front_end, 8);
        settings.pretraining.batching = serde_json::from_value(serde_json::json!({
            "seconds": 4.0, "longest": 1.03, "shortest": 0.5,
            "lengths": lengths, "label-alignment": alignment, "padding-rule": padding,
        }))
        .unwrap();
        let name = format!("{alignment} {lengths} {padding}");
        let scores = run(&settings, &mut work(folder.path(), &name, &settings, 1)).unwrap();
        assert!(scores.iter().all(|score| score.value.is_finite()), "{name}: {scores:?}");
    }
}

#[test]
fn labels_of_other_audio_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    let mut writer = LabelWriter::default();
    for (split_name, count) in [("train", 8), ("dev", 2)] {
        for index in 0..count {
            writer.push(&split(split_name), &format!("u{index}"), &[0; 20]);
        }
    }
    writer.write(&folder.path().join("units")).unwrap();
    let settings = settings(LOG_MEL, 2);
    let error = run(&settings, &mut work(folder.path(), "refused", &settings, 1)).unwrap_err();
    insta::assert_snapshot!(error.to_string());
}
