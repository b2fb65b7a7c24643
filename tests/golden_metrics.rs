//! Golden metrics from proposal to check, over a store of runs as a trainer would have left them.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use reprise::golden::Files;
use reprise::plan::{Contents, Plan, RunOf, needed};
use reprise::provenance::Provenance;
use reprise::store::{Manifest, ManifestInput, RunId, RunRecord, StageRecord, StageState, Status};
use reprise_spec::contract::Score;
use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{ContentDigest, OutputDigest, sha256};
use reprise_spec::stage::Stage;

use crate::place::{Place, Said, TINY, checkout, said};

const GOLDEN: &str = "golden/tiny.yaml";

/// The word error rate of a seed where nothing else is said.
fn wer(seed: u64) -> f64 {
    0.3 + seed as f64 / 1000.0
}

fn experiment(place: &Place, file: &str) -> Experiment {
    let text = fs::read_to_string(place.path(file)).unwrap();
    reprise_spec::read::experiment(file, &text, &mut |_| unreachable!("it extends nothing")).unwrap().experiment
}

fn score(name: &str, value: f64) -> Score {
    Score { name: name.into(), value, interval: None }
}

/// What a stage of this kind tells.
fn summary(stage: &Stage, wer: f64) -> Vec<Score> {
    match stage {
        Stage::Decode(_) => vec![score("wer", wer), score("cer", wer / 4.0), score("ser", 0.9)],
        Stage::Pretrain(_) => vec![score("masked-accuracy", 0.2), score("validation-loss", 3.25)],
        Stage::Probe(_) => vec![score("pnmi", 0.55), score("pnmi-null", 0.03)],
        _ => Vec::new(),
    }
}

