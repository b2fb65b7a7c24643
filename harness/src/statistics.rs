//! The two intervals that comparisons of runs take from Student's t distribution.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The mean of a sample and its standard deviation (with n − 1); `None` below two values.
pub fn mean_and_deviation(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, (squares / (n - 1.0)).sqrt()))
}

/// The interval that holds one new value of the normal population that `values` were drawn from with this probability:
/// mean ± t·s·√(1 + 1/n). `None` below two values.
pub fn prediction_interval(values: &[f64], probability: f64) -> Option<(f64, f64)> {
    let (mean, deviation) = mean_and_deviation(values)?;
    let half =
        t_quantile((1.0 + probability) / 2.0, values.len() - 1) * deviation * (1.0 + 1.0 / values.len() as f64).sqrt();
    Some((mean - half, mean + half))
}

/// The interval of the mean of the population that `values` were drawn from: mean ± t·s/√n. `None` below two values.
pub fn interval_of_mean(values: &[f64], probability: f64) -> Option<(f64, f64)> {
    let (mean, deviation) = mean_and_deviation(values)?;
    let half = t_quantile((1.0 + probability) / 2.0, values.len() - 1) * deviation / (values.len() as f64).sqrt();
    Some((mean - half, mean + half))
}

/// The value that Student's t with `freedom` ≥ 1 degrees of freedom stays below with probability `p`.
fn t_quantile(p: f64, freedom: usize) -> f64 {
    // A location, a scale above zero and at least one degree of freedom are what the distribution asks for.
    StudentsT::new(0.0, 1.0, freedom as f64).map_or(f64::NAN, |t| t.inverse_cdf(p))
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
            let found = t_quantile(p, freedom);
            assert!((found - expected).abs() < 2e-6, "t({p}, {freedom}) is {found}, not {expected}");
        }
    }

    #[test]
    fn a_prediction_is_wider_than_a_mean() {
        let values = [1.0, 2.0, 3.0];
        // t(0.975, 2) = 4.302653, s = 1
        let (low, high) = prediction_interval(&values, 0.95).unwrap();
        assert!((high - 2.0 - 4.302_653 * (4.0f64 / 3.0).sqrt()).abs() < 1e-5 && (low + high - 4.0).abs() < 1e-9);
        let (_, high) = interval_of_mean(&values, 0.95).unwrap();
        assert!((high - 2.0 - 4.302_653 / 3.0f64.sqrt()).abs() < 1e-5);
        assert_eq!(prediction_interval(&[1.0], 0.95), None);
    }

    proptest! {
        #[test]
        fn quantiles_rise_with_the_probability_and_fall_with_the_freedom(
            p in 0.5f64..0.999, q in 0.5f64..0.999, freedom in 1usize..60,
        ) {
            let (p, q) = (p.min(q), p.max(q));
            prop_assert!(t_quantile(p, freedom) <= t_quantile(q, freedom) + 1e-9);
            prop_assert!(t_quantile(q, freedom) >= t_quantile(q, freedom + 1) - 1e-9);
        }
    }
}
