//! What a fit needs to know of the training samples, with what fits share.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::whitener::Whitener;
use super::{Projection, Regularisation};
use crate::analysis::rows::Rows;
use crate::analysis::sums::{Sums, lower_gram};
use crate::failure::StageError;

/// The share of the largest squared canonical correlation below which directions have nothing to do with each other.
const NULL: f64 = 1e-12;

/// A covariance, scaled, with the roots of its inverse that were asked for.
#[derive(Debug)]
pub struct Covariance {
    /// D × D with 1 as its largest magnitude; the lower triangle counts.
    scaled_dd: Tensor,
    variances: Vec<f64>,
    scale: f64,
    whiteners: Vec<(f64, Rc<Whitener>)>,
}

/// The covariances of two views, within and between them.
#[derive(Debug)]
pub struct Moments {
    x: Covariance,
    y: Covariance,
    /// Dy × Dx, divided by the geometric mean of the views' scales.
    cross_ed: Tensor,
    regressions: Vec<Rc<Regression>>,
}

/// The higher-dimensional view's prediction of the lower-dimensional one at one regularisation.
#[derive(Debug)]
pub struct Regression {
    by: Rc<Whitener>,
    /// Whether the second view predicts the first one.
    pub from_y: bool,
    /// The dimensions of the lower-dimensional view.
    kept: Vec<i64>,
    /// The whitened covariance between the views: directions × `kept`.
    white: Tensor,
    /// The covariance between the views from the left divided by that of the view that predicts: its kept dimensions × `kept`.
    pub coefficients: Tensor,
}

impl Covariance {
    /// Of a D × D covariance, of which the lower triangle is read.
    ///
    /// # Errors
    /// Nothing varies.
    pub fn new(covariance_dd: &Tensor) -> Result<Self, StageError> {
        let variances = Vec::<f64>::try_from(covariance_dd.diagonal(0, 0, 1).contiguous())?;
        // A covariance is at most as large as the larger of its two variances.
        let scale = variances.iter().copied().fold(0., f64::max);
        if scale <= 0. {
            let message = "a view is the same in all training samples".to_owned();
            return Err(StageError::refused(message, "analyse a checkpoint whose layers respond to the input"));
        }
        let variances = variances.into_iter().map(|variance| variance / scale).collect();
        Ok(Self { scaled_dd: covariance_dd / scale, variances, scale, whiteners: Vec::new() })
    }

    fn whitener(&mut self, epsilon: f64) -> Result<Rc<Whitener>, StageError> {
        if let Some((_, found)) = self.whiteners.iter().find(|(known, _)| *known == epsilon) {
            return Ok(found.clone());
        }
        let found = Rc::new(Whitener::of(&self.scaled_dd, &self.variances, epsilon)?);
        self.whiteners.push((epsilon, found.clone()));
        Ok(found)
    }
}

impl Moments {
    /// Of N × Dx and N × Dy training rows.
    ///
    /// # Errors
    /// A view that is constant.
    pub fn of(x: &Rows, y: &Rows) -> Result<Self, StageError> {
        let (sums, samples) = (Sums::of((x, &x.origin()), &[(y, &y.origin())]), x.samples());
        let Some(second) = sums.seconds.first() else { return Err(StageError::Failed("a view was lost".into())) };
        let [x, y] = [&sums.x, &second.y].map(|side| Covariance::new(&side.covariance(samples)));
        Ok(Self::new(x?, y?, &sums.cross_covariance(second)))
    }

    /// Of two views' covariances and that of the second's dimensions (rows) with the first's.
    pub fn new(x: Covariance, y: Covariance, cross_ed: &Tensor) -> Self {
        let cross_ed = cross_ed / (x.scale * y.scale).sqrt();
        Self { x, y, cross_ed, regressions: Vec::new() }
    }

    /// The moments of the same first view with another second one; what is known of the first is kept.
    pub fn beside(self, y: Covariance, cross_ed: &Tensor) -> Self {
        Self::new(self.x, y, cross_ed)
    }

    /// The canonical directions, as many as the lower-dimensional view keeps dimensions.
    ///
    /// The lower-dimensional view's are the eigenvectors of the whitened Gram matrix of its predictions by the other view, which take a
    /// fraction of the time of a singular value decomposition; the digits that squaring costs are those of directions along which nothing is
    /// alike. The other view's follow from its predictions.
    ///
    /// # Errors
    /// No dimension is kept, or a decomposition doesn't converge: another regularisation may do.
    pub fn fit(&mut self, by: Regularisation) -> Result<Projection, StageError> {
        let (x, y) = (self.x.whitener(by.x)?, self.y.whitener(by.y)?);
        let from_y = x.kept.len() < y.kept.len();
        let (higher, lower) = if from_y { (y, x) } else { (x, y) };
        let regression = self.regression(&higher, &lower, from_y)?;
        let white = lower.whitened(&regression.white.tr())?;
        let (squares, vectors) = lower_gram(&white.tr()).f_linalg_eigh("L")?;
        let (squares, vectors) = (squares.f_flip([0])?, vectors.f_flip([1])?);
        let alive = squares.gt_tensor(&(squares.f_max()? * NULL));
        let inverse = squares.rsqrt().where_self(&alive, &squares.zeros_like());
        let along = lower.back(&(vectors * alive))?;
        let along = &along * signs(&along)?;
        Ok(Projection { turn: &along * inverse, along, regression })
    }

    fn regression(
        &mut self,
        higher: &Rc<Whitener>,
        lower: &Whitener,
        from_y: bool,
    ) -> Result<Rc<Regression>, StageError> {
        let known = |known: &&Rc<Regression>| {
            Rc::ptr_eq(&known.by, higher) && known.from_y == from_y && known.kept == lower.kept
        };
        if let Some(found) = self.regressions.iter().find(known) {
            return Ok(found.clone());
        }
        let cross = if from_y { self.cross_ed.shallow_clone() } else { self.cross_ed.tr() };
        let of = |kept: &[i64], dimension: i64, cross: Tensor| match cross.size()[dimension as usize] {
            all if all == kept.len() as i64 => cross,
            _ => cross.index_select(dimension, &Tensor::from_slice(kept)),
        };
        let white = higher.whitened(&of(&lower.kept, 1, of(&higher.kept, 0, cross)))?;
        let coefficients = higher.back(&white)?;
        let found = Regression { by: higher.clone(), from_y, kept: lower.kept.clone(), white, coefficients };
        self.regressions.push(Rc::new(found));
        self.regressions.last().cloned().ok_or_else(|| StageError::Failed("a regression was lost".into()))
    }
}

impl Regression {
    /// The dimensions of the view that predicts, and of the one that is predicted.
    pub fn kept(&self) -> (&[i64], &[i64]) {
        (&self.by.kept, &self.kept)
    }
}

/// The sign of each column's first coefficient that is at least half as large as its largest one: −1 or 1, one a column.
fn signs(directions: &Tensor) -> Result<Tensor, StageError> {
    let size = directions.size();
    let columns = Vec::<f64>::try_from(directions.tr().contiguous().view([-1]))?;
    let sign = |column: &[f64]| {
        let largest = column.iter().fold(0_f64, |largest, value| largest.max(value.abs()));
        column.iter().find(|value| value.abs() >= largest / 2.).map_or(1., |value| value.signum())
    };
    let signs: Vec<f64> = columns.chunks(size[0] as usize).map(sign).collect();
    Ok(Tensor::f_from_slice(&signs)?.to_kind(Kind::Double))
}
