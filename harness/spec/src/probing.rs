//! `probing`: what is measured on trained things.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evaluation::{Evaluation, Point};
use crate::network::{count, fraction};
use crate::strategy::{FeatureTargets, Iteration, LayerTargets, Origin, UnitTargets};
use crate::values::{Clusters, Count, Fraction, Height, Name, SplitName, Steps};

mod layers;

pub use layers::{Analysis, LayerClusters, Layers, TokenRange, Tokens, Weighting};

/// What is measured on trained things without changing them. Adding a probe leaves every trained thing what it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Probing {
    /// Agreement of every iteration's units with aligned phones.
    pub unit_quality: Option<UnitQuality>,
    /// Codebooks that nothing is trained on, fitted to be measured beside those that iterations predict.
    pub codebooks: Vec<Codebooks>,
    /// What is measured on every layer of the models of all points: the ends of iterations, and those that `every` and `at` add. The same is
    /// measured on the network with random weights, as the control.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub analyses: Vec<Analysis>,
    /// A grid in cumulative steps: a point of layer-wise analysis each time that so many have been made.
    pub every: Option<Count>,
    /// Further points of layer-wise analysis, in cumulative steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<Steps>,
    /// On what layers are analysed, and how.
    pub layers: Option<Layers>,
}

impl Probing {
    /// Every split that something is measured on, some of them twice.
    pub fn splits(&self) -> impl Iterator<Item = &SplitName> {
        let of_units = self.unit_quality.iter().flat_map(|quality| &quality.splits);
        of_units.chain(self.layers.iter().flat_map(|layers| &layers.splits))
    }

    /// The names of the curves over layers that the analyses give.
    pub fn curves(&self) -> Vec<String> {
        let Some(layers) = &self.layers else { return Vec::new() };
        self.analyses.iter().flat_map(|analysis| analysis.curves(layers)).collect()
    }

    /// The points of pretraining at which layers are analysed, in ascending order; none without analyses.
    pub fn points(&self, iterations: &[Iteration]) -> Vec<Point> {
        if self.analyses.is_empty() {
            return Vec::new();
        }
        let Self { every, at, .. } = self;
        Evaluation { every: *every, at: at.clone(), iteration_ends: true, cool_down: None }.points(iterations)
    }
}

/// Codebooks of a source, one for each combination of what is listed, fitted on `corpus.pretrain` as `clustering` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Codebooks {
    /// What is clustered.
    pub of: CodebookSource,
    /// Clusters.
    pub clusters: Vec<Clusters>,
    /// Shares of the utterances that codebooks are fitted on.
    #[serde(default = "whole")]
    pub fit: Vec<Fraction>,
    /// Seeds of the draws, for how much the start of k-means matters while the model stays; none means the run's.
    #[serde(default)]
    pub seeds: Vec<u64>,
}

/// What codebooks that are only measured are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodebookSource {
    /// 13 MFCC with first and second differences.
    Mfcc,
    /// Log-mel frames.
    LogMel,
    /// Layers of a pretrained model.
    Layers(CodebookLayers),
}

/// Layers of a pretrained model, each clustered on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CodebookLayers {
    /// 0 is the input of the Transformer stack, 1… are block outputs.
    pub heights: Vec<Height>,
    /// Which model; by default the one that the last iteration left.
    #[serde(default)]
    pub of: Origin,
}

/// One of the codebooks that [`Codebooks`] stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    pub targets: UnitTargets,
    /// The run's where it is absent.
    pub seed: Option<u64>,
}

impl Codebooks {
    /// The checkpoint from elsewhere whose layers are clustered.
    pub fn checkpoint(&self) -> Option<&Name> {
        match &self.of {
            CodebookSource::Layers(CodebookLayers { of: Origin::Checkpoint(name), .. }) => Some(name),
            CodebookSource::Layers(_) | CodebookSource::Mfcc | CodebookSource::LogMel => None,
        }
    }

    /// One after the other: by layer, clusters, share and seed, the last turning fastest.
    pub fn each(&self) -> Vec<Codebook> {
        let feature = |clusters, fit| FeatureTargets { clusters, fit };
        let sources: Vec<Box<dyn Fn(Clusters, Fraction) -> UnitTargets + '_>> = match &self.of {
            CodebookSource::Mfcc => vec![Box::new(move |k, fit| UnitTargets::Mfcc(feature(k, fit)))],
            CodebookSource::LogMel => vec![Box::new(move |k, fit| UnitTargets::LogMel(feature(k, fit)))],
            CodebookSource::Layers(CodebookLayers { heights, of }) => heights
                .iter()
                .map(|&height| -> Box<dyn Fn(Clusters, Fraction) -> UnitTargets> {
                    Box::new(move |clusters, fit| {
                        UnitTargets::Layer(LayerTargets {
                            height,
                            after_final_norm: false,
                            clusters,
                            fit,
                            of: of.clone(),
                        })
                    })
                })
                .collect(),
        };
        let seeds: Vec<Option<u64>> =
            if self.seeds.is_empty() { vec![None] } else { self.seeds.iter().copied().map(Some).collect() };
        let mut codebooks = Vec::new();
        for source in &sources {
            for &clusters in &self.clusters {
                for &fit in &self.fit {
                    codebooks.extend(seeds.iter().map(|&seed| Codebook { targets: source(clusters, fit), seed }));
                }
            }
        }
        codebooks
    }
}

fn whole() -> Vec<Fraction> {
    vec![fraction(1.0)]
}

/// PNMI, phone purity and cluster purity at 50 Hz against 39 phones and silence (hubert.md section 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UnitQuality {
    /// Aligned splits to measure on, pooled; none of them may fit a codebook.
    pub splits: Vec<SplitName>,
    /// Draws of the shuffled-label null.
    #[serde(default = "null_draws")]
    pub null_draws: Count,
}

fn null_draws() -> Count {
    count(20)
}
