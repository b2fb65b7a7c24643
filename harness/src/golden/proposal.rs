//! Changes to goldens that wait for a person: what runs give now, beside what was accepted.
//!
//! A proposal is a file beside the golden file. Accepting a change writes it into the goldens and takes it out of the proposal, in this order, so
//! that who is killed between the two loses nothing and can accept it again.

use std::collections::BTreeMap;

use jiff::civil::Date;
use reprise_spec::identity::SpecHash;
use reprise_spec::values::Name;
use serde::{Deserialize, Serialize};

use super::observed::{ObservedGroup, ObservedRun};
use super::{Address, Entry, Golden, Observed, Pattern, Tolerance, Value, Version, check};
use crate::measures::Direction;
use crate::rerun::margin::Margin;

/// The changes to one golden file that wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Proposal {
    pub version: Version,
    pub experiment: Name,
    /// The experiment that gave the values.
    pub spec: SpecHash,
    /// By name of the variant.
    pub variants: BTreeMap<String, BTreeMap<Address, Change>>,
}

/// What is proposed for one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A new entry, or another one in place of what there is.
    Set(Entry),
    /// No entry any more, and why.
    Remove(String),
}

/// Which metrics are looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Those that a run is judged by: error rates, unit quality, masked accuracy, the summaries of layer-wise analyses; and all that have a
    /// golden.
    Usual,
    /// Those whose address fits one of these patterns.
    Fitting(Vec<Pattern>),
}

/// What was looked at and not proposed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Skipped {
    pub variant: String,
    pub address: Address,
    pub because: String,
}

impl Wanted {
    fn wants(&self, kind: &str, address: &Address, has_golden: bool) -> bool {
        match self {
            Self::Usual => has_golden || is_usual(kind, &address.metric),
            Self::Fitting(patterns) => patterns.iter().any(|pattern| pattern.fits(address)),
        }
    }
}

/// Whether a run is judged by this metric of a stage of this kind.
fn is_usual(kind: &str, metric: &str) -> bool {
    const QUALITY: [&str; 5] = ["pnmi", "pnmi-null", "pnmi-corrected", "phone-purity", "cluster-purity"];
    match kind.split('/').next().unwrap_or_default() {
        "decode" => ["wer", "cer", "ser"].contains(&metric),
        "pretrain" => metric == "masked-accuracy",
        "probe" => {
            let summary = ["-best", "-top-drop", "-area"].iter().any(|end| metric.ends_with(end));
            QUALITY.contains(&metric) || summary
        }
        _ => false,
    }
}

impl Proposal {
    /// No changes.
    pub fn new(experiment: Name, spec: SpecHash) -> Self {
        Self { version: Version, experiment, spec, variants: BTreeMap::new() }
    }

    /// What runs give now where that isn't what was accepted, and what can't be proposed. Entries that pass stay as they are: a value that
    /// moves within its tolerance doesn't move its golden.
    pub fn of(
        golden: Option<&Golden>,
        observed: &Observed,
        wanted: &Wanted,
        tolerance: Option<Tolerance>,
        today: Date,
    ) -> (Self, Vec<Skipped>) {
        let mut proposal = Self::new(observed.experiment.clone(), observed.spec);
        let mut skipped = Vec::new();
        let passes = golden.map(|golden| check(golden, observed));
        for group in &observed.groups {
            let name = golden.map_or(group.name.as_str(), |golden| known_name(golden, group));
            for address in addresses(group) {
                let before = golden.and_then(|golden| golden.entry(name, &address));
                if !wanted.wants(kind_of(group, &address), &address, before.is_some()) {
                    continue;
                }
                let skip = |because| Skipped { variant: name.to_owned(), address: address.clone(), because };
                let entry = match entry(group, &observed.seeds, &address, before, tolerance, today) {
                    Ok(entry) => entry,
                    Err(because) => {
                        skipped.push(skip(because));
                        continue;
                    }
                };
                let passed = passes.as_ref().is_some_and(|checked| {
                    let own = |row: &&super::Row| row.variant == name && row.address == address;
                    checked.rows.iter().filter(own).all(|row| row.outcome.passed())
                });
                let keeps =
                    |before: &Entry| passed && before.seeds().eq(entry.seeds()) && before.tolerance == entry.tolerance;
                if !before.is_some_and(keeps) {
                    proposal.put(name, address, Change::Set(entry));
                }
            }
        }
        for (variant, address, _) in golden.iter().flat_map(|golden| golden.entries()) {
            if wanted.wants("", address, true)
                && let Some(because) = obsolete(observed, variant, address)
            {
                proposal.put(variant, address.clone(), Change::Remove(because));
            }
        }
        (proposal, skipped)
    }

    /// Every change with the name of its variant, in order.
    pub fn changes(&self) -> impl Iterator<Item = (&str, &Address, &Change)> {
        self.variants.iter().flat_map(|(variant, changes)| {
            changes.iter().map(move |(address, change)| (variant.as_str(), address, change))
        })
    }

    /// The change of one metric.
    pub fn change(&self, variant: &str, address: &Address) -> Option<&Change> {
        self.variants.get(variant)?.get(address)
    }

