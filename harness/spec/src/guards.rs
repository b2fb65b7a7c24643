//! `guards`: what counts as a training that went wrong, and what is done then.
//!
//! The defaults are far from what a healthy training shows, so that they change no published recipe's result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::{count, fraction};
use crate::training::positive;
use crate::values::{Count, Factor, Fraction, Positive};

/// The guards of a pretraining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Guards {
    /// A loss or a gradient that is infinite or not a number.
    pub non_finite: StepResponse,
    /// A gradient far larger than those before it.
    pub exploding: Exploding,
    /// Bad steps in a row that are answered without stopping; one more stops.
    pub in_a_row: Count,
    /// Validations that show hardly any unit, or entry of a quantiser, in use.
    pub dead_codebook: DeadCodebook,
    /// Validations at which all frames look alike.
    pub collapse: Collapse,
}

impl Default for Guards {
    fn default() -> Self {
        let StepGuards { non_finite, exploding, in_a_row } = StepGuards::default();
        let (dead_codebook, collapse) = (DeadCodebook::default(), Collapse::default());
        Self { non_finite, exploding, in_a_row, dead_codebook, collapse }
    }
}

impl Guards {
    /// Those that look at single steps.
    pub fn of_steps(&self) -> StepGuards {
        let Self { non_finite, exploding, in_a_row, .. } = self.clone();
        StepGuards { non_finite, exploding, in_a_row }
    }
}

/// Guards that look at a step before it moves anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StepGuards {
    /// A loss or a gradient that is infinite or not a number.
    pub non_finite: StepResponse,
    /// A gradient far larger than those before it.
    pub exploding: Exploding,
    /// Bad steps in a row that are answered without stopping; one more stops.
    pub in_a_row: Count,
}

impl Default for StepGuards {
    fn default() -> Self {
        Self { non_finite: StepResponse::Stop, exploding: Exploding::default(), in_a_row: count(10) }
    }
}

/// A norm of the gradient, before it is clipped, above `factor` times the mean of those of the last `over` good steps. Judged from when
/// there are as many.
///
/// Large language models tell of such spikes and of the responses below, without a threshold (PaLM, arXiv:2204.02311 section 5.1: skipped
/// batches; OPT, arXiv:2205.01068 section 2.5: a lower rate). The default means the loss of a training and not a spike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Exploding {
    /// How many times the mean.
    pub factor: Positive,
    /// Good steps that the mean is taken over.
    pub over: Count,
    /// What is done.
    pub then: StepResponse,
}

impl Default for Exploding {
    fn default() -> Self {
        Self { factor: positive(1_000.0), over: count(100), then: StepResponse::Stop }
    }
}

/// What is done about a bad step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepResponse {
    /// The stage fails with a diagnosis and leaves a checkpoint of the state before the step.
    #[default]
    Stop,
    /// The step moves nothing.
    SkipStep,
    /// The step moves nothing, and from then on the learning rate is this many times what it was.
    LowerRate(Factor),
}

/// Units that are predicted at the masked frames of a validation, or entries of a quantiser's codebooks that they have, in effect: e to the
/// entropy of their shares, from 1 (always the same) to as many as there are; the mean over codebooks.
///
/// wav2vec 2.0 (arXiv:2006.11477) watches the same number of a quantiser and has a loss against its fall; no threshold is
/// published. The default warns only: a small model that has learnt nothing yet predicts one unit, and its accuracy says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DeadCodebook {
    /// The codebook is dead below this; 1 turns the guard off.
    pub perplexity: Positive,
    /// Validations in a row, after the warm-up, before anything is done.
    pub patience: Count,
    /// What is done.
    pub then: StateResponse,
}

impl Default for DeadCodebook {
    fn default() -> Self {
        Self { perplexity: positive(1.1), patience: count(3), then: StateResponse::Warn }
    }
}

/// How far the frames of a validation spread at the network's output: the standard deviation over all frames, averaged over dimensions, as a
/// share of the frames' root mean square.
///
/// fairseq stops data2vec (arXiv:2202.03555) where predictions, whose targets have unit variance, spread by less than `min_pred_var` 0.01.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Collapse {
    /// The representation has collapsed below this; 0 turns the guard off.
    pub spread: Fraction,
    /// Validations in a row, after the warm-up, before anything is done.
    pub patience: Count,
    /// What is done.
    pub then: StateResponse,
}

impl Default for Collapse {
    fn default() -> Self {
        Self { spread: fraction(0.01), patience: count(3), then: StateResponse::Stop }
    }
}

/// What is done about a model that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateResponse {
    /// The stage fails with a diagnosis; the newest checkpoint from before the first bad validation is kept.
    Stop,
    /// From then on the learning rate is this many times what it was.
    LowerRate(Factor),
    /// It is said and counted.
    Warn,
}
