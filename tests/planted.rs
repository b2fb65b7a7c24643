//! Runs that nobody executed: a store made by code, with the stages that an experiment plans and whatever outputs a test wants.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use reprise::plan::{Contents, Part, Plan, RunOf};
use reprise::provenance::Provenance;
use reprise::store::{
    FILES, Manifest, ManifestFile, ManifestInput, RunId, RunRecord, StageRecord, StageState, Status, Store, manifest,
    run,
};
use reprise_spec::canon::Canon;
use reprise_spec::contract::Score;
use reprise_spec::experiment::{Experiment, Written};
use reprise_spec::identity::{ContentDigest, OutputDigest, StageKey, VariantHash};
use reprise_spec::metrics::Encoder;
use reprise_spec::stage::Stage;
use serde_json::json;

/// The output of a stage that a test wants; nothing of what it leaves out.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Outputs of a stage with the same number have the same digest.
    pub digest: u8,
    pub summary: Vec<Score>,
    pub environment: Vec<(&'static str, &'static str)>,
    /// Metric, step, value.
    pub log: Vec<(String, u64, f64)>,
    /// Below `out/`.
    pub files: Vec<(&'static str, String)>,
    /// The list of files that were read.
    pub read: Option<String>,
}

/// A run that a test wants.
pub struct Wanted<'a> {
    /// The six digits that its id ends with.
    pub id: &'a str,
    pub experiment: &'a Experiment,
    pub seed: u64,
    /// Stands for the files of each split.
    pub content: &'a dyn Fn(&str) -> u8,
    pub output: &'a dyn Fn(&str, &Stage) -> Output,
    /// Settings beside those of the experiment, for more than it has.
    pub settings: BTreeMap<String, Canon>,
    pub provenance: Provenance,
}

/// Two iterations, fine-tuning and decoding of `test`; `changed` is merged over it.
pub fn experiment(changed: serde_json::Value) -> Experiment {
    let mut written = json!({
        "version": 1, "name": "toy", "question": "Does it differ?", "seeds": [1],
        "corpus": { "name": "toy", "pretrain": ["train"], "finetune": ["train"], "validate": ["dev"], "test": ["test"] },
        "strategy": { "baseline": { "iterations": [
            { "targets": { "mfcc": { "clusters": 10 } }, "steps": 3 },
            { "targets": { "layer": { "height": 3, "clusters": 10 } }, "steps": 4 } ] } }
    });
    if let (Some(all), serde_json::Value::Object(changed)) = (written.as_object_mut(), changed) {
        all.extend(changed);
    }
    serde_json::from_value::<Written>(written).expect("an experiment").into()
}

/// Stores a run of the only variant of an experiment.
pub fn plant(store: &Store, wanted: &Wanted<'_>) -> RunRecord {
    let variant = &wanted.experiment.variants[0];
    let contents = Contents {
        splits: ["train", "dev", "test"]
            .iter()
            .flat_map(|split| [(*split, Part::Utterances), (*split, Part::Alignments)])
            .map(|(split, part)| {
                (((*split).to_owned().try_into().expect("a split"), part), ContentDigest([(wanted.content)(split); 32]))
            })
            .collect(),
        ..Contents::default()
    };
    let plan = Plan::of(&variant.setting, wanted.seed, &contents).expect("a plan");
    let mut made: Vec<(StageKey, OutputDigest)> = Vec::new();
    let mut stages = BTreeMap::new();
    for node in &plan.nodes {
        let (stage, key) = (node.stage.as_ref().expect("settings"), node.key.expect("a key"));
        let name = &node.runs[0].name;
        let output = (wanted.output)(name, stage);
        let digest = OutputDigest([output.digest; 32]);
        let mut inputs: Vec<ManifestInput> = node
            .inputs
            .iter()
            .map(|edge| ManifestInput { role: edge.role.clone(), key: made[edge.node].0, digest: made[edge.node].1 })
            .collect();
        inputs.sort();
        made.push((key, digest));
        keep(store, stage, node.seed, key, digest, inputs, &output);
        let (point, state) = (node.runs[0].point, StageState::Executed { digest, seconds: 1.0 });
        let record = StageRecord { name: name.clone(), kind: node.kind.into(), point, key, state };
        stages.insert(node.runs[0].place, record);
    }
    assert_eq!(plan.run(RunOf { variant: 0, seed: wanted.seed }).len(), stages.len());
    let (meaning, variant) = meaning(wanted);
    let record = RunRecord {
        format: run::FORMAT,
        id: RunId::try_from(format!("20260101-000000-{}", wanted.id)).expect("an id"),
        experiment: "toy".into(),
        spec: wanted.experiment.spec_hash(),
        variant,
        variant_name: String::new(),
        seed: wanted.seed,
        status: Status::Finished,
        stages: stages.into_values().collect(),
        attempts: Vec::new(),
        environment: BTreeMap::new(),
        provenance: wanted.provenance.clone(),
        error: None,
    };
    let folder = store.run_folder(&record.id);
    fs::create_dir_all(&folder).expect("a folder");
    write(&folder.join("spec.canon"), &meaning.to_bytes());
    write(&folder.join(run::FILE), &serde_json::to_vec(&record).expect("JSON"));
    record
}

/// What the experiment means with the further settings, and the variant's hash.
fn meaning(wanted: &Wanted<'_>) -> (Canon, VariantHash) {
    let mut setting = wanted.experiment.variants[0].setting.meaning();
    let mut meaning = wanted.experiment.meaning();
    if let (Canon::Map(fields), Canon::Map(all)) = (&mut setting, &mut meaning) {
        fields.extend(wanted.settings.clone());
        if let Some(Canon::List(variants)) = all.get_mut("variants")
            && let Some(Canon::Map(variant)) = variants.first_mut()
        {
            variant.extend(wanted.settings.clone());
        }
    }
    (meaning, VariantHash::of(&setting))
}

/// Writes an output as a stage leaves it.
pub fn keep(
    store: &Store,
    stage: &Stage,
    seed: Option<u64>,
    key: StageKey,
    digest: OutputDigest,
    inputs: Vec<ManifestInput>,
    output: &Output,
) {
    let folder = store.stage_folder(&key).join(digest.short());
    fs::create_dir_all(folder.join("out")).expect("a folder");
    let file = |(name, text): &(&str, String)| ManifestFile {
        name: (*name).into(),
        size: text.len() as u64,
        sha256: String::new(),
    };
    let manifest = Manifest {
        format: manifest::FORMAT,
        key,
        kind: stage.kind().into(),
        settings: stage.clone(),
        canonical: hex::encode(stage.canonical()),
        seed,
        inputs,
        continued: None,
        digest,
        files: output.files.iter().map(file).collect(),
        summary: output.summary.clone(),
        environment: output.environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        build: "planted".into(),
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        seconds: 1.0,
        attempts: 1,
    };
    let mut encoder = Encoder::default();
    let log: Vec<u8> = output.log.iter().flat_map(|(name, step, value)| encoder.point(name, *step, *value)).collect();
    write(&folder.join("metrics.log"), &log);
    output.files.iter().for_each(|(name, text)| write(&folder.join("out").join(name), text.as_bytes()));
    output.read.iter().for_each(|list| write(&folder.join(FILES), list.as_bytes()));
    write(&folder.join(manifest::FILE), &serde_json::to_vec(&manifest).expect("JSON"));
}

/// A score without an interval.
pub fn score(name: &str, value: f64) -> Score {
    Score { name: name.into(), value, interval: None }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a file");
}
