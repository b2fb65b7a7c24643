//! CKA of features that come piece by piece: sums are held, samples aren't.

use tch::{Device, Kind, Tensor};

use super::similarity::frobenius;
use crate::failure::StageError;

/// Two sets of features of the same samples, as sums in float64 on the CPU.
#[derive(Debug)]
pub struct Streamed {
    samples: i64,
    x: Side,
    y: Side,
    /// Σ x yᵀ.
    cross_de: Tensor,
}

#[derive(Debug)]
struct Side {
    /// The first sample, which is taken away from all: sums of numbers that lie far from zero would lose their differences.
    origin_1d: Option<Tensor>,
    sum_1d: Tensor,
    /// Σ x xᵀ.
    products_dd: Tensor,
}

/// How alike two sets of features are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likeness {
    /// As [`super::similarity::Features::cka`].
    pub cka: f64,
    /// Its mean over all orders of one side's samples: tr XᵀX tr YᵀY / ((N − 1) ‖XᵀX‖ ‖YᵀY‖), because then the products of different samples of a
    /// side, which sum to minus the products with themselves, are as large for one pair as for any.
    pub null: f64,
}

impl Streamed {
    /// Of features with so many dimensions, without samples yet.
    pub fn new(x: i64, y: i64) -> Self {
        let zeros = |rows, columns| Tensor::zeros([rows, columns], (Kind::Double, Device::Cpu));
        let side = |width| Side { origin_1d: None, sum_1d: zeros(1, width), products_dd: zeros(width, width) };
        Self { samples: 0, x: side(x), y: side(y), cross_de: zeros(x, y) }
    }

    /// Adds N × D and N × E features of the next samples.
    ///
    /// # Errors
    /// Features of different numbers of samples, or of other dimensions.
    pub fn add(&mut self, x_nd: &Tensor, y_ne: &Tensor) -> Result<(), StageError> {
        let (x_nd, y_ne) = (self.x.add(x_nd)?, self.y.add(y_ne)?);
        self.cross_de += x_nd.tr().f_matmul(&y_ne)?;
        self.samples += x_nd.size()[0];
        Ok(())
    }

    /// Of all samples that came.
    ///
    /// # Errors
    /// Features that do not vary, or aren't finite.
    pub fn likeness(&self) -> Result<Likeness, StageError> {
        let samples = self.samples as f64;
        let cross = frobenius(&(&self.cross_de - self.x.sum_1d.tr().matmul(&self.y.sum_1d) / samples));
        let (x_dd, y_ee) = (self.x.covariance(samples), self.y.covariance(samples));
        let power = frobenius(&x_dd) * frobenius(&y_ee);
        if !(power.is_finite() && power > 0.) {
            return Err(StageError::refused(
                format!("features of {samples} samples do not vary or are not finite"),
                "give at least two different samples, and look at the loss of the run that made the checkpoint",
            ));
        }
        let traces = x_dd.trace().double_value(&[]) * y_ee.trace().double_value(&[]);
        Ok(Likeness { cka: (cross.powi(2) / power).min(1.), null: traces / ((samples - 1.) * power) })
    }
}

impl Side {
    /// Adds samples, and gives them without the origin.
    fn add(&mut self, rows_nd: &Tensor) -> Result<Tensor, StageError> {
        let rows_nd = rows_nd.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        let width = self.sum_1d.size()[1];
        if rows_nd.size().get(1) != Some(&width) {
            return Err(StageError::Failed(format!(
                "features of shape {:?}, where width {width} came before",
                rows_nd.size()
            )));
        }
        if rows_nd.size()[0] == 0 {
            return Ok(rows_nd);
        }
        let origin_1d = self.origin_1d.get_or_insert_with(|| rows_nd.narrow(0, 0, 1).copy());
        let rows_nd = rows_nd.f_sub(origin_1d)?;
        self.sum_1d += rows_nd.f_sum_dim_intlist([0].as_slice(), true, Kind::Double)?;
        self.products_dd += rows_nd.tr().f_matmul(&rows_nd)?;
        Ok(rows_nd)
    }

    /// Σ (x − mean)(x − mean)ᵀ.
    fn covariance(&self, samples: f64) -> Tensor {
        &self.products_dd - self.sum_1d.tr().matmul(&self.sum_1d) / samples
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::similarity::Features;
    use crate::random::Draws;

    fn random(rows: i64, columns: i64, seed: u64) -> Tensor {
        let mut draws = Draws::new(seed, "test", &[], "");
        let numbers: Vec<f64> = (0..rows * columns).map(|_| draws.unit() + 1000.).collect();
        Tensor::from_slice(&numbers).view([rows, columns])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn pieces_give_what_the_whole_gives(seed in 0u64..1000, cuts in prop::collection::vec(0i64..40, 0..4)) {
            let (x, y) = (random(40, 5, seed), random(40, 3, seed + 1000) + random(40, 5, seed).narrow(1, 0, 3));
            let mut cuts = [cuts, vec![0, 40]].concat();
            cuts.sort_unstable();
            let mut streamed = Streamed::new(5, 3);
            for piece in cuts.windows(2) {
                let rows = |view: &Tensor| view.narrow(0, piece[0], piece[1] - piece[0]);
                streamed.add(&rows(&x), &rows(&y)).unwrap();
            }
            let whole = Features::new(&x).unwrap().cka(&Features::new(&y).unwrap()).unwrap();
            prop_assert!((streamed.likeness().unwrap().cka - whole).abs() < 1e-9);
        }
    }

    #[test]
    fn the_null_is_the_mean_over_all_orders() {
        let (x, y) = (random(4, 2, 1), random(4, 3, 2));
        let mut streamed = Streamed::new(2, 3);
        streamed.add(&x, &y).unwrap();
        let (x, y) = (Features::new(&x).unwrap(), Features::new(&y).unwrap());
        let mut orders: Vec<Vec<i64>> = vec![Vec::new()];
        for _ in 0..4 {
            let longer = |order: &Vec<i64>| {
                let order = order.clone();
                (0..4).filter(|n| !order.contains(n)).map(|n| [order.clone(), vec![n]].concat()).collect::<Vec<_>>()
            };
            orders = orders.iter().flat_map(longer).collect();
        }
        assert_eq!(orders.len(), 24);
        let mean = orders.iter().map(|order| x.cka(&y.select(order)).unwrap()).sum::<f64>() / 24.;
        assert!((streamed.likeness().unwrap().null - mean).abs() < 1e-9);
    }

    #[test]
    fn features_that_say_nothing_or_do_not_belong_together_are_refused() {
        let mut streamed = Streamed::new(2, 2);
        assert!(streamed.likeness().is_err(), "no samples");
        streamed.add(&Tensor::ones([5, 2], (Kind::Float, Device::Cpu)), &random(5, 2, 1)).unwrap();
        assert!(streamed.likeness().is_err(), "nothing varies");
        assert!(streamed.add(&random(4, 2, 1), &random(5, 2, 1)).is_err());
        assert!(Streamed::new(2, 2).add(&random(4, 3, 1), &random(4, 2, 1)).is_err());
    }
}
