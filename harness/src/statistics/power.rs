//! What so many seeds can see: power, the smallest detectable difference, and the seeds that a difference or a margin needs.
//!
//! Differences and margins are in standard deviations here: of the differences of pairs, or the common one of two independent samples. Planning
//! for Welch's test takes equal deviations and equally many seeds on both sides, where the t test has 2n − 2 degrees of freedom; Welch's has
//! fewer, as far as the estimated deviations differ, and finds somewhat less with three seeds. Normal values are assumed throughout.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use super::difference::{Design, MeanDifference};
use super::student::critical;

/// The power that smallest detectable differences and needed seeds are stated for.
pub const POWER: f64 = 0.8;

/// More seeds than this are not counted.
pub const MOST_SEEDS: usize = 10_000;

/// Standard errors of a difference in one standard deviation, and degrees of freedom, of `seeds` on each side.
fn planned(design: Design, seeds: usize) -> Option<(f64, f64)> {
    let n = seeds as f64;
    (seeds >= 2).then(|| match design {
        Design::Paired => (1.0 / n.sqrt(), n - 1.0),
        Design::Welch => ((2.0 / n).sqrt(), 2.0 * (n - 1.0)),
    })
}

/// The probability that the two-sided t test at level `alpha` finds a true difference of `shift` standard errors.
pub fn power(shift: f64, freedom: f64, alpha: f64) -> f64 {
    power_beyond(shift, 0.0, freedom, alpha)
}

/// The probability that the interval of confidence 1 − `alpha` of a true difference of `shift` standard errors lies beyond ±`margin` standard
/// errors.
pub fn power_beyond(shift: f64, margin: f64, freedom: f64, alpha: f64) -> f64 {
    let critical = critical(alpha / 2.0, freedom);
    over_deviations(freedom, critical, f64::INFINITY, |s| {
        let least = margin + critical * s;
        below(shift - least) + below(-shift - least)
    })
}

/// The probability that two one-sided tests at level `alpha` show a true difference of `shift` standard errors to be within ±`margin`
/// standard errors.
pub fn power_of_equivalence(shift: f64, margin: f64, freedom: f64, alpha: f64) -> f64 {
    let critical = critical(alpha, freedom);
    // Beyond this estimated deviation no difference would do.
    let widest = margin / critical;
    over_deviations(freedom, critical, widest, |s| {
        let half = margin - critical * s;
        below(half - shift) - below(-half - shift)
    })
}

/// The smallest true difference that `seeds` on each side find with probability `power` in a two-sided test at level `alpha`; `None` below two
/// seeds.
pub fn smallest_detectable(design: Design, seeds: usize, alpha: f64, power: f64) -> Option<f64> {
    let (standard_error, freedom) = planned(design, seeds)?;
    Some(detectable(freedom, alpha, power) * standard_error)
}

/// The seeds on each side that find a true difference of `effect` with probability `power`; `None` where [`MOST_SEEDS`] don't.
pub fn seeds_to_detect(design: Design, effect: f64, alpha: f64, power: f64) -> Option<usize> {
    fewest(|seeds| {
        planned(design, seeds).is_some_and(|(standard_error, freedom)| {
            self::power(effect.abs() / standard_error, freedom, alpha) >= power
        })
    })
}

/// The seeds on each side that show two equal means to be within ±`margin` with probability `power`; `None` where [`MOST_SEEDS`] don't.
pub fn seeds_for_equivalence(design: Design, margin: f64, alpha: f64, power: f64) -> Option<usize> {
    fewest(|seeds| {
        planned(design, seeds).is_some_and(|(standard_error, freedom)| {
            power_of_equivalence(0.0, margin / standard_error, freedom, alpha) >= power
        })
    })
}

impl MeanDifference {
    /// The smallest true difference that as many seeds with such deviations would have found with probability `power` in a two-sided test at
    /// level `alpha`, in the unit of the values.
    pub fn smallest_detectable(&self, alpha: f64, power: f64) -> f64 {
        detectable(self.freedom, alpha, power) * self.standard_error
    }

    /// The seeds on each side that would find a true difference of `effect`, in the unit of the values, with such deviations.
    pub fn seeds_to_detect(&self, effect: f64, alpha: f64, power: f64) -> Option<usize> {
        seeds_to_detect(self.design, effect / self.deviation, alpha, power)
    }

    /// The seeds on each side that would show equal means to be within ±`margin`, in the unit of the values, with such deviations.
    pub fn seeds_for_equivalence(&self, margin: f64, alpha: f64, power: f64) -> Option<usize> {
        seeds_for_equivalence(self.design, margin / self.deviation, alpha, power)
    }
}

