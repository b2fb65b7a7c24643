//! PWCCA of two views over folds, trials and regularisations, beside what shuffled samples give.
//!
//! Source: papers.md section 4.2 and hubert.md section 6.3. Samples are divided into folds, each label evenly; a trial fits on all folds but
//! two, chooses the regularisation on one and is scored on the other. What the toolkit leaves to the process's random state is drawn from a
//! seed here.

mod splits;
mod trial;

use std::collections::BTreeMap;
use std::sync::Mutex;

use reprise_spec::probing::Layers;
use serde::{Deserialize, Serialize};

use self::splits::splits;
pub use self::splits::{Split, folds};
use self::trial::Task;
use super::cca::Weighting;
use super::sums::Sums;
use super::view::View;
use crate::failure::StageError;
use crate::quality::Spread;
use crate::random::Draws;

/// Samples that each dimension of the two views together needs (SCIENCE, layer-wise analysis).
pub const SAMPLES_PER_DIMENSION: usize = 5;

/// How views are scored; the defaults are the toolkit's.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub folds: usize,
    /// Each with its own fold to choose on and its own to be scored on.
    pub trials: usize,
    /// Regularisations that a trial chooses among.
    pub fits: usize,
    /// What is drawn from for each view without repeating a pair.
    pub regularisations: Vec<f64>,
    /// What is drawn from when too few pairs of the former could be fitted.
    pub fallback: Vec<f64>,
    pub weighting: Weighting,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folds: 10,
            trials: 3,
            fits: 6,
            regularisations: vec![1e-10, 1e-11, 1e-9],
            fallback: vec![1e-8, 1e-7, 1e-6, 1e-5],
            weighting: Weighting::Toolkit,
        }
    }
}

impl From<&Layers> for Settings {
    fn from(layers: &Layers) -> Self {
        let Layers { folds, trials, weighting, .. } = layers;
        let (folds, trials) = (folds.get() as usize, trials.get() as usize);
        Self { folds, trials, weighting: *weighting, ..Self::default() }
    }
}

/// What one trial found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trial {
    /// On the test fold, as is `cca`.
    pub pwcca: f64,
    pub cca: f64,
    /// PWCCA on the fold that the regularisations were chosen on.
    pub dev: f64,
    pub epsilon_x: f64,
    pub epsilon_y: f64,
}

/// What two views have in common, on samples that nothing was fitted on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    pub samples: usize,
    pub dimension_x: usize,
    pub dimension_y: usize,
    /// Over trials.
    pub pwcca: Spread,
    pub cca: Spread,
    /// PWCCA of the same trials, with the regularisations that they chose, where the second view's samples are shuffled or it is another one.
    pub null: Spread,
    pub trials: Vec<Trial>,
}

/// Two views of the same samples that are to be measured.
#[derive(Debug)]
pub struct Pair {
    pub x: View,
    pub y: View,
    /// The second view for the null, of the same samples and dimension as `y`.
    pub unlike: View,
    /// A label for each sample (all equal where samples have none), by which folds are even.
    pub strata: Vec<u32>,
    pub seed: u64,
}

impl Pair {
    /// Two views whose null has the second view's samples shuffled.
    pub fn new(x: View, y: View, strata: Vec<u32>, seed: u64) -> Self {
        let mut order: Vec<i64> = (0..y.samples() as i64).collect();
        Draws::new(seed, "analysis null", &[], "").shuffle(&mut order);
        Self { x, unlike: y.select(&order), y, strata, seed }
    }

    fn views(&self) -> [View; 3] {
        [&self.x, &self.y, &self.unlike].map(View::shared)
    }

    fn splits(&self, settings: &Settings) -> Result<Vec<Split>, StageError> {
        let samples = self.x.samples();
        if [self.y.samples(), self.unlike.samples(), self.strata.len()] != [samples; 3] {
            let (others, labels) = (self.y.samples(), self.strata.len());
            return Err(StageError::Failed(format!("views of {samples} and {others} samples with {labels} labels")));
        }
        enough(samples, self.x.dimension(), self.y.dimension())?;
        splits(&folds(&self.strata, settings.folds, self.seed), settings, self.seed)
    }

    fn measured(&self, trials: &[(Trial, Trial)]) -> Measured {
        let spread = |of: fn(&(Trial, Trial)) -> f64| Spread::of(&trials.iter().map(of).collect::<Vec<_>>());
        Measured {
            samples: self.x.samples(),
            dimension_x: self.x.dimension(),
            dimension_y: self.y.dimension(),
            pwcca: spread(|(found, _)| found.pwcca),
            cca: spread(|(found, _)| found.cca),
            null: spread(|(_, null)| null.pwcca),
            trials: trials.iter().map(|(found, _)| found.clone()).collect(),
        }
    }
}

