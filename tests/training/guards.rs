//! Guards in whole trainings that go wrong, and in those that don't.

use std::fs;
use std::path::Path;

use reprise_model::failure::StageError;
use reprise_model::stage::pretrain::run;
use reprise_model::stage::{self, Work};
use reprise_spec::contract::{Prefix, Score};
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::metrics::Log;
use reprise_spec::stage::{FinetuneStage, PretrainStage, Role, Stage};
use serde_json::{Value, json};

use super::finetune;
use super::wav2vec2::contrastive;
use super::{LOG_MEL, assert_same, data, outputs, settings, split, turn, work};

/// Pretraining that is broken by `peak`, with these guards.
fn broken(peak: f64, clip: Value, guards: Value, steps: u64) -> PretrainStage {
    let mut words = serde_json::to_value(settings(LOG_MEL, steps)).unwrap();
    words["pretraining"]["schedule"]["peak"] = json!(peak);
    words["pretraining"]["optimiser"]["clip"] = clip;
    words["pretraining"]["optimiser"]["weight-decay"] = json!(0.0);
    words["pretraining"]["guards"] = guards;
    serde_json::from_value(words).unwrap()
}

fn execute(root: &Path, name: &str, settings: &PretrainStage, attempt: u32) -> Result<Vec<Score>, StageError> {
    let mut work = work(root, name, settings, attempt);
    let result = run(settings, &mut work);
    work.report.flush().unwrap();
    result
}

fn failure(root: &Path, result: Result<Vec<Score>, StageError>) -> String {
    match result.unwrap_err() {
        StageError::Failed(message) => message.replace(&root.display().to_string(), ""),
        other => panic!("{other:?}"),
    }
}

fn value(scores: &[Score], name: &str) -> Option<f64> {
    scores.iter().find(|score| score.name == name).map(|score| score.value)
}

fn log(root: &Path, name: &str) -> Log {
    Log::decode(&fs::read(root.join(name).join("metrics.log")).unwrap())
}

fn checkpoints(root: &Path, name: &str) -> Vec<u64> {
    let files = fs::read_dir(root.join(name).join("checkpoints")).unwrap();
    let step = |name: &str| name.trim_start_matches("step-").trim_end_matches(".safetensors").parse().unwrap();
    let mut steps: Vec<u64> = files.map(|file| step(file.unwrap().file_name().to_str().unwrap())).collect();
    steps.sort();
    steps
}

/// Continues from copies of the checkpoints after `steps`.
fn killed_after(root: &Path, whole: &str, name: &str, steps: &[u64]) {
    fs::create_dir_all(root.join(name).join("checkpoints")).unwrap();
    for step in steps {
        let file = format!("checkpoints/step-{step:012}.safetensors");
        fs::copy(root.join(whole).join(&file), root.join(name).join(&file)).unwrap();
    }
}

#[test]
fn healthy_trainings_are_left_alone() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let mut all = vec![("contrastive".to_owned(), contrastive(60))];
    for (name, front_end) in [("log-mel", LOG_MEL), ("wave", super::WAVE), ("convolved", super::CONVOLVED)] {
        all.push((name.into(), settings(front_end, 60)));
    }
    for (name, settings) in all {
        let scores = execute(root, &name, &settings, 1).unwrap();
        assert!(scores.iter().all(|score| !score.name.starts_with("guard-")), "{name}: {scores:?}");
        let series = log(root, &name).series;
        for (step, spread) in &series["validation-spread"] {
            assert!(*spread > 0.1, "{name}: {spread} at {step}");
        }
        let (_, in_use) = series["validation-in-use"].last_key_value().unwrap();
        assert!(*in_use > 1.5, "{name}: {in_use}");
    }
}

