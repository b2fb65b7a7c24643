//! `ro-crate-metadata.json`: what a bundle holds and how it came about, as RO-Crate 1.1 with the profile Process Run Crate 0.5.
//!
//! Every attempt at a run is an action of `reprise`, every stored stage one of `reprise-trainer`. Who started them is not recorded, so no action
//! has an agent.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::STORE;
use super::about::{self, About, Licence};
use super::publish::Written;
use crate::store::{Manifest, RunRecord, Store, StoredOutput, manifest, run};

/// The name of the metadata.
pub const FILE: &str = "ro-crate-metadata.json";

const CRATE: &str = "https://w3id.org/ro/crate/1.1";
const PROFILE: &str = "https://w3id.org/ro/wfrun/process/0.5";
const CONTEXT: [&str; 2] = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"];

/// The whole document.
#[derive(Debug, Serialize)]
pub struct Metadata {
    #[serde(rename = "@context")]
    context: [&'static str; 2],
    #[serde(rename = "@graph")]
    graph: Vec<Entity>,
}

/// What is read of a document that somebody else may have written.
#[derive(Debug, Deserialize)]
pub struct Descriptions {
    #[serde(rename = "@graph")]
    pub graph: Vec<Description>,
}

/// What is read of an entity.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    #[serde(rename = "@id")]
    pub id: String,
    #[serde(rename = "@type")]
    pub kind: String,
    pub content_size: Option<String>,
    pub sha256: Option<String>,
}

/// A reference to an entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Ref {
    #[serde(rename = "@id")]
    id: String,
}

/// One value stands alone, several in a list.
fn one_or_many<S: serde::Serializer>(refs: &[Ref], serializer: S) -> Result<S::Ok, S::Error> {
    match refs {
        [one] => one.serialize(serializer),
        many => many.serialize(serializer),
    }
}

/// Anything that is described; only the properties that it has are written.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entity {
    #[serde(rename = "@id")]
    id: String,
    #[serde(rename = "@type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<Ref>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conforms_to: Option<Ref>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date_published: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<Ref>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    software_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_format: Option<String>,
    /// Bytes, as a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instrument: Option<Ref>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "one_or_many")]
    object: Vec<Ref>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "one_or_many")]
    result: Vec<Ref>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "one_or_many")]
    has_part: Vec<Ref>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "one_or_many")]
    mentions: Vec<Ref>,
}

impl Entity {
    fn new(id: impl Into<String>, kind: &str, name: impl Into<String>) -> Self {
        Self { id: id.into(), kind: kind.into(), name: Some(name.into()), ..Self::default() }
    }
}

/// A time to the second: many readers know no finer ones.
fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

fn to(id: impl Into<String>) -> Ref {
    Ref { id: id.into() }
}

/// Describes a bundle whose other files are `written`.
pub fn describe(about: &About, runs: &[RunRecord], store: &Store, written: &BTreeMap<String, Written>) -> Metadata {
    let outputs = outputs(runs, store);
    let mut actions: Vec<Entity> = runs.iter().flat_map(|run| attempts(about, run)).collect();
    actions.extend(outputs.iter().map(|output| stage(output, store, written)));
    let mut contextual = licences(about);
    contextual.extend(programs(about, runs, &outputs));
    let corpora: BTreeSet<String> = runs.iter().filter_map(|run| corpus(run, store)).collect();
    contextual.extend(corpora.iter().map(|name| Entity {
        description: Some("Speech that the runs read. It is not part of the bundle: it is found by its name, and files.txt of the corpus stages lists its files with checksums.".into()),
        ..Entity::new(format!("#corpus-{name}"), "CreativeWork", format!("corpus {name}"))
    }));
    for action in actions.iter_mut().filter(|action| action.id.starts_with("#attempt-")) {
        action.object.extend(corpora.iter().map(|name| to(format!("#corpus-{name}"))));
    }
    let files: Vec<Entity> = written.iter().map(|(name, written)| file(name, written)).collect();
    let root = Entity {
        description: Some(about.experiment.question.clone()),
        date_published: Some(second(about.newest)),
        license: Some(to(contextual[0].id.clone())),
        conforms_to: Some(to(PROFILE)),
        has_part: files.iter().map(|file| to(file.id.clone())).collect(),
        mentions: actions.iter().map(|action| to(action.id.clone())).collect(),
        ..Entity::new("./", "Dataset", format!("Runs of the experiment {}", about.experiment.name))
    };
    let descriptor = Entity {
        conforms_to: Some(to(CRATE)),
        about: Some(to("./")),
        ..Entity::new(FILE, "CreativeWork", "What this bundle holds")
    };
    let profile = Entity { version: Some("0.5".into()), ..Entity::new(PROFILE, "CreativeWork", "Process Run Crate") };
    let graph = [descriptor, root, profile].into_iter().chain(contextual).chain(actions).chain(files).collect();
    Metadata { context: CONTEXT, graph }
}

