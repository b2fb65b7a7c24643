//! `manifest.json`: what an output is, what it was made from, and with what.
//!
//! There are two forms of it that say the same. Spelled out, as bundles have it, it holds the settings as people read them and their canonical
//! bytes in hex. Short, as stores have it, it holds the settings once, in the JSON that has their canonical bytes ([`Canon::to_json`]): from it
//! follow the bytes, whatever a later program makes of them, and the settings as people read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use reprise_spec::canon::Canon;
use reprise_spec::contract::Score;
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::stage::{Role, Stage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StoreError, files};

/// The name of a manifest in the folder of its output.
pub const FILE: &str = "manifest.json";

/// The format of a manifest that is spelled out. History: 1, the first.
pub const FORMAT: u64 = 1;

/// The format of a short one. History: 2, the first.
const SHORT: u64 = 2;

/// What an output is, what it was made from, and with what. Written last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest<Settings = Stage> {
    pub format: u64,
    pub key: StageKey,
    /// Kind and version: `pretrain/1`.
    pub kind: String,
    /// The settings as people read them.
    pub settings: Settings,
    /// The canonical bytes of the settings in hex, as they entered the key; absent in a short manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
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

    /// Reads a manifest, short or spelled out.
    ///
    /// # Errors
    /// When it is damaged, of a newer format, or names files outside its folder.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let bytes = fs::read(path).map_err(|error| StoreError::Io { verb: "read", path: path.to_path_buf(), error })?;
        Self::parse(path, &bytes)
    }

    /// [`Manifest::read`] of bytes that were read from `path`.
    ///
    /// # Errors
    /// As there.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        if files::format_of(path, bytes)? != SHORT {
            return Self::checked(path, files::parse_versioned(path, bytes, SHORT)?);
        }
        let short: Short = files::parse_versioned(path, bytes, SHORT)?;
        let damaged = |reason| StoreError::Damaged { path: path.to_path_buf(), reason };
        Self::checked(path, short.spelled_out().map_err(damaged)?)
    }

    /// Writes a manifest into the folder of its output, short.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<(), StoreError> {
        // Settings that couldn't be read back are spelled out.
        let short = self.shortened().filter(|short| short.clone().spelled_out().is_ok_and(|read| read == *self));
        let bytes = short.map_or_else(|| files::to_line(self), |short| files::to_line(&short));
        files::write(&folder.join(FILE), &bytes)
    }

    pub(super) fn shortened(&self) -> Option<Short> {
        let settings = Canon::from_bytes(&hex::decode(&self.canonical).ok()?).ok()?.to_json()?;
        Some(self.clone().with(SHORT, settings, String::new()))
    }

    fn checked(path: &Path, manifest: Self) -> Result<Self, StoreError> {
        let damaged = |reason| Err(StoreError::Damaged { path: path.to_path_buf(), reason });
        match manifest.files.iter().find(|file| !is_below(&file.name)) {
            Some(file) => damaged(format!("it names {:?}, which is not a file below out/", file.name)),
            None if manifest.canonical.is_empty() => damaged("it has no canonical bytes".into()),
            None => Ok(manifest),
        }
    }
}

/// A manifest as a store has it.
pub(super) type Short = Manifest<Value>;

impl Short {
    /// The manifest with its settings as people read them, and their canonical bytes.
    pub(super) fn spelled_out(mut self) -> Result<Manifest, String> {
        let tree = Canon::from_json(self.settings.take()).map_err(|error| error.to_string())?;
        let word = self.kind.split('/').next().unwrap_or_default().to_owned();
        let plain = tree.to_plain_json().ok_or("its settings hold a number that nobody writes")?;
        let settings = Value::Object(serde_json::Map::from_iter([(word, plain)]));
        let settings: Stage = serde_json::from_value(settings).map_err(|error| format!("its settings: {error}"))?;
        Ok(self.with(FORMAT, settings, hex::encode(tree.to_bytes())))
    }
}

impl<Before> Manifest<Before> {
    /// The same manifest with its settings said in another way.
    fn with<Settings>(self, format: u64, settings: Settings, canonical: String) -> Manifest<Settings> {
        let Self { key, kind, seed, inputs, continued, digest, files, summary, environment, build, .. } = self;
        let Self { started, finished, seconds, attempts, .. } = self;
        Manifest {
            format,
            key,
            kind,
            settings,
            canonical,
            seed,
            inputs,
            continued,
            digest,
            files,
            summary,
            environment,
            build,
            started,
            finished,
            seconds,
            attempts,
        }
    }
}

fn is_below(name: &str) -> bool {
    !name.is_empty() && !name.contains(['\\', '\0']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
