//! Bundles: an experiment's runs, published so that a stranger can check them and execute them again.
//!
//! A bundle is a folder, or that folder as one archive ([`archive`]):
//!
//! ```text
//! bundle.json                 what the bundle is, holds and leaves out
//! README.md                   how to check it
//! experiment/                 the experiment, all that it extends, and the lists of files that it names
//! plan.json                   every stage with settings, seed and inputs, and what each run calls it
//! metrics.json, metrics.csv   every number of the runs by its address
//! report/                     what `reprise report` says of the store below
//! golden/, licences/          where there are any
//! store/                      a part of a store: everything that reads a store reads this one
//! ro-crate-metadata.json      all of that for other programs: RO-Crate 1.1, Process Run Crate 0.5
//! SHA256SUMS                  of every other file; its own SHA-256 is the bundle's id
//! ```
//!
//! Files of outputs that are left out stand in `left-out.json` beside their manifest. Audio never goes in. Records lose where things lay on the
//! machine that made them ([`clean`]). The same store gives the same bytes: no clock is read.
//!
//! A bundle is not to be trusted: [`names`] says what a file may be called, reading stops at stated sizes, links are refused, and what it says is
//! only shown, never executed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::store::{RunRecord, Store, StoreError};

pub mod about;
pub mod archive;
pub mod clean;
pub mod derived;
pub mod experiment;
pub mod names;
pub mod part;
pub mod publish;
pub mod replay;
pub mod report;
pub mod ro_crate;
pub mod sums;
pub mod verify;

pub use about::About;
pub use sums::Sums;

/// The folder of the bundle's part of a store.
pub const STORE: &str = "store";

/// The most bytes of a record.
pub const RECORD_BYTES: u64 = 16 << 20;

/// The most bytes of a text that is read whole.
pub const TEXT_BYTES: u64 = 64 << 20;

