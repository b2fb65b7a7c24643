//! One whole run, and what later runs reuse of it.

use crate::place::{Place, TINY};

#[test]
fn a_run_gives_every_number_and_a_second_one_executes_nothing() {
    let place = Place::with_corpus();
    let first = place.json(&["run", "--json", "tiny.yaml"]);
    let results = &first[0]["results"];
    let name = |scores: &serde_json::Value, name: &str| {
        let scores = scores.as_array().expect("scores");
        let score =
            scores.iter().find(|score| score["name"] == name).unwrap_or_else(|| panic!("no {name} in {scores:?}"));
        score["value"].as_f64().expect("a number")
    };
    assert_eq!(results["iterations"].as_array().map(Vec::len), Some(2));
    for iteration in results["iterations"].as_array().unwrap() {
        let accuracy = name(&iteration["pretraining"], "masked-accuracy");
        assert!((0.0..=1.0).contains(&accuracy));
        let pnmi = name(&iteration["targets"][0]["quality"], "pnmi");
        assert!(pnmi > 0.0 && pnmi < 1.0, "{pnmi}");
        assert!(name(&iteration["targets"][0]["quality"], "pnmi-null") < pnmi, "shuffled labels know less than labels");
    }
    assert!(name(&results["judgements"][0]["recognition"][0]["scores"], "wer") > 0.0);

    assert_eq!(place.to_execute("tiny.yaml"), Vec::<String>::new());
    let second = place.json(&["run", "--json", "tiny.yaml"]);
    assert_eq!(second[0]["record"]["id"], first[0]["record"]["id"], "no second run is made");
    assert_eq!(place.json(&["list", "--json"]).as_array().map(Vec::len), Some(1));

    let commented = format!("# another comment\n{}", TINY.replace("steps: 6 }", "steps: 6}"));
    place.write("commented.yaml", &commented);
    assert_eq!(place.to_execute("commented.yaml"), Vec::<String>::new(), "comments and white space change no identity");

    place.write("longer-masks.yaml", &TINY.replace("{ prob: 0.5, length: 5 }", "{ prob: 0.5, length: 6 }"));
    let predicted = place.to_execute("longer-masks.yaml");
    insta::assert_snapshot!("stages_that_depend_on_the_mask_length", predicted.join("\n"));
    let third = place.json(&["run", "--json", "longer-masks.yaml"]);
    let stages = third[0]["record"]["stages"].as_array().unwrap();
    let executed: Vec<_> = stages
        .iter()
        .filter(|stage| stage["state"].get("executed").is_some())
        .map(|stage| stage["name"].as_str().unwrap())
        .collect();
    assert_eq!(executed, predicted, "what plan says is what run does");
}

#[test]
fn the_same_experiment_in_another_store_gives_the_same_bits_with_any_number_of_jobs_and_loader_threads() {
    let place = Place::with_corpus();
    let digests = |jobs: &str, loaders: &str| {
        let machine = ["--jobs", jobs, "--loader-threads", loaders, "--store", jobs];
        let run = place.json(&[&["run", "--json", "tiny.yaml"][..], &machine].concat());
        let recorded = &run[0]["record"]["attempts"][0]["means"]["loader-threads"];
        assert_eq!(recorded.to_string(), loaders);
        let stages = run[0]["record"]["stages"].as_array().unwrap().clone();
        stages
            .iter()
            .map(|stage| (stage["key"].clone(), stage["state"]["executed"]["digest"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(digests("1", "1"), digests("2", "4"));
}
