//! The difference of two means: the t test of pairs, and Welch's t test of two samples.

use serde::{Deserialize, Serialize};

use super::sample::mean_and_deviation;
use super::student::{critical, upper_tail};

/// How two samples belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    /// Each value of the first has its partner in the second: the same seed, or a common ancestor.
    Paired,
    /// Independent samples, whose deviations may differ.
    Welch,
}

/// The difference of two means and its t test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MeanDifference {
    pub design: Design,
    /// Values of the first and of the second sample.
    pub counts: [usize; 2],
    /// Mean of the first less mean of the second.
    pub difference: f64,
    /// Paired: of the differences. Otherwise the root of the mean of both variances.
    pub deviation: f64,
    /// Of the difference.
    pub standard_error: f64,
    /// Degrees of freedom; in Welch's test seldom a whole number.
    pub freedom: f64,
    /// The difference over its standard error.
    pub t: f64,
    /// The probability of a |t| as large or larger if the means were equal.
    pub p: f64,
}

/// Why a test says nothing. None of these is a pass.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Untestable {
    #[error("{0} values are too few: a test needs 2 or more on each side")]
    TooFew(usize),
    #[error("{0} values can't be paired with {1}")]
    Unpaired(usize, usize),
    #[error("a value is not a finite number, or too large to be squared")]
    NotFinite,
    /// All (differences of) values are equal as far as rounding shows, so there is nothing to measure `difference` by.
    #[error("the values don't vary: they differ by {difference} in every seed, which no test can weigh")]
    NoVariance { difference: f64 },
    #[error("{0} is no margin: it must be a finite number above 0")]
    Margin(f64),
    #[error("{0} is no probability between 0 and 1")]
    Probability(f64),
}

/// Deviations below this share of the largest value are what rounding leaves of equal values.
const ROUNDING: f64 = 16.0 * f64::EPSILON;

impl MeanDifference {
    /// The t test of paired values: `first[i]` belongs to `second[i]`.
    ///
    /// # Errors
    /// When the sides have different lengths or fewer than two values, a value is not finite, or all differences are equal.
    pub fn paired(first: &[f64], second: &[f64]) -> Result<Self, Untestable> {
        if first.len() != second.len() {
            return Err(Untestable::Unpaired(first.len(), second.len()));
        }
        let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
        let n = differences.len();
        let (difference, deviation) = moments(&differences)?;
        if deviation <= ROUNDING * largest(first).max(largest(second)) {
            return Err(Untestable::NoVariance { difference });
        }
        let standard_error = deviation / (n as f64).sqrt();
        Self::new(Design::Paired, [n, n], difference, deviation, standard_error, (n - 1) as f64)
    }

    /// Welch's t test of two independent samples.
    ///
    /// # Errors
    /// When a side has fewer than two values, a value is not finite, or all values of each side are equal.
    pub fn welch(first: &[f64], second: &[f64]) -> Result<Self, Untestable> {
        let [(mean_a, a), (mean_b, b)] = [moments(first)?, moments(second)?];
        let difference = mean_a - mean_b;
        if a.max(b) <= ROUNDING * largest(first).max(largest(second)) {
            return Err(Untestable::NoVariance { difference });
        }
        let [n, m] = [first.len() as f64, second.len() as f64];
        let of_means = [a * a / n, b * b / m];
        let variance = of_means[0] + of_means[1];
        let share = of_means[0] / variance;
        let freedom = 1.0 / (share.powi(2) / (n - 1.0) + (1.0 - share).powi(2) / (m - 1.0));
        let deviation = f64::midpoint(a * a, b * b).sqrt();
        Self::new(Design::Welch, [first.len(), second.len()], difference, deviation, variance.sqrt(), freedom)
    }

    /// The test of this design.
    ///
    /// # Errors
    /// As [`MeanDifference::paired`] and [`MeanDifference::welch`].
    pub fn of(design: Design, first: &[f64], second: &[f64]) -> Result<Self, Untestable> {
        match design {
            Design::Paired => Self::paired(first, second),
            Design::Welch => Self::welch(first, second),
        }
    }

