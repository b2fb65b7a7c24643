//! The verdict: how sure it is that a rerun gave the same.
//!
//! In order, the first that holds:
//! 1. *bitwise*: every output has the same digest.
//! 2. *within tolerance*: every score lies within its margin ([`Margin`]) of the original's.
//! 3. With one rerun, *within the prediction interval*: every score beyond its margin lies where one new run of the setting would with
//!    probability [`CONFIDENCE`], by Student's t from the original's seeds, of which it needs two. With reruns of several seeds,
//!    *statistically equivalent*: for every score two one-sided t tests show the mean of the paired differences within the margin at
//!    level 1 − [`CONFIDENCE`] each; asking it of all scores needs no correction, because all must pass.
//! 4. *different*: a count differs; or one score lies outside its prediction interval; or the mean difference of one lies beyond its margin
//!    by its interval. Both intervals are widened for the number of scores that are looked at (Bonferroni), so that the chance of one false
//!    alarm stays below 1 − [`CONFIDENCE`].
//! 5. *undecided*.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::margin::Margin;
use super::{Comparison, StageComparison};
use crate::statistics::{interval_of_mean, prediction_interval};

/// The confidence of every verdict that is not about equal bits or fixed margins.
pub const CONFIDENCE: f64 = 0.95;

/// How sure it is that a rerun gave the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    Bitwise,
    WithinTolerance,
    WithinPredictionInterval,
    StatisticallyEquivalent,
    Different,
    Undecided,
}

impl Grade {
    /// Whether the answer is yes.
    pub fn holds(self) -> bool {
        !matches!(self, Self::Different | Self::Undecided)
    }
}

impl std::fmt::Display for Grade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bitwise => "bitwise",
            Self::WithinTolerance => "within tolerance",
            Self::WithinPredictionInterval => "within the prediction interval",
            Self::StatisticallyEquivalent => "statistically equivalent",
            Self::Different => "different",
            Self::Undecided => "undecided",
        })
    }
}

/// A grade, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    pub grade: Grade,
    /// One sentence for people.
    pub because: String,
    /// Every score of a stage whose outputs differ, in the order of the plan.
    pub scores: Vec<Judged>,
}

/// One score, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judged {
    pub stage: String,
    pub metric: String,
    /// Of several seeds their means.
    pub original: f64,
    /// Absent where a rerun didn't give it.
    pub again: Option<f64>,
    /// The greatest difference that counts as the same.
    pub margin: f64,
    /// Whether every rerun is within the margin of its original.
    pub within: bool,
    /// Of one rerun: where one new run is expected. Of several: where the mean of the paired differences lies, for equivalence. Absent where
    /// the margin was enough, or seeds are too few.
    pub interval: Option<(f64, f64)>,
    /// What the interval says.
    pub says: Option<Says>,
}

/// What an interval says of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    Same,
    Different,
    Nothing,
}

/// Scores by names of stage and metric.
pub type Scores = BTreeMap<(String, String), f64>;

/// Judges one rerun; `seeds` are the scores of finished runs of the setting, one a seed, the original's among them.
pub fn one(comparison: &Comparison, seeds: &[Scores]) -> Verdict {
    let verdict = judge(std::slice::from_ref(comparison));
    if verdict.grade != Grade::Undecided || has_unknown(std::slice::from_ref(comparison)) {
        return verdict;
    }
    let mut scores = verdict.scores;
    let beyond = scores.iter().filter(|score| !score.within).count();
    let probability = 1.0 - (1.0 - CONFIDENCE) / scores.len().max(1) as f64;
    for score in scores.iter_mut().filter(|score| !score.within) {
        let name = (score.stage.clone(), score.metric.clone());
        let values: Vec<f64> = seeds.iter().filter_map(|scores| scores.get(&name).copied()).collect();
        score.interval = prediction_interval(&values, probability);
        score.says = score.interval.zip(score.again).map(|((low, high), again)| match (low..=high).contains(&again) {
            true => Says::Same,
            false => Says::Different,
        });
    }
    let says = |wanted| scores.iter().filter(|score| !score.within && score.says == wanted).count();
    let (grade, because) = match (says(Some(Says::Different)), says(None)) {
        (0, 0) => {
            let seeds = seeds.len();
            let because =
                format!("{beyond} scores are beyond their margins, and where a new run is expected from {seeds} seeds");
            (Grade::WithinPredictionInterval, because)
        }
        (0, _) => {
            let because = format!(
                "{beyond} scores are beyond their margins, and the store has {} of the 2 seeds or more that would say how far runs \
                 of this setting lie apart",
                seeds.len()
            );
            (Grade::Undecided, because)
        }
        (different, _) => {
            (Grade::Different, format!("{different} scores are where a new run of this setting is not expected"))
        }
    };
    Verdict { grade, because, scores }
}

