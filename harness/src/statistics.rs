//! Student's t distribution, and the two intervals that comparisons of runs take from it.

use std::f64::consts::PI;

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

/// The value that Student's t with `freedom` ≥ 1 degrees of freedom stays below with probability `p`, 0.5 ≤ p < 1.
pub fn t_quantile(p: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while t_below(high, freedom) < p && high < 1e12 {
        high *= 2.0;
    }
    while high - low > 1e-12 * high {
        let middle = 0.5 * (low + high);
        if middle == low || middle == high {
            break;
        }
        match t_below(middle, freedom) < p {
            true => low = middle,
            false => high = middle,
        }
    }
    0.5 * (low + high)
}

/// P(T ≤ t) for t ≥ 0 and a whole number of degrees of freedom, by the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.
fn t_below(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    // Of the powers of the cosine from `first` on, each with the product of the odd (even) over the even (odd) numbers before it.
    let sum = |first: usize| {
        let (mut term, mut sum) = (if first == 0 { 1.0 } else { cosine }, 0.0);
        let mut power = first;
        while power + 2 <= freedom {
            sum += term;
            term *= cosine * cosine * (power + 1) as f64 / (power + 2) as f64;
            power += 2;
        }
        sum
    };
    let both_sides = match freedom % 2 {
        0 => sine * sum(0),
        _ => 2.0 / PI * (angle + sine * sum(1)),
    };
    0.5 + 0.5 * both_sides
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
