//! What `reprise doctor` finds, whatever the machine.

use crate::place::Place;

#[test]
fn every_check_is_made_and_what_is_not_well_says_what_to_do() {
    let place = Place::with_corpus();
    let said = place.reprise(&["doctor", "--json"]);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&said.out).unwrap();
    let checks: Vec<_> = findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    insta::assert_snapshot!("checks_of_doctor", checks.join("\n"));
    for finding in &findings {
        assert_eq!(finding["verdict"] == "ok", finding["help"].is_null(), "{finding}");
        assert_ne!(finding["message"], "");
    }
    let broken = findings.iter().any(|finding| finding["verdict"] == "problem");
    assert_eq!(said.code, Some(if broken { 2 } else { 0 }), "{}", said.out);

    let shown = place.reprise(&["doctor"]).out;
    let shown: Vec<_> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(shown.len(), findings.len(), "one line a check");
}

#[test]
fn a_missing_trainer_is_a_problem() {
    let place = Place::empty();
    let said = crate::place::said(place.command(&["doctor"]).env("REPRISE_TRAINER", "gone").output().unwrap());
    assert_eq!(said.code, Some(2), "{said:#?}");
    let about: Vec<_> = said.out.lines().skip_while(|line| !line.contains(" trainer ")).take(2).collect();
    insta::assert_snapshot!(about.join("\n"));
}
