//! What a layer-wise analysis found: the stored table, and the numbers that its curves are reduced to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::probing::Analysis;
use crate::values::SplitName;

mod summary;

pub use summary::{Correlation, DEEP_ENOUGH, LayerCurve, Reached};

/// The file that holds [`Findings`].
pub const FILE: &str = "layers.json";

/// `layers.json`: what the layers of one network say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Findings {
    /// Pooled.
    pub splits: Vec<SplitName>,
    /// Those that the network was pretrained on.
    pub seen_in_pretraining: Vec<SplitName>,
    /// Layers above layer 0.
    pub depth: u32,
    /// Fewer than [`DEEP_ENOUGH`] layers: too shallow to show what top layers do.
    pub too_shallow: bool,
    pub utterances: u64,
    /// Utterances without alignment, left out.
    pub unaligned: Vec<String>,
    /// The labels of segments, by kind (`words`, `phones`).
    pub labels: BTreeMap<String, Labels>,
    pub curves: Vec<Curve>,
}

/// Which labels were analysed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Labels {
    /// Sorted.
    pub analysed: Vec<String>,
    /// Segments of each sampling.
    pub segments: u64,
    /// Rare labels with their tokens, left out.
    pub dropped: BTreeMap<String, u64>,
}

/// One metric of every layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Curve {
    /// What is compared bears one name: the analysis, and the size of the codebook or the principal components where there are any.
    pub metric: String,
    pub analysis: Analysis,
    /// By layer, then by the other layer.
    pub layers: Vec<LayerScore>,
}

/// What was found at one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayerScore {
    /// 0 is the input of the Transformer stack, 1… are outputs of its blocks.
    pub layer: u32,
    /// The layer that it is compared with, where two are.
    pub other: Option<u32>,
    /// Segments, frames or utterances that one value is of.
    pub samples: u64,
    /// Dimensions of what is compared, or the codebook's size and the number of labels.
    pub sizes: Vec<u64>,
    /// Values that the mean is of: samplings, times trials for canonical correlations.
    pub values: u64,
    /// Absent where nothing could be measured.
    pub mean: Option<f64>,
    /// Of the values, with n − 1 in the denominator; 0 for a single one.
    pub deviation: Option<f64>,
    /// What the same procedure gives of shuffled labels or samples; absent where there is nothing to shuffle.
    pub null: Option<f64>,
    pub null_deviation: Option<f64>,
    /// Why the numbers support nothing.
    pub refused: Option<String>,
}

impl Findings {
    /// The text of `layers.tsv`: a row for each score.
    pub fn table(&self) -> String {
        let mut text =
            "metric\tlayer\tother\tsamples\tsizes\tvalues\tmean\tdeviation\tnull\tnull-deviation\trefused\n".to_owned();
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        for curve in &self.curves {
            for score in &curve.layers {
                let LayerScore { layer, samples, values, mean, deviation, null, null_deviation, .. } = score;
                let other = score.other.map_or(String::new(), |other| other.to_string());
                let sizes: Vec<String> = score.sizes.iter().map(u64::to_string).collect();
                let numbers = [mean, deviation, null, null_deviation].map(|value| number(*value)).join("\t");
                let refused = score.refused.as_deref().unwrap_or_default();
                let (metric, sizes) = (&curve.metric, sizes.join(" "));
                text.push_str(&format!(
                    "{metric}\t{layer}\t{other}\t{samples}\t{sizes}\t{values}\t{numbers}\t{refused}\n"
                ));
            }
        }
        text
    }

    /// The curve of this metric.
    pub fn curve(&self, metric: &str) -> Option<&Curve> {
        self.curves.iter().find(|curve| curve.metric == metric)
    }
}

impl Curve {
    /// One score a layer, ascending: where layers are compared with each other, those with layer 0.
    pub fn by_layer(&self) -> impl Iterator<Item = &LayerScore> {
        self.layers.iter().filter(|score| score.other.is_none_or(|other| other == 0))
    }

    /// The curve in few numbers; `None` where a layer has no number that supports anything.
    pub fn summary(&self) -> Option<LayerCurve> {
        let scores = self.by_layer().map(|score| score.mean.filter(|_| score.refused.is_none()));
        LayerCurve::of(&scores.collect::<Option<Vec<f64>>>()?)
    }
}
