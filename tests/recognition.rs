//! What was recognised: counts, two runs beside each other, and networks without their top layers.

use crate::place::Place;

#[test]
fn recognised_speech_is_counted_and_two_runs_are_tested_against_each_other() {
    let place = Place::with_corpus();
    place.write("two.yaml", "extends: shortest.yaml\nname: two\nseeds: [1, 2]\n");
    let runs = place.json(&["run", "--json", "two.yaml"]);
    let id = |run: usize| runs[run]["record"]["id"].as_str().unwrap().to_owned();
    let wer = |run: usize| runs[run]["results"]["judgements"][0]["recognition"][0]["scores"][0]["value"].clone();

    let counts = place.json(&["show", &id(0), "--counts", "--json"]);
    assert_eq!(counts[0]["wer"]["rate"], wer(0));
    let edits = &counts[0]["wer"]["edits"];
    let of = |name: &str| edits[name].as_u64().unwrap();
    assert!(of("reference") > 0 && of("substitutions") + of("deletions") <= of("reference"));

    let compared = place.json(&["show", &id(0), "--against", &id(1), "--json"]);
    let pair = &compared["decoded"][0];
    assert_eq!(pair["wer"], serde_json::json!([wer(0), wer(1)]));
    let (segments, difference) =
        (pair["matched-pairs"]["segments"].as_f64().unwrap(), pair["matched-pairs"]["difference"].as_f64().unwrap());
    let all = (wer(0).as_f64().unwrap() - wer(1).as_f64().unwrap()) * of("reference") as f64;
    assert!((segments * difference - all).abs() < 1e-6, "the differences of the segments add up to that of the errors");
    assert_eq!(compared["reached"], serde_json::json!([]), "nothing was pretrained, so there are no steps");
    let same = place.json(&["show", &id(0), "--against", &id(0), "--json"]);
    assert_eq!(same["decoded"][0]["matched-pairs"]["p"], serde_json::Value::Null);

    place.write("other.yaml", "extends: shortest.yaml\nname: other\ncorpus: { validate: [test], test: [dev] }\n");
    let other = place.json(&["run", "--json", "other.yaml"]);
    let said = place.reprise(&["show", &id(0), "--against", other[0]["record"]["id"].as_str().unwrap()]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("decoded nothing under the same name"), "{}", said.err);
}

#[test]
fn top_layers_are_reset_and_removed_beside_the_whole_network() {
    let place = Place::with_corpus();
    place.write("tops.yaml", "extends: tiny.yaml\nname: tops\nfinetuning: { reset-top: [0, 1], remove-top: [1] }\n");
    let runs = place.json(&["run", "--json", "tops.yaml"]);
    let judgements = runs[0]["results"]["judgements"].as_array().unwrap();
    let tops: Vec<String> = judgements.iter().map(|judgement| judgement["top"].to_string()).collect();
    assert_eq!(tops, ["\"kept\"", r#"{"reset":1}"#, r#"{"removed":1}"#]);
    for judgement in judgements {
        assert_eq!(judgement["recognition"][0]["scores"][0]["name"], "wer", "{judgement}");
    }
    let shown = place.reprise(&["show"]).out;
    assert!(shown.contains("top 1 reset") && shown.contains("top 1 removed"), "{shown}");
    assert_eq!(
        place.to_execute("tiny.yaml"),
        Vec::<String>::new(),
        "the whole network's stages are the tiny experiment's"
    );
}
