//! One side of a comparison: samples as numbers or labels, or their principal components.

use tch::{Device, Kind, Tensor};

use super::rows::Rows;
use crate::failure::StageError;

/// N samples of D numbers each, and to how many principal components they are reduced before they are compared.
#[derive(Debug)]
pub struct View {
    rows: Rows,
    components: Option<usize>,
}

impl View {
    /// The rows of an N × D matrix, in float64 on the CPU.
    ///
    /// # Errors
    /// A tensor that is no matrix, one without rows or columns, values that aren't finite.
    pub fn new(rows_nd: &Tensor) -> Result<Self, StageError> {
        let size = rows_nd.size();
        if size.len() != 2 || size.contains(&0) {
            return Err(StageError::Failed(format!("a view is a matrix of samples, not an array of shape {size:?}")));
        }
        let rows_nd = rows_nd.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        if !bool::try_from(rows_nd.f_isfinite()?.f_all()?)? {
            let message = "a view has values that are infinite or not a number".to_owned();
            return Err(StageError::refused(message, "look at the loss of the run that made the checkpoint"));
        }
        Ok(Self { rows: Rows::Numbers(rows_nd), components: None })
    }

    /// Labels below `classes` as N × `classes` rows with a single one.
    ///
    /// # Errors
    /// A label that is no class; no labels.
    pub fn one_hot(labels: &[u32], classes: usize) -> Result<Self, StageError> {
        if let Some(label) = labels.iter().find(|label| **label as usize >= classes) {
            return Err(StageError::Failed(format!("label {label} is none of {classes} classes")));
        }
        if labels.is_empty() {
            return Err(StageError::Failed("a view of no labels".into()));
        }
        let labels: Vec<i64> = labels.iter().map(|label| i64::from(*label)).collect();
        Ok(Self { rows: Rows::labels(&labels, classes as i64), components: None })
    }

    /// The same samples, reduced to their first `components` principal components, which each trial finds on its training rows. It makes
    /// another metric of what is measured: see [`metric_name`].
    pub fn reduced(self, components: usize) -> Self {
        Self { components: (components < self.width()).then_some(components.max(1)), ..self }
    }

    /// N.
    pub fn samples(&self) -> usize {
        self.rows.samples() as usize
    }

    /// The dimension that is compared.
    pub fn dimension(&self) -> usize {
        self.components.unwrap_or(self.width())
    }

    /// The same rows without a copy, for another thread.
    pub fn shared(&self) -> Self {
        Self { rows: self.rows.shared(), components: self.components }
    }

    /// The same rows in another order or with repetitions.
    pub fn select(&self, rows: &[i64]) -> Self {
        Self { rows: self.rows.select(rows), components: self.components }
    }

    /// All rows, not reduced.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// How rows become what is compared, for rows of this mean (1 × D) and covariance (D × D, of which the lower triangle is read), and the
    /// covariance of what is compared.
    ///
    /// # Errors
    /// The decomposition doesn't converge.
    pub fn reduction(&self, mean_1d: Tensor, covariance_dd: Tensor) -> Result<(Reduction, Tensor), StageError> {
        let Some(components) = self.components else { return Ok((Reduction(None), covariance_dd)) };
        let (values_d, vectors_dd) = covariance_dd.f_linalg_eigh("L")?;
        let first = |of: &Tensor, dimension: i64| of.f_flip([dimension])?.f_narrow(dimension, 0, components as i64);
        let (values_c, axes_dc) = (first(&values_d, 0)?, first(&vectors_dd, 1)?);
        Ok((Reduction(Some((mean_1d, axes_dc))), values_c.f_diag(0)?))
    }

    fn width(&self) -> usize {
        self.rows.width() as usize
    }
}

/// The name of a metric on two views: the base name, and how many principal components it is measured on where a view is reduced.
pub fn metric_name(base: &str, x: Option<usize>, y: Option<usize>) -> String {
    let part = |components: Option<usize>, word| components.map_or(String::new(), |count| format!("-{word}{count}"));
    format!("{base}{}{}", part(x, "pca"), part(y, "target-pca"))
}

/// A projection to principal components (the axes of largest variance), or none.
#[derive(Debug)]
pub struct Reduction(Option<(Tensor, Tensor)>);

impl Reduction {
    /// N × D rows as N × components.
    pub fn apply(&self, rows: Rows) -> Rows {
        match &self.0 {
            Some((mean_1d, axes_dc)) => Rows::Numbers(rows.projected(mean_1d, axes_dc)),
            None => rows,
        }
    }

    /// A D × K covariance with something else as components × K.
    pub fn covariance(&self, covariance_dk: Tensor) -> Tensor {
        match &self.0 {
            Some((_, axes_dc)) => axes_dc.tr().matmul(&covariance_dk),
            None => covariance_dk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::sums::Sums;

    #[test]
    fn principal_components_keep_the_directions_of_largest_variance() {
        let rows: Vec<f64> = (0..40).flat_map(|n| [(n % 2) as f64 * 0.1, n as f64, (n % 5) as f64]).collect();
        let view = View::new(&Tensor::from_slice(&rows).view([40, 3])).unwrap().reduced(2);
        assert_eq!((view.dimension(), view.samples()), (2, 40));
        let sums = Sums::of((view.rows(), &view.rows().origin()), &[]);
        let (reduction, covariance) = view.reduction(sums.x.mean(40), sums.x.covariance(40)).unwrap();
        let reduced = reduction.apply(view.rows().shared()).numbers();
        assert!((reduced.tr().matmul(&reduced) / 39. - covariance).abs().max().double_value(&[]) < 1e-9);
        let variances = Vec::<f64>::try_from(reduced.square().mean_dim([0].as_slice(), false, Kind::Double)).unwrap();
        assert!(variances[0] > 133. && variances[0] < 134., "{variances:?}");
        assert!(variances[1] > 1.9 && variances[1] < 2.01, "{variances:?}");
    }

    #[test]
    fn reduced_metrics_have_their_own_names() {
        assert_eq!(metric_name("cca-word", None, None), "cca-word");
        assert_eq!(metric_name("cca-word", Some(2), None), "cca-word-pca2");
        assert_eq!(metric_name("cca-intra", Some(2), Some(1)), "cca-intra-pca2-target-pca1");
        assert_eq!(View::one_hot(&[0, 1, 2, 1], 3).unwrap().reduced(7).dimension(), 3);
    }

    #[test]
    fn what_is_no_view_is_refused() {
        assert!(View::one_hot(&[3], 3).is_err());
        assert!(View::one_hot(&[], 3).is_err());
        assert!(View::new(&Tensor::from_slice(&[1.0, f64::NAN]).view([1, 2])).is_err());
        assert!(View::new(&Tensor::from_slice(&[1.0])).is_err());
    }
}
