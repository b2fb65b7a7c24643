//! Killed, interrupted and torn: what is left is usable, and nothing half-written is taken for a whole.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::place::{Place, TINY};

mod anywhere;
mod life;
mod overlapping;
mod stopped;

/// The trainer that the process `parent` has started, if it has started one.
pub fn trainer_of(parent: u32) -> Option<i32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let after = stat.rsplit_once(')')?.1;
        let mut fields = after.split_whitespace().skip(1);
        let is_child = fields.next()?.parse() == Ok(parent);
        (is_child && stat.contains("(reprise-traine")).then_some(pid)
    })
}

pub fn signal(name: &str, pid: i32) {
    let ended = std::process::Command::new("/bin/kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .expect("kill starts");
    assert!(ended.success());
}

/// Stages of [`long`], one a kind of those that every experiment has, in the order of their execution.
const STAGES: [&str; 5] =
    ["corpus train", "features train (mfcc)", "units iteration 1 (mfcc, 8)", "pretrain iteration 2", "finetune"];

/// Starts a run, waits until `stage` has a trainer, and sends `name` to it or to `reprise` itself.
pub fn end_during(place: &Place, experiment: &str, stage: &str, name: &str, trainer: bool) -> (Option<i32>, String) {
    let mut child = place
        .command(&["run", experiment])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("reprise starts");
    let mut err = String::new();
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    while let Some(Ok(line)) = lines.next() {
        err += &line;
        err.push('\n');
        // A training says what it trains on when it can be asked to stop.
        let trains = stage.starts_with("pretrain") || stage.starts_with("finetune");
        let begins = match trains {
            true => line.contains(" utterances"),
            false => line.contains(": started") || line.contains(": continuing"),
        };
        if begins && line.contains(&format!("] {stage}:")) {
            let deadline = Instant::now() + Duration::from_secs(20);
            let pid = loop {
                match trainer_of(child.id()) {
                    Some(pid) => break pid,
                    None => assert!(Instant::now() < deadline, "no trainer during {stage}\n{err}"),
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            // Training takes long enough to be met at work.
            if trains {
                std::thread::sleep(Duration::from_millis(300));
            }
            signal(name, if trainer { pid } else { child.id() as i32 });
            break;
        }
    }
    for line in lines.map_while(Result::ok) {
        err += &line;
        err.push('\n');
    }
    (child.wait().expect("reprise ends").code(), err)
}

/// The tiny experiment with a second iteration and a fine-tuning that are long enough to be met.
fn long() -> String {
    TINY.replace("clusters: 8 } }, steps: 6 }\nfine", "clusters: 8 } }, steps: 300 }\nfine")
        .replace("finetuning:\n  steps: 6", "finetuning:\n  steps: 900")
}

#[test]
fn a_trainer_killed_in_any_stage_leaves_a_run_marked_failed_and_a_store_that_works() {
    let place = Place::with_corpus();
    place.write("long.yaml", &long());
    for stage in STAGES {
        let (code, err) = end_during(&place, "long.yaml", stage, "KILL", true);
        assert_eq!(code, Some(3), "{err}");
        assert!(err.contains(&format!("{stage}: killed by signal 9")), "{err}");
        let runs = place.json(&["list", "--json"]);
        assert_eq!((&runs[0]["status"], runs.as_array().map(Vec::len)), (&"failed".into(), Some(1)), "one run goes on");
        assert!(runs[0]["record"]["error"]["message"].as_str().unwrap().contains("signal 9"));
        let left = place.to_execute("long.yaml");
        assert_eq!(
            left.first().map(String::as_str),
            Some(stage),
            "what was finished is kept, what was not is no result: {left:?}"
        );
    }
    assert_eq!(place.reprise(&["run", "shortest.yaml"]).code, Some(0), "the store still works");
}

#[test]
fn an_interrupted_run_continues_to_the_bits_of_one_that_was_not() {
    let place = Place::with_corpus();
    let experiment = TINY.replace("steps: 6 }\n      - ", "steps: 400 }\n      - ");
    place.write("some.yaml", &experiment);
    let (code, err) = end_during(&place, "some.yaml", "pretrain iteration 1", "TERM", false);
    assert_eq!(code, Some(130), "{err}");
    assert_eq!(place.json(&["list", "--json"])[0]["status"], "interrupted");
    let continued = place.reprise(&["run", "some.yaml"]);
    assert_eq!(continued.code, Some(0), "{continued:#?}");
    assert!(continued.err.contains("attempt 2"), "{}", continued.err);
    assert_eq!(place.reprise(&["run", "--store", "straight", "some.yaml"]).code, Some(0));
    let digest = |store: &[&str]| {
        let mut arguments = vec!["plan", "--json", "some.yaml"];
        arguments.extend(store);
        let plan = place.json(&arguments);
        plan["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| stage["outlook"]["stored"]["digest"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(digest(&[]), digest(&["--store", "straight"]));
}

#[test]
fn a_killed_harness_takes_its_trainer_with_it() {
    let place = Place::with_corpus();
    place.write("long.yaml", &long());
    let (code, err) = end_during(&place, "long.yaml", "pretrain iteration 2", "KILL", false);
    assert_eq!(code, None, "{err}");
    let seen = place.json(&["list", "--json"])[0]["status"].clone();
    assert_eq!(seen, "lost", "a run whose process is gone is not shown as running");
    let folder = place.path(".reprise").display().to_string();
    let deadline = Instant::now() + Duration::from_secs(20);
    while trainer_in(&folder) {
        assert!(Instant::now() < deadline, "the trainer still writes");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn resume_continues_a_killed_run_to_the_same_bits_whatever_the_file_says_by_now() {
    let place = Place::with_corpus();
    let said = place.reprise(&["resume"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("nothing to resume"), "{}", said.err);

    place.write("long.yaml", &long());
    let (code, err) = end_during(&place, "long.yaml", "pretrain iteration 2", "KILL", false);
    assert_eq!(code, None, "{err}");
    place.write("long.yaml", "this is no experiment any more");
    let record = place.json(&["resume", "--json"])[0]["record"].clone();
    assert_eq!((&record["status"], record["attempts"].as_array().map(Vec::len)), (&"finished".into(), Some(2)));
    let threads = |attempt: usize| record["attempts"][attempt]["means"]["threads"].clone();
    assert_eq!(threads(1), threads(0), "as it was asked for");

    place.write("long.yaml", &long());
    let straight = place.json(&["run", "--json", "--store", "straight", "long.yaml"])[0]["record"].clone();
    let digests = |record: &serde_json::Value| {
        let digest = |stage: &serde_json::Value| {
            let state = stage["state"].as_object().and_then(|state| state.values().next()).expect("a finished stage");
            (stage["name"].clone(), state["digest"].clone())
        };
        record["stages"].as_array().unwrap().iter().map(digest).collect::<Vec<_>>()
    };
    assert_eq!(digests(&record), digests(&straight));

    let said = place.reprise(&["resume", record["id"].as_str().unwrap()]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("finished: there is nothing to resume"), "{}", said.err);
}

#[test]
fn resume_is_refused_when_the_corpus_has_changed() {
    let place = Place::with_corpus();
    place.write("long.yaml", &long());
    let (code, err) = end_during(&place, "long.yaml", "features train (mfcc)", "TERM", false);
    assert_eq!(code, Some(130), "{err}");
    let audio = place.audio("train").remove(0);
    fs::write(&audio, [fs::read(&audio).unwrap(), vec![0]].concat()).unwrap();
    let said = place.reprise(&["resume"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("the corpus has changed: `corpus train`"), "{}", said.err);
}

/// Whether a process runs that was started with a request below `folder`.
fn trainer_in(folder: &str) -> bool {
    let commands =
        fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    commands
        .map(|command| String::from_utf8_lossy(&command).into_owned())
        .any(|command| command.contains("reprise-trainer") && command.contains(folder))
}

#[test]
fn a_damaged_run_does_not_break_the_listing() {
    let place = Place::with_corpus();
    place.write(".reprise/runs/20260101-000000-abcdef/run.json", "{ \"format\": 1, \"id");
    let said = place.reprise(&["list"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.out.contains("damaged"), "{}", said.out);
}
