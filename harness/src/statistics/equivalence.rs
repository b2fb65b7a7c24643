//! Whether two means are equal within a margin, and whether one is no worse than another by more than a margin.

use serde::{Deserialize, Serialize};

use super::difference::{MeanDifference, Untestable};

/// Two one-sided tests (TOST) of a difference of means against a margin (Schuirmann 1987).
///
/// Each error has probability α at most: *equivalent* though the true difference is the margin or more, and *different* though it is the
/// margin or less. The first is that of two one-sided tests at α each, which is the interval of confidence 1 − 2α; the second can happen on
/// either side, so it asks for the interval of confidence 1 − α.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Equivalence {
    pub margin: f64,
    pub alpha: f64,
    /// Of the test against a true difference of −margin or less.
    pub p_above_lower: f64,
    /// Of the test against a true difference of margin or more.
    pub p_below_upper: f64,
    /// The larger of both.
    pub p: f64,
    /// Of confidence 1 − 2α: equivalent where it lies within the margin.
    pub interval: (f64, f64),
    /// Of confidence 1 − α: different where it lies beyond the margin.
    pub wide_interval: (f64, f64),
    pub outcome: Outcome,
}

/// What an equivalence test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The difference is within the margin.
    Equivalent,
    /// The difference is beyond the margin.
    Different,
    /// The values allow both.
    Undecided,
}

/// The one-sided question of a metric with a direction: is the first no worse than the second by more than a margin?
///
/// Each error has probability α at most: *not worse* though the first is worse by the margin or more, and *worse* though it is worse by the
/// margin or less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NonInferiority {
    pub margin: f64,
    pub alpha: f64,
    /// How much worse the first is; below 0 where it is better.
    pub worsening: f64,
    /// Of the test against a true worsening of the margin or more.
    pub p: f64,
    /// Of confidence 1 − 2α, of the worsening.
    pub interval: (f64, f64),
    pub outcome: Standing,
}

/// What a non-inferiority test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Worse by less than the margin, or better.
    NotWorse,
    /// Worse by more than the margin.
    Worse,
    /// The values allow both.
    Undecided,
}

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    Lower,
    Higher,
}

impl Equivalence {
    /// Tests `difference` against `margin`, above 0, with errors of probability `alpha` at most.
    ///
    /// # Errors
    /// When the margin or α is not one.
    pub fn of(difference: &MeanDifference, margin: f64, alpha: f64) -> Result<Self, Untestable> {
        check(margin, alpha)?;
        let (p_above_lower, p_below_upper) = (difference.p_above(-margin), difference.p_below(margin));
        let (interval, wide_interval) = (difference.interval(1.0 - 2.0 * alpha), difference.interval(1.0 - alpha));
        let p = p_above_lower.max(p_below_upper);
        let outcome = match () {
            () if p <= alpha => Outcome::Equivalent,
            () if wide_interval.0 > margin || wide_interval.1 < -margin => Outcome::Different,
            () => Outcome::Undecided,
        };
        Ok(Self { margin, alpha, p_above_lower, p_below_upper, p, interval, wide_interval, outcome })
    }
}

impl NonInferiority {
    /// Tests whether the first of `difference` is worse than the second by less than `margin`, above 0, with errors of probability `alpha`
    /// at most.
    ///
    /// # Errors
    /// When the margin or α is not one.
    pub fn of(difference: &MeanDifference, better: Better, margin: f64, alpha: f64) -> Result<Self, Untestable> {
        check(margin, alpha)?;
        let (low, high) = difference.interval(1.0 - 2.0 * alpha);
        let (worsening, p, interval) = match better {
            Better::Lower => (difference.difference, difference.p_below(margin), (low, high)),
            Better::Higher => (-difference.difference, difference.p_above(-margin), (-high, -low)),
        };
        let outcome = match () {
            () if p <= alpha => Standing::NotWorse,
            () if interval.0 > margin => Standing::Worse,
            () => Standing::Undecided,
        };
        Ok(Self { margin, alpha, worsening, p, interval, outcome })
    }
}

fn check(margin: f64, alpha: f64) -> Result<(), Untestable> {
    match () {
        () if !(margin.is_finite() && margin > 0.0) => Err(Untestable::Margin(margin)),
        () if !(alpha > 0.0 && alpha < 0.5) => Err(Untestable::Probability(alpha)),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: [f64; 5] = [10.1, 9.9, 10.2, 9.8, 10.0];

    fn shifted(by: f64) -> MeanDifference {
        let second: Vec<f64> = FIRST.iter().zip([0.1, -0.1, 0.05, 0.0, -0.05]).map(|(x, e)| x - by + e).collect();
        MeanDifference::paired(&FIRST, &second).unwrap()
    }

    #[test]
    fn the_outcome_follows_the_margin() {
        let outcome = |by, margin| Equivalence::of(&shifted(by), margin, 0.05).unwrap().outcome;
        assert_eq!(outcome(0.0, 0.5), Outcome::Equivalent);
        assert_eq!(outcome(0.0, 0.01), Outcome::Undecided);
        assert_eq!(outcome(1.0, 0.5), Outcome::Different);
        assert_eq!(outcome(-1.0, 0.5), Outcome::Different);
        assert_eq!(outcome(0.5, 0.5), Outcome::Undecided);
    }

    #[test]
    fn better_is_never_worse() {
        let standing = |by, better| NonInferiority::of(&shifted(by), better, 0.3, 0.05).unwrap().outcome;
        assert_eq!(standing(1.0, Better::Lower), Standing::Worse);
        assert_eq!(standing(1.0, Better::Higher), Standing::NotWorse);
        assert_eq!(standing(-1.0, Better::Lower), Standing::NotWorse);
        assert_eq!(standing(-1.0, Better::Higher), Standing::Worse);
        assert_eq!(standing(0.3, Better::Lower), Standing::Undecided);
    }

    #[test]
    fn a_margin_of_nothing_is_refused() {
        for margin in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let found = Equivalence::of(&shifted(0.0), margin, 0.05);
            assert!(matches!(found, Err(Untestable::Margin(_))), "{margin}");
        }
        for alpha in [0.0, 0.5, 1.0, f64::NAN] {
            let found = NonInferiority::of(&shifted(0.0), Better::Lower, 1.0, alpha);
            assert!(matches!(found, Err(Untestable::Probability(_))), "{alpha}");
        }
    }

    proptest! {
        #[test]
        fn equivalence_is_the_interval_within_the_margin(by in -1.0f64..1.0, margin in 0.01f64..1.0, alpha in 0.01f64..0.2) {
            let found = Equivalence::of(&shifted(by), margin, alpha).unwrap();
            let (low, high) = found.interval;
            prop_assume!((low + margin).abs() > 1e-9 && (high - margin).abs() > 1e-9);
            prop_assert_eq!(found.outcome == Outcome::Equivalent, -margin < low && high < margin);
            // A wider margin never makes two means less equal.
            let wider = Equivalence::of(&shifted(by), 1.5 * margin, alpha).unwrap();
            prop_assert!(found.outcome != Outcome::Equivalent || wider.outcome == Outcome::Equivalent);
            prop_assert!(wider.outcome != Outcome::Different || found.outcome == Outcome::Different);
        }
    }
}
