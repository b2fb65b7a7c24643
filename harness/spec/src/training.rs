//! `pretraining` and `finetuning`: masks, losses, optimiser, schedules and batches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::guards::Guards;
use crate::network::{count, fraction, weight};
use crate::values::{Count, Fraction, Height, Positive, Seconds, Steps, Weight};

/// How every iteration is pretrained. The defaults are HuBERT BASE as released (hubert.md sections 1.5, 1.6 and 3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Pretraining {
    /// Which frames are hidden from the encoder.
    pub masking: SpanMasking,
    /// How frames are scored against units.
    pub head: Head,
    /// Where in the network they are.
    pub predict_at: PredictAt,
    /// Which frames count how much.
    pub loss: LossWeights,
    /// What turns gradients into steps.
    pub optimiser: Adam,
    /// The learning rate over an iteration.
    pub schedule: LinearSchedule,
    /// How utterances become batches.
    pub batching: Batching,
    /// What products are computed in.
    #[serde(skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
    /// Steps between two validations; the last step is always validated.
    pub validate_every: Count,
    /// What counts as a training that went wrong, and what is done then.
    pub guards: Guards,
}

impl Default for Pretraining {
    fn default() -> Self {
        Self {
            masking: SpanMasking::default(),
            head: Head::default(),
            predict_at: PredictAt::Output,
            loss: LossWeights::default(),
            optimiser: Adam {
                epsilon: positive(1e-6),
                weight_decay: weight(0.01),
                clip: Some(positive(10.0)),
                ..Adam::default()
            },
            schedule: LinearSchedule::default(),
            batching: Batching::default(),
            precision: Precision::Fp32,
            validate_every: count(5_000),
            guards: Guards::default(),
        }
    }
}

/// What products and convolutions of a training step are computed in. Weights, their steps, the residual stream, norms, heads and losses
/// are always in single precision, and so is everything outside of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    Fp32,
    /// bfloat16, whose range is that of single precision, so that no loss is scaled.
    Bf16,
}

impl Precision {
    /// Whether products are computed as everything else is.
    pub fn is_single(&self) -> bool {
        *self == Self::Fp32
    }
}

/// Masked spans (wav2vec 2.0 section 3.1; fairseq `compute_mask_indices`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SpanMasking {
    /// Share of positions that spans would cover if none overlapped; divided by `length` it is the share that starts a span
    /// (0.80 with length 10 is the papers' p = 8 %).
    pub prob: Fraction,
    /// Positions of one span.
    pub length: Count,
    /// Fewest spans of a row.
    pub min_masks: u32,
    /// Whether every row of a batch is trimmed at random to the smallest count of masked positions, as published.
    pub equal_count: bool,
    /// Whether a span may reach the last position.
    pub last_position: LastPosition,
}

/// Whether a span may reach the last position of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LastPosition {
    /// Never: starts are drawn below `positions − length` (fairseq).
    Visible,
    /// It may: starts are drawn up to `positions − length` (Hugging Face).
    Maskable,
}

impl Default for SpanMasking {
    fn default() -> Self {
        Self {
            prob: fraction(0.8),
            length: count(10),
            min_masks: 2,
            equal_count: true,
            last_position: LastPosition::Visible,
        }
    }
}

/// How frames are scored against units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// The cosine between a projected frame and a unit's embedding, over a temperature (HuBERT equation 3).
    Cosine(CosineHead),
    /// One linear map to as many logits as units, over a temperature (MelHuBERT, Fast-HuBERT, k2SSL).
    Linear(LinearHead),
}

impl Default for Head {
    fn default() -> Self {
        Self::Cosine(CosineHead::default())
    }
}

/// The cosine head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CosineHead {
    /// Dimensions of the projected frame and of a unit's embedding (BASE 256, LARGE 768, X-LARGE 1024).
    pub dimension: Count,
    /// What cosines are divided by (0.1 as published).
    pub temperature: Positive,
    /// Classes beside the units that are never right: 4 in fairseq, whose dictionary puts its special symbols there, else 0.
    pub extra_rows: u32,
    /// Whether several sets of units share one projection (fairseq without `untie_final_proj`); the released models untie it.
    pub tied: bool,
}

impl Default for CosineHead {
    fn default() -> Self {
        Self { dimension: count(256), temperature: positive(0.1), extra_rows: 0, tied: false }
    }
}

/// The linear head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LinearHead {
    /// What logits are divided by (1 in MelHuBERT, 0.1 in Fast-HuBERT and k2SSL).
    pub temperature: Positive,
    /// Classes beside the units that are never right: 4 in Fast-HuBERT, else 0.
    pub extra_rows: u32,
}

impl Default for LinearHead {
    fn default() -> Self {
        Self { temperature: positive(0.1), extra_rows: 0 }
    }
}

/// Where in the network frames are scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PredictAt {
    /// The output of the last layer alone. In a hierarchy this leaves the low-resolution loss out.
    Output,
    /// The outputs of these layers, each with a head of its own, all on the same units; their losses add (ILS-HuBERT: 4 and 12).
    Layers(Vec<Height>),
    /// Every rate of a hierarchy, each with a head of its own; their losses add (MR-HuBERT).
    Resolutions(ResolutionTargets),
}

