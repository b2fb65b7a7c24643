//! `model`: the network, from samples to the last encoder layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{Count, Fraction, Weight};

/// A HuBERT encoder. The defaults are BASE as released (hubert.md sections 1 and 3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Network {
    /// What turns samples into frames.
    pub front_end: FrontEnd,
    /// The Transformer above it.
    pub encoder: Encoder,
    /// Dropout while pretraining.
    pub dropout: Dropout,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            front_end: FrontEnd::Wave(WaveFrontEnd::default()),
            encoder: Encoder::default(),
            dropout: Dropout::default(),
        }
    }
}

/// What turns samples into frames of 20 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FrontEnd {
    /// The strided convolutions of wav2vec 2.0 and HuBERT.
    Wave(WaveFrontEnd),
    /// Log-mel frames, stacked in pairs: the cheap path (MelHuBERT).
    LogMel(LogMelFrontEnd),
}

/// Seven strided convolutions over the samples. The product of the strides is 320 and the receptive field 400 samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WaveFrontEnd {
    /// Channels of every convolution (512 in all published sizes).
    pub channels: Count,
    /// Samples or steps that each convolution covers, first to last.
    pub kernels: Vec<Count>,
    /// Steps that each convolution moves, first to last.
    pub strides: Vec<Count>,
    /// Where the convolutions are normalised.
    pub norm: FrontEndNorm,
    /// Whether the convolutions have a bias (they have none in published HuBERT).
    pub bias: bool,
    /// Whether each utterance is brought to zero mean and unit variance before it is cropped (LARGE and X-LARGE).
    pub normalise_waveform: bool,
    /// Factor on the gradient that reaches the convolutions while pretraining (fairseq's `feature_grad_mult`).
    pub gradient_scale: Weight,
    /// Weight of the mean squared output of the convolutions in the pretraining loss.
    pub penalty: Weight,
}

impl Default for WaveFrontEnd {
    fn default() -> Self {
        Self {
            channels: count(512),
            kernels: [10, 3, 3, 3, 3, 2, 2].map(count).to_vec(),
            strides: [5, 2, 2, 2, 2, 2, 2].map(count).to_vec(),
            norm: FrontEndNorm::Group,
            bias: false,
            normalise_waveform: false,
            gradient_scale: weight(0.1),
            penalty: weight(10.0),
        }
    }
}

/// Where the convolutions are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FrontEndNorm {
    /// After the first convolution only: each channel over time (BASE).
    Group,
    /// After every convolution: over the channels (LARGE, X-LARGE).
    Layer,
}

/// Log-mel frames of 10 ms, two stacked to a frame of 20 ms; no parameters of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LogMelFrontEnd {
    /// Mel bins between 20 Hz and 8 kHz.
    pub bins: Count,
}

impl Default for LogMelFrontEnd {
    fn default() -> Self {
        Self { bins: count(40) }
    }
}

/// The Transformer above the front-end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Encoder {
    /// Blocks (BASE 12, LARGE 24, X-LARGE 48).
    pub layers: Count,
    /// Dimensions of a frame between blocks (BASE 768, LARGE 1024, X-LARGE 1280).
    pub width: Count,
    /// Attention heads; they divide the width (BASE 12, else 16).
    pub heads: Count,
    /// Dimensions inside the feed-forward block (four times the width as published).
    pub feed_forward: Count,
    /// Where a block normalises.
    pub norm: LayerNormPlacement,
    /// The convolution that gives positions.
    pub positional: PositionalConvolution,
    /// Probability that a layer is skipped in a training step.
    pub layer_drop: Fraction,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            layers: count(12),
            width: count(768),
            heads: count(12),
            feed_forward: count(3072),
            norm: LayerNormPlacement::Post,
            positional: PositionalConvolution::default(),
            layer_drop: fraction(0.05),
        }
    }
}

/// Whether a block normalises what it gives (`post`, BASE) or what it takes (`pre`, LARGE and X-LARGE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LayerNormPlacement {
    Post,
    Pre,
}

/// The weight-normed convolution that gives positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PositionalConvolution {
    /// Frames that it covers (128 as published).
    pub kernel: Count,
    /// Groups of channels that it keeps apart; they divide the width (16 as published).
    pub groups: Count,
}

impl Default for PositionalConvolution {
    fn default() -> Self {
        Self { kernel: count(128), groups: count(16) }
    }
}

/// Dropout probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Dropout {
    /// After attention, after the feed-forward block, and before the first layer.
    pub residual: Fraction,
    /// On the attention weights.
    pub attention: Fraction,
    /// Inside the feed-forward block.
    pub activation: Fraction,
    /// On the projected features, before masking.
    pub input: Fraction,
}

impl Default for Dropout {
    fn default() -> Self {
        Self { residual: fraction(0.1), attention: fraction(0.1), activation: fraction(0.0), input: fraction(0.1) }
    }
}

pub(crate) fn count(value: u64) -> Count {
    // Called with literals of this crate only; a test reads every default.
    Count::try_from(value).expect("a default inside its range")
}

pub(crate) fn fraction(value: f64) -> Fraction {
    Fraction::try_from(value).expect("a default inside its range")
}

pub(crate) fn weight(value: f64) -> Weight {
    Weight::try_from(value).expect("a default inside its range")
}
