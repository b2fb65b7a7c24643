//! Iterations that start from the one before: what is carried over, and what is drawn anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use reprise_model::failure::StageError;
use reprise_model::layer_of::layer_of;
use reprise_model::stage::pretrain::run;
use reprise_spec::contract::{Input, Score};
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::stage::{PretrainStage, Role};
use serde_json::{Value, json};
use tch::Tensor;

use super::wav2vec2::contrastive;
use super::{CONVOLVED, EMBEDDED, LOG_MEL, assert_same, assert_same_tensors, data, outputs, settings, turn, work};

fn warm(settings: &PretrainStage, steps: u64, carry: Value, trained: u64) -> PretrainStage {
    let mut words = serde_json::to_value(settings).unwrap();
    words["steps"] = json!(steps);
    words["start"] = json!({ "warm": { "carry": carry, "trained": trained } });
    serde_json::from_value(words).unwrap()
}

fn execute(root: &Path, name: &str, settings: &PretrainStage, start: &str) -> Result<Vec<Score>, StageError> {
    let mut work = work(root, name, settings, 1);
    let path = root.join(start).join("out");
    let (key, digest) = (StageKey([2; 32]), OutputDigest([0; 32]));
    work.request.inputs.push(Input { role: Role::Start, key, digest, path });
    run(settings, &mut work)
}

fn model(root: &Path, name: &str) -> BTreeMap<String, Tensor> {
    outputs(root, name).remove("model.safetensors").unwrap().1
}

/// Its tensors, and the optimiser's count of steps.
fn state(root: &Path, name: &str) -> (BTreeMap<String, Tensor>, u64) {
    let (metadata, tensors) = outputs(root, name).remove("state.safetensors").unwrap();
    let said: Value = serde_json::from_str(&metadata).unwrap();
    (tensors, said["optimiser_step"].as_u64().unwrap())
}

/// A stage of no steps gives what it starts from.
#[test]
fn a_warm_start_carries_what_it_says_and_draws_the_rest() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = settings(LOG_MEL, 6);
    run(&settings, &mut work(root, "first", &settings, 1)).unwrap();
    let before = (model(root, "first"), state(root, "first").0);
    let none = json!({"weights": "none", "optimiser": "reset", "head": "renew"});
    execute(root, "fresh", &warm(&settings, 0, none.clone(), 6), "first").unwrap();
    let fresh = model(root, "fresh");
    let is_head = |name: &str| name.starts_with("final_proj") || name.starts_with("label_embs");
    let cases: [(&str, Value, &[u32]); 4] = [
        ("none", json!("none"), &[]),
        ("all", json!("all"), &[0, 1, 2]),
        ("below", json!({"layers": [0]}), &[0]),
        ("apart", json!({"layers": [2, 0]}), &[0, 2]),
    ];
    for (what, weights, layers) in cases {
        for (optimiser, head) in [("reset", "keep"), ("keep", "renew"), ("keep", "keep")] {
            let name = format!("{what} {optimiser} {head}");
            let carry = json!({"weights": weights, "optimiser": optimiser, "head": head});
            execute(root, &name, &warm(&settings, 0, carry, 6), "first").unwrap();
            let (found, (moments, count)) = (model(root, &name), state(root, &name));
            assert_eq!(found.len(), before.0.len());
            assert_eq!(count, if optimiser == "keep" { 6 } else { 0 });
            for (parameter, tensor) in &found {
                let carried = if is_head(parameter) {
                    head == "keep"
                } else {
                    layers.contains(&layer_of(parameter, &settings.network))
                };
                assert!(!fresh[parameter].equal(&before.0[parameter]), "{parameter} tells nothing");
                let expected = if carried { &before.0 } else { &fresh };
                assert!(tensor.equal(&expected[parameter]), "{name}: {parameter}, carried {carried}");
                for moment in ["first-moment", "second-moment"] {
                    let moment = format!("{moment}/{parameter}");
                    let expected = if carried && optimiser == "keep" {
                        before.1[&moment].shallow_clone()
                    } else {
                        before.1[&moment].zeros_like()
                    };
                    assert!(moments[&moment].equal(&expected), "{name}: {moment}");
                }
            }
        }
    }
    // Every iteration draws its own.
    execute(root, "later", &warm(&settings, 0, none, 12), "first").unwrap();
    let random = PretrainStage { steps: 0u64.try_into().unwrap(), ..settings.clone() };
    run(&random, &mut work(root, "random", &random, 1)).unwrap();
    for (one, other) in [("fresh", "later"), ("fresh", "random"), ("later", "random")] {
        assert!(!model(root, one)["label_embs_concat"].equal(&model(root, other)["label_embs_concat"]));
    }
}

