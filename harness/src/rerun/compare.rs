//! What is equal in a run and its rerun, and where the rest parts.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::contract::Score;
use reprise_spec::identity::StageKey;
use reprise_spec::metrics::Log;

use super::{Comparison, Difference, Fact, Origin, Parting, ScorePair, StageComparison};
use crate::diff::curves;
use crate::store::{Manifest, RunRecord, StageRecord, Store};

/// Facts of an environment that say where something lies, not what it is.
const PLACES: [&str; 1] = ["libtorch-path"];

/// Compares the stages of a run and its rerun, each in its own store.
pub fn compare(original: (&RunRecord, &Store), again: (&RunRecord, &Store)) -> Comparison {
    let others: BTreeMap<StageKey, &StageRecord> = again.0.stages.iter().map(|stage| (stage.key, stage)).collect();
    let mut facts = BTreeSet::new();
    let mut stages = Vec::new();
    for stage in &original.0.stages {
        let stored = |stage: &StageRecord, store: &Store| store.output(&stage.key, &stage.state.digest()?);
        let other = others.get(&stage.key);
        let (one, two) = (stored(stage, original.1), other.and_then(|other| stored(other, again.1)));
        let (before, after) = (stage.state.digest(), other.and_then(|other| other.state.digest()));
        let differing = one.as_ref().zip(two.as_ref()).map(|(one, two)| differing(&one.manifest, &two.manifest));
        facts.extend(differing.iter().flatten().cloned());
        let difference = (before != after || before.is_none()).then(|| Difference {
            origin: match (&one, &two, differing) {
                (Some(one), Some(two), Some(facts)) => match one.manifest.inputs == two.manifest.inputs {
                    false => Origin::Inputs,
                    true if facts.is_empty() => Origin::Unexplained,
                    true => Origin::Environment(facts),
                },
                _ => Origin::Unknown,
            },
            parts_at: one.as_ref().zip(two.as_ref()).and_then(|(one, two)| parting(&one.log(), &two.log())),
        });
        stages.push(StageComparison {
            name: stage.name.clone(),
            kind: stage.kind.clone(),
            key: stage.key,
            original: before,
            again: after,
            difference,
            scores: one
                .as_ref()
                .zip(two.as_ref())
                .map(|(one, two)| pairs(&one.manifest, &two.manifest))
                .unwrap_or_default(),
        });
    }
    Comparison {
        original: original.0.id.clone(),
        again: again.0.id.clone(),
        seed: original.0.seed,
        environment: facts.into_iter().collect(),
        stages,
    }
}

/// The fingerprint of an output: what it was made with, as far as it can decide bits. Of variables that the trainer has reported as `env-…`
/// only that is kept.
pub fn fingerprint(manifest: &Manifest) -> BTreeMap<&str, &str> {
    let facts = manifest.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let reported = |name: &str| manifest.environment.contains_key(&format!("env-{name}"));
    facts
        .filter(|(name, _)| !PLACES.contains(name) && !reported(name))
        .chain([("build", manifest.build.as_str())])
        .collect()
}

/// The facts of two fingerprints that differ, by name.
fn differing(original: &Manifest, again: &Manifest) -> Vec<Fact> {
    let (one, two) = (fingerprint(original), fingerprint(again));
    let names: BTreeSet<&str> = one.keys().chain(two.keys()).copied().collect();
    let value = |facts: &BTreeMap<&str, &str>, name| facts.get(name).map(|value| (*value).to_owned());
    names
        .into_iter()
        .map(|name| Fact { name: name.into(), original: value(&one, name), again: value(&two, name) })
        .filter(|fact| fact.original != fact.again)
        .collect()
}

/// The scores of the original, each with that of the rerun.
fn pairs(original: &Manifest, again: &Manifest) -> Vec<ScorePair> {
    let other = |name: &str| again.summary.iter().find(|score| score.name == name).map(|score| score.value);
    let pair =
        |score: &Score| ScorePair { metric: score.name.clone(), original: score.value, again: other(&score.name) };
    original.summary.iter().map(pair).collect()
}

/// The first step at which two logs differ in the bits of a value, or in whether there is one.
pub fn parting(original: &Log, again: &Log) -> Option<Parting> {
    let parted = curves::of(original, again);
    let first = parted.into_iter().min_by(|a, b| (a.parts_at, &a.metric).cmp(&(b.parts_at, &b.metric)))?;
    let [original, again] = first.there.map(|value| value.map(|value| value.0)).into_array();
    Some(Parting { step: first.parts_at, metric: first.metric, original, again })
}
