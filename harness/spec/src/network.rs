//! `model`: the network, from samples to the last encoder layer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arithmetic::{FEATURE_STRIDE, FRAME_STRIDE};
use crate::values::{Clusters, Count, Fraction, Weight};

/// A network from samples to frames that know their context. The defaults are HuBERT BASE as released (hubert.md sections 1 and 3.1),
/// which is wav2vec 2.0 BASE too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Network {
    /// What turns samples into frames.
    pub front_end: FrontEnd,
    /// What brings frames to the width of the Transformer.
    pub projection: FeatureProjection,
    /// The Transformer above it.
    pub encoder: Encoder,
    /// How the layers are spread over frame rates (MR-HuBERT); absent means one block at the rate of the front-end.
    pub hierarchy: Option<Hierarchy>,
    /// Dropout while pretraining.
    pub dropout: Dropout,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            front_end: FrontEnd::Wave(WaveFrontEnd::default()),
            projection: FeatureProjection::default(),
            encoder: Encoder::default(),
            hierarchy: None,
            dropout: Dropout::default(),
        }
    }
}

impl Network {
    /// Samples from one frame of the front-end to the next: 320 (20 ms) or 640 (40 ms).
    pub fn frame_stride(&self) -> u64 {
        match &self.front_end {
            FrontEnd::LogMel(mel) => FEATURE_STRIDE * mel.subsampling.factor(),
            FrontEnd::Wave(_) | FrontEnd::Units(_) => FRAME_STRIDE,
        }
    }

    /// Samples from one frame of `layer`'s output to the next; layer 0 is the input of the first block. In a hierarchy the layers of
    /// block b run at the front-end's stride times the ratios passed on the way to it.
    pub fn layer_stride(&self, layer: u32) -> u64 {
        let Some(hierarchy) = &self.hierarchy else { return self.frame_stride() };
        self.frame_stride() * hierarchy.ratio_at(layer)
    }
}

/// What turns samples into frames of 20 or 40 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FrontEnd {
    /// The strided convolutions of wav2vec 2.0 and HuBERT.
    Wave(WaveFrontEnd),
    /// Log-mel frames, stacked or convolved: the cheap path (MelHuBERT, Fast-HuBERT).
    LogMel(LogMelFrontEnd),
    /// Units of acoustic features instead of waves (DiscreteBERT).
    Units(UnitFrontEnd),
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

/// Log-mel frames of 10 ms, brought to frames of 20 or 40 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LogMelFrontEnd {
    /// Mel bins between 20 Hz and 8 kHz (MelHuBERT 40, Fast-HuBERT 80).
    pub bins: Count,
    /// How frames of 10 ms become fewer.
    pub subsampling: Subsampling,
}

impl Default for LogMelFrontEnd {
    fn default() -> Self {
        Self { bins: count(40), subsampling: Subsampling::default() }
    }
}

/// How frames of 10 ms become frames of 20 or 40 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Subsampling {
    /// Neighbours side by side in one frame, without parameters (MelHuBERT).
    Stack(Stack),
    /// Strided convolutions with gated linear units over the frames (Fast-HuBERT).
    Convolution(SubsamplingConvolution),
}

impl Default for Subsampling {
    fn default() -> Self {
        Self::Stack(Stack::default())
    }
}

impl Subsampling {
    /// Frames of 10 ms that become one.
    pub fn factor(&self) -> u64 {
        match self {
            Self::Stack(stack) => stack.frames.get().into(),
            Self::Convolution(convolution) => {
                convolution.strides.iter().fold(1, |product: u64, n| product.saturating_mul(n.get().into()))
            }
        }
    }
}

/// Neighbours side by side in one frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Stack {
    /// Frames of 10 ms that become one: 2 or 4.
    pub frames: Count,
}

impl Default for Stack {
    fn default() -> Self {
        Self { frames: count(2) }
    }
}

/// Strided convolutions over the frames, each followed by a gated linear unit. The defaults are Fast-HuBERT's, 40 ms a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SubsamplingConvolution {
    /// Frames that each convolution covers, first to last; odd, so that output frame t is centred on input frame t · stride.
    pub kernels: Vec<Count>,
    /// Frames that each convolution moves, first to last; their product is 2 or 4.
    pub strides: Vec<Count>,
    /// Channels of the convolutions but the last, before gating halves them.
    pub channels: Count,
    /// Dimensions of a frame behind the last.
    pub width: Count,
}

impl Default for SubsamplingConvolution {
    fn default() -> Self {
        Self {
            kernels: [5, 5].map(count).to_vec(),
            strides: [2, 2].map(count).to_vec(),
            channels: count(1024),
            width: count(512),
        }
    }
}

