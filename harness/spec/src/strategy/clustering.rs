//! `clustering`: how targets become units.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::count;
use crate::values::Count;

/// `clustering`: how codebooks are fitted (hubert.md section 4.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Clustering {
    /// How k-means descends from its start.
    pub algorithm: Algorithm,
    /// k-means++ starts; the best of them on a validation sample, drawn from the frames that the codebook is fitted on, is optimised further.
    pub starts: Count,
}

impl Default for Clustering {
    fn default() -> Self {
        Self { algorithm: Algorithm::MiniBatch(MiniBatch::default()), starts: count(20) }
    }
}

/// How k-means descends from its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Random batches and running means, as published.
    MiniBatch(MiniBatch),
    /// Full passes over all frames until the assignment stands still.
    Lloyd(Lloyd),
}

/// Mini-batch k-means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MiniBatch {
    /// Frames of a batch.
    pub batch: Count,
    /// Most passes over the frames.
    pub max_passes: Count,
    /// Batches without a better smoothed inertia before it stops.
    pub patience: Count,
}

impl Default for MiniBatch {
    fn default() -> Self {
        Self { batch: count(10_000), max_passes: count(100), patience: count(100) }
    }
}

/// Lloyd's algorithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Lloyd {
    /// Most passes over the frames.
    pub max_passes: Count,
}

impl Default for Lloyd {
    fn default() -> Self {
        Self { max_passes: count(100) }
    }
}
