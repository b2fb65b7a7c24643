//! Why two identities differ: the fields of their stored canonical trees, and for stages the first cause among what they read.

use std::collections::{BTreeMap, BTreeSet};

use miette::Diagnostic;
use reprise_spec::canon::{Canon, differences};
use reprise_spec::identity::StageKey;
use serde::Serialize;
use thiserror::Error;

use crate::store::{RunRecord, Store, StoreError};

mod stored;
pub mod subject;

use stored::StageIdentity;
use subject::Subject;

/// Why two things can't be compared.
#[derive(Debug, Error, Diagnostic)]
pub enum ExplainError {
    #[error("{name:?} names nothing: no file, run, stage, variant or experiment of the store {store} starts so")]
    #[diagnostic(help(
        "name an experiment file, or the start of an id that `reprise list` or `reprise show` prints; hashes need 4 digits or more"
    ))]
    Nothing { name: String, store: String },
    #[error("{name:?} is the start of several ids: {}", .matches.join(", "))]
    #[diagnostic(help("give more of the one that is meant"))]
    Ambiguous { name: String, matches: Vec<String> },
    #[error("{a} and {b} are identities of different things")]
    #[diagnostic(help("compare stages with stages, and experiments, variants and runs with one another"))]
    Incomparable { a: String, b: String },
    #[error("{a} has runs of other seeds ({seeds_a}) than {b} ({seeds_b})")]
    #[diagnostic(help(
        "runs of two settings are compared seed by seed: run both with a seed in common, or name two runs"
    ))]
    NoCommonSeed { a: String, b: String, seeds_a: String, seeds_b: String },
    #[error("{stage} is a stage, which has no runs to compare")]
    #[diagnostic(help(
        "`reprise explain` says what makes two stages differ; name runs, variants or experiment files here"
    ))]
    IsAStage { stage: String },
    #[error("{what} can't be explained: {reason}")]
    #[diagnostic(help("what it was made from is no longer stored whole; run the experiment again"))]
    Unknown { what: String, reason: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
}

/// What makes two identities differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    pub equal: bool,
    /// What was compared: `run 20260101-…`, `spec:…`.
    pub a: String,
    pub b: String,
    /// Where the two differ themselves.
    pub fields: Vec<Field>,
    /// The inputs of two stages that have other keys.
    pub inputs: Vec<InputKeys>,
    /// The stages further up whose own fields differ, nearest first; those of two runs, in the order of their plan.
    pub causes: Vec<Cause>,
}

/// One field with its value on either side; absent where the side lacks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Field {
    /// `pretraining.masking.length`.
    pub path: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

/// One input of two stages, with the key that each reads; absent where one reads no such input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InputKeys {
    pub role: String,
    pub a: Option<StageKey>,
    pub b: Option<StageKey>,
}

/// Two stages that differ in more than what they read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cause {
    /// How they are reached: the roles on the way up from the compared stages, or the name that two runs give the stage.
    pub route: Vec<String>,
    pub a: StageKey,
    pub b: StageKey,
    /// Empty where a side is no longer stored, so that nothing is known of it.
    pub fields: Vec<Field>,
}

/// Compares what two subjects are.
///
/// # Errors
/// When they are identities of different things, or what they consist of is no longer stored.
pub fn explain(a: &Subject, b: &Subject, store: &Store) -> Result<Explanation, ExplainError> {
    let explanation = |fields: Vec<Field>, inputs: Vec<InputKeys>, causes: Vec<Cause>| Explanation {
        equal: fields.is_empty() && inputs.is_empty() && causes.is_empty(),
        a: a.to_string(),
        b: b.to_string(),
        fields,
        inputs,
        causes,
    };
    if let (Subject::Stage(a), Subject::Stage(b)) = (a, b) {
        let (one, other) = (StageIdentity::known(store, a)?, StageIdentity::known(store, b)?);
        let inputs = one.inputs_that_differ(&other);
        return Ok(explanation(one.fields_that_differ(&other), inputs.clone(), upstream(&inputs, store)));
    }
    let causes = match (a, b) {
        (Subject::Run { record: a, .. }, Subject::Run { record: b, .. }) => causes(a, b, store),
        _ => Vec::new(),
    };
    Ok(explanation(settings(a, b)?, Vec::new(), causes))
}

