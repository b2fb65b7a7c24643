//! `claims`: statements over the numbers of an experiment's runs, made before them, that a report must decide or call undecided.
//!
//! A claim is a text in a small language of its own. It names numbers, computes with them, and compares; nothing in it executes, loops or
//! grows: length, nesting and terms are bounded.
//!
//! ```text
//! statement  = comparison { "and" comparison }
//! comparison = sum ( "<" sum { "<" sum } | ">" sum { ">" sum } | "~" sum "within" number )
//! sum        = product { ("+" | "-") product }
//! product    = factor { ("*" | "/") factor }
//! factor     = "-" factor | "(" sum ")" | number | "mean" "(" sum ")" | quantity
//! quantity   = name [ "(" arguments ")" ] [ "at" steps ] [ "of" variant ]
//! ```
//!
//! A comparison is of means over the experiment's seeds. Quantities have a dimension: steps and error rates are neither added nor compared.
//! A number that is written takes the dimension of what it stands beside.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finetuning::Top;
use crate::values::SplitName;

mod dimension;
mod display;
mod lexer;
mod meaning;
mod parser;

pub use dimension::Dimension;
pub use parser::{Mention, Parsed, Syntax, parse};

/// Most claims of one experiment.
pub const MOST_CLAIMS: usize = 100;

/// A statement that the experiment's runs shall decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Claim {
    /// The statement in words. For people, never part of the identity.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub says: String,
    /// What holds of the runs' numbers, such as `wer(test) of progressive < wer(test) of baseline - 0.005`.
    pub holds: Statement,
    /// Whose statement it is. For people, never part of the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Whose statement a claim repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// The paper, and where in it.
    pub paper: String,
    /// What it states, in our words.
    pub statement: String,
    /// How well it is known that the paper states it.
    pub confidence: Confidence,
}

/// How well it is known that somebody stated or measured something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Read in the paper, its authors' code, or their repository.
    Primary,
    /// Measured by others and published by them.
    Reproduction,
    /// Computed from, or following from, what was read.
    Derived,
    /// Quoted by somebody else: a lead.
    Secondary,
    /// Remembered, without a source that was read.
    FromMemory,
}

impl Confidence {
    /// Whether a value that is known so well may be held against ours.
    pub fn can_be_golden(self) -> bool {
        self <= Self::Derived
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Reproduction => "reproduction",
            Self::Derived => "derived",
            Self::Secondary => "secondary",
            Self::FromMemory => "from memory",
        }
    }
}

/// What a claim holds: every comparison, at least one. Read from and written as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Statement(pub Vec<Comparison>);

impl JsonSchema for Statement {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statement".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// Two sides and how they lie.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// The first is below the second.
    Below(Term, Term),
    /// The two differ by less than a margin, either way.
    Near(Term, Term, f64),
}

/// A number, or what is computed from some.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Term {
    /// Finite and not negative.
    Number(f64),
    Quantity(Quantity),
    /// The mean over the experiment's seeds, within a level.
    Mean(Box<Term>),
    Negative(Box<Term>),
    Plus(Box<Term>, Box<Term>),
    Minus(Box<Term>, Box<Term>),
    Times(Box<Term>, Box<Term>),
    Over(Box<Term>, Box<Term>),
}

/// One number of every run of a variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Quantity {
    pub what: What,
    /// The variant by name; absent where the experiment has one alone.
    pub of: Option<String>,
}

/// Which number.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum What {
    /// `wer(test)`: an error rate after fine-tuning the model of a point; of the last one where none is named.
    Errors { of: Errors, at: Option<u64> },
    /// `pnmi(2)`: how the units that an iteration predicts agree with phones.
    Units { score: UnitScore, iteration: u32 },
    /// `masked-accuracy(2)`: of the model that an iteration leaves.
    MaskedAccuracy { iteration: u32 },
    /// `layer(cca-word, 3)`: the score of one layer.
    Layer { metric: String, layer: u32, at: Option<u64> },
    /// `top-drop(cca-word)`: what the curve of a score over layers comes to.
    Curve { summary: Summary, metric: String, at: Option<u64> },
    /// `steps`: what all of pretraining takes.
    Total(Axis),
    /// `steps-to-reach(wer(test), LEVEL)`: what pretraining takes until the error rate is at most the level.
    Reach { axis: Axis, of: Errors, level: Box<Term> },
    /// `metric("STAGE/NAME")`: any number by its address.
    Metric { stage: String, metric: String },
}