/// Every second 10-ms frame's unit, embedded. The codebook is fitted on the pretraining splits and becomes part of the model, so that a
/// trained one reads samples like any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UnitFrontEnd {
    /// The acoustic features that are clustered.
    pub of: FeatureKind,
    /// Clusters of the codebook (DiscreteBERT's row of HuBERT's table VII has 13,500).
    pub clusters: Clusters,
    /// Share of the utterances that the codebook is fitted on.
    #[serde(default = "all")]
    pub fit: Fraction,
    /// Dimensions of a unit's embedding.
    #[serde(default = "embedding_dimension")]
    pub dimension: Count,
}

fn all() -> Fraction {
    fraction(1.0)
}

fn embedding_dimension() -> Count {
    count(512)
}

/// Which acoustic features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureKind {
    /// 13 Kaldi MFCC without energy, with first and second differences: 39 dimensions (hubert.md section 4.1).
    Mfcc,
    /// 80 Kaldi log-mel bins.
    LogMel,
}

/// What brings frames to the width of the Transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FeatureProjection {
    /// Whether frames are normalised first (`feat_proj_layer_norm` of Hugging Face; everywhere in the published models).
    pub layer_norm: bool,
    /// When there is a linear map.
    pub linear: LinearProjection,
}

impl Default for FeatureProjection {
    fn default() -> Self {
        Self { layer_norm: true, linear: LinearProjection::WhereWidthsDiffer }
    }
}

/// When there is a linear map from the front-end to the Transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinearProjection {
    /// Only where the widths differ (fairseq's `post_extract_proj`).
    WhereWidthsDiffer,
    /// Always (Hugging Face, torchaudio).
    Always,
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
    /// A bias on the attention by the distance of two frames, beside the convolution (the ILS-HuBERT release has it, its paper's loss
    /// doesn't need it); absent means none.
    pub relative_positions: Option<RelativePositions>,
    /// Probability that a layer is skipped in a training step.
    pub layer_drop: Fraction,
    /// Whose initial weights.
    pub initialisation: Initialisation,
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
            relative_positions: None,
            layer_drop: fraction(0.05),
            initialisation: Initialisation::Fairseq,
        }
    }
}

/// Whose initial weights (hubert.md sections 1.4 and 7.2). Embeddings of masks and of predicted units are U(0, 1) and norms 1 and 0 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// N(0, 0.02) inside the encoder, the framework's default outside it, positions from N(0, √(4 / (kernel · width))).
    Fairseq,
    /// N(0, 0.02) for every linear map with biases 0, positions of the framework's default with bias 0.
    HuggingFace,
}

/// A learnt bias for each head and bucket of distances, shared by all layers (T5's buckets; UniSpeech `ils_hubert`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RelativePositions {
    /// Buckets, half of them for each direction; even.
    pub buckets: Count,
    /// Frames from which on distances share the last bucket.
    pub max_distance: Count,
}

impl Default for RelativePositions {
    fn default() -> Self {
        Self { buckets: count(320), max_distance: count(800) }
    }
}

/// Layers spread over frame rates (MR-HuBERT, arXiv:2310.02720; hubert.md section 1.7): blocks of layers, first at the front-end's rate,
/// then at lower ones, then back up, with a sampling module between two blocks and a sum around each lower part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Hierarchy {
    /// Layers of every block, first to last: one more than twice the ratios; they add up to `encoder.layers`.
    pub layers: Vec<Count>,
    /// Frames of one rate that become one frame of the next lower; 1 keeps the rate (the mono-resolution control).
    pub ratios: Vec<Count>,
    /// What stands between two blocks.
    pub sampling: Sampling,
}

impl Default for Hierarchy {
    fn default() -> Self {
        Self { layers: [4, 4, 4].map(count).to_vec(), ratios: vec![count(2)], sampling: Sampling::default() }
    }
}

impl Hierarchy {
    /// Frames of the front-end in one frame of the lowest rate.
    pub fn lowest(&self) -> u64 {
        self.ratios.iter().map(|ratio| u64::from(ratio.get())).product()
    }

    /// Frames of the front-end in one frame of the block that gives `layer`; layer 0 belongs to the first block.
    pub fn ratio_at(&self, layer: u32) -> u64 {
        let mut last = 0;
        let block = self.layers.iter().position(|layers| {
            last += layers.get();
            layer <= last
        });
        let block = block.unwrap_or(2 * self.ratios.len());
        let depth = block.min((2 * self.ratios.len()).saturating_sub(block));
        self.ratios.iter().take(depth).map(|ratio| u64::from(ratio.get())).product()
    }
}

/// What stands between two blocks of a hierarchy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Sampling {
    /// Which form.
    pub form: SamplingForm,
    /// Frames that its convolutions cover; odd (1 in the released models, 7 in the code's default).
    pub kernel: Count,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { form: SamplingForm::Residual, kernel: count(1) }
    }
}

/// The two published sampling modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SamplingForm {
    /// A transposed convolution up, then a strided one down, with residual sums around each and around both.
    Residual,
    /// The one that is needed of the two with the sum around it, and no sum around both (the paper's simple sampling).
    Plain,
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
