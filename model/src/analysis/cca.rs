//! Canonical correlation analysis, and its mean weighted by projections (PWCCA), scored on samples that it was not fitted on.
//!
//! Source: the procedure of the public layer-wise toolkit (papers.md section 4.2, hubert.md section 6.3; Pasad et al. 2021, after Morcos et
//! al. 2018). Departures, all in what the toolkit leaves to rounding:
//! - Square roots of the inverse covariances come from the covariances' eigenvalues instead of those of a pseudo-inverse, which is the same
//!   and exact to more digits (the pseudo-inverse by a general decomposition moved a score by 0.016 where dimensions were repeated).
//! - Singular vectors come from the eigenvectors of a Gram matrix (`singular_vectors`).
//! - Directions have a sign ([`Weighting::Toolkit`]).
//! - Directions in which the scored samples do not vary ([`STILL`]), such as the sum of one-hot labels, are left out, because their
//!   correlation is that of rounding errors.

pub use reprise_spec::probing::Weighting;
use tch::{Kind, Tensor};

use crate::failure::StageError;

/// The share of the largest variance of a direction below which a direction is left out of a score.
pub const STILL: f64 = 1e-9;

/// Eigenvalues below this share of the largest are taken for zero, as NumPy's pseudo-inverse does with singular values.
const ZERO: f64 = 1e-15;

/// The share of the largest squared canonical correlation below which directions have nothing to do with each other.
const NULL: f64 = 1e-12;

/// What is added to the diagonals of the scaled covariances; dimensions whose scaled variance is below it are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regularisation {
    pub x: f64,
    pub y: f64,
}

/// How alike two views are on the scored samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Mean correlation, weighted by how much of the lower-dimensional view (of equal ones, the second) its direction explains.
    pub pwcca: f64,
    /// Plain mean of the correlations.
    pub cca: f64,
    /// Of each direction that varies, in descending order of the correlation on the training samples.
    pub correlations: Vec<f64>,
}

/// What a fit needs to know of the training samples: their covariances, decomposed once for all regularisations.
#[derive(Debug)]
pub struct Moments {
    /// N × Dx, without their mean.
    rows_x: Tensor,
    x: Covariance,
    y: Covariance,
    /// Divided by the geometric mean of the views' scales.
    cross: Tensor,
    /// `cross` along the eigenvectors of both covariances, and the dimensions that these keep.
    turned: Option<(Vec<i64>, Vec<i64>, Tensor)>,
}

#[derive(Debug)]
struct Covariance {
    /// D × D, with 1 as its largest magnitude.
    scaled: Tensor,
    variances: Vec<f64>,
    scale: f64,
    /// Of the dimensions that the last regularisation kept: ascending eigenvalues, eigenvectors in columns.
    decomposed: Option<Decomposed>,
}

#[derive(Debug)]
struct Decomposed {
    kept: Vec<i64>,
    values: Tensor,
    vectors: Tensor,
}

/// The linear maps of two views to their canonical directions.
#[derive(Debug)]
pub struct Projection {
    x: Axes,
    y: Axes,
}

#[derive(Debug)]
struct Axes {
    kept: Tensor,
    /// Directions × kept dimensions.
    matrix: Tensor,
}

/// A view of the scored samples in canonical directions.
struct Projected {
    /// N × kept dimensions.
    raw: Tensor,
    mean: Tensor,
    /// N × directions, centred.
    along: Tensor,
    variances: Tensor,
}

impl Moments {
    /// The moments of N × Dx and N × Dy training rows (float64).
    ///
    /// # Errors
    /// A view that is constant.
    pub fn of(x: &Tensor, y: &Tensor) -> Result<Self, StageError> {
        let rows_x = centred(x).1;
        let x = Covariance::of(&rows_x)?;
        Self::completed(rows_x, x, y)
    }

    /// The moments of the same x with other N × Dy rows; what is known of x is kept.
    ///
    /// # Errors
    /// A view that is constant.
    pub fn beside(self, y: &Tensor) -> Result<Self, StageError> {
        Self::completed(self.rows_x, self.x, y)
    }

    fn completed(rows_x: Tensor, x: Covariance, y: &Tensor) -> Result<Self, StageError> {
        let y = centred(y).1;
        let cross = rows_x.tr().f_matmul(&y)? / rest(&rows_x);
        let y = Covariance::of(&y)?;
        let cross = cross / (x.scale * y.scale).sqrt();
        Ok(Self { rows_x, x, y, cross, turned: None })
    }

