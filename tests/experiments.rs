//! Every experiment that the project ships validates and plans without any corpus, and twins have the shape of what they are twins of.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::place::{Place, checkout};

/// The experiment files below a folder, sorted: those that give a name. The others are fragments, which experiments extend.
fn experiments(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("corpora") {
            found.extend(experiments(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).expect("a text");
            found.extend(text.lines().any(|line| line.starts_with("name:")).then_some(path));
        }
    }
    found.sort();
    found
}

fn planned(place: &Place, path: &Path) -> Value {
    place.json(&["plan", path.to_str().unwrap(), "--json"])
}

#[test]
fn every_experiment_validates_and_plans_without_its_corpus() {
    let place = Place::empty();
    let all = experiments(&checkout().join("experiments"));
    assert!(all.len() > 50, "{}", all.len());
    let mut arguments = vec!["validate"];
    arguments.extend(all.iter().map(|path| path.to_str().unwrap()));
    let said = place.reprise(&arguments);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for path in &all {
        let plan = planned(&place, path);
        assert!(plan["stages"].as_array().is_some_and(|stages| !stages.is_empty()), "{}", path.display());
        let steps = plan["estimate"]["total"]["steps"].as_u64().unwrap();
        let of_training = |stage: &Value| stage["estimate"]["steps"].as_u64().unwrap();
        assert_eq!(
            steps,
            plan["stages"].as_array().unwrap().iter().map(of_training).sum::<u64>(),
            "{}",
            path.display()
        );
    }
}

/// Takes numbers that a twin may choose for itself out of targets: clusters, shares, whose checkpoint; and of a quantiser all.
fn shape_of_targets(targets: &Value) -> Value {
    match targets {
        Value::Object(words) => {
            let kept = words.iter().filter(|(word, _)| !["clusters", "fit", "splice"].contains(&word.as_str()));
            let shaped = |(word, value): (&String, &Value)| match word.as_str() {
                "checkpoint" | "quantiser" => (word.clone(), Value::Null),
                _ => (word.clone(), shape_of_targets(value)),
            };
            kept.map(shaped).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(values) => values.iter().map(shape_of_targets).collect(),
        other => other.clone(),
    }
}

/// The names of the variants, and the iterations of each without their sizes.
fn shape(plan: &Value) -> Value {
    let iteration = |iteration: &Value| {
        json!({
            "targets": shape_of_targets(&iteration["targets"]),
            "carry": iteration["carry"],
            "horizon": iteration["schedule"]["horizon"],
        })
    };
    let variant = |variant: &Value| {
        let iterations: Vec<Value> = variant["iterations"].as_array().unwrap().iter().map(iteration).collect();
        json!({ "name": variant["name"], "aliases": variant["aliases"], "strategy": variant["strategy"], "iterations": iterations })
    };
    plan["variants"].as_array().unwrap().iter().map(variant).collect()
}

#[test]
fn twins_have_the_shape_of_what_they_are_twins_of() {
    let place = Place::empty();
    let folder = checkout().join("experiments");
    let names = |of: &str| -> Vec<String> {
        let paths = experiments(&folder.join(of));
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let paper = names("librispeech");
    let twins: Vec<String> = names("twins").into_iter().filter(|name| name != "teachers.yaml").collect();
    assert_eq!(paper, twins, "each has its twin");
    for name in &paper {
        let [large, small] = ["librispeech", "twins"].map(|of| planned(&place, &folder.join(of).join(name)));
        assert_eq!(shape(&large), shape(&small), "{name}");
    }
}

#[test]
fn experiments_of_paper_size_say_that_they_were_not_executed() {
    for path in experiments(&checkout().join("experiments/librispeech")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("Not executed."), "{}", path.display());
    }
}

/// The table of the README is what `reprise plan` estimates.
#[test]
fn the_table_of_paper_size_is_what_plans_say() {
    let place = Place::empty();
    let folder = checkout().join("experiments/librispeech");
    let table = fs::read_to_string(folder.join("README.md")).unwrap();
    for path in experiments(&folder) {
        let plan = planned(&place, &path);
        let total = &plan["estimate"]["total"];
        let known = |what: &str| total[what]["known"].as_f64().unwrap();
        let numbers = [
            plan["variants"].as_array().unwrap().len().to_string(),
            total["steps"].to_string(),
            format!("{:.0}", known("audio-seconds") / 3600.0),
            format!("{:.0}", known("gpu-hours")),
            format!("{:.1} GiB", known("bytes") / f64::from(1 << 30)),
        ];
        let name = path.file_name().unwrap().to_str().unwrap();
        let row = table
            .lines()
            .find(|line| line.contains(&format!("({name})")))
            .unwrap_or_else(|| panic!("no row of {name}"));
        assert!(row.contains(&format!("| {} |", numbers.join(" | "))), "{name}: {numbers:?}\n{row}");
    }
}

#[test]
fn a_plan_of_chosen_variants_is_a_part_of_the_whole() {
    let place = Place::empty();
    let path = checkout().join("experiments/librispeech/ils-hubert.yaml");
    let path = path.to_str().unwrap();
    let chosen = ["--variant", "top convolution", "--variant", "layers-4-12 relative"];
    let said = place.reprise(&[&["plan", path][..], &chosen].concat());
    assert_eq!(said.code, Some(0), "{said:#?}");
    insta::with_settings!({ filters => vec![(r"\b[0-9a-f]{12}\b", "[12 hex digits]")] }, {
        insta::assert_snapshot!(place.redacted(&said.out));
    });
    let said = place.reprise(&["plan", path, "--variant", "bottom"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("no variant \"bottom\""), "{}", said.err);
    let whole = place.json(&["plan", path, "--json", "--tflops", "10"]);
    let quarter = place.json(&["plan", path, "--json"]);
    let hours = |plan: &Value| plan["estimate"]["total"]["gpu-hours"]["known"].as_f64().unwrap();
    assert!((hours(&whole) / hours(&quarter) - 4.0).abs() < 1e-9);
}
