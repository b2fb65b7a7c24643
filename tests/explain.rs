//! What makes two identities differ.

use crate::place::{Place, TINY};

/// The files whose masks differ in length, as `tiny.yaml` and `longer.yaml`.
fn two_lengths(place: &Place) {
    place.write("tiny.yaml", TINY);
    place.write("longer.yaml", &TINY.replace("{ prob: 0.5, length: 5 }", "{ prob: 0.5, length: 6 }"));
}

/// Compares with a snapshot without the digits of hashes.
macro_rules! assert_redacted {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ filters => vec![(r"\b[0-9a-f]{12}\b", "[12 hex digits]")] }, {
            insta::assert_snapshot!($name, $text);
        })
    };
}

#[test]
fn files_differ_in_the_fields_that_were_changed() {
    let place = Place::empty();
    two_lengths(&place);
    let said = place.reprise(&["explain", "tiny.yaml", "longer.yaml"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert_redacted!("two_files", said.out);

    place.write("reworded.yaml", &TINY.replace("Does the whole line run?", "Does it?"));
    let said = place.reprise(&["explain", "tiny.yaml", "reworded.yaml"]);
    assert_eq!(said.code, Some(0), "what is said to people is no identity: {said:#?}");
    assert!(said.out.contains("equal"), "{}", said.out);
}

#[test]
fn a_name_that_means_nothing_is_refused() {
    let place = Place::empty();
    two_lengths(&place);
    let said = place.reprise(&["explain", "tiny.yaml", "20990101"]);
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!("a_name_that_means_nothing", place.redacted(&said.err));
}

#[test]
fn runs_and_stages_are_explained_down_to_the_first_cause() {
    let place = Place::with_corpus();
    two_lengths(&place);
    let run = |file: &str| place.json(&["run", "--json", file])[0]["record"].clone();
    let (one, other) = (run("tiny.yaml"), run("longer.yaml"));
    let explain = |a: &str, b: &str| -> serde_json::Value {
        let said = place.reprise(&["explain", "--json", a, b]);
        assert_eq!(said.code, Some(1), "{said:#?}");
        serde_json::from_str(&said.out).expect("JSON")
    };
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let runs = explain(&text(&one["id"]), &text(&other["id"]));
    assert_eq!(runs["fields"][0]["path"], "pretraining.masking.length");
    assert_eq!((&runs["fields"][0]["a"], &runs["fields"][0]["b"]), (&"5".into(), &"6".into()));
    let stages: Vec<&str> =
        runs["causes"].as_array().unwrap().iter().map(|cause| cause["route"][0].as_str().unwrap()).collect();
    assert_eq!(stages, ["pretrain iteration 1", "pretrain iteration 2"], "only what has the field itself");
    let variants = explain(&text(&one["variant"]), &text(&other["variant"]));
    assert_eq!(variants["fields"], runs["fields"]);
    assert_eq!(explain("tiny.yaml", &text(&other["id"]))["fields"], runs["fields"]);

    let key = |record: &serde_json::Value, name: &str| {
        let stages = record["stages"].as_array().unwrap();
        text(&stages.iter().find(|stage| stage["name"] == name).expect("the stage")["key"])
    };
    let (a, b) = (key(&one, "decode test"), key(&other, "decode test"));
    let said = place.reprise(&["explain", &a[6..18], &b[6..18]]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert_redacted!("two_stages", said.out);
    assert_eq!(place.reprise(&["explain", &a, &a]).code, Some(0));
    let said = place.reprise(&["explain", &a, "tiny.yaml"]);
    assert_eq!(said.code, Some(2), "a stage is no experiment: {said:#?}");
}