/// Leaves a finished run of one seed in the store: every stage of the plan under its key, with a manifest and no files.
fn finish(place: &Place, file: &str, seed: u64, wer: f64) -> String {
    let experiment = experiment(place, file);
    let setting = &experiment.variants[0].setting;
    let needed = needed(&experiment);
    let splits = needed.splits.into_iter().map(|what| {
        let digest = ContentDigest(sha256(&[format!("{what:?}").as_bytes()]));
        (what, digest)
    });
    let plan = Plan::of(setting, seed, &Contents { splits: splits.collect(), ..Contents::default() }).unwrap();
    let facts = [("cpu-model", "a processor"), ("libtorch-version", "2.11.0"), ("threads", "2")];
    let environment = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let digest_of = |key: reprise_spec::identity::StageKey| OutputDigest(sha256(&[&key.0]));
    let mut stages = Vec::new();
    for (_, node, need) in plan.run(RunOf { variant: 0, seed }) {
        let (key, stage) = (node.key.unwrap(), node.stage.clone().unwrap());
        let digest = digest_of(key);
        let input = |edge: &reprise::plan::Edge| {
            let key = plan.nodes[edge.node].key.unwrap();
            ManifestInput { role: edge.role.clone(), key, digest: digest_of(key) }
        };
        let manifest = Manifest {
            format: reprise::store::manifest::FORMAT,
            key,
            kind: node.kind.into(),
            canonical: hex(&stage.canonical()),
            summary: summary(&stage, wer),
            settings: stage,
            seed: node.seed,
            inputs: node.inputs.iter().map(input).collect(),
            continued: None,
            digest,
            files: Vec::new(),
            environment: environment.clone().into(),
            build: "test".into(),
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
            finished: "2026-01-02T03:05:05Z".parse().unwrap(),
            seconds: 60.0,
            attempts: 1,
        };
        let folder = format!(".reprise/stages/{}/{}", key.hex(), digest.short());
        place.write(&format!("{folder}/manifest.json"), &serde_json::to_string(&manifest).unwrap());
        stages.push(StageRecord {
            name: need.name.clone(),
            kind: node.kind.into(),
            point: need.point,
            key,
            state: StageState::Executed { digest, seconds: 60.0 },
        });
    }
    let number = fs::read_dir(place.path(".reprise/runs")).into_iter().flatten().count();
    let id = format!("20260102-0304{:02}-{seed:06x}", number + 5);
    let record = RunRecord {
        format: reprise::store::run::FORMAT,
        id: RunId::try_from(id.clone()).unwrap(),
        experiment: experiment.name.to_string(),
        spec: experiment.spec_hash(),
        variant: setting.hash(),
        variant_name: String::new(),
        seed,
        status: Status::Finished,
        stages,
        attempts: Vec::new(),
        environment: environment.into(),
        provenance: Provenance::default(),
        error: None,
    };
    place.write(&format!(".reprise/runs/{id}/run.json"), &serde_json::to_string(&record).unwrap());
    id
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Finished runs of three seeds, and their goldens.
fn with_goldens() -> Place {
    let place = Place::empty();
    place.write("tiny.yaml", &TINY.replace("seeds: [1]", "seeds: [1, 2, 3]"));
    (1..=3).for_each(|seed| drop(finish(&place, "tiny.yaml", seed, wer(seed))));
    fine(place.reprise(&["golden", "propose", "tiny.yaml"]));
    fine(place.reprise(&["golden", "accept", "tiny.yaml"]));
    place
}

fn fine(said: Said) -> String {
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.out
}

fn no(said: Said) -> String {
    assert_eq!(said.code, Some(1), "{said:#?}");
    said.out
}

fn check(place: &Place) -> Said {
    place.reprise(&["check", "tiny.yaml"])
}

fn edit(place: &Place, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(place.path(file)).unwrap();
    assert!(text.contains(from), "{from:?} is not in\n{text}");
    place.write(file, &text.replacen(from, to, 1));
}

/// The manifest of a run's stage.
fn manifest(place: &Place, seed: u64, stage: &str) -> String {
    let runs = fs::read_dir(place.path(".reprise/runs")).unwrap().flatten();
    let records = runs.map(|run| RunRecord::read(&run.path().join("run.json")).unwrap());
    let record = records.filter(|record| record.seed == seed).max_by(|a, b| a.id.cmp(&b.id)).unwrap();
    let stage = record.stages.into_iter().find(|known| known.name == stage).unwrap();
    let digest = stage.state.digest().unwrap();
    format!(".reprise/stages/{}/{}/manifest.json", stage.key.hex(), digest.short())
}

/// What a review says and leaves after these answers.
fn review(place: &Place, answers: &str) -> String {
    let mut command = place.command(&["golden", "review", "tiny.yaml"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    fine(said(child.wait_with_output().unwrap()))
}

/// Compares with a snapshot without hashes and without what differs from day to day.
macro_rules! assert_redacted {
    ($name:literal, $text:expr) => {
        let filters = vec![
            (r"\b[0-9a-f]{64}\b", "[64 hex digits]"),
            (r"\b[0-9a-f]{12}\b", "[12 hex digits]"),
            (r"(since|accepted:|since:) 20\d\d-\d\d-\d\d", "$1 [today]"),
        ];
        insta::with_settings!({ filters => filters }, {
            insta::assert_snapshot!($name, $text);
        })
    };
}

#[test]
fn goldens_are_proposed_reviewed_and_met() {
    let place = Place::empty();
    place.write("tiny.yaml", TINY);
    let none = check(&place);
    assert_eq!(none.code, Some(2), "{none:#?}");
    assert!(none.err.contains("`tiny` has no goldens") && none.err.contains("golden propose"), "{}", none.err);
    assert_eq!(place.reprise(&["golden", "propose", "tiny.yaml"]).code, Some(2), "there is no run");

    finish(&place, "tiny.yaml", 1, wer(1));
    let proposed = fine(place.reprise(&["golden", "propose", "tiny.yaml"]));
    assert_redacted!("proposed", &proposed);
    assert_eq!(check(&place).code, Some(2), "nothing was accepted");
    let reviewed = review(&place, "what?\na\nr\ns\nq\n");
    assert!(reviewed.ends_with("1 accepted, 1 rejected, 7 left\n"), "{reviewed}");
    fine(place.reprise(&["golden", "accept", "tiny.yaml", "--only", "unit quality*"]));
    insta::assert_snapshot!("status", fine(place.reprise(&["golden", "status", "tiny.yaml"])));
    fine(place.reprise(&["golden", "accept", "tiny.yaml"]));
    fine(place.reprise(&["golden", "propose", "tiny.yaml"]));
    assert!(review(&place, "a\n").ends_with("1 accepted, 0 rejected, 0 left\n"), "what was rejected is proposed again");
    assert_redacted!("golden_file", &fs::read_to_string(place.path(GOLDEN)).unwrap());
    assert_redacted!("met", &fine(check(&place)));

    // A value that moved waits for a person, and rejecting it leaves the golden.
    let before = fs::read_to_string(place.path(GOLDEN)).unwrap();
    finish(&place, "tiny.yaml", 1, 0.5);
    no(check(&place));
    let proposed = fine(place.reprise(&["golden", "propose", "tiny.yaml"]));
    assert_redacted!("moved", &proposed);
    assert_eq!(fs::read_to_string(place.path(GOLDEN)).unwrap(), before);
    fine(place.reprise(&["golden", "reject", "tiny.yaml"]));
    assert!(!place.path("golden/tiny.yaml.new").exists());
    assert_eq!(fs::read_to_string(place.path(GOLDEN)).unwrap(), before);
    no(check(&place));
}

#[test]
fn planted_faults_are_found_each_with_its_own_message() {
    let place = with_goldens();
    fine(check(&place));
    let golden = fs::read_to_string(place.path(GOLDEN)).unwrap();
    let reset = |place: &Place| {
        place.write(GOLDEN, &golden);
        (1..=3).for_each(|seed| drop(finish(place, "tiny.yaml", seed, wer(seed))));
        fine(check(place));
    };
    let mut all = String::new();
    let mut found = |what: &str, out: String| all += &format!("──── {what} ────\n{}\n", told(&out));

    edit(&place, GOLDEN, "value: 0.301\n", "value: 0.401\n");
    found("a wrong value", no(check(&place)));
    reset(&place);

    edit(&place, GOLDEN, "value: 0.301\n", "value: .nan\n");
    let said = check(&place);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:#?}");
    assert!(said.err.contains("`.nan` isn't allowed: numbers must be finite"), "{}", said.err);
    reset(&place);

    edit(&place, &manifest(&place, 2, "decode test"), "\"cer\"", "\"other\"");
    found("a missing metric", no(check(&place)));
    reset(&place);

    edit(&place, &manifest(&place, 2, "decode test"), "\"value\":0.302", "\"value\":null");
    found("NaN", no(check(&place)));
    reset(&place);

    fs::remove_file(place.path(&manifest(&place, 3, "decode test"))).unwrap();
    found("an output that is gone", no(check(&place)));
    reset(&place);

    edit(&place, "tiny.yaml", "masking: { prob: 0.5, length: 5 }", "masking: { prob: 0.5, length: 6 }");
    found("a changed spec", no(check(&place)));
    (1..=3).for_each(|seed| drop(finish(&place, "tiny.yaml", seed, wer(seed))));
    found("a changed spec whose runs have finished", no(check(&place)));
    edit(&place, "tiny.yaml", "masking: { prob: 0.5, length: 6 }", "masking: { prob: 0.5, length: 5 }");
    reset(&place);

    let statistical = "statistical:\n          seeds: 3\n          test: { equivalence: { margin: 0.01 } }";
    let at = golden.find("    decode test/wer:").unwrap();
    let with_test = golden[at..].replacen("absolute: 0.005", statistical, 1);
    place.write(GOLDEN, &(golden[..at].to_owned() + &with_test));
    fine(check(&place));
    let runs = fs::read_dir(place.path(".reprise/runs")).unwrap().flatten();
    for run in runs.filter(|run| run.file_name().to_string_lossy().ends_with("-000003")) {
        fs::remove_dir_all(run.path()).unwrap();
    }
    found("one seed too few", no(check(&place)));
    reset(&place);

    place.write(GOLDEN, &(golden[..golden.find("variants:").unwrap()].to_owned() + "variants: {}\n"));
    found("a golden file without entries", no(check(&place)));
    assert_redacted!("planted_faults", all);
}

/// What a check says below its table.
fn told(out: &str) -> String {
    let below = out.split_once("\n\n").map_or(out, |(_, below)| below);
    below.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn a_bypass_is_recorded_and_always_told() {
    let place = with_goldens();
    edit(&place, GOLDEN, "value: 0.301\n", "value: 0.401\n");
    no(check(&place));
    let bypass = ["golden", "bypass", "tiny.yaml", "decode test/wer"];
    let said = place.reprise(&bypass);
    assert_eq!(said.code, Some(2), "it says why: {said:#?}");
    let because = "\u{1b}[2Jthe corpus is being repaired";
    fine(place.reprise(&[&bypass[..], &["--because", because, "--by", "A. Person"]].concat()));
    let said = fine(check(&place));
    assert!(!said.contains('\u{1b}'), "{said:?}");
    assert_redacted!("bypassed", &told(&said));
    let json = place.json(&["check", "--json", "tiny.yaml"]);
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["outcome"].get("bypassed").is_some()).count(), 3);
    assert!(fine(place.reprise(&["golden", "status"])).contains("tiny"));
    fine(place.reprise(&[&bypass[..], &["--end"]].concat()));
    no(check(&place));
}

#[test]
fn named_runs_are_checked_in_place_of_the_newest() {
    let place = Place::empty();
    place.write("tiny.yaml", TINY);
    let first = finish(&place, "tiny.yaml", 1, wer(1));
    fine(place.reprise(&["golden", "propose", "tiny.yaml"]));
    fine(place.reprise(&["golden", "accept", "tiny.yaml"]));
    let path: PathBuf = place.path(".reprise/runs").join(&first).join("run.json");
    let mut other = RunRecord::read(&path).unwrap();
    other.id = RunId::try_from("20260303-000000-00000a".to_owned()).unwrap();
    other.stages.clear();
    place.write(&format!(".reprise/runs/{}/run.json", other.id), &serde_json::to_string(&other).unwrap());
    no(check(&place));
    fine(place.reprise(&["check", "tiny.yaml", "--run", &first]));
    let twice = place.reprise(&["check", "tiny.yaml", "--run", &first, "--run", other.id.as_str()]);
    assert_eq!(twice.code, Some(2), "{twice:#?}");
}

#[test]
fn shipped_goldens_are_of_the_stages_that_their_experiment_has() {
    let place = Place::empty();
    let at = |path: &str| checkout().join(path).display().to_string();
    let (file, data) = (at("experiments/quickstart/baseline.yaml"), at("experiments/corpora"));
    let plan = place.json(&["plan", "--json", &file, "--data", &data]);
    let planned: Vec<(&str, &str)> = plan["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| (stage["node"]["name"].as_str().unwrap(), stage["node"]["key"].as_str().unwrap()))
        .collect();
    let name = "quickstart-baseline".to_owned().try_into().unwrap();
    let golden = Files::of(&checkout().join("golden"), name).existing().unwrap();
    assert!(golden.entries().count() > 0);
    for (_, address, entry) in golden.entries() {
        for value in &entry.values {
            let stage = (address.stage.as_str(), value.stage.to_string());
            let same = planned.iter().any(|(name, key)| (*name, *key) == (stage.0, stage.1.as_str()));
            assert!(same, "{address} was accepted of another stage: run the experiment, then propose and accept");
        }
    }
}
