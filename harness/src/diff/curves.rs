//! Values that stages logged step by step: where two runs part, and how far apart they come.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::metrics::Log;
use serde::Serialize;

use super::{Number, Pair, Sides};

/// The curve of one metric of one stage, where two runs part.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CurvePair {
    pub stage: String,
    pub seed: Sides<u64>,
    #[serde(flatten)]
    pub parted: Parted,
}

/// Two curves that differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Parted {
    pub metric: String,
    /// The first step at which the bits of a value differ, or one side has none.
    pub parts_at: u64,
    /// The values there.
    pub there: Sides<Option<Number>>,
    /// The greatest gap at a step of both; absent where they share none, or never differ by a number.
    pub widest: Option<Gap>,
    /// The last values of both.
    pub last: Sides<Option<Number>>,
}

/// How far two curves lie apart at a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gap {
    pub step: u64,
    /// The second side less the first.
    pub difference: Number,
}

/// The curves that part, in the order of the plan and by seed.
pub fn compare(pairs: &[Pair<'_>]) -> Vec<CurvePair> {
    let mut found = Vec::new();
    for pair in pairs {
        let seed = pair.runs.map(|run| run.seed);
        for (stage, outputs) in pair.parted() {
            let logs = outputs.map(|output| output.log());
            let pairs = of(&logs.a, &logs.b).into_iter();
            found.extend(pairs.map(|parted| CurvePair { stage: stage.to_owned(), seed, parted }));
        }
    }
    found
}

/// The metrics of two logs whose curves part, by name.
pub fn of(a: &Log, b: &Log) -> Vec<Parted> {
    let nothing = BTreeMap::new();
    let metrics: BTreeSet<&String> = a.series.keys().chain(b.series.keys()).collect();
    let parted = |metric: &String| {
        let (one, two) = (a.series.get(metric).unwrap_or(&nothing), b.series.get(metric).unwrap_or(&nothing));
        let (parts_at, there) = Steps::of(one, two).find(|(_, values)| {
            let bits = values.map(|value| value.map(f64::to_bits));
            bits.a != bits.b
        })?;
        let gaps = Steps::of(one, two).filter_map(|(step, values)| Some((step, values.b? - values.a?)));
        let widest = gaps
            .filter(|(_, gap)| *gap != 0.0 && !gap.is_nan())
            .reduce(|widest, gap| if gap.1.abs() > widest.1.abs() { gap } else { widest });
        let last = Sides::new(one, two).map(|curve| curve.last_key_value().map(|(_, value)| Number(*value)));
        Some(Parted {
            metric: metric.clone(),
            parts_at,
            there: there.map(|value| value.map(Number)),
            widest: widest.map(|(step, gap)| Gap { step, difference: Number(gap) }),
            last,
        })
    };
    metrics.into_iter().filter_map(parted).collect()
}

/// The steps of two curves, ascending, with the value of either.
struct Steps<'a> {
    a: std::iter::Peekable<std::collections::btree_map::Iter<'a, u64, f64>>,
    b: std::iter::Peekable<std::collections::btree_map::Iter<'a, u64, f64>>,
}

impl<'a> Steps<'a> {
    fn of(a: &'a BTreeMap<u64, f64>, b: &'a BTreeMap<u64, f64>) -> Self {
        Self { a: a.iter().peekable(), b: b.iter().peekable() }
    }
}

impl Iterator for Steps<'_> {
    type Item = (u64, Sides<Option<f64>>);

    fn next(&mut self) -> Option<Self::Item> {
        let step = match (self.a.peek(), self.b.peek()) {
            (None, None) => return None,
            (Some((step, _)), None) | (None, Some((step, _))) => **step,
            (Some((a, _)), Some((b, _))) => **a.min(b),
        };
        let a = self.a.next_if(|(at, _)| **at == step).map(|(_, value)| *value);
        let b = self.b.next_if(|(at, _)| **at == step).map(|(_, value)| *value);
        Some((step, Sides::new(a, b)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::metrics::Encoder;

    use super::*;

    fn log(points: &[(u64, f64)]) -> Log {
        let mut encoder = Encoder::default();
        Log::decode(&points.iter().flat_map(|(step, value)| encoder.point("loss", *step, *value)).collect::<Vec<u8>>())
    }

    #[test]
    fn curves_part_where_a_bit_differs_or_a_step_is_missing() {
        let a = log(&[(1, 3.0), (2, 2.0), (3, 1.0), (4, f64::NAN)]);
        assert!(of(&a, &a).is_empty(), "a NaN is itself");
        let found = of(&a, &log(&[(1, 3.0), (2, 2.5), (3, 0.0), (4, f64::NAN)])).remove(0);
        assert_eq!((found.parts_at, found.there), (2, Sides::new(Some(Number(2.0)), Some(Number(2.5)))));
        assert_eq!(found.widest, Some(Gap { step: 3, difference: Number(-1.0) }));
        let found = of(&a, &log(&[(1, 3.0), (3, 1.0)])).remove(0);
        assert_eq!((found.parts_at, found.there), (2, Sides::new(Some(Number(2.0)), None)));
        assert_eq!((found.widest, found.last.b), (None, Some(Number(1.0))));
    }

    proptest! {
        #[test]
        fn sides_can_be_changed(
            a in prop::collection::vec((0u64..20, -4i8..4), 0..20), b in prop::collection::vec((0u64..20, -4i8..4), 0..20),
        ) {
            let [a, b] = [a, b].map(|points| log(&points.into_iter().map(|(step, value)| (step, f64::from(value))).collect::<Vec<_>>()));
            prop_assert!(of(&a, &a).is_empty());
            let changed: Vec<Parted> = of(&b, &a)
                .into_iter()
                .map(|found| Parted {
                    there: Sides::new(found.there.b, found.there.a),
                    last: Sides::new(found.last.b, found.last.a),
                    widest: found.widest.map(|gap| Gap { difference: Number(-gap.difference.0), ..gap }),
                    ..found
                })
                .collect();
            prop_assert_eq!(of(&a, &b), changed);
        }
    }
}
