//! What the runs of an experiment say about the quantities of its claims, and why a number supports nothing.

use std::collections::BTreeMap;

use reprise_spec::claims::{Axis, Comparison, Errors, Quantity, Term, What};
use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::experiment::{Experiment, Setting, Variant};
use reprise_spec::identity::VariantHash;
use reprise_spec::layers::{DEEP_ENOUGH, Reached};
use serde::Serialize;

use super::span::Span;
use crate::cohort::Cohort;
use crate::measures::{self, Measure, Measures};
use crate::results::{Cost, Results};
use crate::store::{RunRecord, Store};

mod address;

/// Why numbers support nothing, each reason once.
#[derive(Debug, Default)]
pub struct Doubts(Vec<String>);

/// What one run says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub measures: Measures,
    /// What pretraining took up to a point, by its cumulative steps; 0 for a model that was never pretrained.
    pub costs: BTreeMap<u64, Cost>,
}

/// The runs of an experiment, by variant and seed.
#[derive(Debug)]
pub struct Evidence<'a> {
    experiment: &'a Experiment,
    runs: BTreeMap<VariantHash, BTreeMap<u64, Told>>,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Side {
    /// As text of the language.
    pub text: String,
    /// Over the seeds that have a number.
    pub mean: Option<Span>,
    pub by_seed: BTreeMap<u64, Span>,
}

/// When a run reached an error rate: after the last comparable point that missed it, and at the latest at the first that hit it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reaching {
    /// Empty where the experiment has one alone.
    pub variant: String,
    pub seed: u64,
    pub level: f64,
    pub steps: Span,
    /// Absent where what pretraining took is no longer stored.
    pub audio_seconds: Option<Span>,
    pub device_seconds: Option<Span>,
}

/// A run, and what it is called.
#[derive(Clone, Copy)]
struct Run<'a> {
    variant: &'a Variant,
    seed: u64,
    told: &'a Told,
}

