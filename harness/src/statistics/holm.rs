//! Several tests at once: Holm's step-down (1979).

use super::difference::Untestable;

/// The p values adjusted for being looked at together, in the order given: each at most α means that the chance of one false alarm among all
/// is at most α, whatever ties the tests together.
///
/// A test that couldn't be made counts with p = 1: it belongs to the family all the same.
///
/// # Errors
/// When one is no probability.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, Untestable> {
    if let Some(&odd) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(Untestable::Probability(odd));
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut least = 0.0f64;
    for (rank, &index) in order.iter().enumerate() {
        least = least.max((p_values.len() - rank) as f64 * p_values[index]).min(1.0);
        adjusted[index] = least;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_probability_is_refused() {
        assert_eq!(holm(&[]), Ok(vec![]));
        for odd in [-0.1, 1.1, f64::INFINITY] {
            assert_eq!(holm(&[0.5, odd]), Err(Untestable::Probability(odd)));
        }
        assert!(holm(&[f64::NAN]).is_err());
    }

    proptest! {
        #[test]
        fn adjusting_keeps_the_order_and_lies_between_one_test_and_bonferroni(p in prop::collection::vec(0.0f64..=1.0, 1..20)) {
            let adjusted = holm(&p).unwrap();
            for (i, a) in adjusted.iter().enumerate() {
                prop_assert!(p[i] <= *a && *a <= (p.len() as f64 * p[i]).min(1.0));
                for (j, b) in adjusted.iter().enumerate() {
                    prop_assert!(p[i] > p[j] || a <= b, "{} {}", i, j);
                }
            }
        }
    }
}
