//! k-means: greedy k-means++ starts, then mini-batches as published or Lloyd's full passes.
//!
//! Shape suffixes: N frames, D dimensions, K clusters, S starts.
//! Source: scikit-learn's `MiniBatchKMeans` with the settings of HuBERT's `learn_kmeans` (hubert.md section 4.3). No cluster is ever
//! re-seeded: one that is left without frames stays where it is, and [`Fit::usage`] shows it.

mod centroids;
mod descent;
mod seeding;
mod sums;

use reprise_spec::strategy::{Algorithm, Clustering};
use tch::Tensor;

pub use self::centroids::{Assignment, Centroids};
use crate::failure::StageError;
use crate::random::Draws;

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
    let count = frames_nd.size()[0] as usize;
    if count < clusters {
        return Err(StageError::refused(
            format!("{count} frames cannot make {clusters} clusters"),
            "lower `clusters`, or fit on more utterances",
        ));
    }
    let _no_grad = tch::no_grad_guard();
    let start = best_start(frames_nd, clusters, settings, seed, watch)?;
    let centroids = match &settings.algorithm {
        Algorithm::MiniBatch(settings) => descent::mini_batch(start, frames_nd, settings, seed, watch)?,
        Algorithm::Lloyd(settings) => descent::lloyd(start, frames_nd, settings, watch)?,
    };
    let assignment = centroids.assign(frames_nd);
    let mut usage = vec![0; clusters];
    assignment.labels().into_iter().for_each(|label| usage[usize::from(label)] += 1);
    Ok(Fit { inertia: assignment.inertia() / count as f64, centroids, usage })
}

/// Draws the starts and returns the one with the least inertia on the validation sample, the first one on ties.
fn best_start(
    frames_nd: &Tensor,
    clusters: usize,
    settings: &Clustering,
    seed: u64,
    watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
) -> Result<Centroids, StageError> {
    let count = frames_nd.size()[0] as usize;
    let size = match &settings.algorithm {
        Algorithm::MiniBatch(settings) => 3 * (settings.batch.get() as usize).min(count),
        Algorithm::Lloyd(_) => SEEDING_FRAMES,
    };
    let size = if size < clusters { 3 * clusters } else { size }.min(count);
    let (starts, total) = (u64::from(settings.starts.get()), clusters as u64);
    let subset_nd = seeding::subset(frames_nd, size, seed);
    let mut seeded = |done: usize| watch(Moment::Seeding { done: done as u64, total });
    let starts_skd = seeding::starts(&subset_nd, clusters, starts as usize, seed, &mut seeded)?;
    let mut draws = Draws::new(seed, "k-means validation frames", &[], "");
    let chosen: Vec<u64> = (0..size).map(|_| draws.below(count as u64)).collect();
    let validation_nd = sample(frames_nd, &chosen);
    let mut best: Option<(f64, Centroids)> = None;
    for start in 0..starts {
        let centroids = Centroids::new(&starts_skd.get(start as i64));
        let inertia = centroids.assign(&validation_nd).inertia() / size as f64;
        watch(Moment::Start { done: start + 1, total: starts, inertia })?;
        if best.as_ref().is_none_or(|(least, _)| inertia < *least) {
            best = Some((inertia, centroids));
        }
    }
    // `Count` is at least 1, so there is a start.
    best.map(|(_, centroids)| centroids).ok_or_else(|| StageError::Failed("k-means was given no start".into()))
}

/// The chosen rows.
fn sample(frames_nd: &Tensor, chosen: &[u64]) -> Tensor {
    let chosen: Vec<i64> = chosen.iter().map(|&row| row as i64).collect();
    frames_nd.index_select(0, &Tensor::from_slice(&chosen).to_device(frames_nd.device()))
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