fn corpus(run: &RunRecord, store: &Store) -> Option<String> {
    Some(store.recipe(run).ok()??.experiment.corpus()?.name.to_string())
}

/// Every output of the runs once.
fn outputs(runs: &[RunRecord], store: &Store) -> Vec<StoredOutput> {
    let mut seen = BTreeSet::new();
    let stages = runs.iter().flat_map(|run| &run.stages);
    let digests = stages.filter_map(|stage| Some((stage.key, stage.state.digest()?)));
    let fresh: Vec<_> = digests.filter(|both| seen.insert(*both)).collect();
    fresh.into_iter().filter_map(|(key, digest)| store.output(&key, &digest)).collect()
}

/// The first is that of the whole.
fn licences(about: &About) -> Vec<Entity> {
    let of = |licence: &Licence, what: &str| {
        let (id, name) = match licence {
            Licence::File(file) => (file.clone(), format!("licence of {what}")),
            Licence::Spdx(id) if !id.contains(' ') => (format!("https://spdx.org/licenses/{id}"), id.clone()),
            Licence::Spdx(expression) => (format!("#licence-of-{what}"), expression.clone()),
        };
        Entity { description: Some(format!("Of {what} in this bundle.")), ..Entity::new(id, "CreativeWork", name) }
    };
    let about::Licences { data, models, program, .. } = &about.licences;
    let given = [(data, "data"), (models, "models")]
        .into_iter()
        .filter_map(|(licence, what)| Some(of(licence.as_ref()?, what)));
    let mut licences: Vec<Entity> = given.filter(|entity| !entity.id.starts_with("licences/")).collect();
    let files = [data, models].into_iter().flatten().filter_map(|licence| match licence {
        Licence::File(file) => Some(file.as_str()),
        Licence::Spdx(_) => None,
    });
    let stated = describe_terms(data.as_ref(), models.as_ref());
    let terms = Entity {
        description: Some(stated),
        has_part: licences.iter().map(|entity| entity.id.as_str()).chain(files).map(to).collect(),
        ..Entity::new("#terms", "CreativeWork", "Terms of use")
    };
    let program = Entity {
        description: Some("Of the programs that made this bundle.".into()),
        ..Entity::new("#licence-of-programs", "CreativeWork", program.clone())
    };
    licences.dedup_by(|a, b| a.id == b.id);
    licences.insert(0, terms);
    licences.push(program);
    licences
}

fn describe_terms(data: Option<&Licence>, models: Option<&Licence>) -> String {
    let of = |licence: Option<&Licence>| match licence {
        None => "not stated, so ask who published it".to_owned(),
        Some(Licence::Spdx(expression)) => expression.clone(),
        Some(Licence::File(file)) => format!("see {file}"),
    };
    format!("Data: {}. Models and codebooks: {}.", of(data), of(models))
}