/// An error rate on a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Errors {
    pub rate: ErrorRate,
    pub split: SplitName,
    /// What fine-tuning does with the top layers.
    pub top: Top,
}

/// What is counted as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorRate {
    /// Words.
    Wer,
    /// Characters.
    Cer,
    /// Sentences.
    Ser,
}

/// How units agree with phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitScore {
    Pnmi,
    PhonePurity,
    ClusterPurity,
}

/// What a curve over layers is reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Summary {
    /// The largest score.
    Best,
    /// The layer that has it.
    BestLayer,
    /// The largest score less the last layer's.
    TopDrop,
    /// The mean over heights.
    Area,
}

/// What pretraining takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Optimiser steps of all iterations.
    Steps,
    /// Seconds of audio trained on, repetitions counted.
    AudioSeconds,
    /// Seconds on the device, extraction and clustering included.
    DeviceSeconds,
}

impl ErrorRate {
    pub const ALL: [Self; 3] = [Self::Wer, Self::Cer, Self::Ser];

    /// As it is written, and as decoding names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Wer => "wer",
            Self::Cer => "cer",
            Self::Ser => "ser",
        }
    }
}

impl UnitScore {
    pub const ALL: [Self; 3] = [Self::Pnmi, Self::PhonePurity, Self::ClusterPurity];

    /// As it is written, and as the probe names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pnmi => "pnmi",
            Self::PhonePurity => "phone-purity",
            Self::ClusterPurity => "cluster-purity",
        }
    }
}

impl Summary {
    pub const ALL: [Self; 4] = [Self::Best, Self::BestLayer, Self::TopDrop, Self::Area];

    /// As it is written, and as the analysis ends its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::BestLayer => "best-layer",
            Self::TopDrop => "top-drop",
            Self::Area => "area",
        }
    }
}

impl Axis {
    pub const ALL: [Self; 3] = [Self::Steps, Self::AudioSeconds, Self::DeviceSeconds];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::AudioSeconds => "audio-seconds",
            Self::DeviceSeconds => "device-seconds",
        }
    }
}

impl What {
    /// Whether it says something about what layers do, for which a network can be too shallow.
    pub fn looks_at_layers(&self) -> bool {
        match self {
            Self::Layer { .. } | Self::Curve { .. } => true,
            Self::Metric { stage, .. } => stage == "layers" || stage.starts_with("layers "),
            _ => false,
        }
    }
}

impl Term {
    /// The quantities of this term and, where `levels` says so, of the levels within.
    pub fn quantities(&self, levels: bool) -> Vec<&Quantity> {
        match self {
            Self::Number(_) => Vec::new(),
            Self::Quantity(quantity) => {
                let level = match &quantity.what {
                    What::Reach { level, .. } if levels => level.quantities(levels),
                    _ => Vec::new(),
                };
                [vec![quantity], level].concat()
            }
            Self::Mean(term) | Self::Negative(term) => term.quantities(levels),
            Self::Plus(one, other) | Self::Minus(one, other) | Self::Times(one, other) | Self::Over(one, other) => {
                [one.quantities(levels), other.quantities(levels)].concat()
            }
        }
    }
}

impl Comparison {
    /// Both sides.
    pub fn sides(&self) -> [&Term; 2] {
        match self {
            Self::Below(one, other) | Self::Near(one, other, _) => [one, other],
        }
    }
}

impl std::str::FromStr for Statement {
    type Err = Syntax;

    fn from_str(text: &str) -> Result<Self, Syntax> {
        parse(text).map(|parsed| parsed.statement)
    }
}

impl TryFrom<String> for Statement {
    type Error = Syntax;

    fn try_from(text: String) -> Result<Self, Syntax> {
        text.parse()
    }
}

impl From<Statement> for String {
    fn from(statement: Statement) -> String {
        statement.to_string()
    }
}

#[cfg(test)]
mod tests;
