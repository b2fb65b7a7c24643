//! `corpus`: which speech an experiment uses, and for what.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{Name, RelativePath, SplitName};

/// The corpus by name, and which of its splits serve which purpose.
///
/// The name is how the corpus is found (`--data`, `REPRISE_DATA`, `reprise.toml`); its identity is the content of its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Corpus {
    /// The folder below one of the data roots that holds the splits.
    pub name: Name,
    /// Splits whose audio is pretrained on; their transcripts are not used.
    #[serde(default)]
    pub pretrain: Vec<SplitName>,
    /// Splits with transcripts that fine-tuning learns from.
    #[serde(default)]
    pub finetune: Vec<SplitName>,
    /// Splits on which training is watched.
    #[serde(default)]
    pub validate: Vec<SplitName>,
    /// Splits that are decoded and scored, each on its own.
    #[serde(default)]
    pub test: Vec<SplitName>,
    /// Splits that have no transcripts.
    #[serde(default)]
    pub untranscribed: Vec<SplitName>,
    /// Utterance lists with checksums, one a split: the files that the split consists of, as `sha256  size  path` lines.
    /// Never part of the identity: what the lists say is.
    #[serde(default)]
    pub lists: BTreeMap<SplitName, RelativePath>,
    /// What to do with audio that is not 16 kHz mono.
    #[serde(default)]
    pub conversion: Conversion,
    /// How many unusable files a split may have before the run refuses to start; those left out are listed in the result.
    #[serde(default)]
    pub exclude_at_most: u32,
}

/// What to do with audio that is not 16 kHz mono.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Conversion {
    /// Name the file and stop.
    #[default]
    Refuse,
    /// Average the channels and resample to 16 kHz.
    Allow,
}
