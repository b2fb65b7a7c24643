//! Whether the sample is large enough for what is asked of it, all at once and before anything passes through the network.

use reprise_spec::network::Network;
use reprise_spec::probing::{Analysis, LayerClusters};
use reprise_spec::stage::LayersStage;

use super::codebooks::Parts;
use super::material::{Material, Sampling};
use super::meaning::{Covered, in_sample};
use crate::analysis::held_out::{SAMPLES_PER_DIMENSION, needed};
use crate::analysis::sample::Sample;
use crate::failure::StageError;
use crate::features::MEL_BINS;

/// What a sample lacks, and what would do.
struct Lacking {
    short: Vec<String>,
    help: Vec<String>,
}

/// Refuses samples that are too small.
///
/// # Errors
/// Every shortfall, with the words that would mend it.
pub fn enough(
    settings: &LayersStage,
    network: &Network,
    material: &Material,
    sampling: &Sampling,
) -> Result<(), StageError> {
    let mut lacking = Lacking { short: Vec::new(), help: Vec::new() };
    lacking.correlations(settings, network, material, sampling);
    lacking.codebooks(settings, material, sampling);
    lacking.meanings(settings, material, sampling);
    match lacking.short.is_empty() {
        true => Ok(()),
        false => Err(StageError::refused(lacking.short.join("\n"), lacking.help.join("; "))),
    }
}

impl Lacking {
    /// Canonical correlations need some samples for each dimension.
    fn correlations(&mut self, settings: &LayersStage, network: &Network, material: &Material, sampling: &Sampling) {
        let (depth, width) = (network.encoder.layers.get(), network.encoder.width.get() as usize);
        let layer = settings.layers.components.map_or(width, |components| components.get() as usize);
        let before = self.short.len();
        let mut room = width;
        for analysis in settings.analyses.iter().filter(|analysis| analysis.is_cca()) {
            let frames = sampling.frames.as_ref().map_or(0, |frames| frames.count);
            let of = |sample: &Option<Sample>| sample.as_ref().map_or((0, 0), |s| (s.strata().len(), s.labels.len()));
            let (samples, target) = match analysis {
                Analysis::CcaWord => of(&sampling.words),
                Analysis::CcaPhone => of(&sampling.phones),
                Analysis::CcaMel => (frames, MEL_BINS),
                Analysis::CcaSemantic => match covered(material, sampling) {
                    Some(covered) => (covered.rows.len(), dimensions(settings, material)),
                    None => (0, 0),
                },
                _ => (frames, layer),
            };
            let needed = needed(layer, target);
            if samples < needed {
                let word = analysis.word();
                let (missing, per) = (needed - samples, SAMPLES_PER_DIMENSION);
                self.short.push(format!(
                    "{word} of layers 0 to {depth}: {samples} samples are {missing} too few for views of {layer} and {target} dimensions, \
                     which need {needed}: {per} for each dimension"
                ));
                let dimensions = samples / per;
                room = room.min(match analysis {
                    Analysis::CcaIntra => dimensions / 2,
                    _ => dimensions.saturating_sub(target),
                });
            }
        }
        if self.short.len() > before {
            let reduce = match room {
                0 => String::new(),
                _ => format!(
                    ", or reduce layers to at most {room} principal components with `probing.layers.components`, which makes other metrics \
                     with names of their own"
                ),
            };
            self.help.push(format!("allow more tokens a label or more `frames`, take more splits{reduce}"));
        }
    }

    /// A codebook has no more clusters than what it is fitted on has samples.
    fn codebooks(&mut self, settings: &LayersStage, material: &Material, sampling: &Sampling) {
        let LayerClusters { frames, words, phones } = &settings.layers.clusters;
        let fitting = |sample: &Option<Sample>| {
            sample.as_ref().map_or(0, |sample| Parts::of(sample, &material.fitting()).fitting.len())
        };
        let codebooks = [
            (Analysis::Pnmi, "frames", frames, sampling.frames.as_ref().map_or(0, |frames| frames.count)),
            (Analysis::MiWord, "words", words, fitting(&sampling.words)),
            (Analysis::MiPhone, "phones", phones, fitting(&sampling.phones)),
        ];
        for (analysis, kind, sizes, samples) in codebooks {
            let largest = sizes.iter().map(|size| size.get() as usize).max().unwrap_or_default();
            if !settings.analyses.contains(&analysis) || largest <= samples {
                continue;
            }
            let (name, missing) = (analysis.word(), largest - samples);
            let what = if analysis == Analysis::Pnmi { "frames" } else { "segments" };
            self.short.push(format!(
                "{name}: {samples} {what} of the utterances that fit codebooks are {missing} too few for {largest} clusters"
            ));
            self.help.push(format!("set `probing.layers.clusters.{kind}` to at most {samples}"));
        }
    }

    /// Vectors say more than which word it is only where there are more words than dimensions; a rank correlation needs pairs.
    fn meanings(&mut self, settings: &LayersStage, material: &Material, sampling: &Sampling) {
        if let Some(covered) =
            covered(material, sampling).filter(|_| settings.analyses.contains(&Analysis::CcaSemantic))
        {
            let (words, dimensions) = (covered.words(), dimensions(settings, material));
            if words < dimensions + 2 {
                self.short.push(format!(
                    "cca-semantic: {words} words have a vector; in {dimensions} dimensions vectors of fewer than {} say which word it is, as \
                     cca-word does, and nothing of what words mean",
                    dimensions + 2
                ));
                self.help.push(match words.saturating_sub(2) {
                    0 => "name vectors of words that the splits have often enough".to_owned(),
                    room => {
                        format!("reduce the vectors to at most {room} with `probing.layers.word-vector-components`")
                    }
                });
            }
        }
        let pairs = material.meanings.pairs.as_ref().zip(sampling.words.as_ref());
        if let Some((pairs, words)) = pairs.filter(|_| settings.analyses.contains(&Analysis::WordSimilarity)) {
            let (found, least) = (in_sample(words, pairs).0.len(), settings.layers.least_word_pairs.get() as usize);
            if found < least {
                let (all, labels, missing) = (pairs.len(), words.labels.len(), least - found);
                self.short.push(format!(
                    "word-similarity: of {all} pairs {found} have both words among the {labels} that are analysed, {missing} fewer than {least}"
                ));
                self.help.push(
                    "lower `probing.layers.tokens.words.minimum`, take more splits, or ask for fewer with `probing.layers.least-word-pairs`"
                        .to_owned(),
                );
            }
        }
    }
}

fn covered(material: &Material, sampling: &Sampling) -> Option<Covered> {
    Some(Covered::of(sampling.words.as_ref()?, material.meanings.vectors.as_ref()?))
}

/// Those that vectors of words are compared in.
fn dimensions(settings: &LayersStage, material: &Material) -> usize {
    let whole = material.meanings.vectors.as_ref().map_or(0, |vectors| vectors.dimension());
    settings.layers.word_vector_components.map_or(whole, |components| whole.min(components.get() as usize))
}
