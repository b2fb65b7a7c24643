use std::sync::LazyLock;

use proptest::prelude::*;
use reprise_spec::experiment::Experiment;
use reprise_spec::identity::OutputDigest;
use reprise_spec::stage::Stage;
use serde_json::json;

use super::about::Licences;
use super::publish::{Draft, Publication, Target};
use super::verify::{Area, Verification};
use super::*;
use crate::store::RunId;
use planted::Planted;

mod hostile;
mod planted;

/// A report that is made of the bundle alone.
fn report(_: &Path, about: &About) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    Ok(BTreeMap::from([("report.md".to_owned(), format!("# {}\n", about.experiment.name).into_bytes())]))
}

fn draft(planted: &Planted, parts: &[part::Part]) -> Draft {
    let run = planted.run();
    let recipe = planted.store.recipe(&run).unwrap().unwrap();
    let experiment = experiment::Files::of_run(&planted.store.experiment_text(&run.id).unwrap(), &recipe).unwrap();
    let licences = Licences { program: "MIT".into(), ..Licences::default() };
    let (store, runs, missing) = (&planted.store, vec![run], Vec::new());
    let parts = parts.iter().copied().collect();
    Draft::new(Publication { store, experiment, runs, missing, parts, licences, beside: BTreeMap::new() }).unwrap()
}

/// The planted run, published as `name`.
fn published(planted: &Planted, name: &str) -> PathBuf {
    let path = planted.path(name);
    draft(planted, &part::DEFAULT).write(&Target::of(path.clone()), &report).unwrap();
    path
}

fn verified(path: &Path) -> Result<Verification, BundleError> {
    verify::verify(&Bundle::open(path)?, &report)
}

/// Takes the checksums of a folder anew, as somebody would who wants a changed bundle to pass.
fn sum_again(root: &Path) {
    let mut files = Vec::new();
    walk(root, "", &mut files).unwrap();
    let names = files.into_iter().map(|(name, _)| name).filter(|name| name != sums::FILE);
    let sums = names.map(|name| (name.clone(), sums::of_file(&root.join(name)).unwrap())).collect();
    fs::write(root.join(sums::FILE), Sums(sums).to_string()).unwrap();
}

/// Puts a text in the place of another in a file, once.
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from:?}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_published_run_holds_what_it_says() {
    let planted = Planted::new();
    let path = published(&planted, "bundle");
    let found = verified(&path).unwrap();
    assert!(found.holds(), "{found:#?}");
    for area in [Area::Files, Area::Outputs, Area::Identities, Area::Numbers, Area::Report, Area::Metadata] {
        assert!(found.areas[&area].passed > 0, "{area}");
    }
    let not_checked: Vec<&str> = found.areas[&Area::Numbers].not_checked.iter().map(|n| n.of.as_str()).collect();
    assert!(not_checked.contains(&"decode test/wer, interval"), "{not_checked:?}");
}

/// Stores have their records short; strangers get them as anybody can read them.
#[test]
fn a_bundle_spells_its_records_out() {
    let planted = Planted::new();
    let (run, root) = (planted.run(), published(&planted, "bundle"));
    let folder = root.join("store/runs").join(run.id.as_str());
    assert_eq!(fs::read(folder.join("spec.canon")).unwrap(), planted.store.canonical(&run.id).unwrap());
    let json = |path: PathBuf| serde_json::from_str::<serde_json::Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let recipe = json(folder.join("recipe.json"));
    assert_eq!((&recipe["format"], &recipe["experiment"]["name"]), (&3.into(), &"toy".into()));
    let manifest = json(root.join(planted.folder_of("decode test")).join("manifest.json"));
    let Stage::Decode(decode) = serde_json::from_value(manifest["settings"].clone()).unwrap() else { panic!() };
    assert_eq!(manifest["format"], 1);
    assert_eq!(manifest["canonical"], hex::encode(Stage::Decode(decode).canonical()));
}

