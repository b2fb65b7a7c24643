//! A run executed again: what is said of it, and that the two never mix.

use std::fs;

use serde_json::Value;

use crate::place::{Place, TINY};

fn run(place: &Place, arguments: &[&str]) -> Value {
    place.json(&[&["run", "--json"], arguments].concat())[0]["record"].clone()
}

fn rerun(place: &Place, code: i32, arguments: &[&str]) -> Value {
    let said = place.reprise(&[&["rerun", "--json"], arguments].concat());
    assert_eq!(said.code, Some(code), "{said:#?}");
    serde_json::from_str(&said.out).expect("JSON")
}

fn id(record: &Value) -> String {
    record["id"].as_str().expect("an id").to_owned()
}

/// Every file below a folder with its bytes.
fn files(folder: &std::path::Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.file_type().expect("a type").is_dir() {
            true => found.extend(files(&entry.path())),
            false => drop(found.insert(entry.path(), fs::read(entry.path()).expect("a file"))),
        }
    }
    found
}

#[test]
fn a_rerun_of_an_untouched_run_is_bitwise_and_leaves_the_original_alone() {
    let place = Place::with_corpus();
    let original = run(&place, &["tiny.yaml"]);
    let before = (files(&place.path(".reprise/stages")), files(&place.path(".reprise/runs")));
    let report = rerun(&place, 0, &[&id(&original)]);
    assert_eq!(report["verdict"]["grade"], "bitwise", "{report:#}");
    let stages = report["comparisons"][0]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), original["stages"].as_array().unwrap().len());
    assert!(stages.iter().all(|stage| stage["original"] == stage["again"]), "{report:#}");
    assert_eq!(report["comparisons"][0]["environment"], Value::Array(Vec::new()), "threads are those of the run");
    assert_eq!((files(&place.path(".reprise/stages")), files(&place.path(".reprise/runs"))), before);
    assert_eq!(place.json(&["list", "--json"]).as_array().map(Vec::len), Some(1), "a rerun is no run of the store");
    let folder = report["folder"].as_str().unwrap();
    let kept = files(std::path::Path::new(folder));
    assert!(kept.keys().any(|path| path.ends_with("verdict.json")));
    assert!(kept.keys().any(|path| path.ends_with("manifest.json")));
    assert!(!kept.keys().any(|path| path.ends_with("model.safetensors")), "equal bits are kept once");
}

#[test]
fn another_number_of_threads_is_named_and_graded() {
    let place = Place::with_corpus();
    // Networks that are wide enough for two threads to share a sum.
    let wide = TINY.replace("width: 32, heads: 2, feed-forward: 64", "width: 256, heads: 2, feed-forward: 1024");
    place.write("wide.yaml", &wide);
    let original = run(&place, &["wide.yaml"]); // with one thread
    let said = place.reprise(&["rerun", "--json", "--threads", "2", &id(&original)]);
    let report: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:#?}"));
    let comparison = &report["comparisons"][0];
    let facts = comparison["environment"].as_array().unwrap();
    let threads = facts.iter().find(|fact| fact["name"] == "threads").expect("threads are named");
    assert_eq!((&threads["original"], &threads["again"]), (&"1".into(), &"2".into()));
    let grade = report["verdict"]["grade"].as_str().unwrap();
    let differing: Vec<&Value> =
        comparison["stages"].as_array().unwrap().iter().filter(|stage| !stage["difference"].is_null()).collect();
    assert_eq!(grade == "bitwise", differing.is_empty());
    assert_eq!(said.code, Some(i32::from(["different", "undecided"].contains(&grade))), "{said:#?}");
    for stage in &differing {
        let origin = &stage["difference"]["origin"];
        assert!(*origin == "inputs" || origin.get("environment").is_some(), "no finding under other threads: {origin}");
    }
    let pretrain = differing.iter().find(|stage| stage["kind"].as_str().unwrap().starts_with("pretrain/"));
    let step = pretrain.expect("one thread and two train differently")["difference"]["parts-at"]["step"].as_u64();
    assert!((1..=6).contains(&step.expect("the logged values part at a step")), "{step:?}");
}

#[test]
fn a_changed_value_is_found_where_it_is() {
    let place = Place::with_corpus();
    let original = run(&place, &["tiny.yaml"]);
    let stages = original["stages"].as_array().unwrap();
    let stage = stages.iter().find(|stage| stage["name"] == "pretrain iteration 2").unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let digest = text(&stage["state"]["executed"]["digest"]);
    let other = format!("output:{}", "0".repeat(64));
    // As if the original had been made by a machine that gave another model, and only its accuracy to show for it.
    let folder = place.path(".reprise/stages").join(text(&stage["key"]).trim_start_matches("stage:"));
    let manifest = fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("manifest.json"))
        .find(|path| path.is_file())
        .unwrap();
    let mut changed: Value = serde_json::from_str(&fs::read_to_string(&manifest).unwrap()).unwrap();
    changed["digest"] = other.clone().into();
    for score in changed["summary"].as_array_mut().unwrap() {
        if score["name"] == "masked-accuracy" {
            score["value"] = 0.999.into();
        }
    }
    fs::write(&manifest, changed.to_string()).unwrap();
    let record = place.path(".reprise/runs").join(id(&original)).join("run.json");
    fs::write(&record, fs::read_to_string(&record).unwrap().replace(&digest, &other)).unwrap();

    // What read it is stale by now, and says so.
    let plan = place.reprise(&["plan", "tiny.yaml"]);
    assert!(plan.out.contains("execute: stored, but from other inputs"), "{}", plan.out);

    let said = place.reprise(&["rerun", &id(&original)]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.out.contains("undecided"), "one seed can't tell: {}", said.out);
    assert!(said.out.contains("first difference: pretrain iteration 2"), "{}", said.out);
    assert!(said.out.contains("finding: `pretrain iteration 2` gave two outputs under one key"), "{}", said.out);
}

#[test]
fn what_can_not_be_executed_again_is_refused() {
    let place = Place::with_corpus();
    let original = run(&place, &["shortest.yaml"]);
    let said = place.reprise(&["rerun", &id(&original), "--seeds", "2"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("the store has 1"), "{}", said.err);
    let audio = place.audio("test").remove(0);
    fs::write(&audio, [fs::read(&audio).unwrap(), vec![0]].concat()).unwrap();
    let said = place.reprise(&["rerun", &id(&original)]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("the corpus has changed: `corpus test`"), "{}", said.err);
}

#[test]
fn reruns_of_several_seeds_are_compared_in_pairs() {
    let place = Place::with_corpus();
    place.write("seeds.yaml", &crate::place::SHORTEST.replace("seeds: [1]", "seeds: [1, 2]"));
    let original = run(&place, &["seeds.yaml"]);
    let report = rerun(&place, 0, &["--seeds", "2", "--jobs", "2", &id(&original)]);
    assert_eq!(report["verdict"]["grade"], "bitwise", "{report:#}");
    let seeds: Vec<_> = report["comparisons"].as_array().unwrap().iter().map(|c| c["seed"].as_u64()).collect();
    assert_eq!(seeds, [Some(1), Some(2)]);
}