/// An absurd learning rate.
#[test]
fn a_training_that_diverges_stops_before_the_step_and_says_so_again() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = broken(1e12, json!(null), json!({}), 20);
    let first = failure(root, execute(root, "run", &settings, 1));
    let kept = outputs_of_checkpoint(root, "run");
    // The digits of a loss depend on the processor.
    insta::with_settings!({ filters => vec![(r"of \d\.\d{4} nats", "of [loss] nats")] }, {
        insta::assert_snapshot!(first, @"training went wrong at step 2: the loss is NaN, the norm of the gradient NaN, at a learning rate of 1.000e12 after a loss of [loss] nats a masked frame. To go on, lower `pretraining.schedule.peak`, lengthen its warm-up, clip gradients with `pretraining.optimiser.clip`, or say what `pretraining.guards.non-finite` does instead of stopping. The state is in /run/checkpoints/step-000000000001.safetensors");
    });
    assert_eq!(failure(root, execute(root, "run", &settings, 2)), first);
    assert_eq!(outputs_of_checkpoint(root, "run"), kept);
    assert!(kept.iter().all(|(_, finite)| *finite));
}

/// Names of the newest checkpoint's tensors, and whether they are finite.
fn outputs_of_checkpoint(root: &Path, name: &str) -> Vec<(String, bool)> {
    let newest = *checkpoints(root, name).last().unwrap();
    let path = root.join(name).join(format!("checkpoints/step-{newest:012}.safetensors"));
    let tensors = reprise_model::tensors::read(&path).unwrap().tensors;
    tensors.into_iter().map(|(name, tensor)| (name, tensor.isfinite().all().int64_value(&[]) == 1)).collect()
}

/// Norms above a hundredth of the mean are all of them.
#[test]
fn steps_that_explode_are_skipped_or_slowed_and_continue_to_the_bit() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    for (name, then, rate) in [("skipped", json!("skip-step"), 1.0), ("slowed", json!({"lower-rate": 0.5}), 0.5)] {
        let guards = json!({"exploding": {"factor": 1.02, "over": 4, "then": then}, "in-a-row": 50});
        let settings = broken(0.005, json!(10.0), guards, 20);
        let scores = execute(root, name, &settings, 1).unwrap();
        let times = value(&scores, "guard-exploding").expect("an answer");
        assert!((2.0..16.0).contains(&times), "{name}: {times}");
        let events = fs::read_to_string(root.join(name).join("events")).unwrap();
        assert_eq!(events.lines().filter(|line| line.contains("times its mean over 4 steps")).count() as f64, times);
        let series = log(root, name).series;
        assert_eq!(series["guard-exploding"].last_key_value().unwrap().1, &times);
        let scheduled = 0.005 * (20.0 - 10.0) / 18.0;
        let before_10 = series["guard-exploding"].range(..10).count() as i32;
        assert!((series["learning-rate"][&10] / (scheduled * f64::powi(rate, before_10)) - 1.0).abs() < 1e-9);
        let (metadata, _) = &outputs(root, name)["state.safetensors"];
        let state: Value = serde_json::from_str(metadata).unwrap();
        assert_eq!(state["optimiser_step"].as_u64(), Some(20 - times as u64), "{name}");
        killed_after(root, name, &format!("{name} torn"), &[19]);
        execute(root, &format!("{name} torn"), &settings, 2).unwrap();
        assert_same(root, name, &format!("{name} torn"));
        // And on from a shorter stage.
        let beginning = PretrainStage { steps: 9u64.try_into().unwrap(), ..settings.clone() };
        execute(root, &format!("{name} beginning"), &beginning, 1).unwrap();
        let on = format!("{name} on");
        let mut work: Work = work(root, &on, &settings, 1);
        let path = root.join(format!("{name} beginning/out"));
        work.request.prefix = Some(Prefix { key: StageKey([1; 32]), digest: OutputDigest([0; 32]), path });
        run(&settings, &mut work).unwrap();
        assert_same(root, name, &on);
    }
}

#[test]
fn too_many_bad_steps_in_a_row_stop() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let guards = json!({"exploding": {"factor": 0.01, "over": 4, "then": "skip-step"}, "in-a-row": 3});
    let settings = broken(0.005, json!(10.0), guards, 20);
    let message = failure(root, execute(root, "run", &settings, 1));
    assert!(message.starts_with("training went wrong at step 8: "), "{message}");
    assert!(message.contains("and the 3 steps before it were bad too"), "{message}");
    assert_eq!(checkpoints(root, "run"), [6, 7]);
}