/// What another build's report says is held against the store number by number, for its bytes say nothing.
#[test]
fn the_numbers_of_another_build_s_report_are_those_of_the_store() {
    let planted = Planted::new();
    let root = published(&planted, "bundle");
    let cell = |value: f64, times: usize| {
        let source = json!({ "run": planted.run().id, "number": "decode test/wer" });
        json!({ "sections": [{ "rows": [[{ "shown": "50.0 %", "value": value, "from": vec![source; times] }]] }] })
    };
    let found = |data: serde_json::Value| {
        fs::write(root.join("report/report.json"), data.to_string()).unwrap();
        edit(&root.join(about::FILE), "\"build\": \"", "\"build\": \"0");
        sum_again(&root);
        let found = verified(&root).unwrap();
        let report = &found.areas[&Area::Report];
        let says = |findings: &[verify::Finding]| -> Vec<String> {
            findings.iter().filter(|of| of.of.contains("report.json")).map(|of| of.says.clone()).collect()
        };
        (says(&report.failed), says(&report.not_checked))
    };
    let wer = 0.5;
    assert_eq!(found(cell(wer, 1)).0, [""; 0]);
    assert_eq!(found(cell(wer + 0.01, 1)).0, [format!("the report says {}, the store another number", wer + 0.01)]);
    let (failed, not_checked) = found(cell(wer, 2));
    assert!(failed.is_empty() && not_checked.contains(&"they are made of several, by another build".to_owned()));
}

#[test]
fn the_same_store_gives_the_same_bytes_as_a_folder_and_as_an_archive() {
    let planted = Planted::new();
    let [one, two] = ["one", "two"].map(|name| published(&planted, name));
    let [first, second] = ["first.tar", "second.tar"].map(|name| published(&planted, name));
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    let open = |path: &PathBuf| Bundle::open(path).unwrap();
    let id = open(&one).sums().unwrap().id();
    assert!([two, first].iter().all(|path| open(path).sums().unwrap().id() == id));
    assert!(verified(&second).unwrap().holds());
}

