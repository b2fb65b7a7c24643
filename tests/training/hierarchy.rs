//! MR-HuBERT and ILS-HuBERT on tones: whole `pretrain` stages with several places where units are predicted.

use std::fs;

use reprise_model::stage::pretrain::run;
use reprise_model::{model_folder, tensors};
use reprise_spec::stage::PretrainStage;
use serde_json::json;

use super::{WAVE, data, settings, turn, work};

/// Five layers at three rates of which the lowest gives one frame in four, trained on padded batches.
pub fn multires(steps: u64) -> PretrainStage {
    let mut settings = serde_json::to_value(settings(WAVE, steps)).unwrap();
    settings["network"]["encoder"]["layers"] = json!(5);
    settings["network"]["hierarchy"] = json!({ "layers": [1, 1, 1, 1, 1], "ratios": [2, 2] });
    settings["pretraining"]["predict-at"] = json!({ "resolutions": "shared" });
    settings["pretraining"]["batching"]["lengths"] = json!("pad");
    serde_json::from_value(settings).unwrap()
}

/// A head at each layer of a pre-norm encoder with relative positions.
pub fn layers(steps: u64) -> PretrainStage {
    let mut settings = serde_json::to_value(settings(WAVE, steps)).unwrap();
    settings["network"]["encoder"]["norm"] = json!("pre");
    settings["network"]["encoder"]["relative-positions"] = json!({ "buckets": 8, "max-distance": 20 });
    settings["pretraining"]["predict-at"] = json!({ "layers": [1, 2] });
    serde_json::from_value(settings).unwrap()
}

#[test]
fn a_killed_run_of_a_hierarchy_continues_to_the_bit() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = multires(8);
    run(&settings, &mut work(root, "whole", &settings, 1)).unwrap();
    fs::create_dir_all(root.join("torn/checkpoints")).unwrap();
    let last = "checkpoints/step-000000000007.safetensors";
    fs::copy(root.join("whole").join(last), root.join("torn").join(last)).unwrap();
    run(&settings, &mut work(root, "torn", &settings, 2)).unwrap();
    let tensors = |run: &str| tensors::read(&root.join(run).join("out/model.safetensors")).unwrap().tensors;
    assert_eq!(tensors("whole"), tensors("torn"));
    let read = |run: &str| fs::read_to_string(root.join(run).join("out/validation.tsv")).unwrap();
    assert_eq!(read("whole"), read("torn"));
}

#[test]
fn tones_are_learnt_at_several_rates_and_layers() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    for (name, settings) in [("multires", multires(60)), ("layers", layers(60))] {
        let scores = run(&settings, &mut work(root, name, &settings, 1)).unwrap();
        let value = |name: &str| scores.iter().find(|score| score.name == name).unwrap().value;
        assert!(value("unmasked-accuracy") > value("most-frequent-unit") + 0.1, "{name}: {scores:?}");
        let (_store, hubert, about) = model_folder::load(&root.join(name).join("out"), tch::Device::Cpu).unwrap();
        assert_eq!(hubert.depth(), settings.network.encoder.layers.get() as usize);
        assert_eq!(about.network, settings.network);
    }
}
