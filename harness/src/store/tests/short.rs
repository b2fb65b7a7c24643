//! Records as stores have them, beside the same ones spelled out.

use std::collections::BTreeSet;

use reprise_spec::canon::Canon;
use reprise_spec::identity::ContentDigest;
use reprise_spec::read::{LoadError, experiment};

use super::*;
use crate::plan::{Contents, Plan, needed};

/// A run of one stage as a program wrote it that spelled everything out.
fn spelled_out() -> (Store, RunRecord) {
    let store = Store::at(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/store-1"));
    let run = store.newest().unwrap().expect("a run").record.unwrap();
    (store, run)
}

fn output(store: &Store, run: &RunRecord) -> StoredOutput {
    let stage = &run.stages[0];
    store.output(&stage.key, &stage.state.digest().unwrap()).expect("an output")
}

/// A copy of a store's run and its output, as stores have them now, and their bytes.
fn shortened(from: &Store, run: &RunRecord) -> (tempfile::TempDir, Store, u64) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::at(temp.path());
    store.prepare().unwrap();
    let (text, canonical) = (from.experiment_text(&run.id).unwrap(), from.canonical(&run.id).unwrap());
    let recipe = from.recipe(run).unwrap().expect("a recipe");
    store.create_run(&text, &canonical, &recipe, |_| run.clone()).unwrap();
    let output = output(from, run);
    let folder = store.stage_folder(&output.manifest.key).join(output.manifest.digest.short());
    fs::create_dir_all(&folder).unwrap();
    output.manifest.write(&folder).unwrap();
    let bytes = size(&store.run_folder(&run.id)) + size(&folder);
    (temp, store, bytes)
}

#[test]
fn a_store_that_spells_everything_out_is_read() {
    let (store, run) = spelled_out();
    assert_eq!(SpecHash::of(&store.canonical(&run.id).unwrap()), run.spec);
    assert_eq!(store.recipe(&run).unwrap().expect("a recipe").experiment.spec_hash(), run.spec);
    let Manifest { kind, canonical, settings, .. } = output(&store, &run).manifest;
    assert_eq!(hex::encode(settings.canonical()), canonical);
    // The program that wrote it had an earlier version of the stage.
    let name = |kind: &str| kind.split('/').next().map(str::to_owned);
    assert_eq!((name(settings.kind()), kind.as_str()), (name(&kind), "finetune/4"));
}

