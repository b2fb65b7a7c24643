//! What an experiment claims: checked when it is read, decided from what is stored, and part of its identity.

use crate::place::{Place, TINY, checkout};

/// The tiny experiment with these claims.
fn claiming(claims: &str) -> String {
    format!("{TINY}\nclaims: {{ {claims} }}\n")
}

#[test]
fn claims_without_runs_are_undecided_and_that_is_no_pass() {
    let place = Place::empty();
    let study = checkout().join("experiments/study/quickstart.yaml");
    let said = place.reprise(&["claim", study.to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    insta::assert_snapshot!(said.out);
    let said = place.reprise(&["claim", study.to_str().unwrap(), "--json"]);
    let decided: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((said.code, &decided["undecided"], &decided["supported"]), (Some(1), &3.into(), &0.into()));
    assert_eq!(decided["claims"][0]["verdict"], "undecided");
}

#[test]
fn an_experiment_that_claims_nothing_says_what_to_write() {
    let place = Place::empty();
    place.write("tiny.yaml", TINY);
    let said = place.reprise(&["claim", "tiny.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:#?}");
    assert!(said.err.contains("claims nothing") && said.err.contains("wer(test) < 0.3"), "{}", said.err);
}

#[test]
fn a_number_that_no_run_has_is_refused_when_the_file_is_read() {
    let place = Place::empty();
    place.write("tiny.yaml", &claiming("a: { holds: \"0.5 < metric('decode tset/wer')\" }"));
    let said = place.reprise(&["validate", "tiny.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("no run has a stage `decode tset`"), "{}", said.err);
    assert!(said.err.contains("did you mean `decode test`?"), "{}", said.err);
    place.write("tiny.yaml", &claiming("a: { holds: \"0.5 < metric('decode test/wer')\" }"));
    let said = place.reprise(&["validate", "tiny.yaml"]);
    assert!(said.code == Some(0) && said.out.trim_end().ends_with(", 1 claim"), "{said:#?}");
}

#[test]
fn explain_names_the_claim_that_differs() {
    let place = Place::empty();
    place.write("one.yaml", &claiming("a: { holds: wer(test) < 0.3 }"));
    place.write("other.yaml", &claiming("a: { holds: wer(test) < 0.4, says: It reads. }"));
    let found = place.reprise(&["explain", "one.yaml", "other.yaml", "--json"]);
    assert_eq!(found.code, Some(1), "{found:#?}");
    let found: serde_json::Value = serde_json::from_str(&found.out).expect("JSON");
    assert_eq!(found["fields"][0]["path"], "claims.a[0].below[1].number");
    assert_eq!((&found["fields"][0]["a"], &found["fields"][0]["b"]), (&"0.3".into(), &"0.4".into()));
    assert_eq!(found["fields"].as_array().unwrap().len(), 1);
}