/// The shift in standard errors that is found with this probability.
fn detectable(freedom: f64, alpha: f64, power: f64) -> f64 {
    let found = |shift: f64| self::power(shift, freedom, alpha) >= power;
    let mut high = 1.0;
    while !found(high) && high < 1e12 {
        high *= 2.0;
    }
    let mut low = 0.0;
    while high - low > 1e-13 * high {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        *if found(middle) { &mut high } else { &mut low } = middle;
    }
    high
}

/// The fewest seeds of which `enough` holds, if more seeds are never worse.
fn fewest(enough: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (2, 2);
    while !enough(high) {
        if high >= MOST_SEEDS {
            return None;
        }
        (low, high) = (high + 1, (2 * high).min(MOST_SEEDS));
    }
    while low < high {
        let middle = usize::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(high)
}

/// The probability that a standard normal lies below `z`.
fn below(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// The mean of `given(s)` over the estimated deviation s of a population of deviation 1 (s² · freedom has the χ² distribution), up to `widest`.
///
/// `given` may change as fast as a normal distribution function of `critical` · s; of critical values above some 250 fewer digits are right. Double-exponential quadrature: the trapezoidal rule after
/// s = tanh(π/2 · sinh x), mapped to the range in which the density is not negligible, which loses no digits at a kink at the end.
fn over_deviations(freedom: f64, critical: f64, widest: f64, given: impl Fn(f64) -> f64) -> f64 {
    let half = freedom / 2.0;
    let log_scale = std::f64::consts::LN_2 + half * half.ln() - ln_gamma(half);
    let density = |s: f64| (log_scale + (freedom - 1.0) * s.ln() - half * s * s).exp();
    let reach = 10.0 / freedom.sqrt();
    let (from, to) = ((1.0 - reach).max(0.0), (1.0 + reach).min(widest));
    if to <= from {
        return 0.0;
    }
    let (middle, radius) = (f64::midpoint(from, to), (to - from) / 2.0);
    let steps_of_one = 64 + (16.0 * critical).min(4_096.0) as i64;
    let quarter = std::f64::consts::FRAC_PI_2;
    let term = |index: i64| {
        let x = index as f64 / steps_of_one as f64;
        let inner = quarter * x.sinh();
        // The distance to the nearer end, which the difference of two near numbers would lose.
        let to_end = radius * (-inner.abs()).exp() / inner.cosh();
        let s = if index == 0 {
            middle
        } else if index < 0 {
            from + to_end
        } else {
            to - to_end
        };
        let weight = quarter * x.cosh() / inner.cosh().powi(2);
        if s > 0.0 { weight * density(s) * given(s) } else { 0.0 }
    };
    let ends = 4 * steps_of_one;
    let sum: f64 = (-ends..=ends).map(term).sum();
    (sum * radius / steps_of_one as f64).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_seeds_detect_a_paired_effect_of_three_deviations_and_a_third() {
        let effect = smallest_detectable(Design::Paired, 3, 0.05, POWER).unwrap();
        assert!((effect - 3.26).abs() < 0.02, "{effect}");
        assert_eq!(smallest_detectable(Design::Paired, 1, 0.05, POWER), None);
    }

    #[test]
    fn without_a_difference_the_power_is_the_level() {
        for freedom in [1.0, 2.0, 4.5, 30.0, 5_000.0] {
            let found = power(0.0, freedom, 0.05);
            assert!((found - 0.05).abs() < 1e-10, "{found} at {freedom}");
        }
        // At the margin, with a margin that is far from the other side.
        assert!((power_of_equivalence(200.0, 200.0, 3.0, 0.05) - 0.05).abs() < 1e-9);
    }

    #[test]
    fn what_nobody_could_pay_for_is_not_counted() {
        assert_eq!(seeds_to_detect(Design::Paired, 0.001, 0.05, POWER), None);
        assert_eq!(seeds_to_detect(Design::Paired, 0.0, 0.05, POWER), None);
        assert_eq!(seeds_to_detect(Design::Paired, 1e6, 0.05, POWER), Some(2));
        assert_eq!(seeds_for_equivalence(Design::Welch, 0.0, 0.05, POWER), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_fewest_seeds_are_enough_and_one_less_is_not(effect in 0.3f64..4.0, pairs in any::<bool>()) {
            let design = if pairs { Design::Paired } else { Design::Welch };
            let seeds = seeds_to_detect(design, effect, 0.05, POWER).unwrap();
            prop_assert!(smallest_detectable(design, seeds, 0.05, POWER).unwrap() <= effect);
            prop_assert!(seeds == 2 || smallest_detectable(design, seeds - 1, 0.05, POWER).unwrap() > effect);
        }
    }
}
