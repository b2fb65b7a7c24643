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
    },
    /// What runs of one setting share, whatever their seeds.
    Variant {
        hash: VariantHash,
        setting: Canon,
    },
    Run {
        record: Box<RunRecord>,
        setting: Canon,
    },
    Stage(StageKey),
}

impl From<&Experiment> for Subject {
    fn from(experiment: &Experiment) -> Self {
        Self::Experiment { hash: experiment.spec_hash(), meaning: flat(experiment.meaning()) }
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
        if word.is_empty() && !start.is_empty() {
            let ids = store.run_ids()?.into_iter().filter(|id| id.starts_with(start));
            found.extend(ids.map(|id| (format!("run {id}"), Candidate::Run(id))));
        }
        // Nobody has to read every run for a name that is no hash.
        let read = if hash("variant") || hash("spec") { store.runs()? } else { Vec::new() };
        for record in read.into_iter().filter_map(|run| run.record.ok()) {
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

    /// All that the experiment means; only of experiments.
    pub fn meaning(&self) -> Option<&Canon> {
        match self {
            Self::Experiment { meaning, .. } => Some(meaning),
            Self::Run { .. } | Self::Variant { .. } | Self::Stage(_) => None,
        }
    }

    /// What one run executes; of experiments only where they have one variant, and not of stages.
    pub fn setting(&self) -> Option<Canon> {
        match self {
            Self::Experiment { meaning, .. } => alone(meaning),
            Self::Variant { setting, .. } | Self::Run { setting, .. } => Some(setting.clone()),
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
                Ok(Subject::Variant { hash: record.variant, setting: setting(&record, store)? })
            }
            Candidate::Experiment(record) => {
                Ok(Subject::Experiment { hash: record.spec, meaning: flat(meaning(&record, store)?) })
            }
            Candidate::Run(id) => {
                let damaged = |reason| ExplainError::Unknown { what: format!("run {id}"), reason };
                let record = Box::new(store.run(&id)?.record.map_err(damaged)?);
                Ok(Subject::Run { setting: setting(&record, store)?, record })
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

/// A meaning whose only variant's fields stand beside its seeds; one with several variants as it is.
fn flat(mut meaning: Canon) -> Canon {
    if let Canon::Map(fields) = &mut meaning
        && let Some(Canon::List(variants)) = fields.get_mut("variants")
        && let [Canon::Map(variant)] = variants.as_mut_slice()
    {
        let variant = std::mem::take(variant);
        fields.remove("variants");
        fields.extend(variant);
    }
    meaning
}

/// The setting of the only variant of a flat meaning.
fn alone(flat: &Canon) -> Option<Canon> {
    let mut setting = flat.clone();
    let Canon::Map(fields) = &mut setting else { return None };
    for of_the_whole in ["seeds", "claims"] {
        fields.remove(of_the_whole);
    }
    (!fields.contains_key("variants")).then(|| without_name(setting))
}

/// A variant without the name of its corpus, which is the experiment's.
fn without_name(mut variant: Canon) -> Canon {
    if let Canon::Map(fields) = &mut variant
        && let Some(Canon::Map(corpus)) = fields.get_mut("corpus")
    {
        corpus.remove("name");
    }
    variant
}

/// The tree that a run's `variant` is the hash of.
fn setting(record: &RunRecord, store: &Store) -> Result<Canon, ExplainError> {
    let reason = || "its experiment doesn't have its variant".to_owned();
    let unknown = || ExplainError::Unknown { what: format!("run {}", record.id), reason: reason() };
    let Canon::Map(mut fields) = meaning(record, store)? else { return Err(unknown()) };
    let Some(Canon::List(variants)) = fields.remove("variants") else { return Err(unknown()) };
    let own = |setting: &Canon| VariantHash::of(setting) == record.variant;
    variants.into_iter().map(without_name).find(own).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_what_the_variant_hash_is_taken_of() {
        let written: reprise_spec::experiment::Written = serde_json::from_value(serde_json::json!({
            "version": 1, "name": "toy", "question": "?", "seeds": [1, 2], "strategy": "scratch",
            "corpus": { "name": "toy", "finetune": ["train"], "validate": ["dev"], "test": ["test"] },
        }))
        .unwrap();
        let experiment = Experiment::from(written);
        assert_eq!(Subject::from(&experiment).setting().unwrap(), experiment.variants[0].setting.meaning());
    }
}
