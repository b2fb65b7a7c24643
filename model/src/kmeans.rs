//! k-means: greedy k-means++ starts, then mini-batches as published or Lloyd's full passes.
//!
//! Shape suffixes: N frames, D dimensions, K clusters, S starts.
//! Source: scikit-learn's `MiniBatchKMeans` with the settings of HuBERT's `learn_kmeans` (hubert.md section 4.3). No cluster is ever
//! re-seeded: one that is left without frames stays where it is, and [`Fit::usage`] shows it.

mod bounds;
mod centres;
mod centroids;
mod crew;
mod descent;
mod frames;
mod in_memory;
mod matrix;
mod on_device;
mod pairs;
mod seeding;
mod sums;

use reprise_spec::strategy::{Algorithm, Clustering};
use tch::Tensor;

pub use self::centroids::{Assignment, Centroids};
use self::descent::Descent;
use self::in_memory::InMemory;
use self::matrix::Matrix;
use self::on_device::OnDevice;
use crate::failure::StageError;

/// Least number of frames that starts are drawn from and compared on, where there are as many.
const SEEDING_FRAMES: usize = 30_000;

/// A fitted codebook and how well it fits.
#[derive(Debug)]
pub struct Fit {
    pub centroids: Centroids,
    /// Mean squared distance of a frame to its centroid.
    pub inertia: f64,
    /// Frames of each cluster.
    pub usage: Vec<u64>,
}

/// How far a fit is; inertias are means over frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// Centres that every start has.
    Seeding { done: u64, total: u64 },
    /// A start was judged on the validation sample.
    Start { done: u64, total: u64, inertia: f64 },
    /// A batch was assigned to the centres before it.
    Batch { done: u64, total: u64, inertia: f64 },
    /// All frames were assigned to the centres before this pass.
    Pass { done: u64, total: u64, inertia: f64 },
}

/// Fits K clusters to `frames_nd` (`f32`). `watch` sees every step and can end the fit with an error.
///
/// Starts are drawn from max(3 batches, 3 K) frames (30,000 for Lloyd's algorithm) and compared on as many, drawn with replacement; only the
/// best goes on. Equal frames, settings, seed and threads give equal bits.
///
/// # Errors
/// Fewer frames than clusters.
pub fn fit(
    frames_nd: &Tensor,
    clusters: usize,
    settings: &Clustering,
    seed: u64,
    watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
) -> Result<Fit, StageError> {
    let frames_nd = frames_nd.contiguous();
    if let Some(Matrix { numbers, width }) = Matrix::of(&frames_nd) {
        return fit_rows(numbers, width, clusters, settings, seed, watch);
    }
    let count = frames_nd.size()[0] as usize;
    enough(count, clusters)?;
    let _no_grad = tch::no_grad_guard();
    let mut descent = OnDevice::best_start(&frames_nd, &Plan::new(count, clusters, settings, seed), watch)?;
    descend(&mut descent, settings, seed, watch)?;
    Ok(descent.finish())
}

/// Fits K clusters to frames of `width` numbers that lie in memory one after the other, or in a file that is mapped there: the fit reads
/// them where they lie, and beside them needs some 30 bytes of memory a frame, and what bounds and distances need where these are kept.
///
/// # Errors
/// Fewer frames than clusters.
pub fn fit_rows(
    numbers: &[f32],
    width: usize,
    clusters: usize,
    settings: &Clustering,
    seed: u64,
    watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
) -> Result<Fit, StageError> {
    let all = Matrix { numbers, width };
    enough(all.rows(), clusters)?;
    let _no_grad = tch::no_grad_guard();
    let mut descent = InMemory::best_start(all, &Plan::new(all.rows(), clusters, settings, seed), watch)?;
    descend(&mut descent, settings, seed, watch)?;
    Ok(descent.finish())
}

fn enough(count: usize, clusters: usize) -> Result<(), StageError> {
    if count >= clusters {
        return Ok(());
    }
    Err(StageError::refused(
        format!("{count} frames cannot make {clusters} clusters"),
        "lower `clusters`, or fit on more utterances",
    ))
}

/// Goes from the start to the codebook.
fn descend(
    descent: &mut dyn Descent,
    settings: &Clustering,
    seed: u64,
    watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
) -> Result<(), StageError> {
    match &settings.algorithm {
        Algorithm::MiniBatch(settings) => descent::mini_batch(descent, settings, seed, watch),
        Algorithm::Lloyd(settings) => descent::lloyd(descent, settings, watch),
    }
}

/// What a fit begins with.
struct Plan {
    clusters: usize,
    starts: usize,
    /// Frames that starts are drawn from, and as many that they are compared on.
    size: usize,
    seed: u64,
    /// After how many batches or passes a frame is looked at again.
    period: usize,
}

impl Plan {
    fn new(count: usize, clusters: usize, settings: &Clustering, seed: u64) -> Self {
        let (size, period) = match &settings.algorithm {
            Algorithm::MiniBatch(settings) => {
                let batch = (settings.batch.get() as usize).min(count);
                (3 * batch, count.div_ceil(batch))
            }
            Algorithm::Lloyd(_) => (SEEDING_FRAMES, 1),
        };
        let size = if size < clusters { 3 * clusters } else { size }.min(count);
        Self { clusters, starts: settings.starts.get() as usize, size, seed, period }
    }
}