    /// The canonical directions, as many as the lower-dimensional view keeps dimensions.
    ///
    /// # Errors
    /// No dimension is kept, or a decomposition doesn't converge: another regularisation may do.
    pub fn fit(&mut self, by: Regularisation) -> Result<Projection, StageError> {
        let ((x, roots_x), (y, roots_y)) = (self.x.decomposed(by.x)?, self.y.decomposed(by.y)?);
        let turned = match self.turned.take() {
            Some((kept_x, kept_y, turned)) if kept_x == x.kept && kept_y == y.kept => turned,
            _ => {
                let (at_x, at_y) = (Tensor::from_slice(&x.kept), Tensor::from_slice(&y.kept));
                let cross = self.cross.index_select(0, &at_x).index_select(1, &at_y);
                x.vectors.tr().matmul(&cross).matmul(&y.vectors)
            }
        };
        let (u, v) = singular_vectors(&(roots_x.unsqueeze(1) * &turned * &roots_y))?;
        let along_x = (u * roots_x.unsqueeze(1)).tr().matmul(&x.vectors.tr());
        let along_y = (v * roots_y.unsqueeze(1)).tr().matmul(&y.vectors.tr());
        let signs = signs(if x.kept.len() < y.kept.len() { &along_x } else { &along_y })?;
        let axes = |kept: &[i64], matrix: Tensor| Axes { kept: Tensor::from_slice(kept), matrix: matrix * &signs };
        let projection = Projection { x: axes(&x.kept, along_x), y: axes(&y.kept, along_y) };
        self.turned = Some((x.kept.clone(), y.kept.clone(), turned));
        Ok(projection)
    }
}

/// Left and right singular vectors of a matrix in columns, by descending singular value, and zero where that is below √[`NULL`] of the largest.
///
/// The eigenvectors of the smaller Gram matrix take a fraction of the time of a singular value decomposition. The digits that squaring costs
/// are those of directions along which nothing is alike.
fn singular_vectors(matrix: &Tensor) -> Result<(Tensor, Tensor), StageError> {
    let size = matrix.size();
    if size[0] < size[1] {
        let (v, u) = singular_vectors(&matrix.tr())?;
        return Ok((u, v));
    }
    let (squares, vectors) = matrix.tr().f_matmul(matrix)?.f_linalg_eigh("L")?;
    let (squares, v) = (squares.f_flip([0])?, vectors.f_flip([1])?);
    let alive = squares.gt_tensor(&(squares.f_max()? * NULL));
    let inverse = squares.rsqrt().where_self(&alive, &squares.zeros_like());
    Ok((matrix.f_matmul(&v)? * inverse, v * alive))
}

/// What sums over rows without their mean are divided by.
fn rest(rows: &Tensor) -> f64 {
    (rows.size()[0] - 1).max(1) as f64
}

impl Covariance {
    fn of(centred: &Tensor) -> Result<Self, StageError> {
        let covariance = centred.tr().f_matmul(centred)? / rest(centred);
        let scale = covariance.abs().max().double_value(&[]);
        if scale <= 0. {
            let message = "a view is the same in all training samples".to_owned();
            return Err(StageError::refused(message, "analyse a checkpoint whose layers respond to the input"));
        }
        let scaled = covariance / scale;
        let variances = Vec::try_from(scaled.diagonal(0, 0, 1).contiguous())?;
        Ok(Self { scaled, variances, scale, decomposed: None })
    }

    /// The eigenvectors Q of the dimensions that are kept, and the roots r with W C Wᵀ = 1 for W = diag(r) Qᵀ and their regularised covariance C.
    fn decomposed(&mut self, epsilon: f64) -> Result<(&Decomposed, Tensor), StageError> {
        let kept: Vec<i64> =
            (0..).zip(&self.variances).filter(|(_, v)| **v >= epsilon).map(|(index, _)| index).collect();
        if kept.is_empty() {
            return Err(StageError::Failed(format!("no dimension's variance reaches the regularisation {epsilon:e}")));
        }
        let decomposed = match self.decomposed.take() {
            Some(before) if before.kept == kept => before,
            _ => {
                let index = Tensor::from_slice(&kept);
                let (values, vectors) =
                    self.scaled.index_select(0, &index).index_select(1, &index).f_linalg_eigh("L")?;
                Decomposed { kept, values, vectors }
            }
        };
        let decomposed = self.decomposed.insert(decomposed);
        let regularised = &decomposed.values + epsilon;
        let floor = regularised.f_max()? * ZERO;
        let roots = regularised.rsqrt().where_self(&regularised.gt_tensor(&floor), &regularised.zeros_like());
        Ok((decomposed, roots))
    }
}

