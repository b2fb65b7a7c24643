//! Code is part of what a number means: the digests of tiny runs, one a stage, are kept for every class of processor.
//!
//! When a digest moves although the kind of the stage still has the same version, the code came to mean another result: raise the version
//! in `harness/spec/src/stage.rs`, then accept with `REPRISE_ACCEPT_GOLDEN=1`. On a processor of a class that the file does not know,
//! nothing can be compared and the test says so.

use std::collections::BTreeMap;
use std::fs;

use crate::place::{Place, checkout};

/// Class of processor → `kind name` of a stage → digest of its output.
type Golden = BTreeMap<String, BTreeMap<String, String>>;

#[test]
fn a_stage_gives_what_its_version_gave_before() {
    let place = Place::with_corpus();
    place.write("words.yaml", include_str!("fixtures/experiments/words.yaml"));
    // What a later run shares with an earlier one it reuses: of the second only the analyses are new.
    let experiments = [("tiny.yaml", ""), ("layers.yaml", ""), ("words.yaml", " with words")];
    let runs = experiments.map(|(experiment, of)| (place.json(&["run", "--json", experiment]), of));
    let class = class(&runs[0].0[0]["record"]["environment"]);
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (run, of) in &runs {
        for stage in run[0]["record"]["stages"].as_array().expect("stages") {
            if let Some(digest) = stage["state"].get("executed").map(|executed| text(&executed["digest"])) {
                found.insert(format!("{} {}{of}", text(&stage["kind"]), text(&stage["name"])), digest);
            }
        }
    }
    let path = checkout().join("golden/stages.json");
    let mut golden: Golden =
        serde_json::from_str(&fs::read_to_string(&path).expect("golden/stages.json")).expect("JSON");
    if std::env::var_os("REPRISE_ACCEPT_GOLDEN").is_some() {
        golden.insert(class, found);
        let text = serde_json::to_string_pretty(&golden).expect("JSON");
        fs::write(&path, text + "\n").expect("golden/stages.json is written");
        return;
    }
    match golden.get(&class) {
        Some(expected) => assert_eq!(
            expected, &found,
            "a stage gives another result under the same version: raise it in harness/spec/src/stage.rs, then accept with \
             REPRISE_ACCEPT_GOLDEN=1 cargo test -p reprise --test it golden"
        ),
        None => println!("not compared: golden/stages.json has no digests for {class:?}"),
    }
}

/// What decides bits on a CPU, as far as a program can tell: processor, cache, instruction set, libtorch.
fn class(environment: &serde_json::Value) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").expect("/proc/cpuinfo");
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let said = |name: &str| environment[name].as_str().unwrap_or("?").to_owned();
    format!(
        "{}, family {} model {} stepping {}, cache {}, {}, libtorch {}",
        field("model name"),
        field("cpu family"),
        field("model"),
        field("stepping"),
        field("cache size"),
        said("cpu-capability"),
        said("libtorch-version"),
    )
}
