//! Canonical correlation analysis, and its mean weighted by projections (PWCCA), scored on samples that it was not fitted on.
//!
//! Source: the procedure of the public layer-wise toolkit (papers.md section 4.2, hubert.md section 6.3; Pasad et al. 2021, after Morcos et
//! al. 2018). Departures, all in what the toolkit leaves to rounding:
//! - Inverse covariances come from Cholesky factors of the covariances, or from their eigenvalues where they are singular ([`whitener`]),
//!   instead of the eigenvalues of a pseudo-inverse, which is the same and exact to more digits (the pseudo-inverse by a general decomposition
//!   moved a score by 0.016 where dimensions were repeated).
//! - Singular vectors come from the eigenvectors of a Gram matrix ([`moments`]).
//! - Directions have a sign ([`Weighting::Toolkit`]).
//! - Directions in which the scored samples do not vary ([`STILL`]), such as the sum of one-hot labels, are left out, because their
//!   correlation is that of rounding errors.

pub mod moments;
pub mod whitener;

use std::rc::Rc;

pub use self::moments::Moments;
pub use reprise_spec::probing::Weighting;
use tch::{Kind, Tensor};

use self::moments::Regression;
use super::rows::{Labels, Rows};
use crate::failure::StageError;

/// The share of the largest variance of a direction below which a direction is left out of a score.
pub const STILL: f64 = 1e-9;

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

/// The linear maps of two views to their canonical directions.
#[derive(Debug)]
pub struct Projection {
    /// Of the lower-dimensional view: its kept dimensions × directions.
    along: Tensor,
    /// The same for its predictions by the other view.
    turn: Tensor,
    regression: Rc<Regression>,
}

/// Samples of two views to score on, with what each regression predicts for them.
#[derive(Debug)]
pub struct Held {
    x: Rows,
    y: Rows,
    /// N × dimensions, centred.
    predicted: Vec<(Rc<Regression>, Tensor)>,
}

impl Held {
    /// N samples of both views.
    pub fn new(x: Rows, y: Rows) -> Self {
        Self { x, y, predicted: Vec::new() }
    }

    fn predicted(&mut self, by: &Rc<Regression>) -> Tensor {
        if let Some((_, found)) = self.predicted.iter().find(|(known, _)| Rc::ptr_eq(known, by)) {
            return found.shallow_clone();
        }
        let rows = if by.from_y { &self.y } else { &self.x }.kept(by.kept().0);
        let found = rows.projected(&rows.mean(), &by.coefficients);
        self.predicted.push((by.clone(), found.shallow_clone()));
        found
    }
}

impl Projection {
    /// Correlations along the canonical directions, and their means. Samples are centred by their own mean.
    ///
    /// # Errors
    /// No more samples than directions; no direction in which both views vary; a score that is not finite.
    pub fn score(&self, held: &mut Held, weighting: Weighting) -> Result<Score, StageError> {
        let (samples, directions) = (held.x.samples(), self.along.size()[1]);
        if samples <= directions {
            return Err(StageError::refused(
                format!("{samples} samples to score {directions} directions on"),
                "sample more tokens, or use fewer folds",
            ));
        }
        let higher = held.predicted(&self.regression).matmul(&self.turn);
        let rows = if self.regression.from_y { &held.x } else { &held.y }.kept(self.regression.kept().1);
        let mean = rows.mean();
        let lower = rows.projected(&mean, &self.along);
        let sums = |of: &Tensor| of.sum_dim_intlist([0].as_slice(), false, Kind::Double);
        let (power_higher, power_lower) = (sums(&higher.square()), sums(&lower.square()));
        let varies = |power: &Tensor| power.gt_tensor(&(power.max() * STILL));
        let alive = varies(&power_higher).logical_and(&varies(&power_lower)).nonzero().squeeze_dim(1);
        if alive.size()[0] == 0 {
            return Err(StageError::Failed("the scored samples vary in no canonical direction".into()));
        }
        let correlations = sums(&(higher * &lower)) / (power_higher * power_lower).sqrt();
        let correlations = correlations.index_select(0, &alive);
        let weights = self.weights(&rows, &mean, &lower, &alive, weighting)?;
        let pwcca = (&weights * &correlations).sum(Kind::Double).double_value(&[]);
        let cca = correlations.mean(Kind::Double).double_value(&[]);
        if !(pwcca.is_finite() && cca.is_finite()) {
            return Err(StageError::Failed("a canonical correlation is not a number".into()));
        }
        Ok(Score { pwcca, cca, correlations: Vec::try_from(correlations)? })
    }

    /// How much of the lower-dimensional view's N × D rows each direction that is alive explains: with an orthonormal basis q of the
    /// directions, Σⱼ |qᵢ · view's dimension j|; sums to 1. `lower` has the rows along all directions.
    fn weights(
        &self,
        rows: &Rows,
        mean: &Tensor,
        lower: &Tensor,
        alive: &Tensor,
        weighting: Weighting,
    ) -> Result<Tensor, StageError> {
        // The toolkit takes back the mean of as many dimensions as there are directions.
        let offset = match weighting {
            Weighting::Toolkit => mean.index_select(1, alive),
            Weighting::Centred => mean.zeros_like().index_select(1, alive),
        };
        let explained = match rows {
            Rows::Labels(labels) => self.explained_by_label(labels, mean, alive, &offset, weighting)?,
            Rows::Numbers(_) => None,
        };
        let explained = match explained {
            Some(explained) => explained,
            None => {
                let (basis, _) = Tensor::f_linalg_qr(&(lower.index_select(1, alive) + offset), "reduced")?;
                let view = match weighting {
                    Weighting::Toolkit => rows.numbers(),
                    Weighting::Centred => rows.numbers() - mean,
                };
                view.tr().matmul(&basis)
            }
        };
        let weights = explained.abs().sum_dim_intlist([0].as_slice(), false, Kind::Double);
        Ok(&weights / weights.sum(Kind::Double))
    }

    /// The products of a one-hot view's dimensions with the basis (dimensions × directions) from one row a label: a basis of rows that repeat
    /// nᵢ times has √nᵢ times less of what one of a single row has, scaled by √nᵢ. None where there are fewer labels than directions, so that
    /// the basis is not determined by them.
    fn explained_by_label(
        &self,
        labels: &Labels,
        mean: &Tensor,
        alive: &Tensor,
        offset: &Tensor,
        weighting: Weighting,
    ) -> Result<Option<Tensor>, StageError> {
        let counts = labels.counts();
        let present = counts.nonzero().squeeze_dim(1);
        if present.size()[0] < alive.size()[0] {
            return Ok(None);
        }
        let roots = counts.index_select(0, &present).sqrt().unsqueeze(1);
        let along = labels.table(mean, &self.along).index_select(0, &present).index_select(1, alive) + offset;
        let (basis, _) = Tensor::f_linalg_qr(&(&roots * along), "reduced")?;
        let sums = basis * &roots;
        let of_labels = present.lt(labels.width()).to_kind(Kind::Double).unsqueeze(1) * &sums;
        Ok(Some(match weighting {
            Weighting::Toolkit => of_labels,
            Weighting::Centred => {
                let means = Tensor::cat(&[mean.squeeze_dim(0), mean.zeros_like().squeeze_dim(0).narrow(0, 0, 1)], 0);
                let total = sums.sum_dim_intlist([0].as_slice(), true, Kind::Double);
                of_labels - means.index_select(0, &present).unsqueeze(1) * total
            }
        }))
    }
}
