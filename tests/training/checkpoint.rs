//! Models that were made elsewhere: taken in, and clustered.

use std::fs;
use std::path::{Path, PathBuf};

use reprise_model::failure::StageError;
use reprise_model::stage::pretrain::run;
use reprise_model::stage::{self, Work};
use reprise_spec::contract::{DataSource, Score};
use reprise_spec::identity::ContentDigest;
use reprise_spec::stage::{CheckpointStage, PretrainStage, Role, Stage, UnitsStage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::finetune::work as stage_work;
use super::{LOG_MEL, WAVE, data, settings, split, turn, work};

/// A model without a head above it, as an import leaves one.
fn backbone(root: &Path, name: &str, settings: &PretrainStage) -> PathBuf {
    run(settings, &mut work(root, name, settings, 1)).unwrap();
    let folder = root.join(name).join("out");
    let path = folder.join("model.json");
    let mut about: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    about["output"] = json!("backbone");
    fs::write(&path, about.to_string()).unwrap();
    fs::remove_file(folder.join("state.safetensors")).unwrap();
    folder
}

fn untrained(front_end: &str) -> PretrainStage {
    settings(front_end, 0)
}

fn list(root: &Path, model: &Path) -> PathBuf {
    let lines = ["model.json", "model.safetensors"].map(|name| {
        let bytes = fs::read(model.join(name)).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digest}  {}  {name}\n", bytes.len())
    });
    fs::write(root.join("list"), lines.concat()).unwrap();
    root.join("list")
}

fn take_in(root: &Path, model: &Path, list: PathBuf) -> Result<Vec<Score>, StageError> {
    let stage = Stage::Checkpoint(CheckpointStage { content: ContentDigest([0; 32]) });
    let mut work = stage_work(root, "taken in", stage, &[], 1);
    work.request.data = Some(DataSource { root: model.to_owned(), files: Some(list) });
    stage::execute(&mut work)
}

fn refusal(root: &Path, result: Result<Vec<Score>, StageError>) -> String {
    match result.unwrap_err() {
        StageError::Refused { message, help } => format!("{message}\nhelp: {}", help.unwrap_or_default()),
        other => panic!("{other}"),
    }
    .replace(&root.display().to_string(), "")
}

fn units(root: &Path, model: &Path, height: u64) -> Result<Vec<Score>, StageError> {
    let words = json!({
        "source": {"layer": {"height": height, "after-final-norm": false}},
        "clusters": 4, "clustering": {"starts": 1, "algorithm": {"lloyd": {"max-passes": 2}}}, "fit": 1.0,
        "fit-on": ["train"], "label": ["dev"],
    });
    let settings: UnitsStage = serde_json::from_value(words).unwrap();
    let mut inputs = ["train", "dev"].map(|name| (Role::Corpus(split(name)), root.join(name))).to_vec();
    inputs.push((Role::Pretrained, model.to_owned()));
    let mut work: Work = stage_work(root, "units of it", Stage::Units(settings), &inputs, 1);
    stage::execute(&mut work)
}

#[test]
fn a_model_of_others_is_taken_in_and_clustered() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let model = backbone(root, "model", &untrained(LOG_MEL));
    let scores = take_in(root, &model, list(root, &model)).unwrap();
    assert_eq!((scores[0].name.as_str(), scores[0].value), ("layers", 2.0));
    let taken = root.join("taken in/out");
    for name in ["model.json", "model.safetensors"] {
        assert_eq!(fs::read(taken.join(name)).unwrap(), fs::read(model.join(name)).unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 2);
    assert!(units(root, &taken, 2).unwrap().iter().all(|score| score.value.is_finite()));
    insta::assert_snapshot!(refusal(root, units(root, &taken, 3)), @r"
    there is no layer 3 in a network of 2 layers
    help: lower the `height` of the targets
    ");
}

#[test]
fn a_layer_whose_rate_is_not_whole_makes_no_units() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let mut words = serde_json::to_value(untrained(WAVE)).unwrap();
    words["network"]["encoder"]["layers"] = json!(3);
    words["network"]["hierarchy"] = json!({ "layers": [1, 1, 1], "ratios": [3] });
    let model = backbone(root, "model", &serde_json::from_value(words).unwrap());
    insta::assert_snapshot!(refusal(root, units(root, &model, 2)), @r"
    layer 2 has 16.67 frames a second, and units need a whole number of them
    help: take a layer of another block as the `height` of the targets
    ");
    assert!(units(root, &model, 1).is_ok());
}

#[test]
fn a_folder_without_a_sound_model_is_refused() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let model = backbone(root, "model", &untrained(LOG_MEL));
    let before = list(root, &model);
    let about = fs::read_to_string(model.join("model.json")).unwrap();
    let weights = fs::read(model.join("model.safetensors")).unwrap();
    let mut said = String::new();
    let mut tell = |what: &str, refused: String| said.push_str(&format!("{what}\n{refused}\n\n"));

    fs::write(model.join("model.json"), about.replace("backbone", "backbone ")).unwrap();
    tell("changed", refusal(root, take_in(root, &model, before.clone())));
    fs::write(model.join("model.json"), about.replace("log-mel", "spectrum")).unwrap();
    tell("another architecture", refusal(root, take_in(root, &model, list(root, &model))));
    fs::write(model.join("model.json"), "[1, 2").unwrap();
    tell("not a description", refusal(root, take_in(root, &model, list(root, &model))));
    let mut other: Value = serde_json::from_str(&about).unwrap();
    other["network"]["encoder"]["feed-forward"] = json!(48);
    fs::write(model.join("model.json"), other.to_string()).unwrap();
    tell("other weights", refusal(root, take_in(root, &model, list(root, &model))));
    fs::write(model.join("model.json"), &about).unwrap();
    fs::write(model.join("model.safetensors"), &weights[..weights.len() - 9]).unwrap();
    tell("truncated", refusal(root, take_in(root, &model, list(root, &model))));
    fs::write(root.join("list"), "").unwrap();
    tell("nothing", refusal(root, take_in(root, &model, root.join("list"))));
    insta::assert_snapshot!(said, @r"
    changed
    /model/out/model.json changed since its checksum was taken
    help: run again: the changed file gives the data another identity

    another architecture
    /model/out holds no model that can be taken in: /taken in/out/model.json does not describe a model: unknown variant `spectrum`, expected one of `wave`, `log-mel`, `units` at line 1 column 291
    help: name a folder that a pretraining or `reprise import` has written

    not a description
    /model/out holds no model that can be taken in: /taken in/out/model.json does not describe a model: invalid type: integer `1`, expected struct Network at line 1 column 2
    help: name a folder that a pretraining or `reprise import` has written

    other weights
    /model/out holds no model that can be taken in: /taken in/out/model.safetensors has no encoder.layers.0.feed_forward.intermediate_dense.bias of shape [48]
    help: name a folder that a pretraining or `reprise import` has written

    truncated
    /model/out holds no model that can be taken in: /taken in/out/model.safetensors is damaged: incomplete metadata, file not fully covered
    help: name a folder that a pretraining or `reprise import` has written

    nothing
    /model/out holds no model that can be taken in: there is no model.json
    help: name a folder that a pretraining or `reprise import` has written
    ");
}
