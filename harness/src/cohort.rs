//! The runs that an experiment comes to: of every variant and declared seed the newest finished one, all of them comparable.
//!
//! A variant's hash says nothing about the files of its corpus, nor about versions of stages. Runs that read other files, or whose stages are of other
//! versions, than the newest run of the experiment are left out by name: their numbers don't compare.

use std::collections::BTreeMap;

use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{StageKey, VariantHash};
use serde::Serialize;

use crate::measures::{self, Measures};
use crate::store::{RunId, RunRecord, Seen, Status, Store, StoreError, Summary};

/// The comparable runs of an experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cohort {
    /// In the order of the experiment; a variant that never finished has no runs.
    pub groups: Vec<Group>,
    /// Newest first.
    pub left_out: Vec<LeftOut>,
}

/// The runs of one variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// The variant's name; empty where the experiment has one alone.
    pub name: String,
    /// Other names of the variant.
    pub aliases: Vec<String>,
    pub variant: VariantHash,
    /// By seed.
    pub runs: BTreeMap<u64, RunRecord>,
    /// Declared seeds without a finished run.
    pub missing: Vec<u64>,
}

/// A finished run whose numbers don't compare with those of the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeftOut {
    pub run: RunId,
    pub because: String,
}

impl Cohort {
    /// The runs of a store that this experiment comes to, whichever experiment they were executed for: a run belongs to a setting.
    ///
    /// # Errors
    /// When the store can't be listed.
    pub fn of(experiment: &Experiment, store: &Store) -> Result<Self, StoreError> {
        let mut left_out = Vec::new();
        let mut newest: Option<Shape> = None;
        let mut groups: Vec<Group> = experiment
            .variants
            .iter()
            .map(|variant| Group {
                name: variant.name.clone(),
                aliases: variant.aliases.clone(),
                variant: variant.setting.hash(),
                runs: BTreeMap::new(),
                missing: Vec::new(),
            })
            .collect();
        let variants: Vec<VariantHash> = groups.iter().map(|group| group.variant).collect();
        let like = |run: &Summary| run.seen == Seen::Finished && variants.contains(&run.variant);
        for record in store.records(like)? {
            let Some(group) = groups.iter_mut().find(|group| group.variant == record.variant) else { continue };
            let wanted = record.status == Status::Finished && experiment.seeds.contains(&record.seed);
            if !wanted || group.runs.contains_key(&record.seed) {
                continue;
            }
            let shape = Shape::of(&record);
            match newest.as_mut().map(|known| known.merge(&shape)) {
                None => newest = Some(shape),
                Some(Ok(())) => {}
                Some(Err(because)) => {
                    left_out.push(LeftOut { run: record.id, because });
                    continue;
                }
            }
            group.runs.insert(record.seed, record);
        }
        for group in &mut groups {
            group.missing = experiment.seeds.iter().copied().filter(|seed| !group.runs.contains_key(seed)).collect();
            group.missing.sort_unstable();
        }
        Ok(Self { groups, left_out })
    }

    /// The group of this name, or of which it is an alias.
    pub fn group(&self, name: &str) -> Option<&Group> {
        let called = |group: &&Group| group.name == name || group.aliases.iter().any(|alias| alias == name);
        self.groups.iter().find(called)
    }
}

impl Group {
    /// The numbers of every run by seed.
    pub fn measures(&self, store: &Store) -> BTreeMap<u64, Measures> {
        self.runs.iter().map(|(seed, run)| (*seed, measures::of(run, store))).collect()
    }
}

/// What runs must share to compare: versions of stages, and the files of corpora.
#[derive(Clone, Debug, Default)]
struct Shape {
    /// By kind.
    versions: BTreeMap<String, String>,
    /// By name of the `corpus` stage.
    corpora: BTreeMap<String, StageKey>,
}

impl Shape {
    fn of(run: &RunRecord) -> Self {
        let mut shape = Self::default();
        for stage in &run.stages {
            let (kind, version) = stage.kind.split_once('/').unwrap_or((&stage.kind, ""));
            shape.versions.insert(kind.to_owned(), version.to_owned());
            if kind == "corpus" {
                shape.corpora.insert(stage.name.clone(), stage.key);
            }
        }
        shape
    }

    /// Takes in what `other` adds; why the two don't compare, where they don't.
    fn merge(&mut self, other: &Self) -> Result<(), String> {
        for (kind, version) in &other.versions {
            if let Some(known) = self.versions.get(kind).filter(|known| *known != version) {
                return Err(format!("its `{kind}` stages have version {version}, those of the newest run {known}"));
            }
        }
        for (name, key) in &other.corpora {
            if self.corpora.get(name).is_some_and(|known| known != key) {
                return Err(format!("its `{name}` is of other files than that of the newest run"));
            }
        }
        self.versions.extend(other.versions.clone());
        self.corpora.extend(other.corpora.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(versions: &[(&str, &str)], corpora: &[(&str, u8)]) -> Shape {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        let key = |(name, byte): &(&str, u8)| ((*name).to_owned(), StageKey([*byte; 32]));
        Shape { versions: versions.iter().map(owned).collect(), corpora: corpora.iter().map(key).collect() }
    }

    #[test]
    fn runs_of_other_files_or_versions_do_not_compare() {
        let mut newest = shape(&[("pretrain", "3")], &[("corpus train", 1)]);
        newest.merge(&shape(&[("pretrain", "3"), ("decode", "2")], &[("corpus test", 2)])).unwrap();
        let why = newest.merge(&shape(&[("decode", "1")], &[])).unwrap_err();
        assert_eq!(why, "its `decode` stages have version 1, those of the newest run 2");
        let why = newest.merge(&shape(&[], &[("corpus test", 3)])).unwrap_err();
        assert_eq!(why, "its `corpus test` is of other files than that of the newest run");
    }
}
