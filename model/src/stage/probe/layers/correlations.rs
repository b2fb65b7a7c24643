//! Canonical correlations of layers with words, phones, log-mel energies, layer 0 and what words mean.

use std::cell::RefCell;
use std::collections::BTreeMap;

use reprise_spec::layers::Curve;
use reprise_spec::probing::Analysis;
use tch::Tensor;

use super::Evidence;
use super::meaning::Covered;
use super::scoring::{One, Scorer};
use crate::analysis::held_out::{self, Measured, Pair, Settings};
use crate::analysis::sample::Sample;
use crate::analysis::view::{View, metric_name};
use crate::failure::StageError;
use crate::quality::Verdict;

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
    let pair = |layer: usize, index: usize| {
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
        Ok(Pair::new(reduced(View::new(x)?), y, strata, sampling.seed))
    };
    measured(analysis, &metric, samplings.len(), &cca, &pair, scorer)
}

/// The canonical correlation of words with what they mean at every layer, on the segments whose words have a vector.
pub fn semantic(evidence: &Evidence, scorer: &mut Scorer) -> Result<Curve, StageError> {
    let Evidence { settings, material, samplings, gathered, .. } = evidence;
    let [components, of_vectors] = [settings.layers.components, settings.layers.word_vector_components]
        .map(|components| components.map(|components| components.get() as usize));
    let analysis = Analysis::CcaSemantic;
    let metric = metric_name(analysis.word(), components, of_vectors);
    let cca = Settings::from(&settings.layers);
    let reduced = |view: View, to: Option<usize>| match to {
        Some(components) => view.reduced(components),
        None => view,
    };
    let pair = |layer: usize, index: usize| {
        let sampling = &samplings[index];
        let (Some(words), Some(vectors)) = (&sampling.words, &material.meanings.vectors) else {
            return Err(StageError::Failed("there are no vectors of words among the inputs".into()));
        };
        let covered = Covered::of(words, vectors);
        let rows = gathered[index].words[layer].index_select(0, &Tensor::from_slice(&covered.rows));
        let y = reduced(covered.view()?, of_vectors);
        let unlike = reduced(covered.exchanged(sampling.seed)?, of_vectors);
        let x = reduced(View::new(&rows)?, components);
        Ok(Pair { x, y, unlike, strata: covered.strata, seed: sampling.seed })
    };
    measured(analysis, &metric, samplings.len(), &cca, &pair, scorer)
}

/// The curve of what `pair` gives at (layer, sampling). As many layers as there are threads are measured together.
fn measured(
    analysis: Analysis,
    metric: &str,
    samplings: usize,
    settings: &Settings,
    pair: &dyn Fn(usize, usize) -> Result<Pair, StageError>,
    scorer: &mut Scorer,
) -> Result<Curve, StageError> {
    let (layers, together) = (scorer.layers, tch::get_num_threads().max(1) as usize);
    let ahead = RefCell::new(BTreeMap::new());
    scorer.curve(analysis, metric, samplings, &|layer, index| {
        let mut ahead = ahead.borrow_mut();
        if !ahead.contains_key(&(layer, index)) {
            let mut places = Vec::new();
            let mut pairs = Vec::new();
            for layer in layer..layers.min(layer + together) {
                match pair(layer, index) {
                    Ok(pair) => {
                        places.push((layer, index));
                        pairs.push(pair);
                    }
                    Err(error) => _ = ahead.insert((layer, index), Err(error)),
                }
            }
            ahead.extend(places.into_iter().zip(held_out::measure(&pairs, settings)));
        }
        let lost = || Err(StageError::Failed("a layer was not measured".into()));
        Ok(one(ahead.remove(&(layer, index)).unwrap_or_else(lost)?))
    })
}

fn one(found: Measured) -> One {
    One {
        samples: found.samples as u64,
        sizes: vec![found.dimension_x as u64, found.dimension_y as u64],
        values: found.trials.iter().map(|trial| trial.pwcca).collect(),
        null: Some(found.null),
        verdict: Verdict::Sound,
    }
}

/// Segments and their one-hot labels.
fn segments<'a>(vectors: &'a Tensor, sample: &Sample) -> Result<(&'a Tensor, View, Vec<u32>), StageError> {
    let strata = sample.strata();
    Ok((vectors, View::one_hot(&strata, sample.labels.len())?, strata))
}
