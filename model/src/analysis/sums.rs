//! Sums over samples from which covariances follow, so that trials that share samples share their products.

use tch::{Device, Kind, Tensor};

use super::rows::Rows;

/// Columns of a Gram matrix that are computed together: what lies right of them above the diagonal is left out.
const BLOCK: i64 = 128;

/// Sums over samples of a first view, and of second views beside it.
#[derive(Debug)]
pub struct Sums {
    samples: i64,
    pub x: Side,
    pub seconds: Vec<Second>,
}

/// Σ x and the lower triangle of Σ x xᵀ, where x is a sample without the origin.
#[derive(Debug)]
pub struct Side {
    origin_1d: Tensor,
    sum_1d: Tensor,
    products_dd: Tensor,
}

/// What a second view adds.
#[derive(Debug)]
pub struct Second {
    pub y: Side,
    /// Σ y xᵀ.
    cross_ed: Tensor,
}

impl Sums {
    /// Of N rows of a view and of each second view, each with an origin (1 × D) near its mean, which sums that are added up have in common.
    pub fn of(x: (&Rows, &Tensor), seconds: &[(&Rows, &Tensor)]) -> Self {
        let (samples, (x_rows, x)) = (x.0.samples(), Side::of(x));
        let numbers_nd = x_rows.numbers();
        let second = |second: &(&Rows, &Tensor)| {
            let (rows, y) = Side::of(*second);
            Second { y, cross_ed: rows.sums_of(&numbers_nd) }
        };
        Self { samples, x, seconds: seconds.iter().map(second).collect() }
    }

    /// Adds the sums over other samples of the same views, from the same origins.
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.x.add(&other.x);
        for (ours, theirs) in self.seconds.iter_mut().zip(&other.seconds) {
            ours.y.add(&theirs.y);
            ours.cross_ed += &theirs.cross_ed;
        }
    }

    /// The same sums, to which others can be added.
    pub fn copy(&self) -> Self {
        let second = |second: &Second| Second { y: second.y.copy(), cross_ed: second.cross_ed.copy() };
        Self { samples: self.samples, x: self.x.copy(), seconds: self.seconds.iter().map(second).collect() }
    }

    /// N.
    pub fn samples(&self) -> i64 {
        self.samples
    }

    /// Covariance of a second view's dimensions (rows) with the first's.
    pub fn cross_covariance(&self, second: &Second) -> Tensor {
        (&second.cross_ed - second.y.sum_1d.tr().matmul(&self.x.sum_1d) / self.samples as f64) / rest(self.samples)
    }
}

impl Side {
    /// The rows without the origin, and their sums.
    fn of((rows, origin_1d): (&Rows, &Tensor)) -> (Rows, Self) {
        let rows = rows.from_origin(origin_1d);
        let (sum_1d, products_dd) = match &rows {
            Rows::Numbers(rows_nd) => {
                (rows_nd.sum_dim_intlist([0].as_slice(), true, Kind::Double), lower_gram(rows_nd))
            }
            Rows::Labels(labels) => {
                let counts_d = labels.counts().narrow(0, 0, labels.width());
                (counts_d.unsqueeze(0), counts_d.diag(0))
            }
        };
        (rows, Self { origin_1d: origin_1d.shallow_clone(), sum_1d, products_dd })
    }

    fn add(&mut self, other: &Self) {
        self.sum_1d += &other.sum_1d;
        self.products_dd += &other.products_dd;
    }

    fn copy(&self) -> Self {
        let [origin_1d, sum_1d, products_dd] = [&self.origin_1d, &self.sum_1d, &self.products_dd].map(Tensor::copy);
        Self { origin_1d, sum_1d, products_dd }
    }

    /// 1 × D, of so many samples.
    pub fn mean(&self, samples: i64) -> Tensor {
        &self.origin_1d + &self.sum_1d / samples as f64
    }

    /// D × D, its lower triangle alone.
    pub fn covariance(&self, samples: i64) -> Tensor {
        (&self.products_dd - self.sum_1d.tr().matmul(&self.sum_1d) / samples as f64) / rest(samples)
    }
}

/// What sums over samples without their mean are divided by.
fn rest(samples: i64) -> f64 {
    (samples - 1).max(1) as f64
}

/// Mᵀ M of an N × D matrix, of which the lower triangle counts: much of what lies above it is zero.
pub fn lower_gram(matrix_nd: &Tensor) -> Tensor {
    let width = matrix_nd.size()[1];
    let gram_dd = Tensor::zeros([width, width], (Kind::Double, Device::Cpu));
    for start in (0..width).step_by(BLOCK as usize) {
        let count = BLOCK.min(width - start);
        let columns = start + count;
        let product = matrix_nd.narrow(1, start, count).tr().matmul(&matrix_nd.narrow(1, 0, columns));
        gram_dd.narrow(0, start, count).narrow(1, 0, columns).copy_(&product);
    }
    gram_dd
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn random(samples: i64, width: i64) -> Rows {
        Rows::Numbers(Tensor::randn([samples, width], (Kind::Double, Device::Cpu)) + 30.)
    }

    /// Covariances of columns of whole matrices.
    fn expected(x: &Tensor, y: &Tensor) -> Tensor {
        let centred = |rows: &Tensor| rows - rows.mean_dim([0].as_slice(), true, Kind::Double);
        centred(x).tr().matmul(&centred(y)) / (x.size()[0] - 1) as f64
    }

    fn near(found: &Tensor, expected: &Tensor) -> bool {
        found.size() == expected.size() && (found - expected).abs().max().double_value(&[]) < 1e-12
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn parts_give_the_covariances_of_the_whole(
            labels in prop::collection::vec(0i64..4, 20..60), cut in 1i64..19, seed in 0i64..100, width in 1i64..300,
        ) {
            tch::manual_seed(seed);
            let samples = labels.len() as i64;
            let (x, y, words) = (random(samples, width), random(samples, 3), Rows::labels(&labels, 4));
            let [of_x, of_y, of_words] = [&x, &y, &words].map(Rows::origin);
            let part = |from: i64, to: i64| {
                let rows: Vec<i64> = (from..to).collect();
                let [x, y, words] = [&x, &y, &words].map(|view| view.select(&rows));
                Sums::of((&x, &of_x), &[(&y, &of_y), (&words, &of_words)])
            };
            let mut sums = part(0, cut);
            sums.add(&part(cut, samples));
            let [x, y, words] = [&x, &y, &words].map(Rows::numbers);
            prop_assert_eq!(sums.samples(), samples);
            prop_assert!(near(&sums.x.mean(samples), &x.mean_dim([0].as_slice(), true, Kind::Double)));
            prop_assert!(near(&sums.x.covariance(samples).tril(0), &expected(&x, &x).tril(0)));
            for (second, rows) in sums.seconds.iter().zip([&y, &words]) {
                prop_assert!(near(&second.y.covariance(samples).tril(0), &expected(rows, rows).tril(0)));
                prop_assert!(near(&sums.cross_covariance(second), &expected(rows, &x)));
            }
        }
    }
}
