//! `finetuning`: how a recogniser is made of a pretrained network, or of random weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::guards::StepGuards;
use crate::network::{count, fraction};
use crate::training::{Adam, SpanMasking, positive, seconds, steps};
use crate::values::{Count, Fraction, Layers, Positive, Seconds, Steps};

/// CTC fine-tuning. The defaults are the 10-hour recipe of HuBERT BASE with a schedule that completes
/// (hubert.md section 3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Finetuning {
    /// Optimiser steps.
    pub steps: Steps,
    /// First steps in which only the output layer learns, and layers that `reset-top` drew anew. As many as `steps` make a probe of frozen
    /// layers: with `remove-top`, of the layer below those that are taken away.
    pub freeze_steps: Steps,
    /// Further fine-tunings at the ends of iterations: in each the top layers, so many of them, are drawn at random anew. 0 is the fine-tuning of
    /// the whole network, which is there in any case (Vielzeuf 2024, section 4).
    pub reset_top: Vec<Layers>,
    /// Further fine-tunings at the ends of iterations: in each the top layers, so many of them, are taken away.
    pub remove_top: Vec<Layers>,
    /// What CTC tells apart.
    pub symbols: Symbols,
    /// Whether the front-end keeps its pretrained weights for good.
    pub freeze_front_end: bool,
    /// The learning rate over the steps.
    pub schedule: TriStage,
    /// What turns gradients into steps.
    pub optimiser: Adam,
    /// Masks over time, drawn anew for every utterance and epoch.
    pub time_masking: SpanMasking,
    /// Masks over channels, shared over time.
    pub channel_masking: SpanMasking,
    /// Dropout in place of the network's own.
    pub dropout: FinetuningDropout,
    /// Probability that a layer is skipped in a training step.
    pub layer_drop: Fraction,
    /// Most audio in one batch, counted as utterances × longest; nothing is cropped.
    pub batch_seconds: Seconds,
    /// Steps between two validations; the last step is always validated.
    pub validate_every: Count,
    /// What counts as a training that went wrong, and what is done then.
    pub guards: StepGuards,
}

impl Default for Finetuning {
    fn default() -> Self {
        Self {
            steps: steps(25_000),
            freeze_steps: steps(10_000),
            reset_top: Vec::new(),
            remove_top: Vec::new(),
            symbols: Symbols::Characters,
            freeze_front_end: true,
            schedule: TriStage::default(),
            optimiser: Adam::default(),
            time_masking: SpanMasking { prob: fraction(0.75), equal_count: false, ..SpanMasking::default() },
            channel_masking: SpanMasking {
                prob: fraction(0.5),
                length: count(64),
                min_masks: 0,
                equal_count: false,
                ..SpanMasking::default()
            },
            dropout: FinetuningDropout::default(),
            layer_drop: fraction(0.1),
            batch_seconds: seconds(1600.0),
            validate_every: count(1_000),
            guards: StepGuards::default(),
        }
    }
}

/// Dropout while fine-tuning, in place of the network's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FinetuningDropout {
    /// After attention, after the feed-forward block, and before the first layer.
    pub residual: Fraction,
    /// On the attention weights.
    pub attention: Fraction,
    /// Inside the feed-forward block.
    pub activation: Fraction,
    /// On the projected features, before masking.
    pub input: Fraction,
    /// Before the output layer.
    pub r#final: Fraction,
}

impl Default for FinetuningDropout {
    fn default() -> Self {
        let none = fraction(0.0);
        Self { residual: none, attention: none, activation: fraction(0.1), input: none, r#final: none }
    }
}

/// Warm-up from `start · peak` to the peak, a plateau, then exponential decay to `end · peak` (wav2vec 2.0 section 4.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TriStage {
    /// The highest learning rate.
    pub peak: Positive,
    /// Share of the steps that warm up.
    pub warm_up: Fraction,
    /// Share of the steps at the peak; what is left decays.
    pub hold: Fraction,
    /// Where the warm-up starts, as a share of the peak.
    pub start: Positive,
    /// Where the decay ends, as a share of the peak.
    pub end: Positive,
}

impl Default for TriStage {
    fn default() -> Self {
        Self {
            peak: positive(5e-5),
            warm_up: fraction(0.1),
            hold: fraction(0.4),
            start: positive(0.01),
            end: positive(0.05),
        }
    }
}

/// What CTC tells apart beside the blank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Symbols {
    /// The characters of the training transcripts and the space between words.
    #[default]
    Characters,
    /// Pieces of words, found by byte-pair encoding of the training transcripts over characters.
    WordPieces(WordPieces),
}

/// How many pieces words are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WordPieces {
    /// Symbols at most, single characters among them and the blank not; fewer where the transcripts have no pair of pieces left that stands twice.
    pub count: Count,
}

/// What a fine-tuning does with the top layers of the pretrained network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Top {
    #[default]
    Kept,
    /// So many are drawn at random anew.
    Reset(Layers),
    /// So many are taken away.
    Removed(Layers),
}

impl std::fmt::Display for Top {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Top::Kept => f.write_str("all layers kept"),
            Top::Reset(layers) => write!(f, "top {} reset", layers.get()),
            Top::Removed(layers) => write!(f, "top {} removed", layers.get()),
        }
    }
}

impl Finetuning {
    /// What is done with the top layers in each of the fine-tunings at the end of an iteration: the whole network first.
    pub fn tops(&self) -> Vec<Top> {
        let mut tops = vec![Top::Kept];
        let some = |layers: &&Layers| layers.get() > 0;
        tops.extend(self.reset_top.iter().filter(some).map(|&layers| Top::Reset(layers)));
        tops.extend(self.remove_top.iter().filter(some).map(|&layers| Top::Removed(layers)));
        tops.sort();
        tops.dedup();
        tops
    }

    /// These settings as one fine-tuning has them, whichever others there are beside it.
    pub fn alone(&self) -> Self {
        Self { reset_top: Vec::new(), remove_top: Vec::new(), ..self.clone() }
    }
}