/// `Count` is at least 1, so that there is a start.
fn no_start() -> StageError {
    StageError::Failed("k-means was given no start".into())
}

#[cfg(test)]
mod tests {
    use reprise_spec::strategy::{Lloyd, MiniBatch};
    use reprise_spec::values::Count;
    use tch::{Device, Kind};

    use super::*;

    fn settings(algorithm: Algorithm) -> Clustering {
        Clustering { algorithm, starts: Count::try_from(3).unwrap() }
    }

    fn both() -> [Clustering; 2] {
        let batch = MiniBatch { batch: Count::try_from(64).unwrap(), ..MiniBatch::default() };
        [settings(Algorithm::MiniBatch(batch)), settings(Algorithm::Lloyd(Lloyd::default()))]
    }

    /// Four tight groups of 100 frames.
    fn groups() -> Tensor {
        let values: Vec<f32> =
            (0..400u16).flat_map(|i| [f32::from(i % 4) * 10. + f32::from(i) * 1e-4, f32::from(i % 2) * 7.]).collect();
        Tensor::from_slice(&values).view([400, 2])
    }

    #[test]
    fn clear_groups_become_the_clusters() {
        for settings in both() {
            let fit = fit(&groups(), 4, &settings, 1, &mut |_| Ok(())).unwrap();
            assert_eq!(fit.usage, [100; 4], "{settings:?}");
            assert!(fit.inertia < 1e-3, "{settings:?}: {}", fit.inertia);
        }
    }

    #[test]
    fn equal_seeds_give_equal_bits_and_others_do_not() {
        tch::manual_seed(2);
        let frames = Tensor::randn([500, 3], (Kind::Float, Device::Cpu));
        for settings in both() {
            let centroids = |seed| fit(&frames, 20, &settings, seed, &mut |_| Ok(())).unwrap().centroids;
            assert_eq!(centroids(1).tensor(), centroids(1).tensor());
            assert_ne!(centroids(1).tensor(), centroids(2).tensor());
        }
    }

    /// Wide enough for bounds and kept distances: the same draws, and so the same fit but for rounding.
    #[test]
    fn frames_in_memory_are_fitted_as_operations_of_libtorch_fit_them() {
        tch::manual_seed(6);
        let kinds = Tensor::randn([50, 140], (Kind::Float, Device::Cpu)) * 3.;
        let at = Tensor::randint(50, [3000], (Kind::Int64, Device::Cpu));
        let frames = kinds.index_select(0, &at) + Tensor::randn([3000, 140], (Kind::Float, Device::Cpu));
        let batch = MiniBatch { batch: Count::try_from(500).unwrap(), ..MiniBatch::default() };
        for settings in [settings(Algorithm::MiniBatch(batch)), settings(Algorithm::Lloyd(Lloyd::default()))] {
            let ours = fit(&frames, 40, &settings, 1, &mut |_| Ok(())).unwrap();
            let plan = Plan::new(3000, 40, &settings, 1);
            let mut theirs = OnDevice::best_start(&frames, &plan, &mut |_| Ok(())).unwrap();
            descend(&mut theirs, &settings, 1, &mut |_| Ok(())).unwrap();
            let theirs = theirs.finish();
            assert_eq!(ours.usage, theirs.usage, "{settings:?}");
            let apart = (ours.centroids.tensor() - theirs.centroids.tensor()).abs().max().double_value(&[]);
            assert!(apart < 1e-3, "{settings:?}: {apart}");
            assert!((ours.inertia - theirs.inertia).abs() < 1e-3 * theirs.inertia, "{settings:?}");
        }
    }

    #[test]
    fn clusters_without_frames_stay_dead_and_are_counted() {
        let frames = Tensor::from_slice(&[1f32, 2., 3.]).repeat([30]).view([90, 1]);
        for settings in both() {
            let fit = fit(&frames, 5, &settings, 1, &mut |_| Ok(())).unwrap();
            let mut usage = fit.usage;
            usage.sort_unstable();
            assert_eq!(usage, [0, 0, 30, 30, 30], "{settings:?}");
            assert_eq!(fit.inertia, 0.);
            assert!(f64::try_from(fit.centroids.tensor().isfinite().all()).unwrap() == 1.);
        }
    }

    #[test]
    fn more_clusters_than_frames_are_refused() {
        let error = fit(&groups().narrow(0, 0, 3), 4, &both()[0], 1, &mut |_| Ok(())).unwrap_err();
        insta::assert_snapshot!(error, @"3 frames cannot make 4 clusters");
    }

    #[test]
    fn no_pass_of_lloyd_makes_it_worse() {
        tch::manual_seed(4);
        let frames = Tensor::randn([800, 4], (Kind::Float, Device::Cpu));
        let mut inertias = Vec::new();
        let mut watch = |moment| {
            if let Moment::Pass { inertia, .. } = moment {
                inertias.push(inertia);
            }
            Ok(())
        };
        let fit = fit(&frames, 10, &both()[1], 1, &mut watch).unwrap();
        assert!(inertias.len() > 3 && inertias.len() < 100, "{inertias:?}");
        assert!(inertias.is_sorted_by(|before, after| after <= &(before * (1. + 1e-6))), "{inertias:?}");
        assert!((fit.inertia - inertias[inertias.len() - 1]).abs() < 1e-6);
    }
}
