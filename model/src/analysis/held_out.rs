//! PWCCA of two views over folds, trials and regularisations, beside what shuffled samples give.
//!
//! Source: papers.md section 4.2 and hubert.md section 6.3. Samples are divided into folds, each label evenly; a trial fits on all folds but
//! two, chooses the regularisation on one and is scored on the other. What the toolkit leaves to the process's random state is drawn from a
//! seed here.

use reprise_spec::probing::Layers;
use serde::{Deserialize, Serialize};

use super::cca::{Moments, Projection, Regularisation, Score, Weighting};
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

/// Which samples a trial uses for what, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<i64>,
    pub dev: Vec<i64>,
    pub test: Vec<i64>,
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

/// Measures two views of the same samples; `strata` is a label for each sample (all equal where samples have none), by which folds are even.
///
/// # Errors
/// Fewer than [`SAMPLES_PER_DIMENSION`] samples for each dimension of both views together; views of different samples; fewer than two folds a
/// trial; a view that no regularisation can be fitted on.
pub fn measure(x: &View, y: &View, strata: &[u32], settings: &Settings, seed: u64) -> Result<Measured, StageError> {
    let mut order: Vec<i64> = (0..y.samples() as i64).collect();
    Draws::new(seed, "analysis null", &[], "").shuffle(&mut order);
    measure_beside(x, y, &y.select(&order), strata, settings, seed)
}