/// Why a bundle can't be made or used.
#[derive(Debug, Error, Diagnostic)]
pub enum BundleError {
    #[error("cannot {verb} {}: {error}", .path.display())]
    #[diagnostic(help("check that it is there, that you may use it, and that the disk has room"))]
    Io { verb: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{} is not a bundle: {reason}", .path.display())]
    #[diagnostic(help("name a folder or an archive that `reprise publish` made"))]
    NotABundle { path: PathBuf, reason: String },
    #[error("{} is compressed ({what})", .path.display())]
    #[diagnostic(help(
        "unpack it first, with a program that you trust to bound what comes out: a bundle is an uncompressed .tar"
    ))]
    Compressed { path: PathBuf, what: &'static str },
    #[error("the bundle is refused: {reason}")]
    #[diagnostic(help("it is damaged, or wasn't made by `reprise publish`: get it again from where it was published"))]
    Refused { reason: String },
    #[error("the bundle has format {found}, written by a newer reprise; this one reads up to {newest}")]
    #[diagnostic(help("use the newer program"))]
    Newer { found: u64, newest: u64 },
    #[error("{name} has no place in an archive: its name or its size is too long")]
    #[diagnostic(help("publish into a folder"))]
    NoPlace { name: String },
    #[error("{}", .message)]
    #[diagnostic(help("{help}"))]
    Unpublishable { message: String, help: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
}

impl BundleError {
    fn io(verb: &'static str, path: &Path, error: std::io::Error) -> Self {
        Self::Io { verb, path: path.to_path_buf(), error }
    }

    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    fn unpublishable(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Unpublishable { message: message.into(), help: help.into() }
    }

    /// Whether the answer is no, rather than that there was nothing to answer.
    pub fn is_no(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// A bundle that is open for reading.
#[derive(Debug)]
pub struct Bundle {
    root: PathBuf,
    /// Sizes by name, everything that lies there.
    files: BTreeMap<String, u64>,
    /// Holds what an archive was unpacked into.
    _unpacked: Option<tempfile::TempDir>,
}

impl Bundle {
    /// Opens a folder, or unpacks an archive into a temporary folder.
    ///
    /// # Errors
    /// For what is neither, and for names, links and special files that no bundle has.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let meta = fs::metadata(path).map_err(|error| BundleError::io("open", path, error))?;
        let (root, unpacked) = if meta.is_dir() {
            (path.to_path_buf(), None)
        } else {
            refuse_compressed(path)?;
            let folder = tempfile::tempdir().map_err(|error| BundleError::io("unpack", path, error))?;
            archive::unpack(path, folder.path())?;
            (folder.path().to_path_buf(), Some(folder))
        };
        let mut found = Vec::new();
        walk(&root, "", &mut found)?;
        found.sort();
        let mut known = names::Names::default();
        found.iter().try_for_each(|(name, _)| known.add(name)).map_err(BundleError::refused)?;
        // A record that is parsed takes a multiple of its size; tables and arrays are read as they are.
        let record = |name: &str| [".json", ".yaml", ".canon"].iter().any(|end| name.ends_with(end));
        if let Some((name, _)) = found.iter().find(|(name, size)| record(name) && *size > RECORD_BYTES) {
            return Err(BundleError::refused(format!("{name} is larger than {} MiB", RECORD_BYTES >> 20)));
        }
        let bundle = Self { root, files: found.into_iter().collect(), _unpacked: unpacked };
        let reason = format!("it has no {}", sums::FILE);
        let missing = || BundleError::NotABundle { path: path.to_path_buf(), reason };
        bundle.files.contains_key(sums::FILE).then_some(bundle).ok_or_else(missing)
    }

    /// The folder that it lies in, or was unpacked into.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Sizes in bytes of everything that lies there, by name.
    pub fn files(&self) -> &BTreeMap<String, u64> {
        &self.files
    }

    /// Its part of a store.
    pub fn store(&self) -> Store {
        Store::at(self.root.join(STORE))
    }

    /// The checksums.
    ///
    /// # Errors
    /// When the list is damaged.
    pub fn sums(&self) -> Result<Sums, BundleError> {
        Sums::parse(&self.text(sums::FILE)?).map_err(BundleError::refused)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When that is damaged, or of a newer format.
    pub fn about(&self) -> Result<About, BundleError> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            format: u64,
        }
        let Versioned { format } = self.json(about::FILE)?;
        match format <= about::FORMAT {
            true => self.json(about::FILE),
            false => Err(BundleError::Newer { found: format, newest: about::FORMAT }),
        }
    }

    /// The runs that it says it holds.
    ///
    /// # Errors
    /// When one is missing or damaged.
    pub fn runs(&self, about: &About) -> Result<Vec<RunRecord>, BundleError> {
        let store = self.store();
        let run = |run: &about::Run| {
            let record = store.run(run.id.as_str())?.record;
            record.map_err(|damage| BundleError::refused(format!("run {} is damaged: {damage}", run.id)))
        };
        about.runs.iter().map(run).collect()
    }

    /// A file that is text, of at most [`TEXT_BYTES`].
    pub(crate) fn text(&self, name: &str) -> Result<String, BundleError> {
        text(&self.root.join(name), name)
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, BundleError> {
        serde_json::from_str(&self.text(name)?).map_err(|error| BundleError::refused(format!("{name}: {error}")))
    }
}

/// A text of at most [`TEXT_BYTES`], called `name` in messages.
fn text(path: &Path, name: &str) -> Result<String, BundleError> {
    let fail = |error| BundleError::io("read", path, error);
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > TEXT_BYTES {
        return Err(BundleError::refused(format!("{name} is larger than {} MiB", TEXT_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| BundleError::refused(format!("{name} is not UTF-8 text")))
}

/// Files below a folder with their sizes. Nothing is followed.
fn walk(root: &Path, below: &str, found: &mut Vec<(String, u64)>) -> Result<(), BundleError> {
    let folder = root.join(below);
    let fail = |error| BundleError::io("list", &folder, error);
    if below.split('/').count() > names::DEEPEST {
        return Err(BundleError::refused(format!("folders lie more than {} deep", names::DEEPEST)));
    }
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| BundleError::refused(format!("the name {name:?} is not UTF-8")))?;
        let name = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let meta = fs::symlink_metadata(entry.path()).map_err(fail)?;
        match meta.file_type() {
            kind if kind.is_dir() => walk(root, &name, found)?,
            kind if kind.is_file() => found.push((name, meta.len())),
            kind if kind.is_symlink() => return Err(BundleError::refused(format!("{name:?} is a link"))),
            _ => return Err(BundleError::refused(format!("{name:?} is no regular file"))),
        }
        if found.len() > names::MOST_FILES {
            return Err(BundleError::refused(format!("it holds more than {} files", names::MOST_FILES)));
        }
    }
    Ok(())
}

/// How compressed files begin.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
];

fn refuse_compressed(path: &Path) -> Result<(), BundleError> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(8).read_to_end(&mut start));
    read.map_err(|error| BundleError::io("read", path, error))?;
    match COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, what)) => Err(BundleError::Compressed { path: path.to_path_buf(), what }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
