//! Steps of several batches, and layers that are computed twice: ways to fit a published batch into the memory of one device.

use std::fs;
use std::path::Path;

use reprise_model::stage::pretrain::run;
use reprise_spec::metrics::Log;
use reprise_spec::stage::PretrainStage;
use serde_json::{Value, json};

use super::hierarchy::{layers, multires};
use super::wav2vec2::{alone, contrastive};
use super::{CONVOLVED, LOG_MEL, WAVE, assert_same, data, settings, turn, work};

fn changed(settings: &PretrainStage, change: impl FnOnce(&mut Value)) -> PretrainStage {
    let mut settings = serde_json::to_value(settings).unwrap();
    change(&mut settings);
    serde_json::from_value(settings).unwrap()
}

/// With two batches a step, and one in the last step of an epoch: eight utterances of up to a second, three in a batch at most.
fn accumulated(settings: &PretrainStage) -> PretrainStage {
    changed(settings, |settings| {
        settings["pretraining"]["batching"] =
            json!({ "seconds": 6.0, "longest": 1.0, "shortest": 0.5, "accumulation": 2 });
    })
}

fn log(root: &Path, name: &str) -> Log {
    Log::decode(&fs::read(root.join(name).join("metrics.log")).unwrap())
}

/// The whole corpus as one batch, or as a batch for each utterance, with nothing drawn that depends on what shares a batch.
fn first_step(front_end: &str, accumulation: u64) -> PretrainStage {
    changed(&settings(front_end, 1), |settings| {
        settings["network"]["encoder"]["layer-drop"] = json!(0.0);
        settings["network"]["dropout"] = json!({ "residual": 0.0, "attention": 0.0, "input": 0.0, "activation": 0.0 });
        let pretraining = &mut settings["pretraining"];
        pretraining["masking"]["equal-count"] = json!(false);
        pretraining["batching"] =
            json!({ "seconds": 5.6, "longest": 0.7, "shortest": 0.5, "accumulation": accumulation });
    })
}

#[test]
fn the_gradient_of_a_batch_is_that_of_its_parts() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    for (name, front_end) in [("wave", WAVE), ("log-mel", LOG_MEL)] {
        let seen = [1, 4, 8].map(|accumulation| {
            let (settings, name) = (first_step(front_end, accumulation), format!("{name}-{accumulation}"));
            run(&settings, &mut work(root, &name, &settings, 1)).unwrap();
            let log = log(root, &name);
            ["loss", "gradient-norm", "penalty", "masked-accuracy", "mask-fraction", "audio-seconds"]
                .map(|name| log.series[name][&1])
        });
        for parts in &seen[1..] {
            for (whole, parts) in seen[0].iter().zip(parts) {
                assert!((whole - parts).abs() <= 1e-5 * whole.abs(), "{name}: {seen:?}");
            }
        }
    }
}

#[test]
fn accumulated_steps_continue_to_the_bit_and_on_any_number_of_loader_threads() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = accumulated(&settings(CONVOLVED, 9));
    run(&settings, &mut work(root, "whole", &settings, 1)).unwrap();
    for step in [7u64, 8] {
        let (torn, last) = (format!("torn-{step}"), format!("checkpoints/step-{step:012}.safetensors"));
        fs::create_dir_all(root.join(&torn).join("checkpoints")).unwrap();
        fs::copy(root.join("whole").join(&last), root.join(&torn).join(&last)).unwrap();
        let mut work = work(root, &torn, &settings, 2);
        work.request.loader_threads = step as u32;
        run(&settings, &mut work).unwrap();
        assert_same(root, "whole", &torn);
    }
    // Three batches an epoch make a step of two and one of one.
    let log = log(root, "whole");
    let epochs: Vec<f64> = log.series["epoch"].values().copied().collect();
    assert_eq!(epochs.last(), Some(&4.0), "{epochs:?}");
}

#[test]
fn layers_that_are_computed_twice_change_no_bit() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let half = |settings: &PretrainStage| changed(settings, |all| all["pretraining"]["precision"] = json!("bf16"));
    // Without dropout and padding, what one layer gives is what the next one and others read.
    let bare = |settings: &PretrainStage| {
        changed(settings, |all| {
            all["network"]["encoder"]["norm"] = json!("pre");
            all["network"]["dropout"] = json!({ "residual": 0.0, "attention": 0.0, "input": 0.0, "activation": 0.0 });
            all["pretraining"]["batching"]["lengths"] = json!("crop");
        })
    };
    let all = [
        ("wave", settings(WAVE, 8)),
        ("half", half(&settings(WAVE, 8))),
        ("accumulated", accumulated(&settings(LOG_MEL, 8))),
        ("multires", multires(8)),
        ("bare multires", bare(&multires(8))),
        ("relative", half(&layers(8))),
        ("bare layers", bare(&layers(8))),
        ("contrastive", contrastive(8)),
    ];
    for (name, settings) in &all {
        let again = format!("{name} again");
        let trained = |name: &str, recompute| {
            let mut work = match settings.targets {
                reprise_spec::stage::PretrainTargets::Units(_) => work(root, name, settings, 1),
                reprise_spec::stage::PretrainTargets::Quantiser(_) => alone(root, name, settings, 1),
            };
            work.request.recompute = recompute;
            run(settings, &mut work).unwrap();
            // The end of a log waits up to a second to be written.
            work.report.keep().unwrap();
        };
        trained(name, false);
        trained(&again, true);
        assert_same(root, name, &again);
        assert_eq!(log(root, name), log(root, &again), "{name}");
    }
}
