//! One side of a comparison: what it is, and the runs that the store has of it.

use std::collections::BTreeMap;

use reprise_spec::experiment::{Experiment, Variant};
use reprise_spec::identity::VariantHash;

use super::{Head, Sides};
use crate::cohort::{Cohort, Group};
use crate::explain::ExplainError;
use crate::explain::subject::Subject;
use crate::rerun;
use crate::store::{RunRecord, Seen, Store, StoreError, Summary};

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// As it was named.
    pub given: String,
    pub subject: Subject,
    /// By seed; one alone for a run.
    pub runs: BTreeMap<u64, RunRecord>,
    /// What a reader should know of the runs that are not among them.
    pub notes: Vec<String>,
}

impl Side {
    /// An experiment; with the runs of its setting where it has one alone.
    ///
    /// # Errors
    /// When the store can't be listed.
    pub fn of_experiment(given: &str, experiment: &Experiment, store: &Store) -> Result<Self, StoreError> {
        let subject = Subject::from(experiment);
        match experiment.variants.as_slice() {
            [alone] => Ok(Self { subject, ..Self::of_variant(given, experiment, alone, store)? }),
            several => {
                let names: Vec<&str> = several.iter().map(|variant| variant.name.as_str()).collect();
                let note = format!("settings alone: of its runs compare one variant, as {given}@{}", names[0]);
                let notes = vec![note];
                Ok(Self { given: given.into(), subject, runs: BTreeMap::new(), notes })
            }
        }
    }

    /// A variant of an experiment, with the newest comparable run of each of its seeds.
    ///
    /// # Errors
    /// When the store can't be listed.
    pub fn of_variant(
        given: &str,
        experiment: &Experiment,
        variant: &Variant,
        store: &Store,
    ) -> Result<Self, StoreError> {
        let subject = Subject::Variant { hash: variant.setting.hash(), setting: variant.setting.meaning() };
        let cohort = Cohort::of(experiment, store)?;
        let Group { runs, missing, .. } = cohort.group(&variant.name).cloned().unwrap_or_else(|| nothing(variant));
        let missing: Vec<String> = missing.iter().map(u64::to_string).collect();
        let mut notes = Vec::new();
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "seed" } else { "seeds" };
            notes.push(format!("no finished run of {plural} {}", missing.join(", ")));
        }
        notes.extend(cohort.left_out.iter().map(|left| format!("run {} is left out: {}", left.run, left.because)));
        Ok(Self { given: given.into(), subject, runs, notes })
    }

    /// What a store knows by this name: a run, or the newest finished runs of a setting.
    ///
    /// # Errors
    /// When nothing or several things are called so, and for a stage.
    pub fn named(given: &str, store: &Store) -> Result<Self, ExplainError> {
        let subject = Subject::named(given, store)?;
        let mut notes = Vec::new();
        let runs = match &subject {
            Subject::Run { record, .. } => {
                if record.seen() != Seen::Finished {
                    notes.push("not finished: stages without an output are not compared".to_owned());
                }
                BTreeMap::from([(record.seed, (**record).clone())])
            }
            Subject::Variant { hash, .. } => of_setting(hash, store)?,
            Subject::Experiment { .. } => match subject.setting() {
                Some(setting) => of_setting(&VariantHash::of(&setting), store)?,
                None => {
                    notes.push("settings alone: it has several variants".to_owned());
                    BTreeMap::new()
                }
            },
            Subject::Stage(_) => return Err(ExplainError::IsAStage { stage: subject.to_string() }),
        };
        Ok(Self { given: given.into(), subject, runs, notes })
    }

    pub fn head(&self) -> Head {
        let title = match &self.subject {
            Subject::Run { record, .. } => record.title(),
            _ => String::new(),
        };
        let mut notes = self.notes.clone();
        if self.runs.is_empty() && notes.is_empty() {
            notes.push("the store has no finished run of it".into());
        }
        let variant = self.subject.setting().map(|setting| VariantHash::of(&setting));
        Head { given: self.given.clone(), is: self.subject.to_string(), title, variant, notes }
    }

    fn is_run(&self) -> bool {
        matches!(self.subject, Subject::Run { .. })
    }
}

fn nothing(variant: &Variant) -> Group {
    let (name, aliases) = (variant.name.clone(), variant.aliases.clone());
    Group { name, aliases, variant: variant.setting.hash(), runs: BTreeMap::new(), missing: Vec::new() }
}

/// The newest finished run of a setting, and of every other seed the newest that compares with it.
fn of_setting(variant: &VariantHash, store: &Store) -> Result<BTreeMap<u64, RunRecord>, StoreError> {
    let like = |run: &Summary| run.seen == Seen::Finished && run.variant == *variant;
    let Some(newest) = store.records(like)?.next() else { return Ok(BTreeMap::new()) };
    Ok(rerun::siblings(&newest, store)?.into_iter().map(|record| (record.seed, record)).collect())
}

/// The runs that stand side by side: two runs whatever their seeds, else those of the same seed, ascending. None where a side has no run.
///
/// # Errors
/// When both have runs, and none of the same seed.
pub fn paired<'a>(a: &'a Side, b: &'a Side) -> Result<Vec<Sides<&'a RunRecord>>, ExplainError> {
    if a.runs.is_empty() || b.runs.is_empty() {
        return Ok(Vec::new());
    }
    if a.is_run() && b.is_run() {
        return Ok(a.runs.values().zip(b.runs.values()).map(|(a, b)| Sides::new(a, b)).collect());
    }
    let pairs: Vec<_> = a.runs.iter().filter_map(|(seed, run)| Some(Sides::new(run, b.runs.get(seed)?))).collect();
    match pairs.is_empty() {
        false => Ok(pairs),
        true => {
            let seeds = |side: &Side| side.runs.keys().map(u64::to_string).collect::<Vec<_>>().join(", ");
            Err(ExplainError::NoCommonSeed {
                a: a.given.clone(),
                b: b.given.clone(),
                seeds_a: seeds(a),
                seeds_b: seeds(b),
            })
        }
    }
}
