//! Listings, on runs that nobody executed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reprise::provenance::Provenance;
use reprise::store::Store;
use reprise_spec::stage::Stage;
use serde_json::json;

use crate::place::Place;
use crate::planted::{self, Output, Wanted, score};

/// Runs `0`, `1` and `2` with word error rates of 0.3, 0.1 and 0.2, and `3` that has none.
fn place() -> Place {
    let place = Place::empty();
    [Some(0.3), Some(0.1), Some(0.2), None].into_iter().enumerate().for_each(|(run, wer)| plant(&place, run, wer));
    place
}

fn plant(place: &Place, run: usize, wer: Option<f64>) {
    let output = move |_: &str, stage: &Stage| {
        let scored = matches!(stage, Stage::Decode(_)).then_some(wer).flatten();
        let summary = scored.iter().flat_map(|wer| [score("wer", *wer), score("utterances", 100.0 * wer)]).collect();
        Output { digest: 1, summary, ..Output::default() }
    };
    let wanted = Wanted {
        id: &format!("{run:06x}"),
        experiment: &planted::experiment(json!({ "strategy": "scratch" })),
        seed: run as u64,
        content: &|_| 0,
        output: &output,
        settings: BTreeMap::new(),
        provenance: Provenance::default(),
    };
    planted::plant(&Store::at(place.path(".reprise")), &wanted);
}

/// The folder of a run's decoding, below which its output lies.
fn decoding(place: &Place, run: usize) -> PathBuf {
    let record = fs::read_to_string(place.path(&format!(".reprise/runs/20260101-000000-{run:06x}/run.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let mut stages = record["stages"].as_array().unwrap().iter();
    let decode = stages.find(|stage| stage["name"] == "decode test").unwrap();
    place.path(".reprise/stages").join(decode["key"].as_str().unwrap().trim_start_matches("stage:"))
}

/// The last digit of the ids in a table, in its order.
fn order(place: &Place, arguments: &[&str]) -> String {
    let said = place.reprise(&[&["list"], arguments].concat());
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.out.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.chars().last()).collect()
}

#[test]
fn the_newest_runs_come_first_and_no_more_than_asked_for() {
    let place = place();
    assert_eq!(order(&place, &[]), "3210");
    assert_eq!(order(&place, &["-n", "2"]), "32");
    assert_eq!(order(&place, &["--limit", "0"]), "");
    assert_eq!(place.json(&["list", "--json", "-n", "1"])[0]["record"]["seed"], 3);
}

#[test]
fn the_best_runs_come_first_by_what_is_better_of_a_number() {
    let place = place();
    assert_eq!(order(&place, &["--sort", "decode test/wer"]), "120");
    assert_eq!(order(&place, &["--sort", "decode test/utterances", "-n", "2"]), "02");
    let listed = place.json(&["list", "--json", "--sort", "decode test/wer"]);
    let numbers: Vec<f64> = listed.as_array().unwrap().iter().map(|run| run["number"].as_f64().unwrap()).collect();
    assert_eq!(numbers, [0.1, 0.2, 0.3]);
}

#[test]
fn listed_by_a_number() {
    let said = place().reprise(&["list", "--sort", "decode test/wer"]);
    insta::with_settings!({ filters => vec![(r"\b[0-9a-f]{12}\b", "[identity]")] }, {
        insta::assert_snapshot!(said.out);
    });
}

#[test]
fn listed_as_csv() {
    let said = place().reprise(&["list", "--csv", "-n", "3"]);
    insta::with_settings!({ filters => vec![(r"\b[0-9a-f]{64}\b", "[64 hex digits]")] }, {
        insta::assert_snapshot!(said.out);
    });
}

#[test]
fn a_number_that_no_run_has_is_refused_and_others_are_named() {
    let said = place().reprise(&["list", "--sort", "decode dev/wer"]);
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!(said.err);
    let said = place().reprise(&["list", "--sort", "wer"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("write STAGE/METRIC"), "{}", said.err);
}

#[test]
fn a_number_whose_output_is_gone_is_not_listed() {
    let place = place();
    fs::remove_dir_all(decoding(&place, 1)).unwrap();
    assert_eq!(order(&place, &["--sort", "decode test/wer"]), "20");
}

#[test]
fn an_index_never_shows_what_is_no_more() {
    let place = Place::empty();
    let store = Store::at(place.path(".reprise"));
    store.prepare().unwrap();
    (0..80).for_each(|run| plant(&place, run, Some(run as f64 / 100.0)));
    std::thread::sleep(Duration::from_secs(4)); // until the index trusts the files' times
    let best = || order(&place, &["--sort", "decode test/wer", "-n", "4"]);
    assert_eq!(best(), "0123");
    assert!(place.path(".reprise/index/runs").is_file() && place.path(".reprise/index/numbers").is_file());
    assert_eq!(best(), "0123");
    fs::remove_dir_all(decoding(&place, 0)).unwrap();
    fs::remove_dir_all(place.path(".reprise/runs/20260101-000000-000002")).unwrap();
    assert_eq!(best(), "1345");
    plant(&place, 0xa9, Some(0.0));
    assert_eq!(best(), "9134");
    plant(&place, 3, None);
    assert_eq!(best(), "9145");
    fs::write(place.path(".reprise/index/numbers"), "RPRnums1").unwrap();
    fs::write(place.path(".reprise/index/runs"), "RPRruns1").unwrap();
    assert_eq!(best(), "9145");
}
