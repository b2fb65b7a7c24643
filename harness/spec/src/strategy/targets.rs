//! Targets: where the units of an iteration come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::{count, fraction, weight};
use crate::training::positive;
use crate::values::{Clusters, Count, Fraction, Height, Name, Order, Positive, Weight};

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
    /// Clusters of a layer of a pretrained model.
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

    /// The checkpoints from elsewhere whose layers are clustered.
    pub fn checkpoints(&self) -> impl Iterator<Item = &Name> {
        let one: Option<&LayerTargets> = if let Self::Layer(targets) = self { Some(targets) } else { None };
        let several: &[UnitTargets] = if let Self::Ensemble(sets) = self { sets } else { &[] };
        let layers = several.iter().filter_map(|set| if let UnitTargets::Layer(of) = set { Some(of) } else { None });
        one.into_iter().chain(layers).filter_map(|targets| match &targets.of {
            Origin::Checkpoint(name) => Some(name),
            Origin::Previous | Origin::Iteration(_) => None,
        })
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
    /// Clusters of a layer of a pretrained model.
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

/// Clusters of a layer of a pretrained model.
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
    /// Which model the layer is of.
    #[serde(default)]
    pub of: Origin,
}

/// The model whose layer is clustered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The one that the iteration before left.
    #[default]
    Previous,
    /// The one that this earlier iteration left, counted from 1.
    Iteration(Count),
    /// A model folder of this name among the data; its identity is its content. `reprise import` makes one of a published checkpoint.
    Checkpoint(Name),
}

fn all() -> Fraction {
    fraction(1.0)
}
