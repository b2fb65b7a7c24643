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
use crate::statistics::interval_of_mean;
use crate::store::Store;

/// The probability that the printed interval holds the mean difference.
const CONFIDENCE: f64 = 0.95;

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
    /// Of the mean of the paired differences; from two pairs on.
    pub interval: Option<(Number, Number)>,
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
    OnlyA,
    OnlyB,
    Undecided,
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
        let of = |side: fn(&Sides<Option<f64>>) -> Option<f64>| values.iter().filter_map(side).collect::<Vec<f64>>();
        let means = match both.is_empty() {
            // Of what is on one side alone.
            true => Sides::new(mean(&of(|pair| pair.a)), mean(&of(|pair| pair.b))),
            false => Sides::new(
                mean(&both.iter().map(|pair| pair.a).collect::<Vec<_>>()),
                mean(&both.iter().map(|pair| pair.b).collect::<Vec<_>>()),
            ),
        };
        let alone = values.iter().any(|pair| pair.a.is_some() != pair.b.is_some());
        let differences: Vec<f64> = both.iter().map(|pair| pair.b - pair.a).collect();
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
            (_, Some(tolerance)) => over_seeds(&differences, tolerance),
        };
        let better = (standing == Standing::Beyond).then(|| better(&address.metric, means.both()?)).flatten();
        let interval = interval_of_mean(&differences, CONFIDENCE);
        Self {
            address: address.clone(),
            values: means.map(|value| value.map(Number)),
            runs: both.len(),
            difference: mean(&differences).map(Number),
            interval: interval.map(|(low, high)| (Number(low), Number(high))),
            tolerance: tolerance.map(Number),
            standing,
            better,
        }
    }
}

/// Where the mean of paired differences lies.
fn over_seeds(differences: &[f64], tolerance: f64) -> Standing {
    if differences.iter().any(|difference| !difference.is_finite()) {
        return Standing::Beyond;
    }
    // Two one-sided tests at level α are the interval of confidence 1 − 2α within the margin.
    let equivalence = interval_of_mean(differences, 2.0 * CONFIDENCE - 1.0);
    let difference = interval_of_mean(differences, CONFIDENCE);
    match equivalence.zip(difference) {
        Some(((low, high), _)) if -tolerance <= low && high <= tolerance => Standing::Within,
        Some((_, (low, high))) if low > tolerance || high < -tolerance => Standing::Beyond,
        _ => Standing::Undecided,
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