impl Doubts {
    pub fn add(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        if !self.0.contains(&sentence) {
            self.0.push(sentence);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_sentences(self) -> Vec<String> {
        self.0
    }
}

impl<'a> Evidence<'a> {
    /// What the stored runs of an experiment say.
    pub fn of(experiment: &'a Experiment, cohort: &Cohort, store: &Store) -> Self {
        let told = |run: &RunRecord| {
            let judgements = Results::of(run, store).judgements;
            let costs = judgements
                .iter()
                .map(|judgement| (judgement.point.map_or(0, |point| point.cumulative), judgement.cost));
            Told { measures: measures::of(run, store), costs: costs.collect() }
        };
        let groups = cohort
            .groups
            .iter()
            .map(|group| (group.variant, group.runs.iter().map(|(seed, run)| (*seed, told(run))).collect()));
        Self::told(experiment, groups.collect())
    }

    /// What these runs say.
    pub fn told(experiment: &'a Experiment, runs: BTreeMap<VariantHash, BTreeMap<u64, Told>>) -> Self {
        Self { experiment, runs }
    }

    /// A term of every declared seed that has all of its numbers.
    pub fn side(&self, term: &Term, doubts: &mut Doubts) -> Side {
        let seeds = self.experiment.seeds.iter();
        let by_seed: BTreeMap<u64, Span> =
            seeds.filter_map(|&seed| Some((seed, self.value(term, seed, doubts)?))).collect();
        let sum = by_seed.values().fold(Span::exactly(0.0), |sum, span| sum.plus(*span));
        let mean = (!by_seed.is_empty()).then(|| sum.times(Span::exactly(1.0 / by_seed.len() as f64)));
        Side { text: term.to_string(), mean, by_seed }
    }

    /// When every error rate of a comparison that is to be reached was, in each seed.
    pub fn reached(&self, comparison: &Comparison, doubts: &mut Doubts) -> Vec<Reaching> {
        let mut found = Vec::new();
        for quantity in comparison.sides().into_iter().flat_map(|side| side.quantities(false)) {
            let What::Reach { of, level, .. } = &quantity.what else { continue };
            let Some(level) = self.level(level, doubts) else { continue };
            for &seed in &self.experiment.seeds {
                let Some(run) = self.run(quantity, seed, doubts) else { continue };
                let Some(reached) = run.reached(of, level, doubts) else { continue };
                let along = |axis| run.along(reached, axis, &mut Doubts::default());
                found.extend(along(Axis::Steps).map(|steps| Reaching {
                    variant: run.variant.name.clone(),
                    seed,
                    level,
                    steps,
                    audio_seconds: along(Axis::AudioSeconds),
                    device_seconds: along(Axis::DeviceSeconds),
                }));
            }
        }
        found
    }

    fn value(&self, term: &Term, seed: u64, doubts: &mut Doubts) -> Option<Span> {
        // Both sides are always looked at, so that all doubts are told.
        let mut both = |one: &Term, other: &Term| {
            let (one, other) = (self.value(one, seed, doubts), self.value(other, seed, doubts));
            one.zip(other)
        };
        match term {
            Term::Number(value) => Some(Span::exactly(*value)),
            Term::Quantity(quantity) => self.quantity(quantity, seed, doubts),
            Term::Mean(_) => self.level(term, doubts).map(Span::exactly),
            Term::Negative(term) => self.value(term, seed, doubts).map(Span::negative),
            Term::Plus(one, other) => both(one, other).map(|(one, other)| one.plus(other)),
            Term::Minus(one, other) => both(one, other).map(|(one, other)| one.minus(other)),
            Term::Times(one, other) => both(one, other).map(|(one, other)| one.times(other)),
            Term::Over(one, other) => {
                let (dividend, divisor) = both(one, other)?;
                let quotient = dividend.over(divisor);
                if quotient.is_none() {
                    doubts.add(format!("`{other}` of seed {seed} may be zero, and something is divided by it"));
                }
                quotient
            }
        }
    }

    /// The one number of a level: of what is measured, means over all declared seeds.
    fn level(&self, term: &Term, doubts: &mut Doubts) -> Option<f64> {
        match term {
            Term::Mean(inner) => {
                let Side { mean, by_seed, .. } = self.side(inner, doubts);
                mean.filter(|_| by_seed.len() == self.experiment.seeds.len()).and_then(Span::known)
            }
            Term::Number(value) => Some(*value),
            Term::Negative(term) => self.level(term, doubts).map(|value| -value),
            Term::Plus(one, other) => Some(self.level(one, doubts)? + self.level(other, doubts)?),
            Term::Minus(one, other) => Some(self.level(one, doubts)? - self.level(other, doubts)?),
            Term::Times(one, other) => Some(self.level(one, doubts)? * self.level(other, doubts)?),
            Term::Over(one, other) => {
                let quotient = self.level(one, doubts)? / self.level(other, doubts)?;
                if !quotient.is_finite() {
                    doubts.add(format!("the level `{term}` is not a finite number"));
                }
                quotient.is_finite().then_some(quotient)
            }
            // Reading a statement refuses a quantity outside of a mean.
            Term::Quantity(_) => None,
        }
    }

    fn quantity(&self, quantity: &Quantity, seed: u64, doubts: &mut Doubts) -> Option<Span> {
        if let What::Total(Axis::Steps) = quantity.what {
            let variant = self.experiment.variant(quantity.of.as_deref())?;
            return Some(Span::exactly(address::total(&variant.setting) as f64));
        }
        let run = self.run(quantity, seed, doubts)?;
        match &quantity.what {
            What::Total(axis) => run.spent(address::total(&run.variant.setting), *axis, doubts).map(Span::exactly),
            What::Reach { axis, of, level } => {
                let level = self.level(level, doubts)?;
                run.along(run.reached(of, level, doubts)?, *axis, doubts)
            }
            what => run.measured(what, doubts).map(Span::exactly),
        }
    }

    fn run(&self, quantity: &Quantity, seed: u64, doubts: &mut Doubts) -> Option<Run<'_>> {
        let variant = self.experiment.variant(quantity.of.as_deref());
        let Some(variant) = variant else {
            doubts.add(format!("the experiment has no variant that `{quantity}` could be of"));
            return None;
        };
        let told = self.runs.get(&variant.setting.hash()).and_then(|runs| runs.get(&seed));
        if told.is_none() {
            doubts.add(format!("{} has no finished run", called(variant, seed)));
        }
        Some(Run { variant, seed, told: told? })
    }
}

/// A run in a sentence.
fn called(variant: &Variant, seed: u64) -> String {
    let of = if variant.name.is_empty() { String::new() } else { format!(" of {}", variant.name) };
    format!("seed {seed}{of}")
}

impl Run<'_> {
    fn setting(&self) -> &Setting {
        &self.variant.setting
    }

