//! How alike and how rich representations are without labels: CKA, effective rank, and where attention looks.

use tch::{Device, Kind, Tensor};

use crate::failure::StageError;

/// Means and covariances of two sets of features of the same samples, updated while batches stream by; all in float64 on the CPU.
///
/// Batches are joined by the update of Chan, Golub and LeVeque (1979), which keeps its digits where means are far from zero.
#[derive(Debug)]
pub struct Moments {
    samples: f64,
    mean_x: Tensor,
    mean_y: Tensor,
    /// Sums of products of what is left without the means: Dx × Dx, Dx × Dy, Dy × Dy.
    xx: Tensor,
    xy: Tensor,
    yy: Tensor,
}

impl Moments {
    /// No samples of `x` and `y` numbers.
    pub fn new(x: usize, y: usize) -> Self {
        let zeros =
            |rows: usize, columns: usize| Tensor::zeros([rows as i64, columns as i64], (Kind::Double, Device::Cpu));
        Self {
            samples: 0.,
            mean_x: zeros(1, x),
            mean_y: zeros(1, y),
            xx: zeros(x, x),
            xy: zeros(x, y),
            yy: zeros(y, y),
        }
    }

    /// Adds N × Dx and N × Dy features of the same samples.
    ///
    /// # Errors
    /// Batches of other widths or of different samples.
    pub fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<(), StageError> {
        let (rows, widths) = (x.size()[0], (self.mean_x.size()[1], self.mean_y.size()[1]));
        if x.size() != [rows, widths.0] || y.size() != [rows, widths.1] {
            let message =
                format!("features of {:?} and {:?} where {widths:?} numbers a sample were begun", x.size(), y.size());
            return Err(StageError::Failed(message));
        }
        if rows == 0 {
            return Ok(());
        }
        let wide = |batch: &Tensor| batch.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double);
        let (x, y) = (wide(x)?, wide(y)?);
        let mean = |batch: &Tensor| batch.mean_dim([0].as_slice(), true, Kind::Double);
        let (mean_x, mean_y) = (mean(&x), mean(&y));
        let (x, y) = (x - &mean_x, y - &mean_y);
        let (away_x, away_y) = (&mean_x - &self.mean_x, &mean_y - &self.mean_y);
        let (rows, total) = (rows as f64, self.samples + rows as f64);
        let between = self.samples * rows / total;
        self.xx += x.tr().matmul(&x) + away_x.tr().matmul(&away_x) * between;
        self.xy += x.tr().matmul(&y) + away_x.tr().matmul(&away_y) * between;
        self.yy += y.tr().matmul(&y) + away_y.tr().matmul(&away_y) * between;
        self.mean_x += away_x * (rows / total);
        self.mean_y += away_y * (rows / total);
        self.samples = total;
        Ok(())
    }

    /// Linear centred kernel alignment, ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features in Frobenius norms, in 0..=1 (Kornblith et al. 2019,
    /// biased estimator).
    ///
    /// # Errors
    /// Fewer than two samples; features that do not vary or aren't finite.
    pub fn cka(&self) -> Result<f64, StageError> {
        let power = |matrix: &Tensor| matrix.square().sum(Kind::Double).double_value(&[]);
        let alike = power(&self.xy) / (power(&self.xx) * power(&self.yy)).sqrt();
        alike.is_finite().then_some(alike).ok_or_else(|| self.lifeless())
    }

    /// Effective ranks of both sets of features: exp of the entropy of the singular values of the centred features, as shares of their sum
    /// (Roy and Vetterli 2007). Between 1 and the smaller of their width and the samples.
    ///
    /// # Errors
    /// As [`Moments::cka`].
    pub fn effective_ranks(&self) -> Result<(f64, f64), StageError> {
        let rank = |products: &Tensor| -> Result<f64, StageError> {
            let values = Vec::<f64>::try_from(products.f_linalg_eigvalsh("L")?)?;
            let floor = values.last().copied().unwrap_or(0.) * 1e-14;
            let singular: Vec<f64> = values.into_iter().filter(|value| *value > floor).map(f64::sqrt).collect();
            let total: f64 = singular.iter().sum();
            if singular.is_empty() || !total.is_finite() {
                return Err(self.lifeless());
            }
            Ok((-singular.iter().map(|value| value / total * (value / total).ln()).sum::<f64>()).exp())
        };
        Ok((rank(&self.xx)?, rank(&self.yy)?))
    }

    fn lifeless(&self) -> StageError {
        StageError::refused(
            format!("features of {} samples do not vary or are not finite", self.samples),
            "give at least two different samples, and look at the loss of the run that made the checkpoint",
        )
    }
}

/// Where one head looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Mean over queries of Σⱼ aᵢⱼ |i − j|, in frames of the layer.
    pub distance: f64,
    /// The negative distance as a share of the frames: 0 on the diagonal, lower the further away (Yang et al. 2020).
    pub diagonality: f64,
}

