//! Many variants in one file: what they share is executed once, what was made is not made again, and points of evaluation change nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::place::Place;

/// Baseline, two heights beside its own, and progressive, judged at the ends of iterations and at one step on the way.
const MANY: &str = "\
extends: tiny.yaml
name: many
evaluation: { at: [4], iteration-ends: true, cool-down: 2 }
matrix:
  axes:
    strategy:
      baseline: {}
      heights:
        strategy:
          cluster-height:
            heights: [0, 1, 2]
            first: { targets: { mfcc: { clusters: 8 } }, steps: 6 }
            clusters: 8
            fit: 1
            steps: 6
      progressive:
        strategy:
          progressive:
            every: 4
            ladder: [{ mfcc: { clusters: 8 } }, { layer: { height: 1, clusters: 8 } }, { layer: { height: 2, clusters: 6 } }]
            schedule: { horizon: whole }
  include:
    control: { strategy: scratch }
";

/// Keys and names of what was executed by runs that weren't known; an unchanged run is told again and executes nothing.
fn executed(runs: &Value, known: &mut BTreeSet<String>) -> Vec<(String, String)> {
    let mut is_new = |run: &&Value| known.insert(run["record"]["id"].as_str().unwrap().to_owned());
    let new: Vec<&Value> = runs.as_array().unwrap().iter().filter(|run| is_new(run)).collect();
    let stages = new.iter().flat_map(|run| run["record"]["stages"].as_array().unwrap());
    let made = stages.filter(|stage| stage["state"].get("executed").is_some());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    made.map(|stage| (text(&stage["key"]), text(&stage["name"]))).collect()
}

/// The folder of the only output of a stage.
fn output(place: &Place, key: &str) -> PathBuf {
    let folder = place.path(".reprise/stages").join(key.trim_start_matches("stage:"));
    let outputs = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut outputs: Vec<PathBuf> = outputs.filter(|path| path.join("manifest.json").is_file()).collect();
    assert_eq!(outputs.len(), 1);
    outputs.remove(0)
}

#[test]
fn variants_share_what_is_equal_and_a_deleted_output_is_made_again_alone() {
    let place = Place::with_corpus();
    place.write("many.yaml", MANY);
    let plan = place.json(&["plan", "--json", "many.yaml"]);
    let keys: BTreeSet<&str> =
        plan["stages"].as_array().unwrap().iter().map(|stage| stage["node"]["key"].as_str().unwrap()).collect();
    let names: Vec<&Value> = plan["variants"].as_array().unwrap().iter().map(|variant| &variant["name"]).collect();
    assert_eq!(names, ["baseline", "heights height 0", "heights height 2", "progressive", "control"]);
    assert_eq!(plan["variants"][0]["aliases"][0], "heights height 1");

    let mut known = BTreeSet::new();
    let runs = place.json(&["run", "--json", "--jobs", "2", "many.yaml"]);
    let made = executed(&runs, &mut known);
    assert_eq!(made.len(), keys.len(), "every key once: {made:?}");
    assert_eq!(made.iter().map(|(key, _)| key.as_str()).collect::<BTreeSet<_>>(), keys);
    let points = |run: usize| {
        let judgements = runs[run]["results"]["judgements"].as_array().unwrap();
        let told = |judgement: &Value| {
            let (point, cost) = (&judgement["point"], &judgement["cost"]);
            assert!(cost["audio-seconds"].as_f64().unwrap() > 0.0 && cost["device-seconds"].as_f64().unwrap() > 0.0);
            format!("{} {}", point["cumulative"], point["rate"].as_str().unwrap())
        };
        judgements.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(points(0), ["4 cooled-down", "6 annealed", "12 annealed"]);
    assert_eq!(points(3), ["4 cooled-down", "8 cooled-down", "12 annealed"]);

    assert_eq!(executed(&place.json(&["run", "--json", "many.yaml"]), &mut known), []);

    // The whole iteration, not the part on the way that it went on from.
    let (key, _) = made.iter().find(|(_, name)| name == "pretrain iteration 2").unwrap();
    fs::remove_dir_all(output(&place, key)).unwrap();
    let again = executed(&place.json(&["run", "--json", "many.yaml"]), &mut known);
    assert_eq!(again.iter().map(|(again, _)| again).collect::<Vec<_>>(), [key]);

    // Without the points on the way the same comes out of every stage that is left.
    place.write("plain.yaml", &MANY.replace("at: [4], iteration-ends: true, cool-down: 2", "at: []"));
    assert_eq!(executed(&place.json(&["run", "--json", "plain.yaml"]), &mut known), []);
    let straight = place.json(&["run", "--json", "--store", "straight", "plain.yaml"]);
    let pointed = place.json(&["run", "--json", "plain.yaml"]);
    let digests = |runs: &Value| {
        let stages = runs.as_array().unwrap().iter().flat_map(|run| run["record"]["stages"].as_array().unwrap());
        let digest = |stage: &Value| stage["state"].as_object().unwrap().values().next().unwrap()["digest"].clone();
        stages.map(|stage| (stage["key"].to_string(), digest(stage).to_string())).collect::<BTreeSet<_>>()
    };
    assert_eq!(digests(&straight), digests(&pointed));
}

#[test]
fn one_variant_can_be_executed_alone_and_an_unknown_one_is_refused() {
    let place = Place::with_corpus();
    place.write("many.yaml", MANY);
    let runs = place.json(&["run", "--json", "--variant", "control", "many.yaml"]);
    assert_eq!(runs.as_array().map(Vec::len), Some(1));
    assert_eq!(runs[0]["record"]["variant-name"], "control");
    let said = place.reprise(&["run", "--variant", "contrl", "many.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("its variants: baseline, heights height 0"), "{}", said.err);
}
