//! `strategy`: the iterations of a pretraining, what each predicts, and how targets become units.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::{count, fraction, weight};
use crate::training::positive;
use crate::values::{Clusters, Count, Fraction, Height, Order, Positive, Steps, Weight};

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
    /// Clusters of a third of the MFCC: the coefficients, their first or their second differences.
    MfccSubspace(SubspaceTargets),
    /// Clusters of log-mel frames.
    LogMel(FeatureTargets),
    /// Clusters of a layer of the iteration before.
    Layer(LayerTargets),
    /// Several sets of units at once, each with its own table of embeddings; their losses add (HuBERT section II.C).
    Ensemble(Vec<UnitTargets>),
    /// A quantiser that is trained with the network and told from distractors (wav2vec 2.0).
    Quantiser(Quantiser),
}

impl Targets {
    /// The sets of units, in the order of their heads; none where a quantiser takes their place.
    pub fn sets(&self) -> Vec<UnitTargets> {
        match self {
            Self::Mfcc(targets) => vec![UnitTargets::Mfcc(targets.clone())],
            Self::MfccSubspace(targets) => vec![UnitTargets::MfccSubspace(targets.clone())],
            Self::LogMel(targets) => vec![UnitTargets::LogMel(targets.clone())],
            Self::Layer(targets) => vec![UnitTargets::Layer(targets.clone())],
            Self::Ensemble(sets) => sets.clone(),
            Self::Quantiser(_) => Vec::new(),
        }
    }
}

/// One set of units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitTargets {
    /// Clusters of 13 MFCC with first and second differences.
    Mfcc(FeatureTargets),
    /// Clusters of a third of the MFCC: the coefficients, their first or their second differences.
    MfccSubspace(SubspaceTargets),
    /// Clusters of log-mel frames.
    LogMel(FeatureTargets),
    /// Clusters of a layer of the iteration before.
    Layer(LayerTargets),
}

impl UnitTargets {
    /// Clusters of the codebook.
    pub fn clusters(&self) -> Clusters {
        match self {
            Self::Mfcc(targets) | Self::LogMel(targets) => targets.clusters,
            Self::MfccSubspace(targets) => targets.clusters,
            Self::Layer(targets) => targets.clusters,
        }
    }

    /// Share of the utterances that the codebook is fitted on.
    pub fn fit(&self) -> Fraction {
        match self {
            Self::Mfcc(targets) | Self::LogMel(targets) => targets.fit,
            Self::MfccSubspace(targets) => targets.fit,
            Self::Layer(targets) => targets.fit,
        }
    }

    /// The word of the language.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Mfcc(_) => "mfcc",
            Self::MfccSubspace(_) => "mfcc-subspace",
            Self::LogMel(_) => "log-mel",
            Self::Layer(_) => "layer",
        }
    }
}

/// One subspace of product-quantised MFCC (HuBERT section IV.D): an `ensemble` of the three orders is the paper's PQ{0,1,2}.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SubspaceTargets {
    /// 0 for the 13 coefficients, 1 for their first, 2 for their second differences.
    pub order: Order,
    /// Neighbouring frames side by side, odd, edges repeated (3 in the paper: 39 dimensions).
    #[serde(default = "splice")]
    pub splice: Count,
    /// Clusters of the codebook (100 in the paper).
    pub clusters: Clusters,
    /// Share of the utterances that the codebook is fitted on.
    #[serde(default = "all")]
    pub fit: Fraction,
}

fn splice() -> Count {
    count(3)
}

/// The quantiser of wav2vec 2.0 (arXiv:2006.11477 section 2) and its losses. The defaults are BASE as released; LARGE has dimension 768,
/// no dropout, and ends at temperature 0.1. Both mask with `prob` 0.65.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Quantiser {
    /// Codebooks; one entry of each makes a target.
    pub groups: Count,
    /// Entries of every codebook.
    pub entries: Count,
    /// Dimensions of a target before it is projected; the groups divide it.
    pub dimension: Count,
    /// Dropout on the normalised features that are quantised, apart from that on the encoder's input.
    pub dropout: Fraction,
    /// Temperature of the Gumbel softmax.
    pub temperature: GumbelTemperature,
    /// Distractors of every masked frame, drawn with replacement from the other masked frames of the same utterance. One whose target
    /// is the frame's own doesn't count.
    pub negatives: Count,
    /// Weight of the loss that asks for all entries to be used.
    pub diversity: Weight,
}

impl Default for Quantiser {
    fn default() -> Self {
        Self {
            groups: count(2),
            entries: count(320),
            dimension: count(256),
            dropout: fraction(0.1),
            temperature: GumbelTemperature::default(),
            negatives: count(100),
            diversity: weight(0.1),
        }
    }
}

/// `start · decayˢᵗᵉᵖ⁻¹`, never below `end`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GumbelTemperature {
    /// At the first step.
    pub start: Positive,
    /// The lowest.
    pub end: Positive,
    /// Factor of one step.
    pub decay: Fraction,
}

impl Default for GumbelTemperature {
    fn default() -> Self {
        Self { start: positive(2.0), end: positive(0.5), decay: fraction(0.999995) }
    }
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
    /// The layer that is clustered: 0 is the input of the Transformer stack, 1… are block outputs.
    pub height: Height,
    /// Whether the last layer of a pre-norm encoder is taken behind the final norm (Hugging Face, s3prl) or before it (fairseq,
    /// torchaudio).
    #[serde(default)]
    pub after_final_norm: bool,
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
