//! From a start to the codebook: mini-batches with running means, or full passes.

use reprise_spec::strategy::{Lloyd, MiniBatch};
use tch::{Kind, Tensor};

use super::sums::by_cluster;
use super::{Centroids, Moment, sample};
use crate::failure::StageError;
use crate::random::Draws;

/// Mini-batch k-means as published (hubert.md section 4.3).
///
/// A batch is drawn with replacement. A centre is the mean of all frames that batches ever gave it, so the first batch that touches a
/// centre of the start replaces it; a centre that no batch touches stays where it is. Stops when the smoothed inertia of the batches has
/// not been below its least value for `patience` batches; the first batch doesn't count, because it measures the start.
pub fn mini_batch(
    start: Centroids,
    frames_nd: &Tensor,
    settings: &MiniBatch,
    seed: u64,
    watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
) -> Result<Centroids, StageError> {
    let count = frames_nd.size()[0] as u64;
    let batch = u64::from(settings.batch.get()).min(count);
    let steps = u64::from(settings.max_passes.get()) * count / batch;
    let smoothing = (2. * batch as f64 / (count as f64 + 1.)).min(1.);
    let mut centroids = start;
    let mut centres_kd = centroids.tensor().to_kind(Kind::Double);
    let mut weight_k = Tensor::zeros([centroids.count() as i64], (Kind::Double, frames_nd.device()));
    let mut stop =
        Patience { smoothing, patience: settings.patience.get(), smoothed: None, least: f64::INFINITY, since: 0 };
    for step in 0..steps {
        let mut draws = Draws::new(seed, "k-means batch", &[step], "");
        let chosen: Vec<u64> = (0..batch).map(|_| draws.below(count)).collect();
        let frames = sample(frames_nd, &chosen);
        let assignment = centroids.assign(&frames);
        let inertia = assignment.inertia() / batch as f64;
        let sums = by_cluster(&frames, &assignment.nearest, centroids.count());
        weight_k += &sums.count_k;
        let change = (sums.frames_kd - &centres_kd * sums.count_k.unsqueeze(1)) / weight_k.clamp_min(1.).unsqueeze(1);
        centres_kd += change;
        centroids = Centroids::new(&centres_kd.to_kind(Kind::Float));
        watch(Moment::Batch { done: step + 1, total: steps, inertia })?;
        if step > 0 && stop.after(inertia) {
            break;
        }
    }
    Ok(centroids)
}

/// Watches the exponentially weighted average of the inertia.
struct Patience {
    smoothing: f64,
    patience: u32,
    smoothed: Option<f64>,
    least: f64,
    since: u32,
}

impl Patience {
    /// Whether to stop after a batch of this inertia a frame.
    fn after(&mut self, inertia: f64) -> bool {
        let smoothed = self.smoothed.map_or(inertia, |old| old * (1. - self.smoothing) + inertia * self.smoothing);
        self.smoothed = Some(smoothed);
        if smoothed < self.least {
            self.least = smoothed;
            self.since = 0;
        } else {
            self.since += 1;
        }
        self.since >= self.patience
    }
}

/// Lloyd's algorithm: every pass assigns all frames and moves each centre to the mean of its frames, until no frame changes its cluster.
/// A cluster without frames keeps its centre.
pub fn lloyd(
    start: Centroids,
    frames_nd: &Tensor,
    settings: &Lloyd,
    watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
) -> Result<Centroids, StageError> {
    let count = frames_nd.size()[0];
    let mut centroids = start;
    let mut before: Option<Tensor> = None;
    let total = u64::from(settings.max_passes.get());
    for pass in 0..total {
        let assignment = centroids.assign(frames_nd);
        watch(Moment::Pass { done: pass + 1, total, inertia: assignment.inertia() / count as f64 })?;
        if before.is_some_and(|before| before == assignment.nearest) {
            break;
        }
        let sums = by_cluster(frames_nd, &assignment.nearest, centroids.count());
        let means = sums.frames_kd / sums.count_k.clamp_min(1.).unsqueeze(1);
        let alive = sums.count_k.gt(0.).unsqueeze(1);
        centroids = Centroids::new(&means.to_kind(Kind::Float).where_self(&alive, centroids.tensor()));
        before = Some(assignment.nearest);
    }
    Ok(centroids)
}
