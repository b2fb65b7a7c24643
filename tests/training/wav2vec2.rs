//! wav2vec 2.0 on tones: a whole `pretrain` stage without units.

use std::fs;

use reprise_model::stage::pretrain::run;
use reprise_model::{model_folder, tensors};
use reprise_spec::metrics::Log;
use reprise_spec::stage::{PretrainStage, Role};

use super::{WAVE, data, settings, turn, work};

pub fn contrastive(steps: u64) -> PretrainStage {
    let mut settings = settings(WAVE, steps);
    let targets = serde_json::json!({ "quantiser": {
        "groups": 2, "entries": 8, "dimension": 16, "negatives": 10,
        "temperature": { "start": 2.0, "end": 0.5, "decay": 0.98 },
    } });
    settings.targets = serde_json::from_value(targets).unwrap();
    settings.pretraining.loss = Default::default();
    settings
}

pub fn alone(root: &std::path::Path, name: &str, settings: &PretrainStage, attempt: u32) -> reprise_model::stage::Work {
    let mut work = work(root, name, settings, attempt);
    work.request.inputs.retain(|input| !matches!(input.role, Role::Targets(_)));
    work
}

#[test]
fn a_killed_contrastive_run_continues_to_the_bit() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = contrastive(12);
    run(&settings, &mut alone(root, "whole", &settings, 1)).unwrap();
    // What a kill after step 11 leaves behind.
    fs::create_dir_all(root.join("torn/checkpoints")).unwrap();
    let last = "checkpoints/step-000000000011.safetensors";
    fs::copy(root.join("whole").join(last), root.join("torn").join(last)).unwrap();
    run(&settings, &mut alone(root, "torn", &settings, 2)).unwrap();
    let tensors = |run: &str| tensors::read(&root.join(run).join("out/model.safetensors")).unwrap().tensors;
    assert_eq!(tensors("whole"), tensors("torn"));
    for file in ["model.json", "validation.tsv"] {
        let read = |run: &str| fs::read_to_string(root.join(run).join("out").join(file)).unwrap();
        assert_eq!(read("whole"), read("torn"), "{file}");
    }
    let table = fs::read_to_string(root.join("whole/out/validation.tsv")).unwrap();
    let header = "step\tloss\tmasked-accuracy\tblind-guess\tcode-perplexity\tcodes-used\taudio-seconds\n";
    assert!(table.starts_with(header), "{table}");
}

#[test]
fn targets_are_told_from_distractors() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = contrastive(60);
    let mut work = alone(root, "run", &settings, 1);
    let scores = run(&settings, &mut work).unwrap();
    work.report.flush().unwrap();
    let value = |name: &str| scores.iter().find(|score| score.name == name).unwrap().value;
    let names: Vec<&str> = scores.iter().map(|score| score.name.as_str()).collect();
    let expected = [
        "validation-loss",
        "masked-accuracy",
        "blind-guess",
        "code-perplexity",
        "codes-used",
        "trained",
        "audio-seconds",
    ];
    assert_eq!(names, expected);
    assert!(value("masked-accuracy") > value("blind-guess") && value("trained") == 1.0, "{scores:?}");
    let log = Log::decode(&fs::read(root.join("run/metrics.log")).unwrap());
    let at = |name: &str, step: u64| log.series[name][&step];
    assert!((at("temperature", 10) - 2.0 * 0.98f64.powi(9)).abs() < 1e-12);
    for name in ["code-perplexity", "probability-perplexity"] {
        assert!((2.0..=16.0).contains(&at(name, 60)), "{name}");
    }
    let (_store, hubert, about) = model_folder::load(&root.join("run/out"), tch::Device::Cpu).unwrap();
    assert_eq!((hubert.depth(), about.output), (2, model_folder::Output::pretrained(&settings)));
}
