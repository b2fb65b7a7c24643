//! A stage that goes on from a shorter one gives the bits of one that didn't, whatever the step at which they part.

use std::fs;
use std::path::Path;

use reprise_model::stage::Work;
use reprise_model::stage::pretrain::run;
use reprise_spec::contract::Prefix;
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::metrics::Log;
use reprise_spec::stage::PretrainStage;

use super::wav2vec2::contrastive;
use super::{CONVOLVED, LOG_MEL, assert_same, data, settings, turn, work};

/// The same trajectory, stopped earlier.
fn until(settings: &PretrainStage, step: u64) -> PretrainStage {
    PretrainStage { steps: step.try_into().unwrap(), ..settings.clone() }
}

fn execute(root: &Path, name: &str, settings: &PretrainStage, prefix: Option<&str>) {
    let mut work = after(root, name, settings, prefix, 1);
    work.request.checkpoint_seconds = 3_600;
    run(settings, &mut work).unwrap();
    work.report.flush().unwrap();
}

fn after(root: &Path, name: &str, settings: &PretrainStage, prefix: Option<&str>, attempt: u32) -> Work {
    let mut work = work(root, name, settings, attempt);
    let (key, digest) = (StageKey([1; 32]), OutputDigest([0; 32]));
    work.request.prefix = prefix.map(|prefix| Prefix { key, digest, path: root.join(prefix).join("out") });
    work
}

fn log(root: &Path, name: &str) -> Log {
    Log::decode(&fs::read(root.join(name).join("metrics.log")).unwrap())
}

fn events(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name).join("events")).unwrap()
}

/// Every seventh step is validated, every tenth logged, and two steps make an epoch.
const CUTS: [u64; 6] = [1, 7, 10, 13, 20, 21];

#[test]
fn stretch_by_stretch_is_as_straight() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    for (front_end, settings) in [("convolved", settings(CONVOLVED, 24)), ("contrastive", contrastive(24))] {
        let name = |step: u64| format!("{front_end} {step}");
        execute(root, &name(24), &settings, None);
        let mut last: Option<String> = None;
        for step in CUTS {
            let straight = format!("{} straight", name(step));
            execute(root, &name(step), &until(&settings, step), last.as_deref());
            execute(root, &straight, &until(&settings, step), None);
            assert_same(root, &name(step), &straight);
            let whole = format!("{} to the end", name(step));
            execute(root, &whole, &settings, Some(&name(step)));
            assert_same(root, &whole, &name(24));
            assert!(events(root, &whole).contains(&format!("goes on after step {step} of ")));
            last = Some(name(step));
        }
    }
}

#[test]
fn the_log_of_a_longer_stage_begins_where_its_prefix_ends() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = settings(LOG_MEL, 24);
    execute(root, "straight", &settings, None);
    execute(root, "beginning", &until(&settings, 13), None);
    execute(root, "end", &settings, Some("beginning"));
    let (mut straight, end) = (log(root, "straight").series, log(root, "end").series);
    for series in straight.values_mut() {
        series.retain(|&step, _| step > 13);
    }
    assert_eq!(straight, end);
    assert_eq!(log(root, "beginning").series["validation-loss"].keys().copied().collect::<Vec<_>>(), [7, 13]);
    let rows = fs::read_to_string(root.join("end/out/validation.tsv")).unwrap();
    let steps: Vec<&str> = rows.lines().skip(1).map(|row| row.split('\t').next().unwrap()).collect();
    assert_eq!(steps, ["7", "14", "21", "24"]);
}

#[test]
fn a_stage_that_was_killed_after_its_prefix_goes_on_from_its_own_checkpoint() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = settings(LOG_MEL, 19);
    execute(root, "straight", &settings, None);
    execute(root, "beginning", &until(&settings, 8), None);
    run(&settings, &mut after(root, "whole", &settings, Some("beginning"), 1)).unwrap();
    for step in [18, 19] {
        let name = format!("killed after {step}");
        let checkpoint = format!("checkpoints/step-{step:012}.safetensors");
        fs::create_dir_all(root.join(&name).join("checkpoints")).unwrap();
        fs::copy(root.join("whole").join(&checkpoint), root.join(&name).join(&checkpoint)).unwrap();
        run(&settings, &mut after(root, &name, &settings, Some("beginning"), 2)).unwrap();
        assert!(!events(root, &name).contains("goes on"));
        assert_same(root, &name, "straight");
    }
}

#[test]
fn a_prefix_of_no_use_costs_time_and_no_bit() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let settings = settings(LOG_MEL, 9);
    execute(root, "straight", &settings, None);
    execute(root, "too long", &PretrainStage { steps: 10u64.try_into().unwrap(), ..settings.clone() }, None);
    let cut = |from: &str, name: &str, file: &str| {
        let out = root.join(name).join("out");
        fs::create_dir_all(&out).unwrap();
        for entry in fs::read_dir(root.join(from).join("out")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), out.join(entry.file_name())).unwrap();
        }
        let bytes = fs::read(out.join(file)).unwrap();
        fs::write(out.join(file), &bytes[..bytes.len() / 2]).unwrap();
    };
    execute(root, "short", &until(&settings, 4), None);
    cut("short", "state cut", "state.safetensors");
    cut("short", "model cut", "model.safetensors");
    for (prefix, reason) in [
        ("missing", "cannot read"),
        ("state cut", "state.safetensors is damaged"),
        ("model cut", "model.safetensors is damaged"),
        ("too long", "it is at step 10, and parts from this stage after 9"),
    ] {
        let name = format!("after {prefix}");
        execute(root, &name, &settings, Some(prefix));
        assert_same(root, &name, "straight");
        let events = events(root, &name);
        let warning = events.lines().find(|line| line.contains("\"warning\"")).expect("a warning");
        assert!(warning.contains("starts from the beginning") && warning.contains(reason), "{warning}");
    }
}

#[test]
fn a_cool_down_branches_off_the_main_trajectory() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let main = settings(CONVOLVED, 30);
    let mut cooled = until(&main, 20);
    cooled.span.cool_down_after = Some(12);
    execute(root, "cooled", &cooled, None);
    execute(root, "main to 12", &until(&main, 12), None);
    execute(root, "branch", &cooled, Some("main to 12"));
    assert_same(root, "branch", "cooled");
    execute(root, "main to 13", &until(&main, 13), None);
    execute(root, "beyond", &cooled, Some("main to 13"));
    assert!(events(root, "beyond").contains("parts from this stage after 12"));
    assert_same(root, "beyond", "cooled");
    execute(root, "main", &until(&main, 20), None);
    let (main, cooled) = (log(root, "main").series, log(root, "cooled").series);
    for (name, step) in [("loss", 10), ("learning-rate", 10), ("validation-loss", 7)] {
        assert_eq!(main[name][&step], cooled[name][&step], "{name}");
    }
    assert_eq!(cooled["learning-rate"][&20], 0.0);
    assert_ne!(main["loss"][&20], cooled["loss"][&20]);
}
