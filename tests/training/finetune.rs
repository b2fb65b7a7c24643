//! The stages `finetune` and `decode` on tones: every letter is a pitch, a space is silence.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use reprise_model::corpus::{Utterance, table};
use reprise_model::report::Reporter;
use reprise_model::stage::{self, Work};
use reprise_model::tensors;
use reprise_spec::contract::{self, DataSource, Device, Input, Request};
use reprise_spec::decoding::{Bootstrap, Search};
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::recognition::Scores;
use reprise_spec::stage::{DecodeStage, FinetuneStage, Role, Stage};

use super::{split, turn, wav};

pub fn tones(root: &Path, name: &str, transcripts: &[&str]) {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut utterances = Vec::new();
    for (index, transcript) in transcripts.iter().enumerate() {
        let mut samples = vec![0i16; 1_600];
        for letter in transcript.chars() {
            let pitch = 300.0 * f64::from(letter as u32 % 32);
            let tone = |n: u32| (8_000.0 * (f64::from(n) / 16_000.0 * pitch * std::f64::consts::TAU).sin()) as i16;
            samples.extend((0..1_920).map(tone));
            samples.extend([0; 960]);
        }
        let (id, path) = (format!("u{index}"), format!("{name}/u{index}.wav"));
        fs::write(root.join(&path), wav(&samples)).unwrap();
        let (samples, speaker) = (samples.len() as u64, format!("s{}", index % 2));
        utterances.push(Utterance { id, path, samples, speaker, transcript: Some((*transcript).into()) });
    }
    fs::write(folder.join("utterances.tsv"), table(&utterances)).unwrap();
    fs::write(folder.join("corpus.json"), r#"{"transcribed":true,"conversion":"refuse"}"#).unwrap();
}

pub fn settings(steps: u64, freeze: u64) -> FinetuneStage {
    let json = serde_json::json!({
        "network": {
            "front-end": {"wave": {"channels": 16}},
            "encoder": {"layers": 2, "width": 32, "heads": 2, "feed-forward": 64,
                "positional": {"kernel": 16, "groups": 4}},
        },
        "finetuning": {
            "steps": steps,
            "freeze-steps": freeze,
            "schedule": {"peak": 0.003},
            "time-masking": {"prob": 0.2, "length": 4},
            "channel-masking": {"prob": 0.3, "length": 4},
            "layer-drop": 0.2,
            "batch-seconds": 6.0,
            "validate-every": 5,
        },
        "top": "kept",
        "train-on": ["letters"],
        "validate-on": ["spelt"],
    });
    serde_json::from_value(json).unwrap()
}

pub fn work(root: &Path, name: &str, stage: Stage, inputs: &[(Role, PathBuf)], attempt: u32) -> Work {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    let input = |(role, path): &(Role, PathBuf)| Input {
        role: role.clone(),
        key: StageKey([0; 32]),
        digest: OutputDigest([0; 32]),
        path: path.clone(),
    };
    let request = Request {
        contract: contract::VERSION,
        key: StageKey([0; 32]),
        seed: stage.draws().then_some(3),
        stage,
        inputs: inputs.iter().map(input).collect(),
        prefix: None,
        data: Some(DataSource { root: root.to_owned(), files: None }),
        work: folder.clone(),
        device: Device::Cpu,
        threads: 1,
        loader_threads: 1,
        recompute: false,
        checkpoint_seconds: 0,
        attempt,
    };
    let report = Reporter::open(File::create(folder.join("events")).unwrap(), &folder, attempt).unwrap();
    Work { request, report, device: tch::Device::Cpu }
}

/// A folder with the corpora `letters`, to train on, and `spelt`.
pub fn corpora() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tones(folder.path(), "letters", &["abba cab", "bed", "dada be", "ad", "cede"]);
    tones(folder.path(), "spelt", &["abc", "bad zz"]);
    folder
}

fn finetune(root: &Path, name: &str, settings: &FinetuneStage, attempt: u32) -> Vec<contract::Score> {
    let inputs = ["letters", "spelt"].map(|name| (Role::Corpus(split(name)), root.join(name)));
    stage::execute(&mut work(root, name, Stage::Finetune(settings.clone()), &inputs, attempt)).unwrap()
}