/// Like [`measure`], with another second view for the null, of the same samples and dimension.
pub fn measure_beside(
    x: &View,
    y: &View,
    unlike: &View,
    strata: &[u32],
    settings: &Settings,
    seed: u64,
) -> Result<Measured, StageError> {
    let samples = x.samples();
    if [y.samples(), unlike.samples(), strata.len()] != [samples; 3] {
        let (others, labels) = (y.samples(), strata.len());
        return Err(StageError::Failed(format!("views of {samples} and {others} samples with {labels} labels")));
    }
    enough(samples, x.dimension(), y.dimension())?;
    let splits = splits(&folds(strata, settings.folds, seed), settings, seed)?;
    let trials: Result<Vec<Trial>, StageError> = (0..)
        .zip(&splits)
        .map(|(number, split)| trial(x, y, split, &grids(settings, seed, number), settings))
        .collect();
    let trials = trials?;
    // What a trial chose goes first and is enough: choosing again among regularisations that hardly differ would only cost time.
    let once = Settings { fits: 1, ..settings.clone() };
    let null = |(number, (split, found)): (u64, (&Split, &Trial))| {
        let chosen = Regularisation { x: found.epsilon_x, y: found.epsilon_y };
        trial(x, unlike, split, &[vec![chosen], grids(settings, seed, number)].concat(), &once)
    };
    let nulls: Vec<Trial> = (0..).zip(splits.iter().zip(&trials)).map(null).collect::<Result<_, _>>()?;
    let spread = |trials: &[Trial], of: fn(&Trial) -> f64| Spread::of(&trials.iter().map(of).collect::<Vec<_>>());
    Ok(Measured {
        samples,
        dimension_x: x.dimension(),
        dimension_y: y.dimension(),
        pwcca: spread(&trials, |trial| trial.pwcca),
        cca: spread(&trials, |trial| trial.cca),
        null: spread(&nulls, |trial| trial.pwcca),
        trials,
    })
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

/// The fold of each sample: each label's samples in random order, dealt evenly from a random fold on.
pub fn folds(strata: &[u32], count: usize, seed: u64) -> Vec<usize> {
    let mut by_label = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (sample, label) in strata.iter().enumerate() {
        by_label.entry(*label).or_default().push(sample);
    }
    let mut folds = vec![0; strata.len()];
    for (label, mut samples) in by_label {
        let mut draws = Draws::new(seed, "analysis folds", &[u64::from(label)], "");
        draws.shuffle(&mut samples);
        let first = draws.below(count as u64) as usize;
        for (place, sample) in samples.into_iter().enumerate() {
            folds[sample] = (first + place) % count;
        }
    }
    folds
}

/// The trials' splits: no two share a fold to choose on or to be scored on.
fn splits(folds: &[usize], settings: &Settings, seed: u64) -> Result<Vec<Split>, StageError> {
    if settings.trials == 0 || settings.folds < 3 || settings.folds < 2 * settings.trials {
        return Err(StageError::refused(
            format!("{} trials on {} folds", settings.trials, settings.folds),
            "ask for at least one trial, three folds, and two folds a trial",
        ));
    }
    let mut order: Vec<usize> = (0..settings.folds).collect();
    Draws::new(seed, "analysis trials", &[], "").shuffle(&mut order);
    let within = |wanted: &dyn Fn(usize) -> bool| -> Vec<i64> {
        (0..).zip(folds).filter(|(_, fold)| wanted(**fold)).map(|(sample, _)| sample).collect()
    };
    let split = |pair: &[usize]| Split {
        train: within(&|fold| !pair.contains(&fold)),
        dev: within(&|fold| fold == pair[0]),
        test: within(&|fold| fold == pair[1]),
    };
    Ok(order.chunks_exact(2).take(settings.trials).map(split).collect())
}

/// All pairs of regularisations in the order in which a trial tries them: those of the grid, shuffled, then those of the fallback, shuffled.
fn grids(settings: &Settings, seed: u64, trial: u64) -> Vec<Regularisation> {
    let mut draws = Draws::new(seed, "analysis regularisation", &[trial], "");
    let mut pairs = |values: &[f64]| {
        let pair = |x: f64| values.iter().map(move |y| Regularisation { x, y: *y });
        let mut pairs: Vec<_> = values.iter().flat_map(|x| pair(*x)).collect();
        draws.shuffle(&mut pairs);
        pairs
    };
    [pairs(&settings.regularisations), pairs(&settings.fallback)].concat()
}

/// Fits on the training samples with the first regularisations that can be fitted, keeps the one with the best score on `dev` (the first of
/// equals), and scores it on `test`.
///
/// # Errors
/// No regularisation can be fitted and scored: the reason of the last one.
pub fn trial(
    x: &View,
    y: &View,
    split: &Split,
    regularisations: &[Regularisation],
    settings: &Settings,
) -> Result<Trial, StageError> {
    let (reduce_x, reduce_y) = (x.fit(&split.train)?, y.fit(&split.train)?);
    let rows = |samples: &[i64]| (reduce_x.apply(x.rows(samples)), reduce_y.apply(y.rows(samples)));
    let (train, dev, test) = (rows(&split.train), rows(&split.dev), rows(&split.test));
    let mut moments = Moments::of(&train.0, &train.1)?;
    let (mut fitted, mut best, mut problem) = (0, None::<(f64, Regularisation, Projection)>, None);
    for by in regularisations {
        if fitted == settings.fits {
            break;
        }
        let scored = moments
            .fit(*by)
            .and_then(|projection| Ok((projection.score(&dev.0, &dev.1, settings.weighting)?.pwcca, projection)));
        match scored {
            Ok((on_dev, projection)) => {
                fitted += 1;
                if best.as_ref().is_none_or(|(best, ..)| on_dev > *best) {
                    best = Some((on_dev, *by, projection));
                }
            }
            Err(error) => problem = Some(error),
        }
    }
    let nothing = || problem.unwrap_or_else(|| StageError::Failed("no regularisation was given".into()));
    let (dev, by, projection) = best.ok_or_else(nothing)?;
    let Score { pwcca, cca, .. } = projection.score(&test.0, &test.1, settings.weighting)?;
    Ok(Trial { pwcca, cca, dev, epsilon_x: by.x, epsilon_y: by.y })
}

#[cfg(test)]
mod tests;