    fn new(
        design: Design,
        counts: [usize; 2],
        difference: f64,
        deviation: f64,
        standard_error: f64,
        freedom: f64,
    ) -> Result<Self, Untestable> {
        let t = difference / standard_error;
        if !(t.is_finite() && freedom.is_finite()) {
            return Err(Untestable::NotFinite);
        }
        let p = 2.0 * upper_tail(t.abs(), freedom);
        Ok(Self { design, counts, difference, deviation, standard_error, freedom, t, p })
    }

    /// The interval of the true difference at this confidence, above 0 and below 1.
    pub fn interval(&self, confidence: f64) -> (f64, f64) {
        let half = critical((1.0 - confidence) / 2.0, self.freedom) * self.standard_error;
        (self.difference - half, self.difference + half)
    }

    /// The probability of a difference this far up or further, if the true one were `bound`: small where it lies above.
    pub fn p_above(&self, bound: f64) -> f64 {
        upper_tail((self.difference - bound) / self.standard_error, self.freedom)
    }

    /// The probability of a difference this far down or further, if the true one were `bound`: small where it lies below.
    pub fn p_below(&self, bound: f64) -> f64 {
        upper_tail((bound - self.difference) / self.standard_error, self.freedom)
    }
}

fn moments(values: &[f64]) -> Result<(f64, f64), Untestable> {
    match mean_and_deviation(values) {
        Some(moments) => Ok(moments),
        None if values.len() < 2 => Err(Untestable::TooFew(values.len())),
        None => Err(Untestable::NotFinite),
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_tested_says_why() {
        let paired = |a: &[f64], b: &[f64]| MeanDifference::paired(a, b).unwrap_err();
        let welch = |a: &[f64], b: &[f64]| MeanDifference::welch(a, b).unwrap_err();
        assert_eq!(paired(&[1.0, 2.0], &[1.0]), Untestable::Unpaired(2, 1));
        assert_eq!(paired(&[1.0], &[2.0]), Untestable::TooFew(1));
        assert_eq!(welch(&[1.0, 2.0], &[2.0]), Untestable::TooFew(1));
        assert_eq!(paired(&[1.0, f64::NAN], &[1.0, 2.0]), Untestable::NotFinite);
        assert_eq!(welch(&[1.0, 2.0], &[f64::INFINITY, 2.0]), Untestable::NotFinite);
        assert_eq!(welch(&[1e300, -1e300], &[1.0, 2.0]), Untestable::NotFinite);
        assert_eq!(paired(&[1.0, 2.0], &[1.0, 2.0]), Untestable::NoVariance { difference: 0.0 });
        assert_eq!(welch(&[3.0, 3.0], &[1.0, 1.0, 1.0]), Untestable::NoVariance { difference: 2.0 });
    }

    #[test]
    fn what_rounding_leaves_is_no_deviation() {
        // 0.3 − 0.2 and 1.3 − 1.2 differ in their last bits.
        let found = MeanDifference::paired(&[0.3, 1.3, 2.3], &[0.2, 1.2, 2.2]);
        assert!(matches!(found, Err(Untestable::NoVariance { .. })), "{found:?}");
    }

    proptest! {
        #[test]
        fn sides_can_be_changed_and_pairs_gain_by_what_they_share(
            first in prop::collection::vec(-5.0f64..5.0, 3..12), shift in -3.0f64..3.0, spread in 0.01f64..0.2,
        ) {
            // Each value's partner follows it closely, the more so the smaller the spread.
            let second: Vec<f64> = first.iter().enumerate().map(|(i, x)| x + shift + spread * (i as f64).sin()).collect();
            let deviation = mean_and_deviation(&first).unwrap().1;
            prop_assume!(deviation > 0.5);
            for design in [Design::Paired, Design::Welch] {
                let [one, other] = [MeanDifference::of(design, &first, &second), MeanDifference::of(design, &second, &first)];
                let (one, other) = (one.unwrap(), other.unwrap());
                prop_assert!((one.difference + other.difference).abs() < 1e-12 && (one.p - other.p).abs() < 1e-9);
                let (low, high) = one.interval(0.9);
                prop_assert!(low < one.difference && one.difference < high);
                prop_assert!((one.p_above(low) - 0.05).abs() < 1e-9 && (one.p_below(high) - 0.05).abs() < 1e-9);
            }
            let [paired, welch] = [Design::Paired, Design::Welch].map(|d| MeanDifference::of(d, &first, &second).unwrap());
            prop_assert!(paired.standard_error < welch.standard_error);
        }
    }
}