#[test]
fn what_is_short_says_the_same_as_what_is_spelled_out_in_a_fourth_of_its_bytes() {
    let (store, run) = spelled_out();
    let (_temp, short, bytes) = shortened(&store, &run);
    assert_eq!(short.record_of(run.id.as_str()), Ok(run.clone()));
    assert_eq!(short.canonical(&run.id).unwrap(), store.canonical(&run.id).unwrap());
    assert_eq!(short.recipe(&run).unwrap(), store.recipe(&run).unwrap());
    assert_eq!(output(&short, &run).manifest, output(&store, &run).manifest);
    let before = size(&store.run_folder(&run.id)) + size(&output(&store, &run).path);
    assert!(bytes * 4 < before, "{bytes} of {before}");
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn a_short_recipe_whose_meaning_is_none_is_damaged() {
    let (store, run) = spelled_out();
    let (_temp, short, _) = shortened(&store, &run);
    let said = |recipe: &str| {
        let (name, packed) = packed::pack(recipe::FILE, recipe.as_bytes());
        fs::write(short.run_folder(&run.id).join(name), packed).unwrap();
        short.canonical(&run.id).unwrap_err().to_string().split_once(run.id.as_str()).unwrap().1.to_owned()
    };
    assert_eq!(
        said(r#"{"format":4,"meaning":{"!a":1,"b":2}}"#),
        "/recipe.json.gz is damaged: this is not how settings are written: a variant stands beside other keys"
    );
    assert!(said(r#"{"format":5}"#).contains("format 5, written by a newer reprise; this one reads up to 4"));
    assert!(
        said(r#"{"format":3}"#).starts_with("/spec.canon: "),
        "a recipe that is spelled out has its bytes beside it"
    );
    // What the bytes are the hash of is asked wherever they are used.
    fs::write(short.run_folder(&run.id).join(run::CANONICAL), [0]).unwrap();
    assert_eq!(short.canonical(&run.id).unwrap(), [0]);
}

/// The short manifest of the run, with one text in the place of another.
fn changed(from: &str, to: &str) -> Result<Manifest, String> {
    let (store, run) = spelled_out();
    let (_temp, short, _) = shortened(&store, &run);
    let path = output(&short, &run).path.join(manifest::FILE);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    Manifest::read(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "MANIFEST"))
}

#[test]
fn a_short_manifest_whose_settings_are_none_is_damaged() {
    let none = |from, to| changed(from, to).unwrap_err();
    assert_eq!(
        none(r#""top":{"!kept":null}"#, r#""top":{"!kept":null,"x":1}"#),
        "MANIFEST is damaged: this is not how settings are written: a variant stands beside other keys"
    );
    let other = none(r#""kind":"finetune/"#, r#""kind":"decode/"#);
    assert!(other.starts_with("MANIFEST is damaged: its settings: missing field"), "{other}");
    let newer = none(r#""format":2"#, r#""format":3"#);
    assert!(newer.contains("format 3, written by a newer reprise; this one reads up to 2"), "{newer}");
    let spelled = none(r#""format":2"#, r#""format":1"#);
    assert!(spelled.starts_with("MANIFEST is damaged: "), "{spelled}");
}

/// Settings that were changed have other canonical bytes, and so another key: `verify` compares it.
#[test]
fn a_short_manifest_s_bytes_are_those_of_its_settings() {
    let manifest = changed(r#""prob":0."#, r#""prob":0.9"#).unwrap();
    let canonical = hex::decode(&manifest.canonical).unwrap();
    assert_eq!(manifest.settings.canonical(), canonical);
    let (store, run) = spelled_out();
    assert_ne!(manifest.canonical, output(&store, &run).manifest.canonical);
}

#[test]
fn a_manifest_whose_settings_have_no_short_form_is_spelled_out() {
    let (store, run) = spelled_out();
    let mut manifest = output(&store, &run).manifest;
    // Canonical bytes that aren't those of the settings: never made by this program, but not lost either.
    manifest.canonical = hex::encode(Canon::Text("of another version".into()).to_bytes());
    let temp = tempfile::tempdir().unwrap();
    manifest.write(temp.path()).unwrap();
    assert_eq!(Manifest::read(&temp.path().join(manifest::FILE)).unwrap(), manifest);
}

#[test]
fn a_spelled_out_manifest_without_canonical_bytes_is_damaged() {
    let (store, run) = spelled_out();
    let mut manifest = output(&store, &run).manifest;
    manifest.canonical = String::new();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join(manifest::FILE);
    fs::write(&path, files::to_json(&manifest)).unwrap();
    let error = Manifest::read(&path).unwrap_err().to_string();
    assert!(error.ends_with("it has no canonical bytes"), "{error}");
}

/// The texts below a folder that give experiments names, by path.
fn shipped(folder: &Path, found: &mut Vec<(String, String)>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            shipped(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path)
            && text.lines().any(|line| line.starts_with("name:"))
            && path.extension().is_some_and(|extension| extension == "yaml")
        {
            found.push((path.to_str().unwrap().to_owned(), text));
        }
    }
}

#[test]
fn every_stage_and_recipe_of_the_shipped_experiments_has_a_short_form() {
    let (store, run) = spelled_out();
    let planted = output(&store, &run).manifest;
    let mut texts = Vec::new();
    shipped(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments")), &mut texts);
    let mut kinds = BTreeSet::new();
    for (path, text) in &texts {
        let load = |path: &str| fs::read_to_string(path).map_err(|_| LoadError::Missing);
        let Ok(read) = experiment(path, text, &mut { load }) else { continue };
        let (experiment, digest) = (read.experiment, ContentDigest([1; 32]));
        let canonical = experiment.meaning().to_bytes();
        assert!(Recipe::new(experiment.clone(), Path::new(path), None).shortened(&canonical).is_some(), "{path}");
        let needed = needed(&experiment);
        let contents = Contents {
            splits: needed.splits.into_iter().map(|split| (split, digest)).collect(),
            checkpoints: needed.checkpoints.into_iter().map(|name| (name, digest)).collect(),
            files: needed.files.into_iter().map(|name| (name, digest)).collect(),
        };
        for stage in Plan::new(&experiment, &contents).unwrap().nodes.into_iter().filter_map(|node| node.stage) {
            kinds.insert(stage.word());
            let (kind, canonical) = (stage.kind().into(), hex::encode(stage.canonical()));
            let manifest = Manifest { kind, settings: stage, canonical, ..planted.clone() };
            let read = manifest.shortened().expect("a short form").spelled_out();
            assert_eq!(read.as_ref(), Ok(&manifest), "{path}");
        }
    }
    assert!(texts.len() > 50 && kinds.len() > 8, "{} {kinds:?}", texts.len());
}