    fn called(&self) -> String {
        called(self.variant, self.seed)
    }

    /// The number of a single measurement, with what speaks against using it.
    fn measured(&self, what: &What, doubts: &mut Doubts) -> Option<f64> {
        let layers = self.setting().model.encoder.layers.get() as usize;
        if what.looks_at_layers() && layers < DEEP_ENOUGH {
            doubts.add(format!("{layers} layers are too shallow to show what top layers do"));
        }
        let address = address::of(what, self.setting())?;
        let Some(measure) = self.told.measures.get(&address) else {
            doubts.add(format!("{} has no number `{address}`", self.called()));
            return None;
        };
        let of = self.called();
        if let Some(reason) = &measure.refused {
            doubts.add(format!("`{address}` of {of} supports nothing: {reason}"));
        }
        if !measure.compares() {
            doubts.add(format!("`{address}` of {of} is of a model in mid-schedule"));
        }
        let iteration = address::iteration(what).or(measure.point.map(|point| point.iteration));
        if let Some(untrained) = self.untrained(measure.point, iteration) {
            doubts.add(format!(
                "{of} was not trained: in `{untrained}` masked accuracy doesn't beat the most frequent unit"
            ));
        }
        if !measure.value.is_finite() {
            doubts.add(format!("`{address}` of {of} is not a finite number"));
            return None;
        }
        Some(measure.value)
    }

    /// A stage that trained nothing, among those that led to a model at this point or of this iteration; among all where neither is known.
    fn untrained(&self, point: Option<Point>, iteration: Option<usize>) -> Option<&str> {
        let untrained =
            self.told.measures.iter().filter(|(address, measure)| address.metric == "trained" && measure.value == 0.0);
        let led = |measure: &Measure| match measure.point {
            Some(own) if own.ends_iteration && own.rate != Rate::CooledDown => {
                iteration.is_none_or(|iteration| own.iteration <= iteration)
            }
            Some(own) => point.is_some_and(|point| point.cumulative == own.cumulative),
            None => true,
        };
        let mut stages = untrained.filter(|(_, measure)| led(measure));
        stages.next().map(|(address, _)| address.stage.as_str())
    }

    /// When an error rate was reached, by the points whose models compare and were trained.
    fn reached(&self, of: &Errors, level: f64, doubts: &mut Doubts) -> Option<Reached> {
        let mut rates = Vec::new();
        for (cumulative, address) in address::on_the_way(of, self.setting()) {
            let Some(measure) = self.told.measures.get(&address) else {
                doubts.add(format!("{} has no number `{address}`", self.called()));
                continue;
            };
            let iteration = measure.point.map(|point| point.iteration);
            if measure.compares() && self.untrained(measure.point, iteration).is_none() {
                rates.push((cumulative, measure.value));
            }
        }
        let reached = Reached::of(&rates, level);
        if reached.is_none() {
            let why = if rates.is_empty() { "no model on the way compares" } else { "not all are numbers" };
            doubts.add(format!("of the error rates of {} {why}", self.called()));
        }
        reached
    }

    /// When something was reached, in the unit of an axis.
    fn along(&self, reached: Reached, axis: Axis, doubts: &mut Doubts) -> Option<Span> {
        match reached {
            Reached::Within { last_miss, first_hit } => {
                let low = self.spent(last_miss, axis, doubts)?;
                Some(Span { low, high: self.spent(first_hit, axis, doubts)? })
            }
            Reached::Censored { last_miss } => {
                Some(Span { low: self.spent(last_miss, axis, doubts)?, high: f64::INFINITY })
            }
        }
    }

    /// What pretraining took up to so many cumulative steps.
    fn spent(&self, cumulative: u64, axis: Axis, doubts: &mut Doubts) -> Option<f64> {
        let cost = match (axis, cumulative) {
            (Axis::Steps, _) => return Some(cumulative as f64),
            (_, 0) => return Some(0.0),
            _ => self.told.costs.get(&cumulative),
        };
        if cost.is_none() {
            doubts.add(format!("what {} took up to {cumulative} steps isn't stored", self.called()));
        }
        cost.map(|cost| if axis == Axis::AudioSeconds { cost.audio_seconds } else { cost.device_seconds })
    }
}
