//! Greedy k-means++: several starts at once.
//!
//! Each centre after the first is the best of a few candidates, drawn with probability proportional to the squared distance to the
//! nearest centre so far; the best leaves the smallest sum of squared distances.
//!
//! Source: Arthur and Vassilvitskii 2007, and scikit-learn's `MiniBatchKMeans` (hubert.md section 4.3). Departs from scikit-learn: all starts
//! share one sample of the frames, drawn without replacement, so that the distances to all candidates of all starts are one matrix product.

use tch::{Kind, Tensor};

use super::sample;
use crate::failure::StageError;
use crate::random::Draws;

/// Frames of one matrix product.
const BLOCK: i64 = 2048;

/// Draws `starts` sets of centres from `frames_nd`; returns starts × K × D. Calls `watch` with the number of centres so far.
///
/// Where the frames have fewer than K distinct values, the remaining centres repeat earlier ones and stay empty.
pub fn starts(
    frames_nd: &Tensor,
    clusters: usize,
    starts: usize,
    seed: u64,
    watch: &mut dyn FnMut(usize) -> Result<(), StageError>,
) -> Result<Tensor, StageError> {
    let candidates = 2 + (clusters as f64).ln() as usize;
    let mut draws: Vec<Draws> = (0..starts).map(|s| Draws::new(seed, "k-means start", &[s as u64], "")).collect();
    let sample = Sample::new(frames_nd);
    let first: Vec<i64> = draws.iter_mut().map(|draws| draws.below(sample.count as u64) as i64).collect();
    let mut nearest_sn = Tensor::full([starts as i64, sample.count], f64::INFINITY, (Kind::Float, frames_nd.device()));
    let mut chosen = vec![sample.choose(&mut nearest_sn, &Tensor::from_slice(&first), 1)];
    for done in 1..clusters {
        watch(done)?;
        let shares: Vec<f64> =
            draws.iter_mut().flat_map(|draws| (0..candidates).map(|_| draws.unit()).collect::<Vec<_>>()).collect();
        let shares = Tensor::from_slice(&shares).view([starts as i64, candidates as i64]).to_device(frames_nd.device());
        let cumulated = nearest_sn.cumsum(1, Kind::Double);
        let totals = cumulated.narrow(1, sample.count - 1, 1);
        let drawn = (shares * totals).searchsorted(&cumulated, false, false, "left", None::<&Tensor>);
        let drawn = drawn.clamp_max(sample.count - 1).view([-1]);
        chosen.push(sample.choose(&mut nearest_sn, &drawn, candidates as i64));
    }
    let chosen = Tensor::stack(&chosen, 1);
    let width = frames_nd.size()[1];
    Ok(frames_nd.index_select(0, &chosen.view([-1])).view([starts as i64, clusters as i64, width]))
}

/// The frames that starts are drawn from, moved by their mean so that squares lose no digits.
struct Sample {
    frames_nd: Tensor,
    squares_n: Tensor,
    count: i64,
}

impl Sample {
    fn new(frames_nd: &Tensor) -> Self {
        let frames_nd = frames_nd - frames_nd.mean_dim(0, false, Kind::Double).to_kind(Kind::Float);
        let squares_n = frames_nd.square().sum_dim_intlist(1, false, Kind::Float);
        Self { count: frames_nd.size()[0], frames_nd, squares_n }
    }

    /// Keeps for every start the best of its `each` candidates, brings `nearest_sn` up to date and returns the indices kept.
    fn choose(&self, nearest_sn: &mut Tensor, candidates: &Tensor, each: i64) -> Tensor {
        let candidates = candidates.to_device(self.frames_nd.device());
        let starts = nearest_sn.size()[0];
        let factor = (self.frames_nd.index_select(0, &candidates) * -2.).contiguous();
        let squares = self.squares_n.index_select(0, &candidates).unsqueeze(1);
        let mut potential = Tensor::zeros([starts * each], (Kind::Double, self.frames_nd.device()));
        let mut blocks = Vec::new();
        for start in (0..self.count).step_by(BLOCK as usize) {
            let length = BLOCK.min(self.count - start);
            let frames = self.frames_nd.narrow(0, start, length);
            let mut distance =
                (&squares + self.squares_n.narrow(0, start, length)).addmm_(&factor, &frames.transpose(0, 1));
            let nearest = nearest_sn.narrow(1, start, length).unsqueeze(1);
            let nearest = distance.clamp_min_(0.).view([starts, each, length]).minimum(&nearest).view([-1, length]);
            potential += nearest.sum_dim_intlist(1, false, Kind::Float);
            blocks.push(nearest);
        }
        let best = potential.view([starts, each]).argmin(1, false);
        let rows = best + Tensor::arange(starts, (Kind::Int64, self.frames_nd.device())) * each;
        for (block, start) in blocks.iter().zip((0..self.count).step_by(BLOCK as usize)) {
            nearest_sn.narrow(1, start, block.size()[1]).copy_(&block.index_select(0, &rows));
        }
        candidates.index_select(0, &rows)
    }
}

/// The frames that starts are drawn from: at most `most` of `frames_nd`, without replacement.
pub fn subset(frames_nd: &Tensor, most: usize, seed: u64) -> Tensor {
    let count = frames_nd.size()[0] as usize;
    if count <= most {
        return frames_nd.shallow_clone();
    }
    let chosen = Draws::new(seed, "k-means seeding frames", &[], "").distinct(most as u64, count as u64);
    sample(frames_nd, &chosen)
}
