//! `strategy`: the iterations of a pretraining, what each predicts, and how targets become units.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::{count, fraction};
use crate::values::{Clusters, Count, Fraction, Height, Steps};

/// How the model is pretrained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// No pretraining: fine-tuning starts from random weights. The control.
    Scratch,
    /// Iterations as published: each starts from random weights and predicts units of the one before.
    Baseline(Baseline),
}

/// The published strategy (HuBERT section II.B): a list of iterations, the first on units of acoustic features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Baseline {
    /// First to last; the first predicts units of acoustic features.
    pub iterations: Vec<Iteration>,
}

/// One iteration: what is predicted, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Iteration {
    /// What is predicted.
    pub targets: Targets,
    /// Optimiser steps; the learning-rate schedule spans exactly these.
    pub steps: Steps,
}

/// Where the units of an iteration come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Targets {
    /// Clusters of 13 MFCC with first and second differences.
    Mfcc(FeatureTargets),
    /// Clusters of log-mel frames.
    LogMel(FeatureTargets),
    /// Clusters of a layer of the iteration before.
    Layer(LayerTargets),
}

/// Clusters of acoustic features, which have no height.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FeatureTargets {
    /// Clusters of the codebook.
    pub clusters: Clusters,
    /// Share of the utterances that the codebook is fitted on.
    #[serde(default = "all")]
    pub fit: Fraction,
}

/// Clusters of a layer of the iteration before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LayerTargets {
    /// The layer that is clustered: 0 is the input of the Transformer stack, 1… are block outputs, never after a final norm.
    pub height: Height,
    /// Clusters of the codebook.
    pub clusters: Clusters,
    /// Share of the utterances that the codebook is fitted on.
    #[serde(default = "all")]
    pub fit: Fraction,
}

fn all() -> Fraction {
    fraction(1.0)
}

/// `clustering`: how codebooks are fitted (hubert.md section 4.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Clustering {
    /// How k-means descends from its start.
    pub algorithm: Algorithm,
    /// k-means++ starts; the best of them on a validation sample, drawn from the frames that the codebook is fitted on, is optimised further.
    pub starts: Count,
}

impl Default for Clustering {
    fn default() -> Self {
        Self { algorithm: Algorithm::MiniBatch(MiniBatch::default()), starts: count(20) }
    }
}

/// How k-means descends from its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Random batches and running means, as published.
    MiniBatch(MiniBatch),
    /// Full passes over all frames until the assignment stands still.
    Lloyd(Lloyd),
}

/// Mini-batch k-means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MiniBatch {
    /// Frames of a batch.
    pub batch: Count,
    /// Most passes over the frames.
    pub max_passes: Count,
    /// Batches without a better smoothed inertia before it stops.
    pub patience: Count,
}

impl Default for MiniBatch {
    fn default() -> Self {
        Self { batch: count(10_000), max_passes: count(100), patience: count(100) }
    }
}

/// Lloyd's algorithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Lloyd {
    /// Most passes over the frames.
    pub max_passes: Count,
}

impl Default for Lloyd {
    fn default() -> Self {
        Self { max_passes: count(100) }
    }
}