/// Measures pairs of views, whose sums and then whose trials the threads of libtorch share out among them. Each is computed on one, so that
/// their number changes nothing.
///
/// # Errors
/// Of each pair: fewer than [`SAMPLES_PER_DIMENSION`] samples for each dimension of both views together; views of different samples; fewer than
/// two folds a trial; a view that no regularisation can be fitted on.
pub fn measure(pairs: &[Pair], settings: &Settings) -> Vec<Result<Measured, StageError>> {
    let splits: Vec<Result<Vec<Split>, StageError>> = pairs.iter().map(|pair| pair.splits(settings)).collect();
    let some = || pairs.iter().zip(&splits).filter_map(|(pair, splits)| Some((pair, splits.as_ref().ok()?)));
    let views = some().map(|(pair, splits)| (pair.views(), splits)).collect();
    let sums = side_by_side(views, |(views, splits)| trained(&views, splits));
    let tasks = some().zip(sums).flat_map(|((pair, splits), sums)| {
        let sums = sums.unwrap_or_default().into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let trials = (0..).zip(splits).zip(sums);
        trials.map(|((number, split), sums)| Task { views: pair.views(), split, sums, seed: pair.seed, number })
    });
    let mut found = side_by_side(tasks.collect(), |task| task.run(settings)).into_iter();
    let each = pairs.iter().zip(splits).map(|(pair, splits)| {
        let trials: Vec<_> = splits?.iter().map(|_| found.next().flatten().unwrap_or_else(|| Err(lost()))).collect();
        Ok(pair.measured(&trials.into_iter().collect::<Result<Vec<_>, _>>()?))
    });
    each.collect()
}

fn lost() -> StageError {
    StageError::Failed("a thread that measured views panicked".into())
}

/// What each task gives, in their order; none where its thread panicked.
fn side_by_side<T: Send, F: Send>(tasks: Vec<T>, run: impl Fn(T) -> F + Sync) -> Vec<Option<F>> {
    let (threads, count) = (tch::get_num_threads().max(1), tasks.len());
    let queue = Mutex::new(tasks.into_iter().enumerate());
    let next = || queue.lock().ok()?.next();
    let work = || {
        tch::set_num_threads(1);
        std::iter::from_fn(|| next().map(|(place, task)| (place, run(task)))).collect::<Vec<_>>()
    };
    let mut found: BTreeMap<usize, F> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    // Threads that are started later take what was set last.
    tch::set_num_threads(threads);
    (0..count).map(|place| found.remove(&place)).collect()
}

/// The sums over each split's training samples. Samples on which the same trials are fitted are summed once.
fn trained(views: &[View; 3], splits: &[Split]) -> Vec<Sums> {
    let mut trials = vec![Vec::new(); views[0].samples()];
    for (trial, split) in splits.iter().enumerate() {
        split.train.iter().for_each(|sample| trials[*sample as usize].push(trial));
    }
    let mut parts = BTreeMap::<Vec<usize>, Vec<i64>>::new();
    for (sample, trials) in (0..).zip(trials) {
        parts.entry(trials).or_default().push(sample);
    }
    let origins = [0, 1, 2].map(|view| views[view].rows().origin());
    let mut sums: Vec<Option<Sums>> = splits.iter().map(|_| None).collect();
    for (trials, samples) in parts.iter().filter(|(trials, _)| !trials.is_empty()) {
        let [x, y, unlike] = [0, 1, 2].map(|view| views[view].rows().select(samples));
        let part = Sums::of((&x, &origins[0]), &[(&y, &origins[1]), (&unlike, &origins[2])]);
        for trial in trials {
            match &mut sums[*trial] {
                Some(sums) => sums.add(&part),
                none => *none = Some(part.copy()),
            }
        }
    }
    sums.into_iter().flatten().collect()
}

/// The least number of samples of views of `x` and `y` dimensions.
pub fn needed(x: usize, y: usize) -> usize {
    SAMPLES_PER_DIMENSION * (x + y)
}

/// Refuses too few samples, and says what would do.
fn enough(samples: usize, x: usize, y: usize) -> Result<(), StageError> {
    let needed = needed(x, y);
    if samples >= needed {
        return Ok(());
    }
    let room = (samples / SAMPLES_PER_DIMENSION).saturating_sub(y);
    let reduce = match room {
        0 => "or reduce both views by PCA".to_owned(),
        1.. => format!("or reduce the first view by PCA to at most {room} components"),
    };
    Err(StageError::refused(
        format!(
            "{samples} samples are {} too few for views of {x} and {y} dimensions, which need {needed}: \
             {SAMPLES_PER_DIMENSION} for each dimension",
            needed - samples
        ),
        format!("allow more tokens a label, take more splits, {reduce}, which is another metric with its own name"),
    ))
}

#[cfg(test)]
mod tests;