    /// Takes the changes of another proposal in; of its own keeps those that weren't looked at again.
    pub fn renewed(&self, newer: Self, wanted: &Wanted) -> Self {
        let mut renewed = newer;
        for (variant, address, change) in self.changes() {
            let looked_at = match wanted {
                Wanted::Usual => true,
                Wanted::Fitting(patterns) => patterns.iter().any(|pattern| pattern.fits(address)),
            };
            if !looked_at {
                renewed.put(variant, address.clone(), change.clone());
            }
        }
        renewed
    }

    /// Takes a change out: it was made, or rejected.
    pub fn withdraw(&mut self, variant: &str, address: &Address) {
        withdraw(&mut self.variants, variant, address);
    }

    /// The goldens with one change made; the first ones where there were none.
    pub fn accepted(&self, golden: Option<Golden>, variant: &str, address: &Address, today: Date) -> Golden {
        let mut golden = golden.unwrap_or_else(|| Golden::new(self.experiment.clone(), self.spec));
        golden.spec = self.spec;
        match self.change(variant, address) {
            Some(Change::Set(entry)) => {
                let entries = golden.variants.entry(variant.to_owned()).or_default();
                entries.insert(address.clone(), Entry { accepted: today, ..entry.clone() });
            }
            Some(Change::Remove(_)) => withdraw(&mut golden.variants, variant, address),
            None => {}
        }
        golden
    }

    fn put(&mut self, variant: &str, address: Address, change: Change) {
        self.variants.entry(variant.to_owned()).or_default().insert(address, change);
    }
}

/// Takes what a variant has for one metric out, and the variant with its last.
fn withdraw<T>(variants: &mut BTreeMap<String, BTreeMap<Address, T>>, variant: &str, address: &Address) {
    if let Some(entries) = variants.get_mut(variant) {
        entries.remove(address);
        if entries.is_empty() {
            variants.remove(variant);
        }
    }
}

/// What a golden file calls a group: by an alias, where its entries are under one.
fn known_name<'a>(golden: &Golden, group: &'a ObservedGroup) -> &'a str {
    let names = std::iter::once(&group.name).chain(&group.aliases);
    names.into_iter().find(|name| golden.variants.contains_key(*name)).unwrap_or(&group.name)
}

/// The numbers of a group's runs, sorted.
fn addresses(group: &ObservedGroup) -> Vec<Address> {
    let mut all: Vec<Address> = group.runs.values().flat_map(|run| run.measures.keys().cloned()).collect();
    all.sort();
    all.dedup();
    all
}

fn kind_of<'a>(group: &'a ObservedGroup, address: &Address) -> &'a str {
    let stage = group.runs.values().find_map(|run| run.stages.get(&address.stage));
    stage.map_or("", |stage| stage.kind.as_str())
}

/// The entry that the runs of a group come to, with direction, tolerance and note of the one before it; or why there can be none.
fn entry(
    group: &ObservedGroup,
    declared: &[u64],
    address: &Address,
    before: Option<&Entry>,
    tolerance: Option<Tolerance>,
    today: Date,
) -> Result<Entry, String> {
    let without_run = |seed: &u64| declared.contains(seed) && !group.runs.contains_key(seed);
    if let Some(seed) = before.into_iter().flat_map(Entry::seeds).find(without_run) {
        return Err(format!("its golden has seed {seed}, of which there is no finished run"));
    }
    let mut values = Vec::new();
    for (seed, run) in &group.runs {
        let Some(measure) = run.measures.get(address) else {
            return Err(format!("run {} of seed {seed} has no such number", run.id));
        };
        if !measure.value.is_finite() {
            return Err(format!("it is {} in run {} of seed {seed}", measure.value, run.id));
        }
        if let Some(refused) = &measure.refused {
            return Err(format!("it supports nothing in run {} of seed {seed}: {refused}", run.id));
        }
        let made_with = run.stages.get(&address.stage).and_then(|stage| stage.made_with.clone());
        values.push(Value {
            seed: *seed,
            value: measure.value,
            stage: measure.key,
            run: run.id.clone(),
            made_with: made_with.unwrap_or_else(|| "unknown".into()),
        });
    }
    let own = || before.map(|before| before.tolerance);
    let usual = || Margin::of(&address.metric).and_then(Tolerance::of);
    let tolerance =
        tolerance.or_else(own).or_else(usual).ok_or("it has no usual tolerance: say which with --tolerance")?;
    let entry = Entry {
        direction: before.map_or_else(|| Direction::of(&address.metric), |before| before.direction),
        tolerance,
        values,
        accepted: today,
        note: before.map(|before| before.note.clone()).unwrap_or_default(),
        bypass: None,
    };
    match entry.problems().into_iter().next() {
        Some((_, problem)) => Err(problem),
        None => Ok(entry),
    }
}

/// Why an entry has nothing to stand for any more; `None` where a run may still give it.
fn obsolete(observed: &Observed, variant: &str, address: &Address) -> Option<String> {
    let Some(group) = observed.group(variant) else {
        return Some(format!("the experiment has no variant `{variant}`"));
    };
    let without = |run: &ObservedRun| match run.stages.get(&address.stage) {
        // What isn't stored may have given it.
        Some(stage) => stage.made_with.is_some() && !run.measures.contains_key(address),
        None => true,
    };
    (!group.runs.is_empty() && group.runs.values().all(without)).then(|| "no run gives it any more".to_owned())
}
