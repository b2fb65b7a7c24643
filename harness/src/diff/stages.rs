//! The stages of two sides: the same key and output, or why not.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::identity::{OutputDigest, StageKey};
use serde::Serialize;

use super::{Done, Pair, Sides, Which};
use crate::explain::{self, Field};
use crate::rerun::fingerprint;
use crate::store::{Manifest, Store};

/// One stage of all pairs of runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StagePair {
    pub stage: String,
    /// Ascending in seed.
    pub runs: Vec<Standing>,
}

/// One stage of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    pub seed: Sides<u64>,
    pub key: Sides<Option<StageKey>>,
    /// Absent where a side has no such stage, or it has no output yet.
    pub digest: Sides<Option<OutputDigest>>,
    pub why: Why,
}

/// Why a stage isn't the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is the same: key and output.
    Same,
    /// Its own settings, seed or version differ.
    Settings(Vec<String>),
    /// It reads other stages.
    OtherInputs,
    /// It is the same stage and read outputs that differ.
    Inputs,
    /// The same stage read the same and was made with something else, which these facts say.
    Environment(Vec<String>),
    /// The same stage read the same, was made with the same, and gave something else: it doesn't repeat to the bit.
    Unexplained,
    /// What it was made from is no longer stored on one side.
    Unknown,
    /// One side has it alone.
    Only(Which),
    /// It has no output yet on one side.
    Unfinished,
}

impl StagePair {
    /// Whether every run of both sides has the same output.
    pub fn is_same(&self) -> bool {
        self.is_compared() && self.runs.iter().all(|standing| standing.digest.a == standing.digest.b)
    }

    /// Whether every run of both sides has an output.
    pub fn is_compared(&self) -> bool {
        self.runs.iter().all(|standing| standing.digest.both().is_some())
    }
}

/// Compares the stages of the same name.
pub fn compare(pairs: &[Pair<'_>], store: &Store) -> Vec<StagePair> {
    let mut found: Vec<StagePair> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for pair in pairs {
        let causes = explain::causes(pair.runs.a, pair.runs.b, store).into_iter();
        let causes: BTreeMap<String, Vec<Field>> =
            causes.filter_map(|cause| Some((cause.route.into_iter().next()?, cause.fields))).collect();
        for (name, sides) in &pair.stages {
            let place = *places.entry((*name).to_owned()).or_insert(found.len());
            if place == found.len() {
                found.push(StagePair { stage: (*name).to_owned(), runs: Vec::new() });
            }
            let done = sides.as_ref().map(Option::as_ref);
            found[place].runs.push(Standing {
                seed: pair.runs.map(|run| run.seed),
                key: done.map(|done| done.map(|done| done.record.key)),
                digest: done.map(|done| done.and_then(|done| done.record.state.digest())),
                why: why(done, causes.get(*name)),
            });
        }
    }
    found
}

/// `cause` is what differs in the stage itself, where its key does: empty where that isn't known, absent where it is only what it reads.
fn why(done: Sides<Option<&Done<'_>>>, cause: Option<&Vec<Field>>) -> Why {
    let both = match (done.a, done.b) {
        (Some(a), Some(b)) => Sides::new(a, b),
        (Some(_), None) => return Why::Only(Which::A),
        (None, _) => return Why::Only(Which::B),
    };
    let digests = both.map(|done| done.record.state.digest());
    let outputs = both.map(|done| done.output.as_ref()).both();
    if both.a.record.key != both.b.record.key {
        return match cause {
            Some(fields) if fields.is_empty() => Why::Unknown,
            Some(fields) => Why::Settings(fields.iter().map(|field| field.path.clone()).collect()),
            None => Why::OtherInputs,
        };
    }
    match (digests.both(), outputs) {
        (None, _) => Why::Unfinished,
        (Some(digests), _) if digests.a == digests.b => Why::Same,
        (Some(_), None) => Why::Unknown,
        (Some(_), Some(outputs)) if outputs.a.manifest.inputs != outputs.b.manifest.inputs => Why::Inputs,
        (Some(_), Some(outputs)) => match facts(&outputs.a.manifest, &outputs.b.manifest) {
            facts if facts.is_empty() => Why::Unexplained,
            facts => Why::Environment(facts),
        },
    }
}

/// The names of what two outputs were made with that differs.
fn facts(a: &Manifest, b: &Manifest) -> Vec<String> {
    let (a, b) = (fingerprint(a), fingerprint(b));
    let names: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    names.into_iter().filter(|name| a.get(name) != b.get(name)).map(str::to_owned).collect()
}
