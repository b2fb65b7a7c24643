//! Square roots of inverse covariances.

use tch::Tensor;

use crate::failure::StageError;

/// Eigenvalues below this share of the largest are taken for zero, as NumPy's pseudo-inverse does with singular values.
const ZERO: f64 = 1e-15;

/// Squares on the diagonal of a Cholesky factor below this share of the largest variance may come from rounding.
const SURE: f64 = 1e-13;

/// A W with W C Wᵀ = 1 for the regularised covariance C of the dimensions that are kept. Directions and correlations of a canonical
/// correlation are the same with any.
#[derive(Debug)]
pub struct Whitener {
    pub kept: Vec<i64>,
    root: Root,
}

#[derive(Debug)]
enum Root {
    /// L with C = L Lᵀ; W = L⁻¹.
    Triangular(Tensor),
    /// W = diag(roots) vectorsᵀ of the eigenvalues that aren't zero, where C is so close to singular that it has no triangular root.
    Principal { roots: Tensor, vectors: Tensor },
}

impl Whitener {
    /// Of a covariance with 1 as its largest variance, of which the lower triangle is read; dimensions of variance below `epsilon` are dropped,
    /// and `epsilon` is added to the diagonal.
    ///
    /// # Errors
    /// No dimension is kept, or the decomposition doesn't converge.
    pub fn of(scaled_dd: &Tensor, variances: &[f64], epsilon: f64) -> Result<Self, StageError> {
        let kept: Vec<i64> = (0..).zip(variances).filter(|(_, v)| **v >= epsilon).map(|(index, _)| index).collect();
        if kept.is_empty() {
            return Err(StageError::Failed(format!("no dimension's variance reaches the regularisation {epsilon:e}")));
        }
        let covariance = if kept.len() == variances.len() {
            scaled_dd.copy()
        } else {
            let at = Tensor::from_slice(&kept);
            scaled_dd.index_select(0, &at).index_select(1, &at)
        };
        let _ = covariance.diagonal(0, 0, 1).f_add_scalar_(epsilon)?;
        let (lower, failed) = covariance.f_linalg_cholesky_ex(false, false)?;
        let diagonal = lower.diagonal(0, 0, 1).square();
        let sure = failed.int64_value(&[]) == 0
            && diagonal.min().double_value(&[]) > SURE * covariance.diagonal(0, 0, 1).max().double_value(&[]);
        let root = if sure { Root::Triangular(lower) } else { Root::principal(&covariance)? };
        Ok(Self { kept, root })
    }

    /// W times kept dimensions × K.
    pub fn whitened(&self, matrix: &Tensor) -> Result<Tensor, StageError> {
        Ok(match &self.root {
            Root::Triangular(lower) => lower.f_linalg_solve_triangular(matrix, false, true, false)?,
            Root::Principal { roots, vectors } => roots.unsqueeze(1) * vectors.tr().f_matmul(matrix)?,
        })
    }

    /// Wᵀ times directions × K.
    pub fn back(&self, matrix: &Tensor) -> Result<Tensor, StageError> {
        Ok(match &self.root {
            Root::Triangular(lower) => lower.tr().f_linalg_solve_triangular(matrix, true, true, false)?,
            Root::Principal { roots, vectors } => vectors.f_matmul(&(roots.unsqueeze(1) * matrix))?,
        })
    }
}

impl Root {
    fn principal(covariance: &Tensor) -> Result<Self, StageError> {
        let (values, vectors) = covariance.f_linalg_eigh("L")?;
        let floor = values.f_max()? * ZERO;
        let roots = values.rsqrt().where_self(&values.gt_tensor(&floor), &values.zeros_like());
        Ok(Self::Principal { roots, vectors })
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn both_roots_whiten_a_covariance_and_the_principal_one_leaves_out_what_is_singular() {
        tch::manual_seed(1);
        let rows = Tensor::randn([50, 6], (Kind::Double, Device::Cpu));
        let covariance = rows.tr().matmul(&rows) / 100.;
        let rank = |whitener: &Whitener| {
            let turned = whitener.whitened(&whitener.whitened(&covariance).unwrap().tr()).unwrap();
            let unit = Tensor::eye(6, (Kind::Double, Device::Cpu));
            let inverse = whitener.back(&whitener.whitened(&unit).unwrap()).unwrap();
            assert!((inverse.matmul(&covariance) - unit).abs().max().double_value(&[]) < 1e-9);
            turned.trace().double_value(&[])
        };
        let regular = Whitener::of(&covariance, &[1.; 6], 0.).unwrap();
        assert!(matches!(regular.root, Root::Triangular(_)));
        assert!((rank(&regular) - 6.).abs() < 1e-9);
        let principal = Whitener { kept: (0..6).collect(), root: Root::principal(&covariance).unwrap() };
        assert!((rank(&principal) - 6.).abs() < 1e-9);

        let repeated = Tensor::cat(&[&rows, &rows], 1);
        let singular = Whitener::of(&(repeated.tr().matmul(&repeated) / 100.), &[1.; 12], 0.).unwrap();
        assert!(matches!(singular.root, Root::Principal { .. }));
        assert!(Whitener::of(&covariance, &[0.; 6], 1e-9).is_err());
    }
}
