//! Whether a run that was executed again gave the same, and how sure that is.
//!
//! A rerun is a run in a store of its own below that of the original (`reruns/<run>/<number>/`), so nothing of the original is reused and
//! nothing of the two is ever mixed. When it has ended, each of its stages is compared with the original's: outputs by digest, scores by
//! the margins of [`margin`], logged values step by step.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::identity::{OutputDigest, StageKey};
use serde::{Deserialize, Serialize};

use crate::store::{RunId, RunRecord, Seen, StageRecord, Status, Store, StoreError, Summary};

mod compare;
pub mod grade;
pub mod margin;

pub use compare::{compare, fingerprint};

/// Everything that comparing a run with its rerun found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    pub original: RunId,
    pub again: RunId,
    pub seed: u64,
    /// What the two were made with where it differs, over all stages.
    pub environment: Vec<Fact>,
    /// In the order of the plan.
    pub stages: Vec<StageComparison>,
}

/// One fact of two environments that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fact {
    pub name: String,
    pub original: Option<String>,
    pub again: Option<String>,
}

/// One stage of a run and of its rerun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageComparison {
    pub name: String,
    pub kind: String,
    pub key: StageKey,
    pub original: Option<OutputDigest>,
    pub again: Option<OutputDigest>,
    /// Absent where the outputs are equal.
    pub difference: Option<Difference>,
    /// The scores of both, in the order of the original's.
    pub scores: Vec<ScorePair>,
}

/// Why the outputs of a stage differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    pub origin: Origin,
    /// Where the logged values of the two part; absent for stages that log none, and where all of them are equal.
    pub parts_at: Option<Parting>,
}

/// Where a difference comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The stage read outputs that differ.
    Inputs,
    /// The stage read the same and was made with something else: a note.
    Environment(Vec<Fact>),
    /// The stage read the same and was made with the same: a finding, for such a stage should repeat to the bit.
    Unexplained,
    /// The original's output is no longer stored, so what it read and was made with is not known.
    Unknown,
}

/// The first step at which logged values differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Parting {
    pub step: u64,
    /// The first metric, by name, that differs there; absent values were not logged.
    pub metric: String,
    pub original: Option<f64>,
    pub again: Option<f64>,
}

/// A score of a stage on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScorePair {
    pub metric: String,
    pub original: f64,
    /// Absent where the rerun didn't give it.
    pub again: Option<f64>,
}

impl Comparison {
    /// The first stage, in the order of the plan, whose outputs differ.
    pub fn first_difference(&self) -> Option<&StageComparison> {
        self.stages.iter().find(|stage| stage.difference.is_some())
    }

    /// The outputs that both have.
    pub fn equal(&self) -> impl Iterator<Item = (StageKey, OutputDigest)> {
        self.stages.iter().filter_map(|stage| Some((stage.key, stage.again.filter(|_| stage.again == stage.original)?)))
    }

    /// The stages that gave two outputs under one key, from the same inputs, with the same environment.
    pub fn findings(&self) -> impl Iterator<Item = &StageComparison> {
        let unexplained = |difference: &Difference| difference.origin == Origin::Unexplained;
        self.stages.iter().filter(move |stage| stage.difference.as_ref().is_some_and(unexplained))
    }
}

/// Finished runs of the same setting on the same corpus by the same versions of stages, one a seed: `run` for its own, the newest for the
/// others. Ascending in seed.
pub fn siblings(run: &RunRecord, store: &Store) -> Result<Vec<RunRecord>, StoreError> {
    let shape = |record: &RunRecord| {
        let corpus = |stage: &StageRecord| stage.kind.starts_with("corpus/").then_some(stage.key);
        let stages = record.stages.iter().map(|stage| (stage.name.clone(), stage.kind.clone(), corpus(stage)));
        stages.collect::<BTreeSet<_>>()
    };
    let mut found = BTreeMap::from([(run.seed, run.clone())]);
    let wanted = shape(run);
    let like = |of: &Summary| of.seen == Seen::Finished && of.variant == run.variant;
    for record in store.records(like)? {
        let finished = record.status == Status::Finished;
        if finished && record.variant == run.variant && shape(&record) == wanted {
            found.entry(record.seed).or_insert(record);
        }
    }
    Ok(found.into_values().collect())
}

/// The scores of a run's stages, by names of stage and metric, as far as its outputs are stored.
pub fn scores(run: &RunRecord, store: &Store) -> BTreeMap<(String, String), f64> {
    let mut scores = BTreeMap::new();
    for stage in &run.stages {
        let output = stage.state.digest().and_then(|digest| store.output(&stage.key, &digest));
        for score in output.into_iter().flat_map(|output| output.manifest.summary) {
            scores.insert((stage.name.clone(), score.name), score.value);
        }
    }
    scores
}

#[cfg(test)]
mod tests;
