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
    /// Of the values, with n − 1 in the denominator; absent for a single one.
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

    /// The curve in few numbers; `None` where a layer has no number that supports anything, and for what layer 0 doesn't have.
    pub fn summary(&self) -> Option<LayerCurve> {
        self.by_layer().next().filter(|score| score.layer == 0)?;
        let scores = self.by_layer().map(|score| score.mean.filter(|_| score.refused.is_none()));
        LayerCurve::of(&scores.collect::<Option<Vec<f64>>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(layer: u32, other: Option<u32>, mean: f64, refused: bool) -> LayerScore {
        LayerScore {
            layer,
            other,
            samples: 30,
            sizes: vec![4, 5],
            values: 3,
            mean: Some(mean),
            deviation: Some(0.5),
            null: None,
            null_deviation: None,
            refused: refused.then(|| "too few".into()),
        }
    }

    fn curve(layers: Vec<LayerScore>) -> Curve {
        Curve { metric: "cka".into(), analysis: Analysis::Cka, layers }
    }

    #[test]
    fn the_curve_of_compared_layers_is_that_with_the_input() {
        let whole = [(0, 0, 1.), (1, 0, 0.5), (1, 1, 1.), (2, 0, 0.25), (2, 1, 0.75), (2, 2, 1.)];
        let curve = curve(whole.map(|(layer, other, mean)| score(layer, Some(other), mean, false)).into());
        let summary = curve.summary().unwrap();
        assert_eq!((summary.best, summary.best_layer, summary.top_drop), (1., 0, 0.75));
    }

    #[test]
    fn a_curve_with_a_refused_layer_or_without_layer_0_has_no_summary() {
        let alone = |layer, refused| score(layer, None, 0.5, refused);
        assert!(curve(vec![alone(0, false), alone(1, false)]).summary().is_some());
        assert!(curve(vec![alone(0, false), alone(1, true)]).summary().is_none());
        assert!(curve(vec![alone(1, false), alone(2, false)]).summary().is_none());
    }

    #[test]
    fn the_table_has_a_row_for_each_score() {
        let findings = Findings {
            splits: Vec::new(),
            seen_in_pretraining: Vec::new(),
            depth: 1,
            too_shallow: true,
            utterances: 3,
            unaligned: Vec::new(),
            labels: BTreeMap::new(),
            curves: vec![curve(vec![score(0, Some(0), 1., false), score(1, Some(0), 0.25, true)])],
        };
        insta::assert_snapshot!(findings.table().replace('\t', ","), @"
        metric,layer,other,samples,sizes,values,mean,deviation,null,null-deviation,refused
        cka,0,0,30,4 5,3,1,0.5,,,
        cka,1,0,30,4 5,3,0.25,0.5,,,too few
        ");
    }
}