/// Which units the rates of a hierarchy predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResolutionTargets {
    /// All the same ones; a lower rate takes every second (third, …) label, as the released models.
    Shared,
    /// Each its own: `targets` is an `ensemble` with one member a rate, the highest first.
    Separate,
}

/// Weights of the cross-entropy at masked and at other frames (the papers' α and 1 − α).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LossWeights {
    /// Of masked frames (1 as published).
    pub masked: Weight,
    /// Of frames that aren't masked (0 as published).
    pub unmasked: Weight,
}

impl Default for LossWeights {
    fn default() -> Self {
        Self { masked: weight(1.0), unmasked: weight(0.0) }
    }
}

/// Adam with decoupled weight decay on every parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Adam {
    /// Decay of the running mean of gradients.
    pub beta1: Fraction,
    /// Decay of the running mean of squared gradients.
    pub beta2: Fraction,
    /// Added to the root of the second.
    pub epsilon: Positive,
    /// Whether the bias of the second is corrected before or after epsilon is added.
    pub epsilon_placement: EpsilonPlacement,
    /// Share of every parameter taken off a step, times the learning rate.
    pub weight_decay: Weight,
    /// Largest norm of the gradient; absent means that it is not clipped.
    pub clip: Option<Positive>,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            beta1: fraction(0.9),
            beta2: fraction(0.98),
            epsilon: positive(1e-8),
            epsilon_placement: EpsilonPlacement::Outside,
            weight_decay: weight(0.0),
            clip: None,
        }
    }
}

/// Whether epsilon stands inside or outside the bias correction (hubert.md section 3.1); early steps differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EpsilonPlacement {
    /// √(1 − β₂ᵗ) · m / (√v + ε) (fairseq).
    Outside,
    /// m / (√(v / (1 − β₂ᵗ)) + ε) (PyTorch).
    Inside,
}

/// Linear warm-up to the peak, then linear decay to zero at the iteration's last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LinearSchedule {
    /// The highest learning rate.
    pub peak: Positive,
    /// Share of the iteration's steps that warm up.
    pub warm_up: Fraction,
}

impl Default for LinearSchedule {
    fn default() -> Self {
        Self { peak: positive(5e-4), warm_up: fraction(0.08) }
    }
}

/// How utterances become batches: a pure function of (corpus, seed, epoch).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Batching {
    /// Most audio in one step, counted as utterances × longest.
    pub seconds: Seconds,
    /// Batches whose gradients are added to one step, each with at most `seconds` / `accumulation` of audio and lengths of its own (BASE:
    /// 32 GPUs with 87.5 s each). The last step of an epoch takes those that are left.
    #[serde(skip_serializing_if = "Batching::is_whole")]
    pub accumulation: Count,
    /// Longest stretch of one utterance; longer ones are cropped at random.
    pub longest: Seconds,
    /// Shorter utterances are left out.
    pub shortest: Seconds,
    /// What makes the lengths of a batch equal.
    pub lengths: Lengths,
    /// Where crops start, and which labels go with them.
    pub label_alignment: LabelAlignment,
    /// Which frames of a padded row are padding.
    pub padding_rule: PaddingRule,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            seconds: seconds(2800.0),
            accumulation: count(1),
            longest: seconds(15.625),
            shortest: seconds(2.0),
            lengths: Lengths::Crop,
            label_alignment: LabelAlignment::Snapped,
            padding_rule: PaddingRule::Convolution,
        }
    }
}

impl Batching {
    /// Most samples in one batch.
    pub fn samples(&self) -> u64 {
        self.seconds.samples() / u64::from(self.accumulation.get())
    }

    fn is_whole(accumulation: &Count) -> bool {
        accumulation.get() == 1
    }
}

/// What makes the lengths of a batch equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lengths {
    /// Every utterance is cropped at random to the shortest of the batch, as published.
    Crop,
    /// Shorter utterances are padded and the padding is masked out.
    Pad,
}

/// Where crops start, and which labels go with them (hubert.md section 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LabelAlignment {
    /// Crops start and end on the frame grid, so that every frame has the label of its own window.
    Snapped,
    /// Crops start at any sample and the first label is the nearest, halves to even; frames beyond the labels are cut (fairseq).
    Rounded,
    /// Crops start at any sample and the first label is that of the first frame which doesn't lie wholly before the crop
    /// (torchaudio).
    Floored,
}

/// Which frames of a padded row are padding (hubert.md section 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PaddingRule {
    /// Those that the convolutions wouldn't give without the padding (Hugging Face, torchaudio).
    Convolution,
    /// Those all of whose samples are padding, the row cut into as many equal stretches as there are frames (fairseq's HuBERT).
    Reshape,
}

pub(crate) fn positive(value: f64) -> Positive {
    // Called with literals of this crate only; a test reads every default.
    Positive::try_from(value).expect("a default inside its range")
}

pub(crate) fn seconds(value: f64) -> Seconds {
    Seconds::try_from(value).expect("a default inside its range")
}

pub(crate) fn steps(value: u64) -> Steps {
    Steps::try_from(value).expect("a default inside its range")
}
