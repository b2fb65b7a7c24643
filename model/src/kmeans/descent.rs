//! From a start to the codebook: mini-batches with running means, or full passes.

use reprise_spec::strategy::{Lloyd, MiniBatch};

use super::Moment;
use crate::failure::StageError;
use crate::random::Draws;

/// Centres, and the frames that move them.
pub trait Descent {
    /// How many frames there are.
    fn count(&self) -> u64;

    /// Assigns some frames, moves each centre to the mean of all that it was ever given, and returns the sum of their squared distances to
    /// the centres before.
    fn batch(&mut self, chosen: Vec<u64>) -> f64;

    /// Assigns all frames and moves each centre to the mean of those that it has now; a centre without frames stays. None when no frame
    /// went to another centre, and nothing moved. The sum is of squared distances to the centres before.
    fn pass(&mut self) -> (f64, Moved);
}

/// Whether a pass moved anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    Some,
    Nothing,
}

/// Mini-batch k-means as published (hubert.md section 4.3).
///
/// A batch is drawn with replacement. A centre is the mean of all frames that batches ever gave it, so the first batch that touches a
/// centre of the start replaces it; a centre that no batch touches stays where it is. Stops when the smoothed inertia of the batches has
/// not been below its least value for `patience` batches; the first batch doesn't count, because it measures the start.
pub fn mini_batch(
    descent: &mut dyn Descent,
    settings: &MiniBatch,
    seed: u64,
    watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let count = descent.count();
    let batch = u64::from(settings.batch.get()).min(count);
    let steps = u64::from(settings.max_passes.get()) * count / batch;
    let smoothing = (2. * batch as f64 / (count as f64 + 1.)).min(1.);
    let mut stop =
        Patience { smoothing, patience: settings.patience.get(), smoothed: None, least: f64::INFINITY, since: 0 };
    for step in 0..steps {
        let mut draws = Draws::new(seed, "k-means batch", &[step], "");
        let inertia = descent.batch((0..batch).map(|_| draws.below(count)).collect()) / batch as f64;
        watch(Moment::Batch { done: step + 1, total: steps, inertia })?;
        if step > 0 && stop.after(inertia) {
            break;
        }
    }
    Ok(())
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
    descent: &mut dyn Descent,
    settings: &Lloyd,
    watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let total = u64::from(settings.max_passes.get());
    for pass in 0..total {
        let (sum, moved) = descent.pass();
        watch(Moment::Pass { done: pass + 1, total, inertia: sum / descent.count() as f64 })?;
        if moved == Moved::Nothing {
            break;
        }
    }
    Ok(())
}
