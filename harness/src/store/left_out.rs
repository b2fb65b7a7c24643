//! `left-out.json`: files of an output that a published copy of it doesn't have.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ManifestFile, StoreError, files};

/// The name of the list, beside the manifest of its output.
pub const FILE: &str = "left-out.json";

/// History of the format: 1, the first.
pub const FORMAT: u64 = 1;

/// Files that the manifest names and that were left out on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeftOut {
    pub format: u64,
    /// As the manifest has them, sorted by name.
    pub files: Vec<ManifestFile>,
}

impl LeftOut {
    pub fn new(files: Vec<ManifestFile>) -> Self {
        Self { format: FORMAT, files }
    }

    /// What was left out of the output in this folder; `None` for a whole one.
    ///
    /// # Errors
    /// When the list is damaged or of a newer format.
    pub fn read(output: &Path) -> Result<Option<Self>, StoreError> {
        match files::read_versioned(&output.join(FILE), FORMAT) {
            Err(StoreError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }
}