#[test]
fn nothing_of_the_machine_is_published() {
    let planted = Planted::new();
    let path = published(&planted, "bundle.tar");
    let bytes = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let here = planted.path("").display().to_string();
    for secret in [
        here.trim_end_matches('/'),
        "planted-host",
        "/somewhere/libtorch",
        "/root/bin/reprise",
        "hf_abcdefghijklmnopqrst",
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(text.contains("[path]"));
}

#[test]
fn an_output_with_files_left_out_is_shown_and_never_reused() {
    let planted = Planted::new();
    let bundle = Bundle::open(&published(&planted, "bundle")).unwrap();
    let (store, run) = (bundle.store(), planted.run());
    let mut partial = 0;
    for stage in &run.stages {
        let output = store.output(&stage.key, &stage.state.digest().unwrap()).unwrap();
        let inputs = &output.manifest.inputs;
        assert_eq!(store.valid_output(&stage.key, inputs, None).is_some(), output.is_whole(), "{}", stage.name);
        partial += u32::from(!output.is_whole());
    }
    assert!(partial > 0);
    assert_eq!(crate::measures::of(&run, &store), crate::measures::of(&run, &planted.store));
    // A file that is missing and not listed is damage.
    let features = run.stages.iter().find(|stage| stage.kind.starts_with("features/")).unwrap();
    let digest = features.state.digest().unwrap();
    let output = store.output(&features.key, &digest).unwrap();
    fs::remove_file(output.out().join("utterances.tsv")).unwrap();
    assert!(store.output(&features.key, &digest).is_none());
}

#[test]
fn all_parts_go_in_when_they_are_chosen() {
    use clap::ValueEnum;
    let planted = Planted::new();
    let draft = draft(&planted, part::Part::value_variants());
    assert_eq!(draft.about.left_out.files, 0);
    let path = planted.path("whole");
    draft.write(&Target::of(path.clone()), &report).unwrap();
    let found = verified(&path).unwrap();
    assert!(found.holds() && found.areas[&Area::Outputs].not_checked.is_empty(), "{found:#?}");
}

/// A changed bundle whose checksums were taken anew is found by what the change contradicts.
#[test]
fn a_changed_number_is_found_although_its_checksums_fit() {
    let planted = Planted::new();
    let decode = planted.folder_of("decode test");
    let manifest = decode.join("manifest.json");
    let changes: [(&str, PathBuf, &str, &str, Area, &str); 7] = [
        ("score", manifest.clone(), "\"value\": 0.5", "\"value\": 0.25", Area::Numbers, "its data give 0.5"),
        ("seed", "store/runs/RUN/run.json".into(), "\"seed\": 1", "\"seed\": 2", Area::Identities, "other stages"),
        ("settings", manifest.clone(), "\"draws\": 10000", "\"draws\": 10001", Area::Identities, "canonical bytes"),
        (
            "reference",
            decode.join("out/hypotheses.tsv"),
            "HELLO WORLD\tHELLO",
            "HELLO WOULD\tHELLO",
            Area::Numbers,
            "the corpus",
        ),
        ("metric", derived::METRICS.into(), "\"value\": 0.5", "\"value\": 0.4", Area::Report, "another number"),
        ("report", "report/report.md".into(), "# toy", "# Toy", Area::Report, "another one"),
        (
            "experiment",
            "experiment/toy.yaml".into(),
            "\"seeds\": [1]",
            "\"seeds\": [1, 2]",
            Area::Identities,
            "another hash",
        ),
    ];
    for (index, (what, file, from, to, area, says)) in changes.into_iter().enumerate() {
        let root = published(&planted, &format!("bundle-{index}"));
        let file = file.to_string_lossy().replace("RUN", planted.run().id.as_str());
        edit(&root.join(file), from, to);
        assert!(!verified(&root).unwrap().areas[&Area::Files].failed.is_empty(), "{what}");
        sum_again(&root);
        let found = verified(&root).unwrap();
        let failed = &found.areas[&area].failed;
        assert!(failed.iter().any(|finding| finding.says.contains(says)), "{what}: {found:#?}");
    }
}

#[test]
fn files_beside_the_bundle_s_own_are_findings() {
    let planted = Planted::new();
    let root = published(&planted, "bundle");
    fs::write(root.join("store/stray.txt"), "x").unwrap();
    fs::remove_file(root.join("README.md")).unwrap();
    let found = verified(&root).unwrap();
    let failed: Vec<(&str, &str)> =
        found.areas[&Area::Files].failed.iter().map(|f| (f.of.as_str(), f.says.as_str())).collect();
    assert_eq!(failed, [("README.md", "it is missing"), ("store/stray.txt", "SHA256SUMS doesn't list it")]);
}

/// A planted bundle as a folder and as an archive, for every case of the properties.
static BOTH: LazyLock<(Planted, PathBuf, PathBuf)> = LazyLock::new(|| {
    let planted = Planted::new();
    let (folder, archive) = (published(&planted, "bundle"), published(&planted, "bundle.tar"));
    (planted, folder, archive)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_flipped_bit_is_found(file: prop::sample::Index, at: prop::sample::Index, bit in 0u8..8, archived: bool) {
        let (_, folder, archive) = &*BOTH;
        let (source, names) = match archived {
            true => (archive.clone(), vec![String::new()]),
            false => (folder.clone(), Bundle::open(folder).unwrap().files().keys().cloned().collect()),
        };
        let name = file.get(&names);
        let original = fs::read(if name.is_empty() { source.clone() } else { source.join(name) }).unwrap();
        prop_assume!(!original.is_empty());
        // Each case changes a copy: cases of the two tests may run beside each other.
        let temp = tempfile::tempdir().unwrap();
        let copy = temp.path().join("bundle");
        if archived {
            fs::write(&copy, &original).unwrap();
        } else {
            for name in &names {
                let to = copy.join(name);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::hard_link(source.join(name), to).unwrap();
            }
        }
        let changed = if archived { copy.clone() } else { copy.join(name) };
        let mut bytes = original.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::remove_file(&changed).unwrap();
        fs::write(&changed, bytes).unwrap();
        let found = verified(&copy);
        prop_assert!(!found.as_ref().is_ok_and(Verification::holds), "byte {at} of {name:?}: {found:#?}");
    }
}
