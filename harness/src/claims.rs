//! Claims: what an experiment stated before its runs, and whether they bear it out.
//!
//! Every comparison of a claim comes to one difference a seed, and those to one test ([`weighing`]). A claim is *supported* where all its
//! comparisons are, *contradicted* where one of them is, and *undecided* otherwise. Tests are two-sided at 5 %, because a claim may fail as well
//! as hold; p values are adjusted by Holm over the claims of the experiment, whatever became of the others. A number that supports nothing (of
//! a missing seed, of a model that was not trained or is in mid-schedule, of a network that is too shallow) leaves its comparison undecided,
//! however its test comes out.
//!
//! The experiment's variants have the same declared seeds, and a claim waits for all of them: so runs are always paired by their seeds.

use reprise_spec::claims::{Claim, Comparison, Source};
use reprise_spec::experiment::Experiment;
use serde::Serialize;

use crate::cohort::Cohort;
use crate::statistics::holm;
use crate::store::Store;

pub mod evidence;
pub mod span;
pub mod weighing;

use evidence::{Doubts, Evidence, Reaching, Side};
use weighing::{Difference, Weighed};

/// The level of the tests.
pub const ALPHA: f64 = 0.05;

/// What the runs say of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Supported,
    Contradicted,
    Undecided,
}

/// A claim and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decided {
    /// The name of the claim.
    pub name: String,
    /// In words, as the experiment has it; may be empty.
    pub says: String,
    /// What is compared, as text of the language.
    pub holds: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    pub verdict: Verdict,
    /// What makes the verdict, a sentence each.
    pub because: Vec<String>,
    /// Of the claim among others: the smaller of the p values for and against it.
    pub p: f64,
    /// The same, adjusted by Holm over the claims of the experiment.
    pub adjusted: f64,
    /// At least one.
    pub comparisons: Vec<Compared>,
}

/// A comparison and the numbers behind it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Compared {
    /// As text of the language.
    pub holds: String,
    pub left: Side,
    pub right: Side,
    /// Right less left; absent where no two seeds have both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// Of every error rate that is to be reached, when it was, along each axis.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<Reaching>,
    /// Why its numbers support nothing; none where they may.
    pub doubts: Vec<String>,
    /// Of the hypothesis that the comparison doesn't hold; 1 with doubts.
    pub p_for: f64,
    /// Of the hypothesis that it holds; 1 with doubts.
    pub p_against: f64,
}

/// Decides every claim of an experiment from the runs of a store, in the order of their names.
pub fn decide(experiment: &Experiment, cohort: &Cohort, store: &Store) -> Vec<Decided> {
    if experiment.claims.is_empty() {
        return Vec::new();
    }
    decide_by(experiment, &Evidence::of(experiment, cohort, store))
}

/// Decides every claim of an experiment from what is known of its runs.
pub fn decide_by(experiment: &Experiment, evidence: &Evidence<'_>) -> Vec<Decided> {
    let compared = |claim: &Claim| claim.holds.0.iter().map(|comparison| compare(comparison, evidence)).collect();
    let all: Vec<Vec<Compared>> = experiment.claims.values().map(compared).collect();
    let ps: Vec<(f64, f64)> = all.iter().map(|comparisons| joint(comparisons)).collect();
    let each: Vec<f64> = ps.iter().map(|(for_it, against)| for_it.min(*against)).collect();
    // Every p is a probability, so that none is refused.
    let adjusted = holm(&each).unwrap_or_else(|_| vec![1.0; each.len()]);
    let claims = experiment.claims.iter().zip(all).zip(ps).zip(adjusted);
    claims
        .map(|((((name, claim), comparisons), (p_for, p_against)), adjusted)| {
            let verdict = match adjusted <= ALPHA {
                true if p_for <= p_against => Verdict::Supported,
                true => Verdict::Contradicted,
                false => Verdict::Undecided,
            };
            let p = p_for.min(p_against);
            Decided {
                name: name.to_string(),
                says: claim.says.clone(),
                holds: claim.holds.to_string(),
                source: claim.source.clone(),
                verdict,
                because: because(&comparisons, p, adjusted, experiment.claims.len()),
                p,
                adjusted,
                comparisons,
            }
        })
        .collect()
}

/// The p values for and against comparisons that all shall hold: the first asks that each is shown, the second that any is refuted.
fn joint(comparisons: &[Compared]) -> (f64, f64) {
    let p_for = comparisons.iter().map(|compared| compared.p_for).fold(0.0, f64::max);
    let refuted = comparisons.iter().map(|compared| compared.p_against).fold(1.0, f64::min);
    (p_for, (refuted * comparisons.len() as f64).min(1.0))
}

fn compare(comparison: &Comparison, evidence: &Evidence<'_>) -> Compared {
    let mut doubts = Doubts::default();
    let [left, right] = comparison.sides().map(|term| evidence.side(term, &mut doubts));
    let reached = evidence.reached(comparison, &mut doubts);
    let margin = match comparison {
        Comparison::Below(..) => None,
        Comparison::Near(_, _, margin) => Some(*margin),
    };
    let Weighed { difference, p_for, p_against } = weighing::weigh(&left, &right, margin, &mut doubts);
    let (p_for, p_against) = if doubts.is_empty() { (p_for, p_against) } else { (1.0, 1.0) };
    let (difference, doubts) = (difference.map(Difference::planned), doubts.into_sentences());
    Compared { holds: comparison.to_string(), left, right, difference, reached, doubts, p_for, p_against }
}

/// Doubts first, then what the tests found.
fn because(comparisons: &[Compared], p: f64, adjusted: f64, claims: usize) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for sentence in comparisons.iter().flat_map(|compared| &compared.doubts) {
        if !sentences.contains(sentence) {
            sentences.push(sentence.clone());
        }
    }
    let sound = comparisons.iter().filter(|compared| compared.doubts.is_empty());
    sentences.extend(sound.filter_map(|compared| compared.difference.as_ref()).map(Difference::sentence));
    if p <= ALPHA && adjusted > ALPHA {
        sentences.push(format!("p is {p:.3} alone, and {adjusted:.3} among the experiment's {claims} claims"));
    }
    sentences
}

#[cfg(test)]
mod tests;
