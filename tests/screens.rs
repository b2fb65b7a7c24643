//! What people read: help texts and plans.

use crate::place::{Place, checkout};

#[test]
fn help_texts() {
    let place = Place::empty();
    let mut all = place.reprise(&["--help"]).out;
    let verbs = [
        "validate", "schema", "plan", "explain", "run", "resume", "rerun", "diff", "list", "show", "report", "check",
        "golden", "claim", "publish", "verify", "replay", "extract", "units", "lm", "data", "import", "export",
        "doctor",
    ];
    let forms = [
        "golden propose",
        "golden review",
        "golden accept",
        "golden reject",
        "golden status",
        "golden bypass",
        "lm estimate",
        "lm convert",
        "lm perplexity",
        "import hf",
        "import torchaudio",
        "import fairseq",
        "export hf",
    ];
    for verb in verbs.into_iter().chain(forms) {
        let said = place.reprise(&verb.split(' ').chain(["--help"]).collect::<Vec<_>>());
        assert_eq!(said.code, Some(0));
        all += &format!("\n──── {verb} ────\n{}", said.out);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_plan_of_the_quickstart() {
    let place = Place::empty();
    let experiment = checkout().join("experiments/quickstart/baseline.yaml");
    let said = place.reprise(&["plan", experiment.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    insta::with_settings!({ filters => vec![(r"\b[0-9a-f]{12}\b", "[12 hex digits]")] }, {
        insta::assert_snapshot!(place.redacted(&said.out));
    });
}

#[test]
fn an_empty_store_says_what_to_do() {
    let place = Place::empty();
    let said = place.reprise(&["list"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""));
    insta::assert_snapshot!(said.err);
}

#[test]
fn the_program_never_loads_libtorch() {
    let ldd = std::process::Command::new("ldd").arg(env!("CARGO_BIN_EXE_reprise")).output().expect("ldd starts");
    let libraries = String::from_utf8_lossy(&ldd.stdout).into_owned();
    assert!(libraries.contains("libc"), "{libraries}");
    assert!(!libraries.contains("torch"), "{libraries}");
}

#[test]
fn the_schema_is_json_with_its_dialect() {
    let schema = Place::empty().json(&["schema"]);
    assert!(schema["$schema"].as_str().unwrap().starts_with("https://json-schema.org/"), "{}", schema["$schema"]);
    assert_eq!(schema["properties"]["seeds"]["type"], "array");
}
