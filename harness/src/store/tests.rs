use std::os::unix::fs::symlink;

use proptest::prelude::*;
use reprise_spec::identity::{SpecHash, VariantHash};

use super::*;
use crate::lease::{Owner, Process};
use crate::provenance::Provenance;

mod short;

fn record(id: &RunId) -> RunRecord {
    RunRecord {
        format: run::FORMAT,
        id: id.clone(),
        experiment: "toy".into(),
        spec: SpecHash([1; 32]),
        variant: VariantHash([2; 32]),
        variant_name: String::new(),
        seed: 1,
        status: Status::Running,
        stages: Vec::new(),
        attempts: vec![Attempt {
            owner: Owner::current(),
            means: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
        }],
        environment: Default::default(),
        provenance: Provenance { build: "test".into(), ..Provenance::default() },
        error: None,
    }
}

fn recipe() -> Recipe {
    let written: Result<reprise_spec::experiment::Written, _> = serde_json::from_value(serde_json::json!({
        "version": 1, "name": "toy", "question": "?", "seeds": [1], "strategy": "scratch",
        "corpus": { "name": "toy", "finetune": ["train"], "validate": ["dev"], "test": ["test"] },
    }));
    Recipe::new(written.unwrap().into(), Path::new("toy.yaml"), None)
}

fn store() -> (tempfile::TempDir, Store, RunId) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::at(temp.path().join("store"));
    store.prepare().unwrap();
    let (run, _lock) = store.create_run("version: 1\n", &[1, 2], &recipe(), |id| record(&id)).unwrap();
    (temp, store, run.id)
}

#[test]
fn a_store_that_is_not_there_has_no_runs_and_stays_so() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::at(temp.path().join("none"));
    assert!(store.runs().unwrap().is_empty());
    assert!(matches!(store.run("2"), Err(StoreError::NoRun { .. })));
    assert!(!store.root().exists());
}

#[test]
fn a_damaged_run_is_shown_as_damaged_among_the_others() {
    let (_temp, store, id) = store();
    let damage = |name: &str, text: Option<&str>| {
        let folder = store.root().join("runs").join(name);
        fs::create_dir(&folder).unwrap();
        if let Some(text) = text {
            fs::write(folder.join(run::FILE), text).unwrap();
        }
    };
    damage("20200101-000000-000000", None);
    damage("20200101-000000-000001", Some("{\"format\": 1, \"id\": \"2020"));
    damage("20200101-000000-000002", Some("{\"format\": 7, \"shape\": \"unheard of\"}"));
    damage("copied", Some(&fs::read_to_string(store.run_folder(&id).join(run::FILE)).unwrap()));
    fs::write(store.root().join("runs/stray"), "not a folder").unwrap();
    symlink("/nowhere", store.root().join("runs/link")).unwrap();
    let runs = store.runs().unwrap();
    let whole: Vec<&String> = runs.iter().filter(|run| run.seen() == Seen::Running).map(|run| &run.id).collect();
    assert_eq!((runs.len(), whole), (7, vec![&id.to_string()]));
    let newer = store.run("20200101-000000-000002").unwrap().record.unwrap_err();
    assert!(newer.contains("format 7, written by a newer reprise; this one reads up to 1"), "{newer}");
    assert!(matches!(store.run("20200101"), Err(StoreError::Ambiguous { .. })));
}

#[test]
fn a_recipe_is_read_back_whole_and_only_for_its_own_experiment() {
    let (_temp, store, id) = store();
    let spec = recipe().experiment.spec_hash();
    let run = RunRecord { spec, ..record(&id) };
    assert_eq!(store.recipe(&run).unwrap(), Some(recipe()));
    assert!(matches!(store.recipe(&record(&id)), Err(StoreError::Damaged { .. })), "of another experiment");
    fs::remove_file(store.run_folder(&id).join(packed::pack(recipe::FILE, b"").0)).unwrap();
    assert_eq!(store.recipe(&run).unwrap(), None);
}

#[test]
fn a_rerun_without_a_verdict_goes_on_and_one_with_a_verdict_does_not() {
    let (_temp, store, run) = store();
    let means = Means::default();
    let open = |means| Area::open(&store, &run, means).unwrap();
    let first = open(means);
    assert_eq!(first.number, 1);
    first.store.prepare().unwrap();
    assert_eq!(open(means).number, 1);
    first.close(&"undecided", &[], &store).unwrap();
    let second = open(means);
    assert_eq!(second.number, 2);
    // Another build made this run, or one with other means.
    second.store.prepare().unwrap();
    second.store.create_run("version: 1\n", &[1, 2], &recipe(), |id| record(&id)).unwrap();
    assert_eq!(open(means).number, 3);
}