/// Every build of both programs.
fn programs(about: &About, runs: &[RunRecord], outputs: &[StoredOutput]) -> Vec<Entity> {
    let builds = |name: &'static str, description: &'static str, builds: BTreeSet<String>| {
        builds.into_iter().map(move |build| Entity {
            description: Some(description.into()),
            license: Some(to("#licence-of-programs")),
            software_version: Some(build.clone()),
            ..Entity::new(program(name, &build), "SoftwareApplication", name)
        })
    };
    let harness = runs.iter().map(|run| run.provenance.build.clone()).chain([about.build.clone()]).collect();
    let trainer = outputs.iter().map(|output| output.manifest.build.clone()).collect();
    builds("reprise", "Plans, executes, stores and compares speech pretraining experiments.", harness)
        .chain(builds("reprise-trainer", "Executes one stage of an experiment on libtorch.", trainer))
        .collect()
}

fn program(name: &str, build: &str) -> String {
    let plain: String = build.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).take(80).collect();
    format!("#{name}-{plain}")
}

/// The attempts at a run, the last of which finished it.
fn attempts(about: &About, record: &RunRecord) -> Vec<Entity> {
    let folder = format!("{STORE}/runs/{}", record.id);
    let last = record.attempts.len();
    let attempt = |(index, attempt): (usize, &crate::store::Attempt)| {
        let finished = index + 1 == last;
        let status = if finished { "CompletedActionStatus" } else { "FailedActionStatus" };
        let name = format!("attempt {} at run {} ({})", index + 1, record.id, record.title());
        let earlier = "It ended before the run did; a later attempt went on from there.";
        Entity {
            description: Some(record.provenance.command.join(" ")),
            start_time: Some(second(attempt.started)),
            end_time: attempt.ended.map(second),
            action_status: Some(format!("http://schema.org/{status}")),
            error: (!finished).then(|| earlier.into()),
            instrument: Some(to(program("reprise", &record.provenance.build))),
            object: vec![to(format!("experiment/{}", about.experiment.file))],
            result: if finished { vec![to(format!("{folder}/{}", run::FILE))] } else { Vec::new() },
            ..Entity::new(format!("#attempt-{}-{}", record.id, index + 1), "CreateAction", name)
        }
    };
    record.attempts.iter().enumerate().map(attempt).collect()
}

/// The execution of one stage: it read the outputs that its manifest names and wrote the files of its own.
fn stage(output: &StoredOutput, store: &Store, written: &BTreeMap<String, Written>) -> Entity {
    let Manifest { key, digest, kind, inputs, started, finished, build, .. } = &output.manifest;
    let folder = in_bundle(output);
    let inputs = inputs.iter().filter_map(|input| store.output(&input.key, &input.digest));
    let results =
        written.keys().filter(|name| name.strip_prefix(&folder).is_some_and(|rest| rest.starts_with("/out/")));
    Entity {
        description: Some(format!("Gave {digest} under {key}.")),
        start_time: Some(second(*started)),
        end_time: Some(second(*finished)),
        action_status: Some("http://schema.org/CompletedActionStatus".into()),
        instrument: Some(to(program("reprise-trainer", build))),
        object: inputs.map(|input| to(format!("{}/{}", in_bundle(&input), manifest::FILE))).collect(),
        result: [format!("{folder}/{}", manifest::FILE)].into_iter().chain(results.cloned()).map(to).collect(),
        ..Entity::new(
            format!("#stage-{}-{}", key.short(), digest.short()),
            "CreateAction",
            format!("{kind} {}", key.short()),
        )
    }
}

/// The folder of an output in its bundle.
fn in_bundle(output: &StoredOutput) -> String {
    let name = output.path.file_name().unwrap_or_default().to_string_lossy();
    format!("{STORE}/stages/{}/{name}", output.manifest.key.hex())
}

fn file(name: &str, written: &Written) -> Entity {
    let format = match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "json" => "application/json",
        "yaml" => "application/yaml",
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "html" => "text/html",
        "md" => "text/markdown",
        "svg" => "image/svg+xml",
        "txt" | "arpa" | "patch" => "text/plain",
        _ => "application/octet-stream",
    };
    let short = name.rsplit_once('/').map_or(name, |(_, short)| short);
    Entity {
        encoding_format: Some(format.into()),
        content_size: Some(written.size.to_string()),
        sha256: Some(written.sha256.clone()),
        ..Entity::new(name, "File", short)
    }
}
