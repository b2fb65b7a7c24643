//! One trial: regularisations are chosen on one fold, and what was chosen is scored on another.

use super::splits::Split;
use super::{Settings, Trial, lost};
use crate::analysis::cca::moments::{Covariance, Moments};
use crate::analysis::cca::{Held, Projection, Regularisation, Score};
use crate::analysis::rows::Rows;
use crate::analysis::sums::{Second, Side, Sums};
use crate::analysis::view::{Reduction, View};
use crate::failure::StageError;
use crate::random::Draws;

/// One trial of a pair.
pub struct Task<'a> {
    /// The first and second one, and the one for the null.
    pub views: [View; 3],
    pub split: &'a Split,
    /// Over the training samples, where they could be summed.
    pub sums: Option<Sums>,
    pub seed: u64,
    pub number: u64,
}

impl Task<'_> {
    /// The trial, and the same with the unlike view: what the trial chose goes first there and is enough, because choosing again among
    /// regularisations that hardly differ would only cost time.
    ///
    /// # Errors
    /// A view that is constant or that no regularisation can be fitted on.
    pub fn run(self, settings: &Settings) -> Result<(Trial, Trial), StageError> {
        let Some(sums) = &self.sums else { return Err(lost()) };
        let [second, unlike] = &sums.seconds[..] else { return Err(lost()) };
        let grid = grids(settings, self.seed, self.number);
        let side = |view: usize, side: &Side| -> Result<_, StageError> {
            let view = &self.views[view];
            let (reduction, covariance) = view.reduction(side.mean(sums.samples()), side.covariance(sums.samples()))?;
            Ok((Reduced { view, reduction, split: self.split }, Covariance::new(&covariance)?))
        };
        let cross = |x: &Reduced, y: &Reduced, second: &Second| {
            let cross_ed = y.reduction.covariance(sums.cross_covariance(second));
            x.reduction.covariance(cross_ed.tr()).tr()
        };
        let ((x, of_x), (y, of_y)) = (side(0, &sums.x)?, side(1, &second.y)?);
        let mut moments = Moments::new(of_x, of_y, &cross(&x, &y, second));
        let found = choose(&mut moments, &x, &y, &grid, settings)?;
        let chosen = Regularisation { x: found.epsilon_x, y: found.epsilon_y };
        let (y, of_y) = side(2, &unlike.y)?;
        let once = Settings { fits: 1, ..settings.clone() };
        let mut moments = moments.beside(of_y, &cross(&x, &y, unlike));
        let null = choose(&mut moments, &x, &y, &[vec![chosen], grid].concat(), &once)?;
        Ok((found, null))
    }
}

/// A view as a trial compares it.
struct Reduced<'a> {
    view: &'a View,
    reduction: Reduction,
    split: &'a Split,
}

impl Reduced<'_> {
    fn dev(&self) -> Rows {
        self.reduction.apply(self.view.rows().select(&self.split.dev))
    }

    fn test(&self) -> Rows {
        self.reduction.apply(self.view.rows().select(&self.split.test))
    }
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
fn choose(
    moments: &mut Moments,
    x: &Reduced,
    y: &Reduced,
    regularisations: &[Regularisation],
    settings: &Settings,
) -> Result<Trial, StageError> {
    let mut dev = Held::new(x.dev(), y.dev());
    let (mut fitted, mut best, mut problem) = (0, None::<(f64, Regularisation, Projection)>, None);
    for by in regularisations {
        if fitted == settings.fits {
            break;
        }
        let scored = moments
            .fit(*by)
            .and_then(|projection| Ok((projection.score(&mut dev, settings.weighting)?.pwcca, projection)));
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
    let Score { pwcca, cca, .. } = projection.score(&mut Held::new(x.test(), y.test()), settings.weighting)?;
    Ok(Trial { pwcca, cca, dev, epsilon_x: by.x, epsilon_y: by.y })
}