/// Distance and diagonality of the T × T attention of one head, queries in rows, each of which sums to 1.
///
/// # Errors
/// No square matrix, or a row that sums to something else.
pub fn attention(weights_tt: &Tensor) -> Result<Attention, StageError> {
    let size = weights_tt.size();
    let fail = || StageError::Failed(format!("attention of shape {size:?} is not square with rows that sum to 1"));
    if size.len() != 2 || size[0] != size[1] || size[0] == 0 {
        return Err(fail());
    }
    let weights_tt = weights_tt.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    let sums = weights_tt.f_sum_dim_intlist([1].as_slice(), false, Kind::Double)?;
    if bool::try_from((sums - 1.).abs().lt(1e-3).logical_not().any())? {
        return Err(fail());
    }
    let frames = Tensor::arange(size[0], (Kind::Double, Device::Cpu));
    let apart = (frames.unsqueeze(1) - frames.unsqueeze(0)).abs();
    let distance = (weights_tt * apart).sum(Kind::Double).double_value(&[]) / size[0] as f64;
    Ok(Attention { distance, diagonality: -distance / size[0] as f64 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Draws;

    fn random(rows: i64, columns: i64, seed: u64) -> Tensor {
        let mut draws = Draws::new(seed, "test", &[], "");
        let numbers: Vec<f64> = (0..rows * columns).map(|_| draws.unit() + 10.).collect();
        Tensor::from_slice(&numbers).view([rows, columns])
    }

    fn moments(x: &Tensor, y: &Tensor, batch: i64) -> Moments {
        let mut moments = Moments::new(x.size()[1] as usize, y.size()[1] as usize);
        for (x, y) in x.split(batch, 0).iter().zip(y.split(batch, 0)) {
            moments.add(x, &y).unwrap();
        }
        moments
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn cka_is_symmetric_and_sees_neither_rotation_scale_shift_nor_batches(seed in 0u64..1000, batch in 1i64..60) {
            let (x, y) = (random(60, 5, seed), random(60, 4, seed + 1000) + random(60, 5, seed).narrow(1, 0, 4));
            let cka = moments(&x, &y, 60).cka().unwrap();
            let (rotation, _) = Tensor::linalg_qr(&(random(5, 5, seed + 2000) - 10.), "reduced");
            prop_assert!((0. ..=1.).contains(&cka));
            for other in [moments(&y, &x, 60), moments(&(x.matmul(&rotation) * 3. - 7.), &y, 60), moments(&x, &y, batch)] {
                prop_assert!((other.cka().unwrap() - cka).abs() < 1e-10);
            }
            prop_assert!((moments(&x, &x, batch).cka().unwrap() - 1.).abs() < 1e-10);
        }

        #[test]
        fn effective_rank_lies_between_one_and_the_width(seed in 0u64..1000) {
            let (x, y) = (random(60, 5, seed), random(60, 1, seed + 1000));
            let (full, one) = moments(&x, &y.matmul(&random(1, 6, seed)), 13).effective_ranks().unwrap();
            prop_assert!(full > 4. && full <= 5. + 1e-12);
            prop_assert!((one - 1.).abs() < 1e-4, "{}", one);
        }
    }

    #[test]
    fn equal_orthogonal_directions_count_one_each() {
        let corners: Vec<f64> = (0..8).flat_map(|n| [n & 1, n >> 1 & 1, n >> 2].map(f64::from)).collect();
        let x = Tensor::from_slice(&corners).view([8, 3]);
        assert!((moments(&x, &x, 3).effective_ranks().unwrap().0 - 3.).abs() < 1e-12);
    }

    #[test]
    fn features_that_say_nothing_are_refused() {
        assert!(Moments::new(2, 2).cka().is_err());
        let (flat, x) = (Tensor::ones([9, 2], (Kind::Double, Device::Cpu)), random(9, 2, 1));
        assert!(moments(&flat, &x, 4).cka().is_err());
        assert!(moments(&flat, &x, 4).effective_ranks().is_err());
        assert!(Moments::new(2, 2).add(&x, &random(8, 2, 1)).is_err());
    }

    #[test]
    fn attention_to_itself_is_near_and_to_all_is_far() {
        let options = (Kind::Double, Device::Cpu);
        assert_eq!(attention(&Tensor::eye(6, options)).unwrap(), Attention { distance: 0., diagonality: 0. });
        let spread = attention(&(Tensor::ones([4, 4], options) / 4.)).unwrap();
        assert_eq!((spread.distance, spread.diagonality), (1.25, -0.3125));
        let next = Tensor::eye(5, options).roll([1], [1]);
        assert_eq!(attention(&next).unwrap().distance, (4. + 4.) / 5.);
        assert!(attention(&Tensor::ones([2, 2], options)).is_err());
        assert!(attention(&Tensor::ones([1, 2], options)).is_err());
    }
}