/// Decodes `spelt` greedily with what was fine-tuned as `finetune`.
fn decode(root: &Path) -> Vec<contract::Score> {
    let (search, bootstrap) = (Search::Greedy, Bootstrap::default());
    let stage = Stage::Decode(DecodeStage { split: split("spelt"), search, weights: None, bootstrap });
    let inputs = [(Role::Finetuned, root.join("finetune/out")), (Role::Corpus(split("spelt")), root.join("spelt"))];
    stage::execute(&mut work(root, "decode", stage, &inputs, 1)).unwrap()
}

#[test]
fn a_fine_tuning_with_layers_computed_twice_has_the_same_bits_before_and_after_the_end_of_the_freeze() {
    let _turn = turn();
    let folder = corpora();
    let root = folder.path();
    let settings = settings(12, 6);
    finetune(root, "kept", &settings, 1);
    let inputs = ["letters", "spelt"].map(|name| (Role::Corpus(split(name)), root.join(name)));
    let mut again = work(root, "again", Stage::Finetune(settings), &inputs, 1);
    again.request.recompute = true;
    stage::execute(&mut again).unwrap();
    let out = |run: &str| tensors::read(&root.join(run).join("out/model.safetensors")).unwrap().tensors;
    assert_eq!(out("kept"), out("again"));
}

#[test]
fn a_killed_fine_tuning_continues_to_the_bit_across_the_end_of_the_freeze() {
    let _turn = turn();
    let folder = corpora();
    let root = folder.path();
    let settings = settings(12, 11);
    finetune(root, "whole", &settings, 1);
    // What a kill after step 11 leaves behind.
    fs::create_dir_all(root.join("torn/checkpoints")).unwrap();
    let last = "checkpoints/step-000000000011.safetensors";
    fs::copy(root.join("whole").join(last), root.join("torn").join(last)).unwrap();
    finetune(root, "torn", &settings, 2);
    let file = |run: &str, name: &str| root.join(run).join("out").join(name);
    for name in ["model.json", "vocabulary.txt", "validation.tsv"] {
        assert_eq!(fs::read(file("whole", name)).unwrap(), fs::read(file("torn", name)).unwrap(), "{name}");
    }
    let tensors = |run: &str| tensors::read(&file(run, "model.safetensors")).unwrap().tensors;
    assert_eq!(tensors("whole"), tensors("torn"));
    let rows = fs::read_to_string(file("whole", "validation.tsv")).unwrap();
    let steps: Vec<&str> = rows.lines().skip(1).map(|row| row.split('\t').next().unwrap()).collect();
    assert_eq!(steps, ["5", "10", "12"]);
}

#[test]
fn word_pieces_are_learnt_decoded_and_scored_as_words() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    tones(root, "letters", &["abba cab", "abba", "cab cab", "dab"]);
    tones(root, "spelt", &["cab", "abba"]);
    let mut settings = settings(4, 1);
    settings.finetuning.symbols = serde_json::from_str(r#"{"word-pieces": {"count": 8}}"#).unwrap();
    let finetuned = finetune(root, "finetune", &settings, 1);
    let vocabulary = fs::read_to_string(root.join("finetune/out/vocabulary.txt")).unwrap();
    assert_eq!(vocabulary.lines().collect::<Vec<_>>().join(" "), "<pad> ▁ a b c d ab cab ▁cab");
    let decoded = decode(root);
    assert_eq!(decoded[0].value, finetuned[0].value);
}

#[test]
fn decoding_scores_the_model_of_the_last_step() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    tones(root, "letters", &["abba cab", "bed", "dada be", "ad", "cede"]);
    tones(root, "spelt", &["bad zz", "", "cab"]);
    let finetuned = finetune(root, "finetune", &settings(5, 2), 1);
    let decoded = decode(root);
    let value = |scores: &[contract::Score], name: &str| scores.iter().find(|score| score.name == name).unwrap().value;
    assert_eq!(value(&decoded, "wer"), value(&finetuned, "validation-wer"));
    assert_eq!(value(&decoded, "cer"), value(&finetuned, "validation-cer"));
    let json = fs::read(root.join("decode/out/scores.json")).unwrap();
    let scores: Scores = serde_json::from_slice(&json).unwrap();
    assert_eq!((scores.utterances, scores.speakers, scores.wer.edits.reference), (3, 2, 3));
    let table = fs::read_to_string(root.join("decode/out/hypotheses.tsv")).unwrap();
    assert_eq!(table.lines().count(), 4);
    assert!(table.lines().nth(1).unwrap().starts_with("u0\ts0\tbad zz\t"), "{table}");
}
