//! Canonical correlations of layers with words, phones, log-mel energies and layer 0.

use reprise_spec::layers::Curve;
use reprise_spec::network::Network;
use reprise_spec::probing::Analysis;
use reprise_spec::stage::LayersStage;
use tch::Tensor;

use super::Evidence;
use super::material::Sampling;
use super::scoring::{One, Scorer};
use crate::analysis::held_out::{self, Settings, needed};
use crate::analysis::sample::Sample;
use crate::analysis::view::{View, metric_name};
use crate::failure::StageError;
use crate::features::MEL_BINS;
use crate::quality::Verdict;

/// Refuses canonical correlations with fewer samples than their dimensions need, all at once and before anything passes through the network.
pub fn enough_samples(settings: &LayersStage, network: &Network, sampling: &Sampling) -> Result<(), StageError> {
    let (depth, width) = (network.encoder.layers.get(), network.encoder.width.get() as usize);
    let layer = settings.layers.components.map_or(width, |components| components.get() as usize);
    let (mut short, mut room) = (Vec::new(), width);
    for analysis in settings.analyses.iter().filter(|analysis| analysis.is_cca()) {
        let frames = sampling.frames.as_ref().map_or(0, |frames| frames.count);
        let of = |sample: &Option<Sample>| sample.as_ref().map_or((0, 0), |s| (s.strata().len(), s.labels.len()));
        let (samples, target) = match analysis {
            Analysis::CcaWord => of(&sampling.words),
            Analysis::CcaPhone => of(&sampling.phones),
            Analysis::CcaMel => (frames, MEL_BINS),
            _ => (frames, layer),
        };
        let needed = needed(layer, target);
        if samples < needed {
            let word = analysis.word();
            let (lacking, per) = (needed - samples, held_out::SAMPLES_PER_DIMENSION);
            short.push(format!(
                "{word} of layers 0 to {depth}: {samples} samples are {lacking} too few for views of {layer} and {target} dimensions, which \
                 need {needed}: {per} for each dimension"
            ));
            let dimensions = samples / per;
            room = room.min(match analysis {
                Analysis::CcaIntra => dimensions / 2,
                _ => dimensions.saturating_sub(target),
            });
        }
    }
    if short.is_empty() {
        return Ok(());
    }
    let reduce = match room {
        0 => String::new(),
        _ => format!(
            ", or reduce layers to at most {room} principal components with `probing.layers.components`, which makes other metrics with \
             names of their own"
        ),
    };
    Err(StageError::refused(
        short.join("\n"),
        format!("allow more tokens a label or more `frames`, take more splits{reduce}"),
    ))
}

/// One of the canonical correlations at every layer.
pub fn curve(analysis: Analysis, evidence: &Evidence, scorer: &mut Scorer) -> Result<Curve, StageError> {
    let Evidence { settings, samplings, gathered, .. } = evidence;
    let components = settings.layers.components.map(|components| components.get() as usize);
    let intra = analysis == Analysis::CcaIntra;
    let metric = metric_name(analysis.word(), components, components.filter(|_| intra));
    let cca = Settings::from(&settings.layers);
    let reduced = |view: View| match components {
        Some(components) => view.reduced(components),
        None => view,
    };
    scorer.curve(analysis, &metric, samplings.len(), &|layer, index| {
        let (sampling, gathered) = (&samplings[index], &gathered[index]);
        let frames = |target: &Tensor| -> Result<_, StageError> {
            let target = View::new(target)?;
            let strata = vec![0; target.samples()];
            Ok((&gathered.frames[layer], if intra { reduced(target) } else { target }, strata))
        };
        let (x, y, strata) = match (analysis, &sampling.words, &sampling.phones) {
            (Analysis::CcaWord, Some(words), _) => segments(&gathered.words[layer], words)?,
            (Analysis::CcaPhone, _, Some(phones)) => segments(&gathered.phones[layer], phones)?,
            (Analysis::CcaMel, ..) => frames(&gathered.mel[layer])?,
            _ => frames(&gathered.frames[0])?,
        };
        let found = held_out::measure(&reduced(View::new(x)?), &y, &strata, &cca, sampling.seed)?;
        Ok(One {
            samples: found.samples as u64,
            sizes: vec![found.dimension_x as u64, found.dimension_y as u64],
            values: found.trials.iter().map(|trial| trial.pwcca).collect(),
            null: Some(found.null),
            verdict: Verdict::Sound,
        })
    })
}

/// Segments and their one-hot labels.
fn segments<'a>(vectors: &'a Tensor, sample: &Sample) -> Result<(&'a Tensor, View, Vec<u32>), StageError> {
    let strata = sample.strata();
    Ok((vectors, View::one_hot(&strata, sample.labels.len())?, strata))
}
