//! Numbers that answer the study's question, from curves over layers and over training steps.

use serde::{Deserialize, Serialize};

/// Layers below which a curve over layers is too shallow to show the behaviour (SCIENCE, layer-wise analysis).
pub const DEEP_ENOUGH: usize = 8;

/// What a score does over a network's layers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerCurve {
    /// The layer of the maximum, the lowest of equals; 0 is the input of the stack.
    pub best_layer: u32,
    /// Its layer over the last one's: 0 at the input, 1 at the top.
    pub best_height: f64,
    pub best: f64,
    pub last: f64,
    /// Best less last: 0 where the top layer is the best one.
    pub top_drop: f64,
    /// By the trapezium rule over heights, so that networks of any depth compare: the mean of a score that is linear between layers.
    pub area: f64,
    /// Fewer than [`DEEP_ENOUGH`] layers.
    pub too_shallow: bool,
}

impl LayerCurve {
    /// Of the scores of layers 0..=L in order; `None` where there are fewer than two, or one isn't finite.
    pub fn of(scores: &[f64]) -> Option<Self> {
        let layers = scores.len().saturating_sub(1);
        if layers == 0 || scores.iter().any(|score| !score.is_finite()) {
            return None;
        }
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let best_layer = scores.iter().take_while(|score| **score < best).count();
        let last = scores[layers];
        Some(Self {
            best_layer: best_layer as u32,
            best_height: best_layer as f64 / layers as f64,
            best,
            last,
            top_drop: best - last,
            area: scores.windows(2).map(|pair| pair[0].midpoint(pair[1])).sum::<f64>() / layers as f64,
            too_shallow: layers < DEEP_ENOUGH,
        })
    }
}

/// How a score goes with another, such as a word error rate, over models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Correlation {
    pub pairs: u32,
    pub pearson: f64,
    /// Pearson's of the ranks; equal values share the mean of theirs.
    pub spearman: f64,
}

impl Correlation {
    /// Of pairs of numbers; `None` where there are fewer than three, or one side does not vary or is not finite, which says nothing.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        if pairs.len() < 3 || pairs.iter().any(|(a, b)| !(a.is_finite() && b.is_finite())) {
            return None;
        }
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        Some(Self { pairs: pairs.len() as u32, pearson: pearson(&a, &b)?, spearman: pearson(&ranks(&a), &ranks(&b))? })
    }
}

fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let centred = |values: &[f64]| -> Option<Vec<f64>> {
        if values.iter().all(|value| *value == values[0]) {
            return None;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(values.iter().map(|value| value - mean).collect())
    };
    let (a, b) = (centred(a)?, centred(b)?);
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let found = product(&a, &b) / (product(&a, &a).sqrt() * product(&b, &b).sqrt());
    found.is_finite().then(|| found.clamp(-1., 1.))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 + 1.) / 2.
    };
    values.iter().map(rank).collect()
}

/// When a training run reached a reference, which only the steps that were measured can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Reached {
    /// After the last measured step that missed the reference (0 where none did) and at the latest at the first that hit it.
    Within { last_miss: u64, first_hit: u64 },
    /// Not up to this step, the last one measured.
    Censored { last_miss: u64 },
}

impl Reached {
    /// From (step, error rate) at ascending steps: a step hits where its rate is at most `reference`. What comes after the first hit does not
    /// count. `None` without steps, for steps that don't ascend, and for rates that are not a number.
    pub fn of(rates: &[(u64, f64)], reference: f64) -> Option<Self> {
        let ascending = rates.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if rates.is_empty() || !ascending || reference.is_nan() || rates.iter().any(|(_, rate)| rate.is_nan()) {
            return None;
        }
        let mut last_miss = 0;
        for (step, rate) in rates {
            if *rate <= reference {
                return Some(Self::Within { last_miss, first_hit: *step });
            }
            last_miss = *step;
        }
        Some(Self::Censored { last_miss })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_curve_that_falls_at_the_top_has_its_drop_height_and_area() {
        let curve = LayerCurve::of(&[0.25, 0.75, 0.75, 0.5, 0.25]).unwrap();
        let expected = LayerCurve {
            best_layer: 1,
            best_height: 0.25,
            best: 0.75,
            last: 0.25,
            top_drop: 0.5,
            area: 0.5625,
            too_shallow: true,
        };
        assert_eq!(curve, expected);
        assert!(!LayerCurve::of(&[0.; 9]).unwrap().too_shallow);
        assert!(LayerCurve::of(&[0.1]).is_none());
        assert!(LayerCurve::of(&[0.1, f64::NAN]).is_none());
    }

    #[test]
    fn steps_to_a_reference_are_an_interval_or_censored() {
        let rates = [(100, 0.9), (200, 0.5), (400, 0.3), (800, 0.35)];
        assert_eq!(Reached::of(&rates, 0.3).unwrap(), Reached::Within { last_miss: 200, first_hit: 400 });
        assert_eq!(Reached::of(&rates, 1.0).unwrap(), Reached::Within { last_miss: 0, first_hit: 100 });
        assert_eq!(Reached::of(&rates, 0.2).unwrap(), Reached::Censored { last_miss: 800 });
        assert!(Reached::of(&[], 0.2).is_none());
        assert!(Reached::of(&[(2, 0.1), (1, 0.1)], 0.2).is_none());
    }

    /// Values of scipy.stats.pearsonr and spearmanr.
    #[test]
    fn correlations_are_scipy_s() {
        let found = Correlation::of(&[(1., 2.), (2., 1.), (3., 4.), (4., 3.), (5., 5.), (5., 9.)]).unwrap();
        assert!(
            (found.pearson - 0.7794228634059946).abs() < 1e-12 && (found.spearman - 0.8696565534786727).abs() < 1e-12,
            "{found:?}"
        );
        assert_eq!(Correlation::of(&[(1., 2.), (2., 2.), (3., 2.)]), None);
        assert_eq!(Correlation::of(&[(1., 2.), (2., 3.)]), None);
    }

    proptest! {
        #[test]
        fn ranks_see_only_the_order(pairs in prop::collection::vec((-9i32..9, -9i32..9), 3..20)) {
            let numbers = |map: fn(f64) -> f64| -> Vec<(f64, f64)> {
                pairs.iter().map(|(a, b)| (map(f64::from(*a)), f64::from(*b))).collect()
            };
            let (plain, bent) = (Correlation::of(&numbers(|a| a)), Correlation::of(&numbers(|a| a.powi(3) + a)));
            let turned = Correlation::of(&numbers(|a| -a));
            if let (Some(plain), Some(bent), Some(turned)) = (plain, bent, turned) {
                prop_assert!((plain.spearman - bent.spearman).abs() < 1e-12);
                prop_assert!((plain.pearson + turned.pearson).abs() < 1e-12);
                prop_assert!((-1. ..=1.).contains(&plain.pearson));
            }
        }
    }
}