/// All that a step depends on is carried: steps and epochs are counted on, moments kept, the schedule shared.
#[test]
fn an_iteration_that_carries_everything_is_the_rest_of_a_longer_one() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let all = [
        ("convolved", settings(CONVOLVED, 16)),
        ("embedded", settings(EMBEDDED, 16)),
        ("contrastive", contrastive(16)),
    ];
    for (what, whole) in all {
        let name = |part: &str| format!("{what} {part}");
        run(&whole, &mut work(root, &name("whole"), &whole, 1)).unwrap();
        let first = PretrainStage { steps: 7u64.try_into().unwrap(), ..whole.clone() };
        run(&first, &mut work(root, &name("first"), &first, 1)).unwrap();
        let carry = json!({"weights": "all", "optimiser": "keep", "head": "keep"});
        let mut second = warm(&whole, 9, carry, 7);
        second.span.before = 7;
        execute(root, &name("second"), &second, &name("first")).unwrap();
        let tensors = |part: &str| (model(root, &name(part)), state(root, &name(part)));
        let (whole, second) = (tensors("whole"), tensors("second"));
        assert_same_tensors(&whole.0, &second.0, what);
        assert_same_tensors(&whole.1.0, &second.1.0, what);
        assert_eq!(whole.1.1, second.1.1);
    }
}

#[test]
fn a_warm_start_is_the_same_every_time_and_moments_matter() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = settings(LOG_MEL, 6);
    run(&settings, &mut work(root, "first", &settings, 1)).unwrap();
    let second =
        |optimiser: &str| warm(&settings, 4, json!({"weights": "all", "optimiser": optimiser, "head": "renew"}), 6);
    execute(root, "once", &second("keep"), "first").unwrap();
    execute(root, "again", &second("keep"), "first").unwrap();
    assert_same(root, "once", "again");
    execute(root, "reset", &second("reset"), "first").unwrap();
    assert_eq!((state(root, "once").1, state(root, "reset").1), (10, 4));
    let weight = "encoder.layers.0.attention.v_proj.weight";
    assert!(!model(root, "once")[weight].equal(&model(root, "reset")[weight]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let mut settings = settings(LOG_MEL, 3);
    run(&settings, &mut work(root, "first", &settings, 1)).unwrap();
    let about = root.join("first/out/model.json");
    let text = fs::read_to_string(&about).unwrap();
    let mut words: Value = serde_json::from_str(&text).unwrap();
    words["output"]["pretrained"]["targets"]["units"] = json!([9]);
    fs::write(&about, words.to_string()).unwrap();
    let message = |settings: &PretrainStage| {
        match execute(root, "refused", settings, "first").unwrap_err() {
            StageError::Refused { message, help } => format!("{message}\nhelp: {}", help.unwrap_or_default()),
            other => panic!("{other}"),
        }
        .replace(&root.display().to_string(), "")
    };
    let keep = |settings: &PretrainStage| warm(settings, 1, json!({"weights": "all", "head": "keep"}), 3);
    insta::assert_snapshot!(message(&keep(&settings)), @r"
    the head to keep predicts 9 units, this iteration 4 units
    help: set `carry.head: renew`, or cluster into as many units as in the iteration before
    ");
    fs::write(&about, text).unwrap();
    settings.pretraining.head = serde_json::from_value(json!({"cosine": {"dimension": 8}})).unwrap();
    insta::assert_snapshot!(message(&keep(&settings)), @r"
    the model in /first/out cannot be taken over: parameter/final_proj.bias has the shape [16], not [8]
    help: set `carry.head: renew`, or keep `pretraining.head` and `predict-at` as they were
    ");
    settings.network.encoder.feed_forward = 32u64.try_into().unwrap();
    insta::assert_snapshot!(message(&warm(&settings, 1, json!({"weights": "all"}), 3)), @r"
    the model in /first/out is of another network than the one to train
    help: start from a model of the same network, or from random weights
    ");
}