/// The settings in which experiments, variants or runs differ; the seed is one of two runs.
///
/// # Errors
/// When one is a stage, or an experiment of several variants and the other is none.
pub fn settings(a: &Subject, b: &Subject) -> Result<Vec<Field>, ExplainError> {
    let (one, other) = match (a.meaning(), b.meaning()) {
        (Some(one), Some(other)) => (Some(one.clone()), Some(other.clone())),
        _ => (a.setting(), b.setting()),
    };
    let (Some(one), Some(other)) = (one, other) else {
        return Err(ExplainError::Incomparable { a: a.to_string(), b: b.to_string() });
    };
    let mut fields = fields(&one, &other);
    if let (Subject::Run { record: a, .. }, Subject::Run { record: b, .. }) = (a, b) {
        fields.extend(differing("seed", a.seed, b.seed));
    }
    Ok(fields)
}

/// The fields in which two trees differ.
fn fields(a: &Canon, b: &Canon) -> Vec<Field> {
    let shown = |value: Option<Canon>| value.map(|value| value.to_string());
    differences(a, b)
        .into_iter()
        .map(|found| Field { path: found.path, a: shown(found.left), b: shown(found.right) })
        .collect()
}

/// The field `path` where its values differ.
fn differing<T: PartialEq + ToString>(path: &str, a: T, b: T) -> Option<Field> {
    (a != b).then(|| Field { path: path.into(), a: Some(a.to_string()), b: Some(b.to_string()) })
}

/// The stages of two runs that have the same name and differ in more than what they read.
pub fn causes(a: &RunRecord, b: &RunRecord, store: &Store) -> Vec<Cause> {
    let others: BTreeMap<&str, StageKey> = b.stages.iter().map(|stage| (stage.name.as_str(), stage.key)).collect();
    let pairs = a.stages.iter().filter_map(|stage| Some((stage, *others.get(stage.name.as_str())?)));
    pairs
        .filter(|(stage, other)| stage.key != *other)
        .filter_map(|(stage, other)| {
            let cause = |fields| Cause { route: vec![stage.name.clone()], a: stage.key, b: other, fields };
            match both(store, &stage.key, &other) {
                None => Some(cause(Vec::new())),
                Some((one, other)) => {
                    Some(one.fields_that_differ(&other)).filter(|fields| !fields.is_empty()).map(cause)
                }
            }
        })
        .collect()
}

/// The causes above two stages: breadth first, each pair once, and nothing above a pair that differs itself.
fn upstream(inputs: &[InputKeys], store: &Store) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut seen = BTreeSet::new();
    let mut level: Vec<(Vec<String>, InputKeys)> = inputs.iter().map(|keys| (Vec::new(), keys.clone())).collect();
    while !level.is_empty() {
        let mut above = Vec::new();
        for (mut route, InputKeys { role, a, b }) in level {
            // An input that only one side has is a difference of the stage that reads it.
            let (Some(a), Some(b)) = (a, b) else { continue };
            if !seen.insert((a, b)) {
                continue;
            }
            route.push(role);
            match both(store, &a, &b) {
                None => causes.push(Cause { route, a, b, fields: Vec::new() }),
                Some((one, other)) => match one.fields_that_differ(&other) {
                    fields if fields.is_empty() => {
                        above.extend(one.inputs_that_differ(&other).into_iter().map(|keys| (route.clone(), keys)));
                    }
                    fields => causes.push(Cause { route, a, b, fields }),
                },
            }
        }
        level = above;
    }
    causes
}

fn both(store: &Store, a: &StageKey, b: &StageKey) -> Option<(StageIdentity, StageIdentity)> {
    StageIdentity::known(store, a).ok().zip(StageIdentity::known(store, b).ok())
}

#[cfg(test)]
mod tests;
