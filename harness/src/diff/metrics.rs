//! The numbers of two sides, against the tolerances that reruns are judged by.
//!
//! A tolerance is a [`Margin`]; a relative one is taken of the greater of the two values, so that changing sides changes nothing. Over several
//! seeds the means are compared, paired by seed: a number is within its tolerance when two one-sided t tests at 5 % say so (the 90 % interval of
//! the mean difference lies within), beyond it when the 95 % interval lies outside, and undecided otherwise. Nothing is corrected for how many
//! numbers are looked at: a comparison looks for differences, a claim is declared before.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Number, Pair, Sides, Which};
use crate::measures::{self, Address, Direction, Measures};
use crate::rerun::margin::Margin;
use crate::statistics::equivalence::Outcome;
use crate::statistics::{Equivalence, MeanDifference, Untestable};
use crate::store::Store;

/// The probability of calling a number within its tolerance that isn't, and of calling one beyond it that isn't.
const ALPHA: f64 = 0.05;

/// The probability with which a difference that is called detectable would be found.
const POWER: f64 = 0.8;

/// One number of two sides; over several seeds the means.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetricPair {
    pub address: Address,
    /// Absent where no run of the side has it.
    pub values: Sides<Option<Number>>,
    /// Pairs of runs that both have it.
    pub runs: usize,
    /// The second side less the first.
    pub difference: Option<Number>,
    /// Where the mean of the paired differences lies, with a confidence of 95 %; where seeds vary.
    pub interval: Option<(Number, Number)>,
    /// The smallest difference that so many seeds would have found, in four of five experiments.
    pub detectable: Option<Number>,
    /// Of an undecided number: seeds that would show equal means to be within the tolerance, in four of five experiments.
    pub seeds_needed: Option<usize>,
    /// Absent for a number that says nothing beside others.
    pub tolerance: Option<Number>,
    pub standing: Standing,
    /// The better side, where the two are beyond the tolerance and the metric is better one way.
    pub better: Option<Which>,
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    Beyond,
    Undecided,
    OnlyA,
    OnlyB,
    Within,
    /// The two differ, and nothing is told by that.
    Untold,
    /// The same bits.
    Same,
}

