//! `decoding` and `probing`: how a trained model is judged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::{count, fraction};
use crate::values::{Count, Fraction, SplitName};

/// Greedy CTC decoding and its scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Decoding {
    /// How the intervals are drawn.
    pub bootstrap: Bootstrap,
}

/// Percentile bootstrap intervals of WER and CER.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Bootstrap {
    /// Resamples.
    pub draws: Count,
    /// Share of the draws that the interval holds.
    pub level: Fraction,
    /// What is drawn with replacement.
    pub unit: ResamplingUnit,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: count(10_000), level: fraction(0.95), unit: ResamplingUnit::Speaker }
    }
}

/// What a bootstrap draws with replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResamplingUnit {
    /// Whole speakers, and within each drawn speaker utterances.
    Speaker,
    /// Single utterances, as if they were independent.
    Utterance,
}

/// What is measured on trained things without changing them. Adding a probe leaves every trained thing what it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Probing {
    /// Agreement of every iteration's units with aligned phones.
    pub unit_quality: Option<UnitQuality>,
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