#[test]
fn a_run_whose_process_is_gone_is_lost() {
    let (_temp, store, id) = store();
    assert_eq!(store.run(id.as_str()).unwrap().seen(), Seen::Running);
    let mut gone = record(&id);
    gone.attempts[0].owner.process = Process { pid: u32::MAX, start: Some(1) };
    store.write_run(&gone).unwrap();
    assert_eq!(store.run(id.as_str()).unwrap().seen(), Seen::Lost);
    gone.status = Status::Finished;
    store.write_run(&gone).unwrap();
    assert_eq!(store.run(id.as_str()).unwrap().seen(), Seen::Finished);
}

#[test]
fn a_run_that_was_not_whole_when_its_process_was_killed_goes_with_the_next() {
    let (_temp, store, id) = store();
    let unfinished = store.root().join("runs/.new-20260101-000000-000000");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("experiment.yaml"), "version: 1\n").unwrap();
    let torn = store.run_folder(&id).join(".new-run");
    fs::write(&torn, "{").unwrap();
    assert_eq!(store.runs().unwrap().len(), 1);
    store.create_run("version: 1\n", &[1, 2], &recipe(), |id| record(&id)).unwrap();
    assert!(!unfinished.exists());
    assert!(store.lock_run(&id).unwrap().is_some());
    assert!(!torn.exists());
}

#[test]
fn a_manifest_that_names_files_elsewhere_is_damaged() {
    for name in ["../a", "/etc/passwd", "a/../../b", "", "a\\b"] {
        let text = format!(
            r#"{{"format":1,"key":"stage:{zero}","kind":"decode/1","settings":{{"features":{{"kind":"mfcc"}}}},"canonical":"",
            "seed":null,"inputs":[],"digest":"output:{zero}","files":[{{"name":{name:?},"size":0,"sha256":""}}],"summary":[],
            "environment":{{}},"build":"","started":"1970-01-01T00:00:00Z","finished":"1970-01-01T00:00:00Z","seconds":0,
            "attempts":1}}"#,
            zero = "0".repeat(64)
        );
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(manifest::FILE);
        fs::write(&path, text).unwrap();
        let error = Manifest::read(&path).unwrap_err().to_string();
        assert!(error.contains("not a file below out/"), "{name}: {error}");
    }
}

#[test]
fn the_flag_wins_over_the_variable_over_the_project_over_the_folder() {
    let project = Project { root: "/project".into(), data: Vec::new() };
    let locate = |flag: Option<&str>, variable: Option<&str>, project| {
        let store = Store::locate(flag.map(Path::new), variable.map(OsStr::new), project, Path::new("/here"));
        store.root().to_str().unwrap().to_owned()
    };
    assert_eq!(locate(Some("flag"), Some("/variable"), Some(&project)), "/here/flag");
    assert_eq!(locate(None, Some("/variable"), Some(&project)), "/variable");
    assert_eq!(locate(None, Some(""), Some(&project)), "/project/.reprise");
    assert_eq!(locate(None, None, None), "/here/.reprise");
}

#[test]
fn a_store_below_a_file_says_which_path_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("file"), "").unwrap();
    let error = Store::at(temp.path().join("file/store")).prepare().unwrap_err();
    assert!(error.to_string().contains("file/store"), "{error}");
}

#[test]
fn refusals_of_the_disk_say_what_to_do() {
    let help = |errno: i32| {
        let error = StoreError::io("write", Path::new("/store/run.json"), std::io::Error::from_raw_os_error(errno));
        let help = error.help().map(|help| help.to_string());
        format!("{error}: {}", help.unwrap_or_default())
    };
    assert!(help(30).starts_with("the store /store/run.json is read-only: pass --store DIR"), "{}", help(30)); // EROFS
    assert!(help(28).starts_with("no space left on the disk that holds"), "{}", help(28)); // ENOSPC
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))] // every case flushes files to disk

    #[test]
    fn a_torn_record_never_breaks_a_listing(cut in 0usize..2000, at in 0usize..2000, byte: u8) {
        let (_temp, store, id) = store();
        let path = store.run_folder(&id).join(run::FILE);
        let mut bytes = fs::read(&path).unwrap();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - cut % length);
        fs::write(&path, bytes).unwrap();
        prop_assert_eq!(store.runs().unwrap().len(), 1);
    }

    #[test]
    fn only_ids_are_ids(text in "[0-9a-f-]{20,23}") {
        let id = RunId::try_from(text.clone());
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        let digits = text.bytes().take(15).all(|b| b.is_ascii_digit() || b == b'-');
        prop_assert_eq!(id.is_ok(), parts == [8, 6, 6] && digits);
        let made = RunId::new(jiff::Timestamp::UNIX_EPOCH);
        prop_assert_eq!(RunId::try_from(made.to_string()), Ok(made));
    }
}
