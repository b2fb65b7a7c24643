//! What a name on the command line stands for.

use std::collections::BTreeMap;
use std::fmt;

use reprise_spec::canon::Canon;
use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{SpecHash, StageKey, VariantHash};

use super::ExplainError;
use crate::store::{RunRecord, Store};

/// Hex digits that a hash must at least be named by.
const SHORTEST: usize = 4;

/// Something that has an identity.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A whole experiment, from a file or as runs have recorded it.
    Experiment {
        hash: SpecHash,
        meaning: Canon,
        setting: Canon,
    },
    /// What runs of one setting share, whatever their seeds.
    Variant {
        hash: VariantHash,
        setting: Canon,
    },
    Run {
        record: Box<RunRecord>,
        meaning: Canon,
        setting: Canon,
    },
    Stage(StageKey),
}

impl From<&Experiment> for Subject {
    fn from(experiment: &Experiment) -> Self {
        let (meaning, setting) = (experiment.meaning(), experiment.setting());
        Self::Experiment { hash: experiment.spec_hash(), meaning, setting }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Experiment { hash, .. } => write!(f, "spec:{}", hash.short()),
            Self::Variant { hash, .. } => write!(f, "variant:{}", hash.short()),
            Self::Run { record, .. } => write!(f, "run {}", record.id),
            Self::Stage(key) => write!(f, "stage:{}", key.short()),
        }
    }
}

impl Subject {
    /// What a name stands for in a store: the start of a run's id, or of the hash of a stage, a variant or an experiment that was run.
    /// `stage:`, `variant:` and `spec:` before the digits say which.
    ///
    /// # Errors
    /// When nothing or several things start so, and when what is named is damaged.
    pub fn named(name: &str, store: &Store) -> Result<Self, ExplainError> {
        let (word, start) = name.split_once(':').unwrap_or(("", name));
        let hash = |kind: &str| {
            let digits =
                start.len() >= SHORTEST && start.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            digits && (word == kind || word.is_empty())
        };
        let mut found: BTreeMap<String, Candidate> = BTreeMap::new();
        for run in store.runs()? {
            if word.is_empty() && !start.is_empty() && run.id.starts_with(start) {
                found.insert(format!("run {}", run.id), Candidate::Run(run.id.clone()));
            }
            let Ok(record) = run.record else { continue };
            if hash("variant") && record.variant.hex().starts_with(start) {
                found.insert(record.variant.to_string(), Candidate::Variant(Box::new(record.clone())));
            }
            if hash("spec") && record.spec.hex().starts_with(start) {
                found.insert(record.spec.to_string(), Candidate::Experiment(Box::new(record)));
            }
        }
        if hash("stage") {
            found.extend(store.keys_from(start).into_iter().map(|key| (key.to_string(), Candidate::Stage(key))));
        }
        let mut matches: Vec<(String, Candidate)> = found.into_iter().collect();
        let root = store.root().display().to_string();
        match (matches.pop(), matches.as_slice()) {
            (None, _) => Err(ExplainError::Nothing { name: name.into(), store: root }),
            (Some((_, candidate)), []) => candidate.subject(store),
            (Some((last, _)), others) => {
                let matches = others.iter().map(|(id, _)| id.clone()).chain([last]).take(8).collect();
                Err(ExplainError::Ambiguous { name: name.into(), matches })
            }
        }
    }

    /// All that the experiment means; only of experiments and runs.
    pub fn meaning(&self) -> Option<&Canon> {
        match self {
            Self::Experiment { meaning, .. } | Self::Run { meaning, .. } => Some(meaning),
            Self::Variant { .. } | Self::Stage(_) => None,
        }
    }

    /// What one run executes; of everything but stages.
    pub fn setting(&self) -> Option<&Canon> {
        match self {
            Self::Experiment { setting, .. } | Self::Variant { setting, .. } | Self::Run { setting, .. } => {
                Some(setting)
            }
            Self::Stage(_) => None,
        }
    }
}

/// What a name may mean, before it is read.
enum Candidate {
    Run(String),
    Variant(Box<RunRecord>),
    Experiment(Box<RunRecord>),
    Stage(StageKey),
}

impl Candidate {
    fn subject(self, store: &Store) -> Result<Subject, ExplainError> {
        match self {
            Candidate::Stage(key) => Ok(Subject::Stage(key)),
            Candidate::Variant(record) => {
                let setting = setting(meaning(&record, store)?);
                Ok(Subject::Variant { hash: record.variant, setting })
            }
            Candidate::Experiment(record) => {
                let meaning = meaning(&record, store)?;
                Ok(Subject::Experiment { hash: record.spec, setting: setting(meaning.clone()), meaning })
            }
            Candidate::Run(id) => {
                let damaged = |reason| ExplainError::Unknown { what: format!("run {id}"), reason };
                let record = Box::new(store.run(&id)?.record.map_err(damaged)?);
                let meaning = meaning(&record, store)?;
                Ok(Subject::Run { record, setting: setting(meaning.clone()), meaning })
            }
        }
    }
}

/// The tree that a run's `spec` is the hash of.
fn meaning(record: &RunRecord, store: &Store) -> Result<Canon, ExplainError> {
    let unknown = |reason| ExplainError::Unknown { what: format!("run {}", record.id), reason };
    let bytes = store.canonical(&record.id)?;
    Canon::from_bytes(&bytes).map_err(|error| unknown(error.to_string()))
}

/// The part of an experiment's meaning that one run executes: all but the seeds and the name of the corpus.
fn setting(mut meaning: Canon) -> Canon {
    if let Canon::Map(fields) = &mut meaning {
        fields.remove("seeds");
        if let Some(Canon::Map(corpus)) = fields.get_mut("corpus") {
            corpus.remove("name");
        }
    }
    meaning
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_what_the_variant_hash_is_taken_of() {
        let experiment: Experiment = serde_json::from_value(serde_json::json!({
            "version": 1, "name": "toy", "question": "?", "seeds": [1, 2], "strategy": "scratch",
            "corpus": { "name": "toy", "finetune": ["train"], "validate": ["dev"], "test": ["test"] },
        }))
        .unwrap();
        assert_eq!(setting(experiment.meaning()), experiment.setting());
    }
}
