//! Nearest centroids by matrix products.

use tch::{Device, Kind, Tensor};

/// Frames of one matrix product: enough to keep it busy, few enough that the distances stay in cache.
const BLOCK: i64 = 2048;

/// Cluster centres, ready to be compared with frames.
///
/// ‖x − c‖² = ‖x‖² − 2x·c + ‖c‖² loses digits where the data lie far from zero, so frames and centroids are both moved by the mean of the
/// centroids first, which changes no distance.
#[derive(Debug)]
pub struct Centroids {
    centroids: Tensor,
    mean: Tensor,
    /// −2(c − mean) as D × K.
    factor: Tensor,
    /// ‖c − mean‖² of every centroid.
    squares: Tensor,
}

impl Centroids {
    /// Prepares centroids (K × D, `f32`).
    pub fn new(centroids: &Tensor) -> Self {
        let mean = centroids.to_kind(Kind::Double).mean_dim(0, false, Kind::Double).to_kind(Kind::Float);
        let moved = centroids - &mean;
        let squares = moved.to_kind(Kind::Double).square().sum_dim_intlist(1, false, Kind::Double);
        Self {
            centroids: centroids.copy(),
            mean,
            factor: (&moved * -2.).transpose(0, 1).contiguous(),
            squares: squares.to_kind(Kind::Float),
        }
    }

    /// K × D.
    pub fn tensor(&self) -> &Tensor {
        &self.centroids
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.centroids.size()[0] as usize
    }

    /// The nearest centroid of every frame of `frames` (N × D, `f32`), the first one on ties, and the squared distance to it.
    pub fn assign(&self, frames: &Tensor) -> Assignment {
        let (count, _) = frames.size2().expect("frames are N × D");
        let options = |kind| (kind, frames.device());
        let assignment = Assignment {
            nearest: Tensor::empty([count], options(Kind::Int64)),
            distance: Tensor::empty([count], options(Kind::Float)),
        };
        for start in (0..count).step_by(BLOCK as usize) {
            let length = BLOCK.min(count - start);
            let block = frames.narrow(0, start, length) - &self.mean;
            let (least, nearest) = self.squares.addmm(&block, &self.factor).min_dim(1, false);
            let squares = block.square().sum_dim_intlist(1, false, Kind::Float);
            assignment.nearest.narrow(0, start, length).copy_(&nearest);
            assignment.distance.narrow(0, start, length).copy_(&(least + squares).clamp_min(0.));
        }
        assignment
    }
}

/// Which centroid is nearest to each frame, and how far away it is.
#[derive(Debug)]
pub struct Assignment {
    /// N, `i64`.
    pub nearest: Tensor,
    /// Squared distances: N, `f32`.
    pub distance: Tensor,
}

impl Assignment {
    /// The sum of squared distances.
    pub fn inertia(&self) -> f64 {
        self.distance.sum(Kind::Double).double_value(&[])
    }

    /// The nearest centroids as labels; there are at most 65,535 of them.
    pub fn labels(&self) -> Vec<u16> {
        let mut nearest = vec![0i64; self.nearest.size()[0] as usize];
        self.nearest.to_device(Device::Cpu).copy_data(&mut nearest, self.nearest.size()[0] as usize);
        nearest.into_iter().map(|label| label as u16).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equally_near_centroids_wins() {
        let centroids = Centroids::new(&Tensor::from_slice2(&[[5f32, 5.], [1., 0.], [-1., 0.], [1., 0.]]));
        let frames = Tensor::from_slice2(&[[0f32, 0.], [1., 0.], [-2., 0.]]);
        assert_eq!(centroids.assign(&frames).labels(), [1, 1, 2]);
    }

    #[test]
    fn distances_are_those_of_direct_subtraction_even_far_from_zero() {
        tch::manual_seed(1);
        let centroids = Tensor::randn([7, 5], (Kind::Float, Device::Cpu)) + 1000.;
        let frames = Tensor::randn([BLOCK + 3, 5], (Kind::Float, Device::Cpu)) + 1000.;
        let found = Centroids::new(&centroids).assign(&frames);
        let direct = (frames.to_kind(Kind::Double).unsqueeze(1) - centroids.to_kind(Kind::Double).unsqueeze(0))
            .square()
            .sum_dim_intlist(2, false, Kind::Double);
        let (least, nearest) = direct.min_dim(1, false);
        assert_eq!(found.nearest, nearest);
        assert!((found.distance.to_kind(Kind::Double) - least).abs().max().double_value(&[]) < 1e-3);
    }

    #[test]
    fn no_frames_have_no_labels() {
        let centroids = Centroids::new(&Tensor::ones([2, 3], (Kind::Float, Device::Cpu)));
        assert!(centroids.assign(&Tensor::empty([0, 3], (Kind::Float, Device::Cpu))).labels().is_empty());
    }
}
