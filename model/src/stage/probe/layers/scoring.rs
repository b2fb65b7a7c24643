//! From the values of samplings to the scores of layers.

use reprise_spec::contract::Level;
use reprise_spec::layers::{Curve, LayerScore};
use reprise_spec::probing::Analysis;

use crate::failure::StageError;
use crate::quality::{Spread, Verdict};
use crate::stage::Work;

/// What one sampling gives at one layer.
#[derive(Clone, Debug)]
pub struct One {
    /// Segments, frames or utterances.
    pub samples: u64,
    /// Dimensions, or the codebook's size and the number of labels.
    pub sizes: Vec<u64>,
    pub values: Vec<f64>,
    pub null: Option<Spread>,
    pub verdict: Verdict,
}

/// Makes curves, and decides what becomes of layers that can't be measured: those of random weights end the stage, before anything is trained;
/// those of a trained model are noted, because the others' numbers stand.
pub struct Scorer<'a> {
    pub work: &'a mut Work,
    pub control: bool,
    /// Layers, layer 0 included.
    pub layers: usize,
    /// Analyses that are done, and all.
    pub progress: (u64, u64),
}

impl Scorer<'_> {
    /// A metric of every layer, from what `one` finds at (layer, sampling) of so many samplings.
    pub fn curve(
        &mut self,
        analysis: Analysis,
        metric: &str,
        samplings: usize,
        one: &dyn Fn(usize, usize) -> Result<One, StageError>,
    ) -> Result<Curve, StageError> {
        let pairs: Vec<(usize, Option<usize>)> = (0..self.layers).map(|layer| (layer, None)).collect();
        self.curve_of(analysis, metric, &pairs, samplings, &|(layer, _), sampling| one(layer, sampling))
    }

    /// A metric of layers, each alone or beside another.
    pub fn curve_of(
        &mut self,
        analysis: Analysis,
        metric: &str,
        pairs: &[(usize, Option<usize>)],
        samplings: usize,
        one: &dyn Fn((usize, Option<usize>), usize) -> Result<One, StageError>,
    ) -> Result<Curve, StageError> {
        let mut layers = Vec::new();
        for &pair in pairs {
            self.work.report.check_stop()?;
            let ones: Result<Vec<One>, StageError> = (0..samplings).map(|sampling| one(pair, sampling)).collect();
            let told = |error: StageError| match error {
                StageError::Refused { message, .. } | StageError::Failed(message) if !self.control => Ok(message),
                error if self.control => Err(named(error, metric, pair.0)),
                error => Err(error),
            };
            layers.push(match ones {
                Ok(ones) => score(pair, &ones),
                Err(error) => refused(pair, told(error)?),
            });
            let (done, total) = self.progress;
            self.work.report.progress(done, total, "analyses", &format!("{metric} of layer {}", pair.0));
        }
        let warned: Vec<&LayerScore> = layers.iter().filter(|score| score.refused.is_some()).collect();
        if let Some((first, reason)) = warned.first().and_then(|first| Some((first.layer, first.refused.as_ref()?))) {
            let (count, all) = (warned.len(), layers.len());
            let message = format!("{metric} supports nothing at {count} of {all} layers; layer {first}: {reason}");
            self.work.report.say(Level::Warning, message);
        }
        Ok(Curve { metric: metric.to_owned(), analysis, layers })
    }
}

/// An error with the metric and layer that it is about.
fn named(error: StageError, metric: &str, layer: usize) -> StageError {
    let named = |message: String| format!("{metric} of layer {layer}: {message}");
    match error {
        StageError::Refused { message, help } => StageError::Refused { message: named(message), help },
        StageError::Failed(message) => StageError::Failed(named(message)),
        error @ StageError::Interrupted { .. } => error,
    }
}

fn score((layer, other): (usize, Option<usize>), ones: &[One]) -> LayerScore {
    let values: Vec<f64> = ones.iter().flat_map(|one| one.values.iter().copied()).collect();
    let nulls: Option<Vec<Spread>> = ones.iter().map(|one| one.null).collect();
    let (found, null) = (Spread::of(&values), nulls.map(|nulls| pooled(&nulls)));
    let refused = ones.iter().find_map(|one| match &one.verdict {
        Verdict::Refused { reason } => Some(reason.clone()),
        Verdict::Sound => None,
    });
    let first = ones.first();
    LayerScore {
        layer: layer as u32,
        other: other.map(|other| other as u32),
        samples: first.map_or(0, |one| one.samples),
        sizes: first.map_or_else(Vec::new, |one| one.sizes.clone()),
        values: values.len() as u64,
        mean: Some(found.mean),
        deviation: (values.len() > 1).then_some(found.deviation),
        null: null.map(|null| null.mean),
        null_deviation: null.map(|null| null.deviation),
        refused,
    }
}

fn refused((layer, other): (usize, Option<usize>), reason: String) -> LayerScore {
    LayerScore {
        layer: layer as u32,
        other: other.map(|other| other as u32),
        samples: 0,
        sizes: Vec::new(),
        values: 0,
        mean: None,
        deviation: None,
        null: None,
        null_deviation: None,
        refused: Some(reason),
    }
}

/// The spread of draws from several equally large groups: variances within groups, on average, and between them.
fn pooled(groups: &[Spread]) -> Spread {
    let between = Spread::of(&groups.iter().map(|group| group.mean).collect::<Vec<_>>());
    let within = groups.iter().map(|group| group.deviation.powi(2)).sum::<f64>() / groups.len() as f64;
    Spread { mean: between.mean, deviation: (within + between.deviation.powi(2)).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(values: &[f64], null: Option<Spread>, refused: bool) -> One {
        let verdict = if refused { Verdict::Refused { reason: "few".into() } } else { Verdict::Sound };
        One { samples: 9, sizes: vec![2, 3], values: values.to_vec(), null, verdict }
    }

    #[test]
    fn a_score_is_over_all_values_of_all_samplings() {
        let null = |mean, deviation| Some(Spread { mean, deviation });
        let found = score((4, Some(1)), &[one(&[1., 2.], null(0., 3.), false), one(&[3., 4.], null(2., 5.), false)]);
        assert_eq!((found.layer, found.other, found.values, found.mean), (4, Some(1), 4, Some(2.5)));
        assert!((found.deviation.unwrap() - (5f64 / 3.).sqrt()).abs() < 1e-12);
        // Within: (9 + 25) / 2; between: 2.
        assert_eq!((found.null, found.null_deviation, found.refused), (Some(1.), Some(19f64.sqrt()), None));
    }

    #[test]
    fn one_refused_sampling_refuses_the_score_and_a_missing_null_is_none() {
        let found = score((0, None), &[one(&[1.], None, false), one(&[1.], None, true)]);
        assert_eq!((found.null, found.refused.as_deref(), found.mean), (None, Some("few"), Some(1.)));
        assert_eq!(score((0, None), &[one(&[1.], None, false)]).deviation, None, "one value has no spread");
    }
}
