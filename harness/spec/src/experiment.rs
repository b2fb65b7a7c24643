//! The experiment: one question, and all that is needed to answer it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus::Corpus;
use crate::evaluation::{Decoding, Probing};
use crate::network::Network;
use crate::strategy::{Clustering, Strategy};
use crate::training::{Finetuning, Pretraining};
use crate::values::Name;

/// One experiment, with every default filled in.
///
/// `extends` is resolved before this type is read, so it is not a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Experiment {
    pub version: Version,
    /// For people and listings. Never part of the identity.
    pub name: Name,
    /// What the experiment asks. Never part of the identity.
    pub question: String,
    /// For people. Never part of the identity.
    #[serde(default)]
    pub notes: String,
    pub corpus: Corpus,
    #[serde(default)]
    pub model: Network,
    #[serde(default)]
    pub pretraining: Pretraining,
    #[serde(default)]
    pub clustering: Clustering,
    pub strategy: Strategy,
    #[serde(default)]
    pub finetuning: Finetuning,
    #[serde(default)]
    pub decoding: Decoding,
    #[serde(default)]
    pub probing: Probing,
    /// One run a seed.
    pub seeds: Vec<u64>,
}

/// The version of the language that a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u64", into = "u64")]
#[schemars(extend("const" = 1))]
pub struct Version(u64);

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(value: u64) -> Result<Self, String> {
        match value {
            1 => Ok(Self(1)),
            other => Err(format!(
                "version {other} of the experiment language is not known to this program, which reads version 1"
            )),
        }
    }
}

impl From<Version> for u64 {
    fn from(value: Version) -> u64 {
        value.0
    }
}
