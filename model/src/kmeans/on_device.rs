//! k-means by operations of libtorch, for frames that lie on another device than the CPU.

use tch::{Kind, Tensor};

use super::descent::{Descent, Moved};
use super::sums::by_cluster;
use super::{Centroids, Fit, Moment, Plan, seeding};
use crate::failure::StageError;

/// Frames of one matrix product.
const BLOCK: i64 = 2048;

/// Frames, and the centres that they move.
pub struct OnDevice<'a> {
    frames_nd: &'a Tensor,
    centroids: Centroids,
    /// Of mini-batches, in `f64`.
    centres_kd: Tensor,
    weight_k: Tensor,
    before: Option<Tensor>,
}

impl<'a> OnDevice<'a> {
    /// Draws the starts and begins with the one that has the least inertia on the validation sample, the first one on ties.
    pub fn best_start(
        frames_nd: &'a Tensor,
        plan: &Plan,
        watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
    ) -> Result<Self, StageError> {
        let &Plan { clusters, starts, size, seed, .. } = plan;
        let count = frames_nd.size()[0] as usize;
        let subset_nd = sample(frames_nd, &seeding::subset(count, size, seed));
        let mut seeded = |done: usize| watch(Moment::Seeding { done: done as u64, total: clusters as u64 });
        let starts_skd = seed_starts(&subset_nd, clusters, starts, seed, &mut seeded)?;
        let validation_nd = sample(frames_nd, &seeding::validation(count, size, seed));
        let mut best: Option<(f64, Centroids)> = None;
        for start in 0..starts {
            let centroids = Centroids::new(&starts_skd.get(start as i64));
            let inertia = centroids.assign(&validation_nd).inertia() / size as f64;
            watch(Moment::Start { done: start as u64 + 1, total: starts as u64, inertia })?;
            if best.as_ref().is_none_or(|(least, _)| inertia < *least) {
                best = Some((inertia, centroids));
            }
        }
        let (_, centroids) = best.ok_or_else(super::no_start)?;
        let centres_kd = centroids.tensor().to_kind(Kind::Double);
        let weight_k = Tensor::zeros([centroids.count() as i64], (Kind::Double, frames_nd.device()));
        Ok(Self { frames_nd, centroids, centres_kd, weight_k, before: None })
    }

    /// What all frames make of the centres as they are now.
    pub fn finish(self) -> Fit {
        let assignment = self.centroids.assign(self.frames_nd);
        let mut usage = vec![0; self.centroids.count()];
        assignment.labels().into_iter().for_each(|label| usage[usize::from(label)] += 1);
        let inertia = assignment.inertia() / self.frames_nd.size()[0] as f64;
        Fit { inertia, centroids: self.centroids, usage }
    }
}

impl Descent for OnDevice<'_> {
    fn count(&self) -> u64 {
        self.frames_nd.size()[0] as u64
    }

    fn batch(&mut self, chosen: Vec<u64>) -> f64 {
        let frames = sample(self.frames_nd, &chosen);
        let assignment = self.centroids.assign(&frames);
        let sums = by_cluster(&frames, &assignment.nearest, self.centroids.count());
        self.weight_k += &sums.count_k;
        let change =
            (sums.frames_kd - &self.centres_kd * sums.count_k.unsqueeze(1)) / self.weight_k.clamp_min(1.).unsqueeze(1);
        self.centres_kd += change;
        self.centroids = Centroids::new(&self.centres_kd.to_kind(Kind::Float));
        assignment.inertia()
    }

    fn pass(&mut self) -> (f64, Moved) {
        let assignment = self.centroids.assign(self.frames_nd);
        let inertia = assignment.inertia();
        if self.before.as_ref().is_some_and(|before| *before == assignment.nearest) {
            return (inertia, Moved::Nothing);
        }
        let sums = by_cluster(self.frames_nd, &assignment.nearest, self.centroids.count());
        let means = sums.frames_kd / sums.count_k.clamp_min(1.).unsqueeze(1);
        let alive = sums.count_k.gt(0.).unsqueeze(1);
        self.centroids = Centroids::new(&means.to_kind(Kind::Float).where_self(&alive, self.centroids.tensor()));
        self.before = Some(assignment.nearest);
        (inertia, Moved::Some)
    }
}

/// The chosen rows.
fn sample(frames_nd: &Tensor, chosen: &[u64]) -> Tensor {
    let chosen: Vec<i64> = chosen.iter().map(|&row| row as i64).collect();
    frames_nd.index_select(0, &Tensor::from_slice(&chosen).to_device(frames_nd.device()))
}

/// Draws `starts` sets of centres from `frames_nd`; returns starts × K × D. Calls `watch` with the number of centres so far.
///
/// Where the frames have fewer than K distinct values, the remaining centres repeat earlier ones and stay empty.
fn seed_starts(
    frames_nd: &Tensor,
    clusters: usize,
    starts: usize,
    seed: u64,
    watch: &mut dyn FnMut(usize) -> Result<(), StageError>,
) -> Result<Tensor, StageError> {
    let candidates = seeding::candidates(clusters);
    let mut draws = seeding::draws(starts, seed);
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
