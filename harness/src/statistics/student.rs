//! Student's t distribution.

use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::beta::beta_reg;
use statrs::function::gamma::ln_gamma;

/// The probability that t with `freedom` ≥ 1 degrees of freedom lies above `t`, with full digits in both tails and near zero.
pub fn upper_tail(t: f64, freedom: f64) -> f64 {
    if t < 0.0 {
        return 1.0 - upper_tail(-t, freedom);
    }
    let square = t * t;
    // The regularised incomplete beta function keeps its digits for arguments far from 1 only, so there are two forms of the same tail.
    if square < 3.0 {
        0.5 - 0.5 * beta_reg(0.5, freedom / 2.0, square / (freedom + square))
    } else {
        0.5 * beta_reg(freedom / 2.0, 0.5, freedom / (freedom + square))
    }
}

/// The value that t lies above with probability `tail`, between 0 and 1 exclusive.
pub fn critical(tail: f64, freedom: f64) -> f64 {
    if tail > 0.5 {
        return -critical(1.0 - tail, freedom);
    }
    // Zero, one and at least one degree of freedom are what the distribution asks for. Its quantile is good to some six digits; Newton's
    // method on the logarithm of the tail gives the others.
    let mut t = StudentsT::new(0.0, 1.0, freedom).map_or(f64::NAN, |t| -t.inverse_cdf(tail));
    for _ in 0..20 {
        let found = upper_tail(t, freedom);
        let step = found / density(t, freedom) * (found / tail).ln();
        t += step;
        if step.abs() <= 1e-15 * t.abs() {
            break;
        }
    }
    t
}

fn density(t: f64, freedom: f64) -> f64 {
    let scale = ln_gamma((freedom + 1.0) / 2.0) - ln_gamma(freedom / 2.0) - 0.5 * (freedom * std::f64::consts::PI).ln();
    (scale - (freedom + 1.0) / 2.0 * (t * t / freedom).ln_1p()).exp()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let table = [
            (0.975, 1, 12.706_205),
            (0.975, 2, 4.302_653),
            (0.975, 3, 3.182_446),
            (0.975, 4, 2.776_445),
            (0.95, 4, 2.131_847),
            (0.95, 9, 1.833_113),
            (0.995, 10, 3.169_273),
            (0.975, 29, 2.045_230),
            (0.9995, 5, 6.868_827),
        ];
        for (p, freedom, expected) in table {
            let found = critical(1.0 - p, f64::from(freedom));
            assert!((found - expected).abs() < 1e-6, "t({p}, {freedom}) is {found}, not {expected}");
        }
    }

    proptest! {
        #[test]
        fn a_quantile_has_its_tail(log_tail in -9.0f64..-0.302, freedom in 1.0f64..500.0) {
            let tail = 10f64.powf(log_tail);
            let found = upper_tail(critical(tail, freedom), freedom);
            prop_assert!((found / tail - 1.0).abs() < 1e-10, "{} of {}", found, tail);
        }

        #[test]
        fn tails_fall_and_mirror(t in 0.0f64..50.0, step in 1e-3f64..1.0, freedom in 1.0f64..100.0) {
            prop_assert!(upper_tail(t, freedom) > upper_tail(t + step, freedom));
            prop_assert!((upper_tail(t, freedom) + upper_tail(-t, freedom) - 1.0).abs() < 1e-14);
        }
    }
}
