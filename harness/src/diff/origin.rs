//! What two sides read, and what they were made with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use reprise_spec::identity::ContentDigest;
use reprise_spec::stage::{LanguageModelStage, Stage};
use serde::Serialize;

use super::patches::{self, PatchedFile};
use super::{Number, Pair, Sides};
use crate::data::FileList;
use crate::explain::Field;
use crate::provenance::{GitState, changes};
use crate::rerun::fingerprint;
use crate::store::{RunRecord, Store, StoredOutput};

/// Names of files that are told of each kind of change.
const NAMES: usize = 20;

/// A stage that takes in other files on either side.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataPair {
    pub stage: String,
    pub content: Sides<ContentDigest>,
    pub utterances: Sides<Option<Number>>,
    /// Absent where the lists of files are no longer stored.
    pub files: Option<FileChanges>,
}

/// How two lists of files differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileChanges {
    pub equal: usize,
    /// Other bytes under the same name.
    pub changed: Named,
    pub only: Sides<Named>,
}

/// A number of files, the first by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Named {
    pub count: usize,
    pub first: Vec<String>,
}

/// In what the code differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Code {
    /// Builds of both programs, commit, branch, and whether there were changes that aren't committed.
    pub fields: Vec<Field>,
    /// The files that the changes are other ones of.
    pub patches: Vec<PatchedFile>,
}

impl Code {
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.patches.is_empty()
    }
}

/// The stages whose files differ; one that several seeds share once.
pub fn data(pairs: &[Pair<'_>]) -> Vec<DataPair> {
    let mut found: Vec<DataPair> = Vec::new();
    for (stage, outputs) in pairs.iter().flat_map(Pair::stored) {
        let Some(content) = outputs.map(|output| content(&output.manifest.settings)).both() else { continue };
        let known = |pair: &DataPair| pair.stage == stage && pair.content == content;
        if content.a == content.b || found.iter().any(known) {
            continue;
        }
        let utterances = |output: &StoredOutput| {
            output.manifest.summary.iter().find(|score| score.name == "utterances").map(|score| Number(score.value))
        };
        let files = outputs.map(StoredOutput::files_read).both().map(|lists| FileChanges::of(&lists.a, &lists.b));
        found.push(DataPair { stage: stage.to_owned(), content, utterances: outputs.map(utterances), files });
    }
    found
}

/// What a stage takes in from outside of the store.
fn content(stage: &Stage) -> Option<ContentDigest> {
    match stage {
        Stage::Corpus(corpus) => Some(corpus.content),
        Stage::Checkpoint(checkpoint) => Some(checkpoint.content),
        Stage::Lexicon(lexicon) => Some(lexicon.content),
        Stage::LanguageModel(LanguageModelStage::File { content, .. }) => Some(*content),
        _ => None,
    }
}

impl FileChanges {
    fn of(a: &FileList, b: &FileList) -> Self {
        let theirs: BTreeMap<&str, _> = b.entries().iter().map(|entry| (entry.path.as_str(), entry)).collect();
        let ours: BTreeSet<&str> = a.entries().iter().map(|entry| entry.path.as_str()).collect();
        let mut changes = Self { equal: 0, changed: Named::default(), only: Sides::default() };
        for entry in a.entries() {
            match theirs.get(entry.path.as_str()) {
                None => changes.only.a.add(&entry.path),
                Some(other) if *other == entry => changes.equal += 1,
                Some(_) => changes.changed.add(&entry.path),
            }
        }
        b.entries()
            .iter()
            .filter(|entry| !ours.contains(entry.path.as_str()))
            .for_each(|e| changes.only.b.add(&e.path));
        changes
    }
}

impl Named {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < NAMES {
            self.first.push(name.to_owned());
        }
    }
}

/// The values that each fact has over the runs of a side.
#[derive(Default)]
struct Facts(BTreeMap<String, BTreeSet<String>>);

impl Facts {
    fn add(&mut self, name: &str, value: impl ToString) {
        self.0.entry(name.to_owned()).or_default().insert(value.to_string());
    }
}

