//! `bundle.json`: what a bundle is, holds and leaves out.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reprise_spec::identity::{SpecHash, VariantHash};
use serde::{Deserialize, Serialize};

use super::part::Part;
use crate::store::RunId;

/// The name of the record.
pub const FILE: &str = "bundle.json";

/// History of the format: 1, the first.
pub const FORMAT: u64 = 1;

/// What a bundle says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct About {
    pub format: u64,
    pub experiment: Experiment,
    /// In the order of the experiment's variants and seeds, or as they were named.
    pub runs: Vec<Run>,
    /// Declared runs that were never finished.
    pub missing: Vec<Missing>,
    /// The large files that were chosen to go in.
    pub holds: BTreeSet<Part>,
    /// The large files that were left out.
    pub left_out: LeftOut,
    /// Files that looked as if they held a secret.
    pub withheld: Vec<String>,
    pub licences: Licences,
    /// When the newest run ended.
    pub newest: Timestamp,
    /// The build of `reprise` that published it.
    pub build: String,
}

/// The experiment whose runs a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Experiment {
    pub name: String,
    pub question: String,
    pub spec: SpecHash,
    /// The file that says so, below `experiment/`.
    pub file: String,
}

/// One run of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Run {
    pub id: RunId,
    pub spec: SpecHash,
    pub variant: VariantHash,
    pub variant_name: String,
    pub seed: u64,
}

/// A run that the experiment declares and that isn't there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Missing {
    pub variant_name: String,
    pub seed: u64,
}

/// How much was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LeftOut {
    pub files: u64,
    pub bytes: u64,
}

/// On what terms what a bundle holds may be used, as far as its publisher says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Licences {
    /// Of transcripts, alignments and everything else that comes from the corpus.
    pub data: Option<Licence>,
    /// Of codebooks and models.
    pub models: Option<Licence>,
    /// Files that lie beside the corpus, in `licences/`.
    pub corpus: Vec<String>,
    /// Of the programs, as an SPDX expression.
    pub program: String,
}

/// A licence by its name, or by its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Licence {
    /// An SPDX expression: `CC-BY-4.0`, `MIT OR Apache-2.0`.
    Spdx(String),
    /// A file of the bundle.
    File(String),
}
