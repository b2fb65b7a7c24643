//! What a run records of where it came from, and how it is shown.

use std::process::Command;

use crate::place::{Place, said};

fn git(place: &Place, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
        .args(arguments)
        .current_dir(place.path(""))
        .output()
        .expect("git starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_run_tells_its_commit_its_patch_its_command_and_its_machine_and_no_secret() {
    let place = Place::with_corpus();
    place.write(".gitignore", "/home\n/cache\n/corpora\n");
    for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "first"]] {
        git(&place, arguments);
    }
    place.write("notes.txt", "why this run\n");
    place.write("id_rsa", "t0ps3cret\n");
    let mut command = place.command(&["run", "--json", "shortest.yaml"]);
    let secrets = [("REPRISE_UPLOAD_TOKEN", "t0ps3cret"), ("WANDB_API_KEY", "t0ps3cret")];
    command.envs(secrets).env("MKL_NUM_THREADS", "7").env("RUST_LOG", "https://me:t0ps3cret@host/");
    let run = said(command.output().unwrap());
    assert_eq!(run.code, Some(0), "{run:#?}");

    let shown = place.json(&["show", "--json"]);
    let record = &shown["record"];
    let provenance = &record["provenance"];
    let words = &provenance["command"].as_array().unwrap()[1..4];
    assert_eq!(words, ["run", "--json", "shortest.yaml"]);
    assert_eq!(provenance["variables"]["MKL_NUM_THREADS"], "7");
    assert_eq!(provenance["variables"]["RUST_LOG"], "https://[redacted]@host/");
    assert_eq!(provenance["experiment"]["dirty"], true);
    assert_eq!(provenance["changes"]["left-out"], serde_json::json!([{ "path": "id_rsa", "because": "secret" }]));
    assert_eq!(record["environment"]["deterministic-algorithms"], "true");

    let folder = place.path(".reprise/runs").join(record["id"].as_str().unwrap());
    let patch = std::fs::read_to_string(folder.join("changes.patch")).unwrap();
    assert!(patch.contains("+why this run"), "{patch}");
    for file in std::fs::read_dir(&folder).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        assert!(!text.contains("t0ps3cret"), "{}", file.path().display());
    }
    let screen = place.reprise(&["show"]).out;
    for word in
        ["changes.patch (1 file,", "id_rsa (secret)", "run --json shortest.yaml", "MKL_NUM_THREADS", "processor"]
    {
        assert!(screen.contains(word), "{word:?} is missing\n{screen}");
    }
}