/// The facts that differ, by name.
fn differing(facts: Sides<Facts>) -> Vec<Field> {
    let Sides { a: Facts(a), b: Facts(b) } = facts;
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |values: Option<&BTreeSet<String>>| {
        values.map(|values| values.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
    };
    names
        .into_iter()
        .map(|name| Field { path: name.clone(), a: value(a.get(name)), b: value(b.get(name)) })
        .filter(|field| field.a != field.b)
        .collect()
}

/// Gathers the facts of both sides.
fn gathered<'p>(
    pairs: &'p [Pair<'_>],
    of_run: impl Fn(&mut Facts, &RunRecord),
    of_output: impl Fn(&mut Facts, &'p StoredOutput),
) -> Sides<Facts> {
    let mut facts: Sides<Facts> = Sides::default();
    for pair in pairs {
        of_run(&mut facts.a, pair.runs.a);
        of_run(&mut facts.b, pair.runs.b);
        for (_, outputs) in pair.stored() {
            of_output(&mut facts.a, outputs.a);
            of_output(&mut facts.b, outputs.b);
        }
    }
    facts
}

/// The name under which the fingerprint of an output has the build of the trainer.
const BUILD: &str = "build";

/// What else the two were made with: machine, device, threads, variables, libraries.
pub fn environment(pairs: &[Pair<'_>]) -> Vec<Field> {
    let of_run = |facts: &mut Facts, run: &RunRecord| {
        if let Some(host) = &run.provenance.host {
            facts.add("system", &host.system);
            facts.add("kernel", &host.kernel);
            facts.add("processor", &host.cpu);
            facts.add("processor features", host.cpu_features.join(" "));
            facts.add("cores", host.cores);
            facts.add("memory in bytes", host.memory.map_or_else(|| "unknown".into(), |bytes| bytes.to_string()));
        }
        if let Some(means) = run.attempts.iter().rev().find_map(|attempt| attempt.means) {
            facts.add("threads asked for", means.threads);
            facts.add("loader threads", means.loader_threads);
            facts.add("layers computed twice", if means.recompute { "yes" } else { "no" });
        }
        run.provenance.variables.iter().for_each(|(name, value)| facts.add(&format!("variable {name}"), value));
    };
    let of_output = |facts: &mut Facts, output: &StoredOutput| {
        let known = fingerprint(&output.manifest).into_iter().filter(|(name, _)| *name != BUILD);
        known.for_each(|(name, value)| facts.add(name, value));
    };
    differing(gathered(pairs, of_run, of_output))
}

/// The code of both, and their patches where these differ.
pub fn code(pairs: &[Pair<'_>], store: &Store) -> Code {
    let of_run = |facts: &mut Facts, run: &RunRecord| {
        facts.add("build of reprise", &run.provenance.build);
        if let Some(GitState { commit, branch, dirty }) = &run.provenance.experiment {
            facts.add("commit", commit.as_deref().unwrap_or("none yet"));
            facts.add("branch", branch.as_deref().unwrap_or("none"));
            facts.add("uncommitted changes", if *dirty { "yes" } else { "no" });
        }
        for left_out in run.provenance.changes.iter().flat_map(|changes| &changes.left_out) {
            facts.add("changed, not in the patch", &left_out.path);
        }
    };
    let of_output =
        |facts: &mut Facts, output: &StoredOutput| facts.add("build of the trainer", &output.manifest.build);
    let fields = differing(gathered(pairs, of_run, of_output));
    let mut seen = BTreeSet::new();
    let mut patches = Vec::new();
    for pair in pairs {
        let texts = pair.runs.map(|run| patch(run, store));
        if texts.a != texts.b && seen.insert((texts.a.clone(), texts.b.clone())) {
            patches.extend(patches::compare(&texts.a, &texts.b));
        }
    }
    Code { fields, patches }
}

/// The uncommitted changes that a run recorded; empty where there were none, or the file is gone.
fn patch(run: &RunRecord, store: &Store) -> String {
    if run.provenance.changes.is_none() {
        return String::new();
    }
    let mut bytes = Vec::new();
    let read = File::open(store.changes(&run.id))
        .and_then(|file| file.take(changes::PATCH_BYTES as u64).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}
