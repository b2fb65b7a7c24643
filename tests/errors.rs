//! Experiments that are not valid: every problem at its line and column, exit 2.

use crate::place::{Place, TINY};

#[test]
fn problems_are_placed_and_all_told() {
    let place = Place::empty();
    place.write(
        "wrong.yaml",
        &TINY.replace("width: 32", "widht: 32").replace("steps: 6 }\n      - ", "steps: \"6\" }\n      - "),
    );
    let said = place.reprise(&["validate", "wrong.yaml"]);
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!(place.redacted(&said.err));
    let said = place.reprise(&["validate", "--json", "wrong.yaml"]);
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!("problems_as_json", place.redacted(&said.out));
}

#[test]
fn a_bad_experiment_is_refused_before_anything_is_written() {
    let place = Place::empty();
    place.write("wrong.yaml", "version: 1\nversion: 1\n");
    assert_eq!(place.reprise(&["run", "wrong.yaml"]).code, Some(2));
    assert!(!place.path(".reprise").exists());
}

#[test]
fn a_million_brackets_are_refused_without_an_excerpt() {
    let place = Place::empty();
    place.write("deep.yaml", &"[".repeat(1_000_000));
    let said = place.reprise(&["validate", "deep.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.len() < 1_000, "an excerpt of a line of a megabyte helps nobody: {} bytes", said.err.len());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let place = Place::empty();
    let said = place.reprise(&["run", "nowhere.yaml"]);
    assert_eq!(said.code, Some(2));
    insta::assert_snapshot!(said.err);
}

#[test]
fn arguments_that_say_nothing_are_refused() {
    let place = Place::empty();
    place.write("tiny.yaml", TINY);
    let mut all = String::new();
    let wrong: [&[&str]; 6] = [
        &[],
        &["rum", "tiny.yaml"],
        &["run"],
        &["run", "--device", "gpu", "tiny.yaml"],
        &["show", "2026"],
        &["plan", "reprise.toml"],
    ];
    for arguments in wrong {
        let said = place.reprise(arguments);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{arguments:?}: {said:#?}");
        all += &format!("──── reprise {} ────\n{}\n", arguments.join(" "), place.redacted(&said.err));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let place = Place::with_corpus();
    let said = place.reprise(&["run", "--device", "cuda:63", "shortest.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    for words in ["cannot compute on cuda:63", "--device cpu"] {
        assert!(said.err.contains(words), "{}", said.err);
    }
    assert_eq!(place.json(&["list", "--json"])[0]["status"], "failed");
    assert_eq!(place.reprise(&["run", "shortest.yaml"]).code, Some(0), "another device is another attempt");
}
