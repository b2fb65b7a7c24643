//! Whether words that people find alike have means that point alike.
//!
//! Source: papers.md section 4.2 (mean of a word's segments, Spearman's correlation of cosines with what people say).

use reprise_spec::layers::Correlation;
use tch::{Kind, Tensor};

use crate::failure::StageError;

/// The cosine between the means of two labels' rows, for each pair of labels. `strata` is the label of each of the N × D rows, below `labels`, of
/// which each has one at least.
///
/// # Errors
/// Rows that aren't finite.
pub fn cosines(rows_nd: &Tensor, strata: &[u32], labels: usize, pairs: &[[usize; 2]]) -> Result<Vec<f64>, StageError> {
    let strata: Vec<i64> = strata.iter().map(|label| i64::from(*label)).collect();
    let rows_nd = rows_nd.f_to_kind(Kind::Double)?;
    // A cosine doesn't see how many rows a sum is of.
    let zeros_ld = Tensor::f_zeros([labels as i64, rows_nd.size()[1]], (Kind::Double, rows_nd.device()))?;
    let sums_ld = zeros_ld.f_index_add(0, &Tensor::from_slice(&strata), &rows_nd)?;
    let lengths_l1 = sums_ld.square().sum_dim_intlist([1].as_slice(), true, Kind::Double).sqrt();
    let units_ld = sums_ld / lengths_l1;
    let row = |side: usize| {
        let at: Vec<i64> = pairs.iter().map(|pair| pair[side] as i64).collect();
        units_ld.index_select(0, &Tensor::from_slice(&at))
    };
    let cosines = Vec::<f64>::try_from((row(0) * row(1)).sum_dim_intlist([1].as_slice(), false, Kind::Double))?;
    match cosines.iter().all(|cosine| cosine.is_finite()) {
        true => Ok(cosines),
        false => Err(StageError::Failed("a word's mean is zero or not finite".into())),
    }
}

/// Spearman's rank correlation of cosines with what people say.
///
/// # Errors
/// Fewer than three pairs, or sides that don't vary.
pub fn spearman(cosines: &[f64], scores: &[f64]) -> Result<f64, StageError> {
    let pairs: Vec<(f64, f64)> = cosines.iter().copied().zip(scores.iter().copied()).collect();
    let found = Correlation::of(&pairs).map(|found| found.spearman);
    found.ok_or_else(|| StageError::Failed(format!("{} pairs of words do not vary", pairs.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_whose_means_point_alike_are_alike() {
        let rows = Tensor::from_slice(&[1f32, 0., 3., 0., 0., 5., 1., 1., 1., 1., -2., 0.]).view([6, 2]);
        let strata = [0, 0, 1, 2, 2, 3];
        let found = cosines(&rows, &strata, 4, &[[0, 2], [0, 1], [0, 3], [2, 2]]).unwrap();
        let half = 0.5f64.sqrt();
        assert!(found.iter().zip([half, 0., -1., 1.]).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        let rank = |scores: &[f64]| spearman(&found[..3], scores).unwrap();
        assert!((rank(&[9., 5., 1.]) - 1.).abs() < 1e-12 && (rank(&[1., 5., 9.]) + 1.).abs() < 1e-12);
        assert!(spearman(&found[..2], &[1., 2.]).is_err() && spearman(&[0.5; 4], &[1., 2., 3., 4.]).is_err());
        assert!(cosines(&(rows * 0.), &strata, 4, &[[0, 1]]).is_err());
    }
}