impl Projection {
    /// Correlations of N × Dx and N × Dy rows along the canonical directions, and their means. Rows are centred by their own mean.
    ///
    /// # Errors
    /// No more rows than directions; no direction in which both views vary; a score that is not finite.
    pub fn score(&self, x: &Tensor, y: &Tensor, weighting: Weighting) -> Result<Score, StageError> {
        let (rows, directions) = (x.size()[0], self.x.matrix.size()[0]);
        if rows <= directions {
            return Err(StageError::refused(
                format!("{rows} samples to score {directions} directions on"),
                "sample more tokens, or use fewer folds",
            ));
        }
        let (x, y) = (self.x.project(x), self.y.project(y));
        let varies = |view: &Projected| view.variances.gt_tensor(&(view.variances.max() * STILL));
        let alive = varies(&x).logical_and(&varies(&y)).nonzero().squeeze_dim(1);
        if alive.size()[0] == 0 {
            return Err(StageError::Failed("the scored samples vary in no canonical direction".into()));
        }
        let product = (&x.along * &y.along).sum_dim_intlist([0].as_slice(), false, Kind::Double);
        let correlations = (product / (&x.variances * &y.variances).sqrt()).index_select(0, &alive);
        let smaller = if self.x.matrix.size()[1] < self.y.matrix.size()[1] { &x } else { &y };
        let weights = smaller.weights(&alive, weighting)?;
        let pwcca = (&weights * &correlations).sum(Kind::Double).double_value(&[]);
        let cca = correlations.mean(Kind::Double).double_value(&[]);
        if !(pwcca.is_finite() && cca.is_finite()) {
            return Err(StageError::Failed("a canonical correlation is not a number".into()));
        }
        Ok(Score { pwcca, cca, correlations: Vec::try_from(correlations)? })
    }
}

impl Axes {
    fn project(&self, rows: &Tensor) -> Projected {
        let raw = rows.index_select(1, &self.kept);
        let (mean, centred) = centred(&raw);
        let along = centred.matmul(&self.matrix.tr());
        let variances = along.square().sum_dim_intlist([0].as_slice(), false, Kind::Double);
        Projected { raw, mean, along, variances }
    }
}

impl Projected {
    /// How much of the view each direction explains: with an orthonormal basis q of the directions, Σⱼ |qᵢ · view's dimension j|; sums to 1.
    fn weights(&self, alive: &Tensor, weighting: Weighting) -> Result<Tensor, StageError> {
        let along = self.along.index_select(1, alive);
        let (along, view) = match weighting {
            Weighting::Toolkit => (along + self.mean.index_select(1, alive), self.raw.shallow_clone()),
            Weighting::Centred => (along, &self.raw - &self.mean),
        };
        let (basis, _) = Tensor::f_linalg_qr(&along, "reduced")?;
        let weights = basis.tr().matmul(&view).abs().sum_dim_intlist([1].as_slice(), false, Kind::Double);
        Ok(&weights / weights.sum(Kind::Double))
    }
}

/// The sign of each row's first coefficient that is at least half as large as its largest one: −1 or 1, directions × 1.
fn signs(directions: &Tensor) -> Result<Tensor, StageError> {
    let rows = Vec::<Vec<f64>>::try_from(directions)?;
    let sign = |row: &Vec<f64>| {
        let largest = row.iter().fold(0_f64, |largest, value| largest.max(value.abs()));
        row.iter().find(|value| value.abs() >= largest / 2.).map_or(1., |value| value.signum())
    };
    Ok(Tensor::f_from_slice(&rows.iter().map(sign).collect::<Vec<f64>>())?.unsqueeze(1))
}

/// The mean of each column (1 × D), and the rows without it.
fn centred(rows: &Tensor) -> (Tensor, Tensor) {
    let mean = rows.mean_dim([0].as_slice(), true, Kind::Double);
    let rows = rows - &mean;
    (mean, rows)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn singular_vectors_span_a_matrix_of_any_shape_and_rank() {
        tch::manual_seed(1);
        let normal = |rows: i64, columns: i64| Tensor::randn([rows, columns], (Kind::Double, Device::Cpu));
        for (rows, columns, rank) in [(7, 5, 5), (5, 7, 5), (6, 6, 6), (9, 6, 2), (4, 8, 1)] {
            let matrix = normal(rows, rank).matmul(&normal(rank, columns));
            let (u, v) = singular_vectors(&matrix).unwrap();
            let count = rows.min(columns);
            assert_eq!((u.size(), v.size()), (vec![rows, count], vec![columns, count]));
            let singular = u.tr().matmul(&matrix).matmul(&v);
            let equal = |x: Tensor, y: &Tensor| (x - y).abs().max().double_value(&[]) < 1e-9;
            assert!(equal(u.matmul(&singular).matmul(&v.tr()), &matrix), "{rows} × {columns} of rank {rank}");
            let alive = Tensor::arange(count, (Kind::Int64, Device::Cpu)).lt(rank).to_kind(Kind::Double).diag(0);
            assert!(equal(u.tr().matmul(&u), &alive) && equal(v.tr().matmul(&v), &alive));
            let values = Vec::<f64>::try_from(singular.diagonal(0, 0, 1).contiguous()).unwrap();
            assert!(values.is_sorted_by(|larger, smaller| *larger >= smaller - 1e-9), "{values:?}");
        }
    }
}
