//! Samples of one view: numbers, or labels that stand for rows with a single one.
//!
//! Products with one-hot rows are sums by label and rows of a table, so that the rows themselves are never made.

use tch::{Device, Kind, Tensor};

/// N samples of D dimensions, in float64 on the CPU.
#[derive(Debug)]
pub enum Rows {
    /// N × D.
    Numbers(Tensor),
    Labels(Labels),
}

/// N rows of zeros with a one at each one's label.
#[derive(Debug)]
pub struct Labels {
    /// N numbers (int64) up to `width`, which stands for a row without a one.
    labels_n: Tensor,
    width: i64,
}

impl Rows {
    /// Labels below `width`.
    pub fn labels(labels: &[i64], width: i64) -> Self {
        Self::Labels(Labels { labels_n: Tensor::from_slice(labels), width })
    }

    /// N.
    pub fn samples(&self) -> i64 {
        match self {
            Self::Numbers(rows_nd) => rows_nd.size()[0],
            Self::Labels(Labels { labels_n, .. }) => labels_n.size()[0],
        }
    }

    /// D.
    pub fn width(&self) -> i64 {
        match self {
            Self::Numbers(rows_nd) => rows_nd.size()[1],
            Self::Labels(Labels { width, .. }) => *width,
        }
    }

    /// The same rows without a copy, for another thread.
    pub fn shared(&self) -> Self {
        match self {
            Self::Numbers(rows_nd) => Self::Numbers(rows_nd.shallow_clone()),
            Self::Labels(Labels { labels_n, width }) => {
                Self::Labels(Labels { labels_n: labels_n.shallow_clone(), width: *width })
            }
        }
    }

    /// The rows of these numbers.
    pub fn select(&self, rows: &[i64]) -> Self {
        let at = Tensor::from_slice(rows);
        match self {
            Self::Numbers(rows_nd) => Self::Numbers(rows_nd.index_select(0, &at)),
            Self::Labels(Labels { labels_n, width }) => {
                Self::Labels(Labels { labels_n: labels_n.index_select(0, &at), width: *width })
            }
        }
    }

    /// The dimensions of these numbers, ascending.
    pub fn kept(&self, dimensions: &[i64]) -> Self {
        if dimensions.len() as i64 == self.width() {
            return self.shared();
        }
        match self {
            Self::Numbers(rows_nd) => Self::Numbers(rows_nd.index_select(1, &Tensor::from_slice(dimensions))),
            Self::Labels(Labels { labels_n, width: before }) => {
                let width = dimensions.len() as i64;
                let mut places = vec![width; *before as usize + 1];
                for (place, dimension) in (0..).zip(dimensions) {
                    places[*dimension as usize] = place;
                }
                Self::Labels(Labels { labels_n: Tensor::from_slice(&places).index_select(0, labels_n), width })
            }
        }
    }

    /// N × D.
    pub fn numbers(&self) -> Tensor {
        match self {
            Self::Numbers(rows_nd) => rows_nd.shallow_clone(),
            Self::Labels(Labels { labels_n, width }) => {
                labels_n.one_hot(width + 1).narrow(1, 0, *width).to_kind(Kind::Double)
            }
        }
    }

    /// 1 × D.
    pub fn mean(&self) -> Tensor {
        match self {
            Self::Numbers(rows_nd) => rows_nd.mean_dim([0].as_slice(), true, Kind::Double),
            Self::Labels(labels) => labels.counts().narrow(0, 0, labels.width).unsqueeze(0) / self.samples() as f64,
        }
    }

    /// A point near the mean (1 × D): sums of numbers that lie far from zero would lose their differences. Zero for labels.
    pub fn origin(&self) -> Tensor {
        match self {
            Self::Numbers(_) => self.mean(),
            Self::Labels(labels) => Tensor::zeros([1, labels.width], (Kind::Double, Device::Cpu)),
        }
    }

    /// The rows without their [`Rows::origin`].
    pub fn from_origin(&self, origin_1d: &Tensor) -> Self {
        match self {
            Self::Numbers(rows_nd) => Self::Numbers(rows_nd - origin_1d),
            Self::Labels(_) => self.shared(),
        }
    }

    /// The rows without `mean_1d`, times a D × K matrix: N × K.
    pub fn projected(&self, mean_1d: &Tensor, matrix_dk: &Tensor) -> Tensor {
        match self {
            Self::Numbers(rows_nd) => (rows_nd - mean_1d).matmul(matrix_dk),
            Self::Labels(labels) => labels.table(mean_1d, matrix_dk).index_select(0, &labels.labels_n),
        }
    }

    /// The transposed rows times N × K others: D × K.
    pub fn sums_of(&self, others_nk: &Tensor) -> Tensor {
        match self {
            Self::Numbers(rows_nd) => rows_nd.tr().matmul(others_nk),
            Self::Labels(Labels { labels_n, width }) => {
                Tensor::zeros([width + 1, others_nk.size()[1]], (Kind::Double, Device::Cpu))
                    .index_add(0, labels_n, others_nk)
                    .narrow(0, 0, *width)
            }
        }
    }
}

impl Labels {
    /// D.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// How many rows have each label, and at last how many have none: D + 1.
    pub fn counts(&self) -> Tensor {
        self.labels_n.bincount(None::<Tensor>, self.width + 1).to_kind(Kind::Double)
    }

    /// The row of each label and at last of none, without `mean_1d`, times a D × K matrix: D + 1 × K.
    pub fn table(&self, mean_1d: &Tensor, matrix_dk: &Tensor) -> Tensor {
        let none_1k = matrix_dk.zeros_like().narrow(0, 0, 1);
        Tensor::cat(&[matrix_dk, &none_1k], 0) - mean_1d.matmul(matrix_dk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_one_hot_rows() {
        tch::manual_seed(1);
        let labels = Rows::labels(&[2, 0, 1, 2, 2, 4], 5).kept(&[1, 2, 4]);
        let numbers = Rows::Numbers(labels.numbers());
        let expected =
            Tensor::from_slice2(&[[0., 1., 0.], [0., 0., 0.], [1., 0., 0.], [0., 1., 0.], [0., 1., 0.], [0., 0., 1.]]);
        assert_eq!(labels.numbers(), expected);
        assert_eq!((labels.samples(), labels.width()), (6, 3));
        let near = |x: &Tensor, y: &Tensor| x.size() == y.size() && (x - y).abs().max().double_value(&[]) < 1e-12;
        let matrix = |rows, columns| Tensor::randn([rows, columns], (Kind::Double, Device::Cpu));
        let (mean, map, others) = (labels.mean(), matrix(3, 2), matrix(6, 4));
        assert!(near(&mean, &numbers.mean()));
        assert!(near(&labels.projected(&mean, &map), &numbers.projected(&mean, &map)));
        assert!(near(&labels.sums_of(&others), &numbers.sums_of(&others)));
        let chosen = |rows: &Rows| rows.select(&[5, 1, 1]).kept(&[1, 2]).numbers();
        assert_eq!(chosen(&labels), chosen(&numbers));
        assert!(near(&labels.from_origin(&labels.origin()).numbers(), &numbers.numbers()));
        assert!(near(&numbers.from_origin(&numbers.origin()).mean(), &mean.zeros_like()));
    }
}