/// Compares the numbers of the same address, in the order of the first side's plan, then of the second's.
pub fn compare(pairs: &[Pair<'_>], store: &Store) -> Vec<MetricPair> {
    let measured: Vec<Sides<Measures>> =
        pairs.iter().map(|pair| pair.runs.map(|run| measures::of(run, store))).collect();
    let mut values: BTreeMap<&Address, Vec<Sides<Option<f64>>>> = BTreeMap::new();
    for (index, run) in measured.iter().enumerate() {
        for (which, measures) in [(Which::A, &run.a), (Which::B, &run.b)] {
            for (address, measure) in measures {
                let runs = values.entry(address).or_insert_with(|| vec![Sides::default(); measured.len()]);
                match which {
                    Which::A => runs[index].a = Some(measure.value),
                    Which::B => runs[index].b = Some(measure.value),
                }
            }
        }
    }
    let mut order: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in pairs.iter().flat_map(|pair| &pair.stages) {
        let next = order.len();
        order.entry(name).or_insert(next);
    }
    let mut found: Vec<MetricPair> =
        values.into_iter().map(|(address, values)| MetricPair::of(address, &values)).collect();
    found.sort_by_key(|pair| order.get(pair.address.stage.as_str()).copied());
    found
}

impl MetricPair {
    /// Of one entry a pair of runs.
    fn of(address: &Address, values: &[Sides<Option<f64>>]) -> Self {
        let both: Vec<Sides<f64>> = values.iter().filter_map(|pair| pair.both()).collect();
        let of_both = |side: fn(&Sides<f64>) -> f64| both.iter().map(side).collect::<Vec<f64>>();
        let [all_a, all_b] = [of_both(|pair| pair.a), of_both(|pair| pair.b)];
        let difference = MeanDifference::paired(&all_b, &all_a);
        let of = |side: fn(&Sides<Option<f64>>) -> Option<f64>| values.iter().filter_map(side).collect::<Vec<f64>>();
        let means = match both.is_empty() {
            // Of what is on one side alone.
            true => Sides::new(mean(&of(|pair| pair.a)), mean(&of(|pair| pair.b))),
            false => Sides::new(mean(&all_a), mean(&all_b)),
        };
        let alone = values.iter().any(|pair| pair.a.is_some() != pair.b.is_some());
        let name = address.metric.split('@').next().unwrap_or(&address.metric);
        let margin = Margin::of(name);
        let around = |values: &Sides<f64>| margin.map(|margin| margin.around(values.a.abs().max(values.b.abs())));
        let tolerance = means.both().as_ref().and_then(around);
        let same = both.iter().all(|pair| pair.a.to_bits() == pair.b.to_bits());
        let standing = match (both.as_slice(), tolerance) {
            _ if alone => match values.iter().any(|pair| pair.a.is_some() && pair.b.is_none()) {
                true => Standing::OnlyA,
                false => Standing::OnlyB,
            },
            _ if same => Standing::Same,
            (_, None) => Standing::Untold,
            ([one], Some(tolerance)) => match one.a.is_finite() && one.b.is_finite() {
                true if (one.b - one.a).abs() <= tolerance => Standing::Within,
                _ => Standing::Beyond,
            },
            (_, Some(tolerance)) => over_seeds(&difference, tolerance),
        };
        let difference = difference.ok();
        let better = (standing == Standing::Beyond).then(|| better(&address.metric, means.both()?)).flatten();
        let needed = |tolerance| difference?.seeds_for_equivalence(tolerance, ALPHA, POWER);
        let less = |values: Sides<f64>| Number(values.b - values.a);
        Self {
            address: address.clone(),
            values: means.map(|value| value.map(Number)),
            runs: both.len(),
            difference: means.both().map(less),
            interval: difference
                .map(|tested| tested.interval(1.0 - ALPHA))
                .map(|(low, high)| (Number(low), Number(high))),
            detectable: difference.map(|tested| Number(tested.smallest_detectable(ALPHA, POWER))),
            seeds_needed: tolerance.filter(|_| standing == Standing::Undecided).and_then(needed),
            tolerance: tolerance.map(Number),
            standing,
            better,
        }
    }
}

/// Where the mean of paired differences lies.
fn over_seeds(difference: &Result<MeanDifference, Untestable>, tolerance: f64) -> Standing {
    match difference {
        // Counts that are the same in no run, or no numbers.
        _ if tolerance == 0.0 => Standing::Beyond,
        Err(Untestable::NotFinite) => Standing::Beyond,
        Err(_) => Standing::Undecided,
        Ok(difference) => match Equivalence::of(difference, tolerance, ALPHA).map(|test| test.outcome) {
            Ok(Outcome::Equivalent) => Standing::Within,
            Ok(Outcome::Different) => Standing::Beyond,
            Ok(Outcome::Undecided) | Err(_) => Standing::Undecided,
        },
    }
}

fn better(metric: &str, means: Sides<f64>) -> Option<Which> {
    let lower = match means.a.partial_cmp(&means.b)? {
        std::cmp::Ordering::Less => Which::A,
        std::cmp::Ordering::Greater => Which::B,
        std::cmp::Ordering::Equal => return None,
    };
    match Direction::of(metric) {
        Direction::Lower => Some(lower),
        Direction::Higher => Some(if lower == Which::A { Which::B } else { Which::A }),
        Direction::Neither => None,
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(metric: &str, pairs: &[(f64, f64)]) -> MetricPair {
        let values: Vec<_> = pairs.iter().map(|(a, b)| Sides::new(Some(*a), Some(*b))).collect();
        MetricPair::of(&Address::new("decode test", metric), &values)
    }

    #[test]
    fn one_run_is_held_against_the_tolerance() {
        let standing = |metric, a, b| of(metric, &[(a, b)]).standing;
        assert_eq!(standing("wer", 0.25, 0.25), Standing::Same);
        assert_eq!(standing("wer", 0.25, 0.254), Standing::Within);
        assert_eq!(standing("wer", 0.25, 0.256), Standing::Beyond);
        assert_eq!(standing("pnmi@3", 0.25, 0.254), Standing::Within, "the layer is no part of the metric");
        assert_eq!(standing("utterances", 10.0, 11.0), Standing::Beyond);
        assert_eq!(standing("validation-loss", f64::INFINITY, 1.0), Standing::Beyond);
        assert_eq!(standing("wer", f64::NAN, 0.25), Standing::Beyond);
        assert_eq!(standing("cca-word-best-layer", 3.0, 4.0), Standing::Untold);
        assert_eq!(of("wer", &[(0.25, 0.35)]).better, Some(Which::A));
        assert_eq!(of("pnmi", &[(0.25, 0.35)]).better, Some(Which::B));
        assert_eq!(of("utterances", &[(10.0, 11.0)]).better, None);
    }

    #[test]
    fn seeds_decide_by_their_intervals() {
        let standing = |differences: &[f64]| {
            let first = |seed: usize| 0.3 + seed as f64 * 0.01;
            let pairs = differences.iter().enumerate().map(|(seed, less)| (first(seed), first(seed) + less));
            of("wer", &pairs.collect::<Vec<_>>()).standing
        };
        assert_eq!(standing(&[0.001, -0.001, 0.0]), Standing::Within);
        assert_eq!(standing(&[0.100, 0.101, 0.099]), Standing::Beyond);
        assert_eq!(standing(&[0.100, -0.101, 0.02]), Standing::Undecided);
    }

    #[test]
    fn what_one_run_lacks_is_told() {
        let address = Address::new("decode test", "wer");
        let pair = MetricPair::of(&address, &[Sides::new(Some(0.5), Some(0.5)), Sides::new(Some(0.25), None)]);
        assert_eq!((pair.standing, pair.runs), (Standing::OnlyA, 1));
        let pair = MetricPair::of(&address, &[Sides::new(None, Some(0.5))]);
        assert_eq!((pair.standing, pair.values.b, pair.difference), (Standing::OnlyB, Some(Number(0.5)), None));
    }

    proptest! {
        #[test]
        fn sides_can_be_changed(pairs in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0), 1..6), loss in any::<bool>()) {
            let metric = if loss { "validation-loss" } else { "wer" };
            let changed: Vec<_> = pairs.iter().map(|(a, b)| (*b, *a)).collect();
            let (one, other) = (of(metric, &pairs), of(metric, &changed));
            prop_assert_eq!((one.standing, one.values, one.tolerance), (other.standing, Sides::new(other.values.b, other.values.a), other.tolerance));
            prop_assert_eq!(one.difference.map(|Number(d)| d), other.difference.map(|Number(d)| -d));
            let which = |which: Option<Which>| which.map(|which| which == Which::A);
            prop_assert_eq!(which(one.better), which(other.better).map(|a| !a));
        }
    }
}