/// Judges reruns of several seeds.
pub fn several(comparisons: &[Comparison]) -> Verdict {
    let verdict = judge(comparisons);
    if verdict.grade != Grade::Undecided || has_unknown(comparisons) {
        return verdict;
    }
    let mut scores = verdict.scores;
    let tested = scores.len().max(1) as f64;
    for score in &mut scores {
        let differences = differences(comparisons, &score.stage, &score.metric);
        if differences.len() < comparisons.len() {
            continue;
        }
        // Two one-sided tests at level α are the interval of confidence 1 − 2α within the margin.
        let equivalence = interval_of_mean(&differences, 2.0 * CONFIDENCE - 1.0);
        let difference = interval_of_mean(&differences, 1.0 - (1.0 - CONFIDENCE) / tested);
        let margin = score.margin;
        score.interval = equivalence;
        score.says = equivalence.zip(difference).map(|((low, high), (least, most))| match () {
            () if -margin <= low && high <= margin => Says::Same,
            () if least > margin || most < -margin => Says::Different,
            () => Says::Nothing,
        });
    }
    let says = |wanted| scores.iter().filter(|score| score.says == Some(wanted)).count();
    let (all, seeds) = (scores.len(), comparisons.len());
    let (grade, because) = match (says(Says::Same), says(Says::Different)) {
        (same, _) if same == all => (
            Grade::StatisticallyEquivalent,
            format!("the mean difference of every score over {seeds} seeds is within its margin"),
        ),
        (_, 0) => {
            let least = scores.iter().filter(|score| score.says != Some(Says::Same)).count();
            (
                Grade::Undecided,
                format!(
                    "{seeds} seeds don't show for {least} of {all} scores that the means are equal, nor that they differ"
                ),
            )
        }
        (_, different) => {
            (Grade::Different, format!("the mean of {different} of {all} scores differs by more than its margin"))
        }
    };
    Verdict { grade, because, scores }
}

/// What digests and margins alone can tell; undecided where they can't.
fn judge(comparisons: &[Comparison]) -> Verdict {
    let stages: usize = comparisons.iter().map(|comparison| comparison.stages.len()).sum();
    let scores = judged(comparisons);
    let verdict = |grade, because: String| Verdict { grade, because, scores: scores.clone() };
    if comparisons.iter().all(|comparison| comparison.first_difference().is_none()) {
        return verdict(Grade::Bitwise, format!("all {stages} stages gave the same output to the bit"));
    }
    if has_unknown(comparisons) {
        let because =
            "outputs differ, and of some the original is no longer stored, so nothing can be said of their scores";
        return verdict(Grade::Undecided, because.into());
    }
    let beyond: Vec<&Judged> = scores.iter().filter(|score| !score.within).collect();
    match beyond.iter().find(|score| score.margin == 0.0 && Margin::of(&score.metric) == Some(Margin::Exact)) {
        Some(count) => verdict(Grade::Different, format!("{} of {} is another count", count.metric, count.stage)),
        None if beyond.is_empty() => verdict(
            Grade::WithinTolerance,
            format!("outputs differ, and all {} scores are within their margins", scores.len()),
        ),
        None => verdict(Grade::Undecided, String::new()),
    }
}

fn has_unknown(comparisons: &[Comparison]) -> bool {
    let unknown = |difference: &super::Difference| difference.origin == super::Origin::Unknown;
    let mut stages = comparisons.iter().flat_map(|comparison| &comparison.stages);
    stages.any(|stage| stage.difference.as_ref().is_some_and(unknown))
}

/// The scores of every stage whose outputs differ in some comparison, against their margins.
fn judged(comparisons: &[Comparison]) -> Vec<Judged> {
    let Some(first) = comparisons.first() else { return Vec::new() };
    let count = comparisons.len() as f64;
    let mut judged = Vec::new();
    for stage in &first.stages {
        // By name: stages that seeds share stand elsewhere in the plans of later seeds.
        let same: Vec<_> = named(comparisons, &stage.name).collect();
        if same.iter().all(|stage| stage.difference.is_none()) {
            continue;
        }
        for pair in &stage.scores {
            let Some(margin) = Margin::of(&pair.metric) else { continue };
            let pairs: Vec<_> = same.iter().filter_map(|s| s.scores.iter().find(|p| p.metric == pair.metric)).collect();
            let original = pairs.iter().map(|pair| pair.original).sum::<f64>() / count;
            let again = pairs.iter().map(|pair| pair.again).sum::<Option<f64>>().map(|sum| sum / count);
            let allows =
                |pair: &&&super::ScorePair| pair.again.is_some_and(|again| margin.allows(pair.original, again));
            let within = pairs.iter().filter(allows).count() == comparisons.len();
            let (stage, metric, margin) = (stage.name.clone(), pair.metric.clone(), margin.around(original));
            judged.push(Judged { stage, metric, original, again, margin, within, interval: None, says: None });
        }
    }
    judged
}

/// The stages of this name, one a seed.
fn named<'a>(comparisons: &'a [Comparison], name: &'a str) -> impl Iterator<Item = &'a StageComparison> {
    comparisons.iter().flat_map(|comparison| &comparison.stages).filter(move |stage| stage.name == name)
}

/// Rerun less original, one a seed.
fn differences(comparisons: &[Comparison], stage: &str, metric: &str) -> Vec<f64> {
    let pairs = named(comparisons, stage).flat_map(|stage| &stage.scores).filter(|pair| pair.metric == metric);
    pairs.filter_map(|pair| Some(pair.again? - pair.original)).collect()
}
