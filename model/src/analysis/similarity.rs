//! How alike and how rich representations are without labels: CKA, effective rank, and where attention looks.

use tch::{Device, Kind, Tensor};

use crate::failure::StageError;

/// Features of some samples, without their mean; in float64 on the CPU.
#[derive(Debug)]
pub struct Features {
    centred_nd: Tensor,
    /// XᵀX.
    products_dd: Tensor,
}

impl Features {
    /// Of N × D features.
    ///
    /// # Errors
    /// Features that do not vary, or aren't finite.
    pub fn new(rows_nd: &Tensor) -> Result<Self, StageError> {
        let rows_nd = rows_nd.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let centred_nd = &rows_nd - rows_nd.f_mean_dim([0].as_slice(), true, Kind::Double)?;
        let products_dd = centred_nd.tr().f_matmul(&centred_nd)?;
        let power = frobenius(&products_dd);
        if !(power.is_finite() && power > 0.) {
            return Err(StageError::refused(
                format!("features of {} samples do not vary or are not finite", rows_nd.size()[0]),
                "give at least two different samples, and look at the loss of the run that made the checkpoint",
            ));
        }
        Ok(Self { centred_nd, products_dd })
    }

    /// The same features with the samples in another order.
    pub fn select(&self, order: &[i64]) -> Self {
        let centred_nd = self.centred_nd.index_select(0, &Tensor::from_slice(order));
        Self { centred_nd, products_dd: self.products_dd.shallow_clone() }
    }

    /// Linear centred kernel alignment with other features of the same samples, ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms, in 0..=1
    /// (Kornblith et al. 2019, biased estimator).
    ///
    /// # Errors
    /// Features of another number of samples.
    pub fn cka(&self, other: &Self) -> Result<f64, StageError> {
        let cross = frobenius(&self.centred_nd.tr().f_matmul(&other.centred_nd)?);
        Ok((cross.powi(2) / (frobenius(&self.products_dd) * frobenius(&other.products_dd))).min(1.))
    }

    /// exp of the entropy of the singular values of the centred features, as shares of their sum (Roy and Vetterli 2007). Between 1 and the
    /// smaller of their width and the samples.
    ///
    /// # Errors
    /// The decomposition does not converge.
    pub fn effective_rank(&self) -> Result<f64, StageError> {
        let values = Vec::<f64>::try_from(self.products_dd.f_linalg_eigvalsh("L")?)?;
        let floor = values.last().copied().unwrap_or(0.) * 1e-14;
        let singular: Vec<f64> = values.into_iter().filter(|value| *value > floor).map(f64::sqrt).collect();
        let total: f64 = singular.iter().sum();
        Ok((-singular.iter().map(|value| value / total * (value / total).ln()).sum::<f64>()).exp())
    }
}

/// The Frobenius norm.
pub(super) fn frobenius(matrix: &Tensor) -> f64 {
    matrix.square().sum(Kind::Double).double_value(&[]).sqrt()
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
pub fn attention(weights_tt: &Tensor) -> Attention {
    let frames = weights_tt.size()[0];
    let at_t = Tensor::arange(frames, (Kind::Float, weights_tt.device()));
    let apart_tt = (at_t.unsqueeze(1) - at_t.unsqueeze(0)).abs();
    let distance = (weights_tt * apart_tt).sum(Kind::Double).double_value(&[]) / frames as f64;
    Attention { distance, diagonality: -distance / frames as f64 }
}

impl Attention {
    /// That of a head which looks at all of so many frames alike: the mean of |i − j| is (T² − 1) / 3T.
    pub fn uniform(frames: u64) -> Self {
        let frames = frames as f64;
        let distance = (frames * frames - 1.) / (3. * frames);
        Self { distance, diagonality: -distance / frames }
    }
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

    fn features(rows: &Tensor) -> Features {
        Features::new(rows).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn cka_is_symmetric_and_sees_neither_rotation_scale_shift_nor_order(seed in 0u64..1000) {
            let (x, y) = (random(60, 5, seed), random(60, 4, seed + 1000) + random(60, 5, seed).narrow(1, 0, 4));
            let (fx, fy) = (features(&x), features(&y));
            let cka = fx.cka(&fy).unwrap();
            let (rotation, _) = Tensor::linalg_qr(&(random(5, 5, seed + 2000) - 10.), "reduced");
            let turned = features(&(x.matmul(&rotation) * 3. - 7.));
            let order: Vec<i64> = (0..60).rev().collect();
            prop_assert!((0. ..=1.).contains(&cka));
            for other in [fy.cka(&fx), turned.cka(&fy), fx.select(&order).cka(&fy.select(&order))] {
                prop_assert!((other.unwrap() - cka).abs() < 1e-10);
            }
            prop_assert!((fx.cka(&fx).unwrap() - 1.).abs() < 1e-10);
            prop_assert!(fx.select(&order).cka(&fy).unwrap() < cka);
        }

        #[test]
        fn effective_rank_lies_between_one_and_the_width(seed in 0u64..1000) {
            let full = features(&random(60, 5, seed)).effective_rank().unwrap();
            let one = features(&random(60, 1, seed + 1000).matmul(&random(1, 6, seed))).effective_rank().unwrap();
            prop_assert!(full > 4. && full <= 5. + 1e-12);
            prop_assert!((one - 1.).abs() < 1e-4, "{}", one);
        }
    }

    #[test]
    fn equal_orthogonal_directions_count_one_each() {
        let corners: Vec<f64> = (0..8).flat_map(|n| [n & 1, n >> 1 & 1, n >> 2].map(f64::from)).collect();
        let x = Tensor::from_slice(&corners).view([8, 3]);
        assert!((features(&x).effective_rank().unwrap() - 3.).abs() < 1e-12);
    }

    #[test]
    fn features_that_say_nothing_are_refused() {
        let flat = Tensor::ones([9, 2], (Kind::Double, Device::Cpu));
        assert!(Features::new(&flat).is_err());
        assert!(Features::new(&(flat * f64::NAN)).is_err());
        assert!(features(&random(9, 2, 1)).cka(&features(&random(8, 2, 1))).is_err());
    }

    #[test]
    fn attention_to_itself_is_near_and_to_all_is_far() {
        let options = (Kind::Float, Device::Cpu);
        assert_eq!(attention(&Tensor::eye(6, options)), Attention { distance: 0., diagonality: 0. });
        let spread = attention(&(Tensor::ones([4, 4], options) / 4.));
        assert_eq!((spread.distance, spread.diagonality), (1.25, -0.3125));
        assert_eq!(spread, Attention::uniform(4));
        let next = Tensor::eye(5, options).roll([1], [1]);
        assert_eq!(attention(&next).distance, (4. + 4.) / 5.);
    }
}
