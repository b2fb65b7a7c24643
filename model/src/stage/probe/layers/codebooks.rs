//! What clusters of frames and of segments say about their labels.

use std::collections::BTreeSet;

use reprise_spec::layers::Curve;
use reprise_spec::probing::Analysis;
use reprise_spec::stage::LayersStage;
use tch::Tensor;

use super::super::unit_quality::{INVENTORY_NAME, RATE};
use super::Evidence;
use super::scoring::{One, Scorer};
use crate::analysis::information::{self, Information};
use crate::analysis::sample::Sample;
use crate::failure::StageError;
use crate::kmeans::{self, Moment};
use crate::phone::INVENTORY;
use crate::quality::{self, Quality, Setting, Spread};
use crate::stage::Work;

/// A number of what was measured, with what shuffled labels give where there is one.
type Number<T> = fn(&T) -> (f64, Option<Spread>);

/// PNMI, with its bias taken away too, phone purity and cluster purity for each size of codebook.
pub fn of_frames(evidence: &Evidence, scorer: &mut Scorer) -> Result<Vec<Curve>, StageError> {
    let Evidence { settings, gathered, .. } = evidence;
    let draws = settings.layers.null_draws.get();
    let mut curves = Vec::new();
    for (size, clusters) in settings.layers.clusters.frames.iter().enumerate() {
        let clusters = clusters.get();
        let quality = |pairs: &Vec<(u8, u16)>| {
            let setting = Setting {
                clusters,
                phones: INVENTORY.len() as u32,
                inventory: INVENTORY_NAME.into(),
                rate: RATE,
                frames: pairs.len() as u64,
            };
            quality::measure(setting, pairs, draws).0
        };
        let found: Vec<Vec<Quality>> = gathered
            .iter()
            .map(|of_sampling| of_sampling.pairs.iter().map(|of_layer| quality(&of_layer[size])).collect())
            .collect();
        let metrics: [(&str, &str, Number<Quality>); 4] = [
            ("pnmi", "", |found| (found.scores.pnmi, Some(found.null.pnmi))),
            ("pnmi", "-corrected", |found| (found.pnmi_corrected, None)),
            ("phone-purity", "", |found| (found.scores.phone_purity, Some(found.null.phone_purity))),
            ("cluster-purity", "", |found| (found.scores.cluster_purity, Some(found.null.cluster_purity))),
        ];
        for (name, ending, number) in metrics {
            curves.push(scorer.curve(
                Analysis::Pnmi,
                &format!("{name}-{clusters}{ending}"),
                found.len(),
                &|layer, sampling| {
                    let quality = &found[sampling][layer];
                    let (value, null) = number(quality);
                    let sizes = vec![clusters.into(), INVENTORY.len() as u64];
                    let (samples, verdict) = (quality.setting.frames, quality.verdict.clone());
                    Ok(One { samples, sizes, values: vec![value], null, verdict })
                },
            )?);
        }
    }
    Ok(curves)
}

/// Mutual information of clustered segments with their labels, over the entropy of these, and with its bias taken away, for each size of
/// codebook. Codebooks are fitted on segments of the utterances that are set apart, and measured on those of the others.
pub fn of_segments(analysis: Analysis, evidence: &Evidence, scorer: &mut Scorer) -> Result<Vec<Curve>, StageError> {
    let Evidence { settings, material, samplings, gathered, .. } = evidence;
    let words = analysis == Analysis::MiWord;
    let sizes = &settings.layers.clusters;
    let sizes = if words { &sizes.words } else { &sizes.phones };
    let fitting = material.fitting();
    let mut curves = Vec::new();
    for clusters in sizes.iter().map(|size| size.get()) {
        let mut found: Vec<Vec<Information>> = Vec::new();
        for (sampling, gathered) in samplings.iter().zip(gathered) {
            let (sample, layers) = match words {
                true => (&sampling.words, &gathered.words),
                false => (&sampling.phones, &gathered.phones),
            };
            let Some(sample) = sample else { continue };
            let parts = Parts::of(sample, &fitting);
            let measure = |vectors| parts.measure(vectors, clusters, settings, sampling.seed, scorer.work);
            found.push(layers.iter().map(measure).collect::<Result<_, _>>()?);
        }
        let metrics: [(&str, Number<Information>); 2] =
            [("", |found| (found.pnmi, Some(found.null.pnmi))), ("-corrected", |found| (found.pnmi_corrected, None))];
        for (ending, number) in metrics {
            let metric = format!("{}-{clusters}{ending}", analysis.word());
            curves.push(scorer.curve(analysis, &metric, found.len(), &|layer, sampling| {
                let information = &found[sampling][layer];
                let (value, null) = number(information);
                let sizes = vec![clusters.into(), information.labels.into()];
                let (samples, verdict) = (information.segments, information.verdict.clone());
                Ok(One { samples, sizes, values: vec![value], null, verdict })
            })?);
        }
    }
    Ok(curves)
}

/// The segments that fit a codebook and those that measure it, as rows, with the latter's labels.
pub struct Parts {
    pub fitting: Vec<i64>,
    measured: Vec<i64>,
    labels: Vec<u32>,
    of: u32,
}

impl Parts {
    pub fn of(sample: &Sample, fitting: &BTreeSet<&str>) -> Self {
        let mut parts =
            Self { fitting: Vec::new(), measured: Vec::new(), labels: Vec::new(), of: sample.labels.len() as u32 };
        let segments = sample.segments.iter().flat_map(|(name, segments)| segments.iter().map(move |s| (name, s)));
        for (row, (utterance, segment)) in (0..).zip(segments) {
            if fitting.contains(utterance.as_str()) {
                parts.fitting.push(row);
            } else {
                parts.measured.push(row);
                parts.labels.push(segment.label);
            }
        }
        parts
    }

    fn measure(
        &self,
        vectors: &Tensor,
        clusters: u32,
        settings: &LayersStage,
        seed: u64,
        work: &Work,
    ) -> Result<Information, StageError> {
        let rows = |rows: &[i64]| vectors.index_select(0, &Tensor::from_slice(rows)).to_device(work.device);
        let clustering = &settings.layers.clustering;
        let mut watch = |_: Moment| work.report.check_stop();
        let fit = kmeans::fit(&rows(&self.fitting), clusters as usize, clustering, seed, &mut watch)?;
        let labels = fit.centroids.assign(&rows(&self.measured)).labels();
        let labels: Vec<u32> = labels.into_iter().map(u32::from).collect();
        information::measure((self.of, clusters), &self.labels, &labels, settings.layers.null_draws.get())
    }
}
