//! One sample: its mean and deviation, the interval of its mean, and where one new value is expected.

use super::student::{critical, upper_tail};

/// The mean of a sample and its standard deviation (with n − 1); `None` below two values, or where one is not finite.
pub fn mean_and_deviation(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / (n - 1.0)).sqrt();
    (mean.is_finite() && deviation.is_finite()).then_some((mean, deviation))
}

/// The interval that holds one new value of the normal population that `values` were drawn from with this probability:
/// mean ± t·s·√(1 + 1/n). `None` below two values, or where one is not finite.
pub fn prediction_interval(values: &[f64], probability: f64) -> Option<(f64, f64)> {
    let (mean, deviation) = mean_and_deviation(values)?;
    let n = values.len() as f64;
    let half = critical((1.0 - probability) / 2.0, n - 1.0) * deviation * (1.0 + 1.0 / n).sqrt();
    Some((mean - half, mean + half))
}

/// The probability of a new value as far from the mean of `values` as this one, on either side, if it came of the same normal population.
/// `None` below two values, where one is not finite, or where all are equal: then no distance is expected or unexpected.
pub fn p_of_new_value(values: &[f64], new: f64) -> Option<f64> {
    let (mean, deviation) = mean_and_deviation(values)?;
    let n = values.len() as f64;
    let t = (new - mean) / (deviation * (1.0 + 1.0 / n).sqrt());
    (new.is_finite() && t.is_finite()).then(|| 2.0 * upper_tail(t.abs(), n - 1.0))
}

/// The interval of the mean of the population that `values` were drawn from: mean ± t·s/√n. `None` below two values, or where one is not
/// finite.
pub fn interval_of_mean(values: &[f64], probability: f64) -> Option<(f64, f64)> {
    let (mean, deviation) = mean_and_deviation(values)?;
    let n = values.len() as f64;
    let half = critical((1.0 - probability) / 2.0, n - 1.0) * deviation / n.sqrt();
    Some((mean - half, mean + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_is_wider_than_a_mean() {
        let values = [1.0, 2.0, 3.0];
        // t(0.975, 2) = 4.302653, s = 1
        let (low, high) = prediction_interval(&values, 0.95).unwrap();
        assert!((high - 2.0 - 4.302_653 * (4.0f64 / 3.0).sqrt()).abs() < 1e-5 && (low + high - 4.0).abs() < 1e-9);
        assert!((p_of_new_value(&values, high).unwrap() - 0.05).abs() < 1e-12);
        let (_, high) = interval_of_mean(&values, 0.95).unwrap();
        assert!((high - 2.0 - 4.302_653 / 3.0f64.sqrt()).abs() < 1e-5);
    }

    #[test]
    fn what_says_nothing_gives_nothing() {
        for values in [&[] as &[f64], &[1.0], &[1.0, f64::NAN], &[1.0, f64::INFINITY, 2.0], &[f64::MAX, f64::MAX]] {
            assert_eq!(mean_and_deviation(values), None, "{values:?}");
            assert_eq!(prediction_interval(values, 0.95), None, "{values:?}");
            assert_eq!(p_of_new_value(values, 1.0), None, "{values:?}");
        }
        assert_eq!(p_of_new_value(&[1.0, 1.0], 1.0), None);
        assert_eq!(p_of_new_value(&[1.0, 2.0], f64::NAN), None);
    }
}