/// Thresholds that no model keeps stand for a model that went wrong.
#[test]
fn a_dead_codebook_and_a_collapse_are_answered_at_validations() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    // Validations at 7, 14, 21, 28; the first three steps warm up.
    let guards = |guard: &str, then: Value| match guard {
        "dead-codebook" => json!({"dead-codebook": {"perplexity": 99.0, "patience": 2, "then": then}}),
        _ => json!({"collapse": {"spread": 1.0, "patience": 2, "then": then}}),
    };
    for guard in ["dead-codebook", "collapse"] {
        let stopping = broken(0.005, json!(10.0), guards(guard, json!("stop")), 30);
        let stopped = format!("{guard} stop");
        let message = failure(root, execute(root, &stopped, &stopping, 1));
        assert!(message.starts_with("training went wrong at step 14: "), "{message}");
        assert!(message.contains(&format!("let `pretraining.guards.{guard}` warn only")), "{message}");
        // None from before the first bad validation but that of the start, which comes of checkpoints as often as can be.
        assert_eq!(checkpoints(root, &stopped), [0, 13, 14]);
        assert_eq!(failure(root, execute(root, &stopped, &stopping, 2)), message);

        let warning = broken(0.005, json!(10.0), guards(guard, json!("warn")), 30);
        let scores = execute(root, &format!("{guard} warn"), &warning, 1).unwrap();
        assert_eq!(value(&scores, &format!("guard-{guard}")), Some(2.0));
        let plain = broken(0.005, json!(10.0), json!({}), 30);
        execute(root, &format!("{guard} plain"), &plain, 1).unwrap();
        let model = |name: &str| outputs(root, &format!("{guard} {name}")).remove("model.safetensors").unwrap().1;
        super::assert_same_tensors(&model("warn"), &model("plain"), guard);

        let slowing = broken(0.005, json!(10.0), guards(guard, json!({"lower-rate": 0.1})), 30);
        let slowed = format!("{guard} slowed");
        execute(root, &slowed, &slowing, 1).unwrap();
        let rate = |name: &str, step: u64| log(root, &format!("{guard} {name}")).series["learning-rate"][&step];
        for (step, factor) in [(10, 1.0), (20, 0.1)] {
            assert!((rate("slowed", step) / rate("plain", step) - factor).abs() < 1e-9);
        }
        killed_after(root, &slowed, &format!("{guard} torn"), &[29]);
        execute(root, &format!("{guard} torn"), &slowing, 2).unwrap();
        assert_same(root, &slowed, &format!("{guard} torn"));
    }
}

fn tune(root: &Path, name: &str, settings: &FinetuneStage, attempt: u32) -> Result<Vec<Score>, StageError> {
    let inputs = ["letters", "spelt"].map(|name| (Role::Corpus(split(name)), root.join(name)));
    stage::execute(&mut finetune::work(root, name, Stage::Finetune(settings.clone()), &inputs, attempt))
}

#[test]
fn fine_tuning_is_guarded_step_by_step() {
    let _turn = turn();
    let folder = finetune::corpora();
    let root = folder.path();
    let with = |peak: f64, guards: Value| -> FinetuneStage {
        let mut words = serde_json::to_value(finetune::settings(14, 2)).unwrap();
        words["finetuning"]["schedule"]["peak"] = json!(peak);
        words["finetuning"]["guards"] = guards;
        serde_json::from_value(words).unwrap()
    };
    let diverging = with(1e12, json!({}));
    let message = failure(root, tune(root, "diverging", &diverging, 1));
    assert!(message.contains("training went wrong at step ") && message.contains("`finetuning.guards.non-finite`"));
    assert_eq!(failure(root, tune(root, "diverging", &diverging, 2)), message);

    let skipping =
        with(0.003, json!({"exploding": {"factor": 1.02, "over": 3, "then": {"lower-rate": 0.5}}, "in-a-row": 50}));
    let scores = tune(root, "whole", &skipping, 1).unwrap();
    assert!(value(&scores, "guard-exploding").is_some_and(|times| times >= 1.0), "{scores:?}");
    killed_after(root, "whole", "torn", &[13]);
    tune(root, "torn", &skipping, 2).unwrap();
    assert_same(root, "whole", "torn");
    assert!(
        tune(root, "healthy", &with(0.003, json!({})), 1).unwrap().iter().all(|score| !score.name.starts_with("guard"))
    );
}
