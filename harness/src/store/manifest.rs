//! `manifest.json`: what an output is, what it was made from, and with what.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use reprise_spec::contract::Score;
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::stage::{Role, Stage};
use serde::{Deserialize, Serialize};

use super::{StoreError, files};

/// The name of a manifest in the folder of its output.
pub const FILE: &str = "manifest.json";

/// History of the format: 1, the first.
pub const FORMAT: u64 = 1;

/// What an output is, what it was made from, and with what. Written last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    pub format: u64,
    pub key: StageKey,
    /// Kind and version: `pretrain/1`.
    pub kind: String,
    /// The settings as people read them.
    pub settings: Stage,
    /// The canonical bytes of the settings in hex, as they entered the key.
    pub canonical: String,
    /// Present exactly when the stage draws.
    pub seed: Option<u64>,
    /// What was read, sorted by role.
    pub inputs: Vec<ManifestInput>,
    /// The output of a shorter training of the same that the first attempt went on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
    pub digest: OutputDigest,
    /// The files of `out/`, sorted by name.
    pub files: Vec<ManifestFile>,
    /// The numbers that listings show.
    pub summary: Vec<Score>,
    /// What the stage was executed with, as far as it can decide bits of the result.
    pub environment: BTreeMap<String, String>,
    /// The build of the trainer.
    pub build: String,
    pub started: Timestamp,
    pub finished: Timestamp,
    /// Seconds of the last attempt.
    pub seconds: f64,
    /// Lives of the process that made it.
    pub attempts: u32,
}

/// One input of a stage, with the digest of what was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ManifestInput {
    pub role: Role,
    pub key: StageKey,
    pub digest: OutputDigest,
}

/// An output whose training was continued. It is no input: without it the same would come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Continued {
    pub key: StageKey,
    pub digest: OutputDigest,
}

/// One file of an output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ManifestFile {
    /// Relative to `out/`, with `/` between its parts.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Of the file's bytes, in hex.
    pub sha256: String,
}

impl Manifest {
    /// Whether the output serves a run that has chosen these inputs: it read the same, and didn't go on from another output of the stage that
    /// the run chose for its `prefix`.
    pub fn serves(&self, inputs: &[ManifestInput], prefix: Option<Continued>) -> bool {
        let forked =
            |continued: Continued| prefix.is_some_and(|p| p.key == continued.key && p.digest != continued.digest);
        self.inputs == inputs && !self.continued.is_some_and(forked)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is damaged, of a newer format, or names files outside its folder.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        Self::checked(path, files::read_versioned(path, FORMAT)?)
    }

    /// [`Manifest::read`] of bytes that were read from `path`.
    ///
    /// # Errors
    /// As there.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        Self::checked(path, files::parse_versioned(path, bytes, FORMAT)?)
    }

    fn checked(path: &Path, manifest: Self) -> Result<Self, StoreError> {
        match manifest.files.iter().find(|file| !is_below(&file.name)) {
            Some(file) => Err(StoreError::Damaged {
                path: path.to_path_buf(),
                reason: format!("it names {:?}, which is not a file below out/", file.name),
            }),
            None => Ok(manifest),
        }
    }
}

fn is_below(name: &str) -> bool {
    !name.is_empty() && !name.contains(['\\', '\0']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
