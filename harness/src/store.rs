//! The store: `.reprise/` with one folder a stage and one a run, plain files that survive a copy to another machine.
//!
//! ```text
//! stages/<key>/guard              taken for a moment by whoever changes the lease below
//! stages/<key>/work/              one attempt at a time: lease, request.json, checkpoints/, out/, metrics.log, log.txt
//! stages/<key>/<digest12>/        a whole output: manifest.json, out/, metrics.log, log.txt, request.json
//! runs/<id>/                      run.json, recipe.json.gz, experiment.yaml, changes.patch
//! index/                          what listings show of runs, made anew where it is missing: see [`index`]
//! reruns/<id>/<number>/           a run executed again: a store of its own, and verdict.json
//! ```
//!
//! `work/` becomes `<digest12>/` by rename with its manifest already inside, so a folder with a manifest outside `work/` is whole. The
//! manifest is written when all else is on disk: who is killed before the rename leaves an output that the next one only has to rename.
//! Every file is written under a new name, flushed and renamed, and so is the folder of a run.
//!
//! Records that the program alone reads are short: JSON on one line, packed where it is long ([`packed`]), settings and their canonical bytes
//! said once ([`manifest`], [`recipe`]). A bundle spells them out; both are read wherever a store is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use miette::Diagnostic;
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::metrics::Log;
use thiserror::Error;

use crate::data::FileList;
use crate::project::Project;

mod area;
pub mod files;
pub mod index;
pub mod left_out;
pub mod manifest;
pub mod packed;
pub mod recipe;
pub mod run;

pub use area::Area;
pub use index::numbers::{Belief, Numbers};
pub use index::summaries::{Summarised, Summary};
pub use left_out::LeftOut;
pub use manifest::{Continued, Manifest, ManifestFile, ManifestInput};
pub use recipe::Recipe;
pub use run::{Attempt, Means, RunError, RunId, RunRecord, Seen, StageRecord, StageState, Status};

/// The folder name of a store beside a project file.
pub const FOLDER: &str = ".reprise";

/// The list of files that a stage reads from outside of the store, beside its output.
pub const FILES: &str = "files.txt";

/// What keeps a store out of the repository that it lies in; there once a run was to be executed here.
const IGNORE: &str = ".gitignore";

/// Whole outputs by key.
type Memory = Mutex<BTreeMap<StageKey, Vec<StoredOutput>>>;

/// Where runs and outputs are kept. Opening one touches nothing.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// The outputs that were read, where they are kept.
    memory: Option<Arc<Memory>>,
}

impl PartialEq for Store {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Eq for Store {}

/// One output of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredOutput {
    /// The folder with manifest, log and `out/`.
    pub path: PathBuf,
    pub manifest: Manifest,
}

impl StoredOutput {
    /// The folder with the output's files.
    pub fn out(&self) -> PathBuf {
        self.path.join("out")
    }

    /// What was logged while it was made; nothing where that can't be read.
    pub fn log(&self) -> Log {
        Log::decode(&fs::read(self.path.join("metrics.log")).unwrap_or_default())
    }

    /// The files outside of the store that were read; `None` where no list of them is stored.
    pub fn files_read(&self) -> Option<FileList> {
        FileList::parse(&fs::read_to_string(self.path.join(FILES)).ok()?).ok()
    }

    /// Whether every file of the manifest is there with its size, so that a stage can read the output.
    pub fn is_whole(&self) -> bool {
        self.missing().next().is_none()
    }

    /// Whether the output can be shown and compared: what isn't there was left out of a published copy on purpose. Such an output is never
    /// reused by a run.
    pub fn is_readable(&self) -> bool {
        self.is_whole()
            || LeftOut::read(&self.path)
                .is_ok_and(|listed| listed.is_some_and(|listed| self.missing().all(|file| listed.files.contains(file))))
    }

    /// The files of the manifest that aren't there with their size.
    fn missing(&self) -> impl Iterator<Item = &ManifestFile> {
        self.manifest.files.iter().filter(|file| {
            !fs::symlink_metadata(self.out().join(&file.name))
                .is_ok_and(|meta| meta.is_file() && meta.len() == file.size)
        })
    }
}

/// A run as a listing shows it.
#[derive(Clone, Debug)]
pub struct ListedRun {
    /// The name of its folder.
    pub id: String,
    /// The record, or what is wrong with it.
    pub record: Result<RunRecord, String>,
}

impl ListedRun {
    /// The state as an observer sees it.
    pub fn seen(&self) -> Seen {
        self.record.as_ref().map_or(Seen::Damaged, RunRecord::seen)
    }
}

/// Why the store could not do what it was asked.
#[derive(Debug, Error, Diagnostic)]
pub enum StoreError {
    #[error("the store {} is read-only", .path.display())]
    #[diagnostic(help("pass --store DIR, or set REPRISE_STORE, to a folder that you may write to"))]
    ReadOnly { path: PathBuf },
    #[error("there can be no store in {}: a part of this path is a file", .path.display())]
    #[diagnostic(help("pass --store DIR, or set REPRISE_STORE, to a folder that you may write to"))]
    NotAFolder { path: PathBuf },
    #[error("no space left on the disk that holds {}", .path.display())]
    #[diagnostic(help("free some space and run again: nothing finished is lost"))]
    Full { path: PathBuf },
    #[error("cannot {verb} {}: {error}", .path.display())]
    Io { verb: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{} is damaged: {reason}", .path.display())]
    #[diagnostic(help(
        "move the folder that holds it out of the store; what it held is executed again when it is needed"
    ))]
    Damaged { path: PathBuf, reason: String },
    #[error("{} has format {found}, written by a newer reprise; this one reads up to {newest}", .path.display())]
    #[diagnostic(help("use the newer program, or another store with --store DIR"))]
    Newer { path: PathBuf, found: u64, newest: u64 },
    #[error("another process took over {} while this one stood still", .path.display())]
    #[diagnostic(help("run again: what the other process makes is reused"))]
    Lost { path: PathBuf },
    #[error("no run starts with {prefix:?}")]
    #[diagnostic(help("`reprise list` shows the runs of this store"))]
    NoRun { prefix: String },
    #[error("{prefix:?} is the start of several runs: {}", .matches.join(", "))]
    #[diagnostic(help("give more of the id"))]
    Ambiguous { prefix: String, matches: Vec<String> },
}

impl StoreError {
    /// Sorts an error of the file system by who can do what about it.
    pub(crate) fn io(verb: &'static str, path: &Path, error: std::io::Error) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path },
            ErrorKind::NotADirectory => Self::NotAFolder { path },
            _ => Self::Io { verb, path, error },
        }
    }
}

impl Store {
    /// The store in this folder, which need not exist yet.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), memory: None }
    }

    /// The store for one look at it: what was read of a stage once is not read again, whatever becomes of it meanwhile.
    pub fn remembering(self) -> Self {
        Self { memory: Some(Arc::default()), ..self }
    }

    /// `--store`, else `REPRISE_STORE`, else beside `reprise.toml`, else in the current folder.
    pub fn locate(flag: Option<&Path>, variable: Option<&OsStr>, project: Option<&Project>, folder: &Path) -> Self {
        let variable = variable.filter(|value| !value.is_empty()).map(PathBuf::from);
        Self::at(
            folder.join(
                flag.map(Path::to_path_buf).or(variable).unwrap_or_else(|| {
                    project.map_or_else(|| PathBuf::from(FOLDER), |project| project.root.join(FOLDER))
                }),
            ),
        )
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folders and makes sure that they can be written to.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] or [`StoreError::Full`] when they can't.
    pub fn prepare(&self) -> Result<(), StoreError> {
        for folder in [self.root.join("stages"), self.root.join("runs")] {
            fs::create_dir_all(&folder).map_err(|error| StoreError::io("create", &self.root, error))?;
            tempfile::tempfile_in(&folder).map_err(|error| StoreError::io("write below", &self.root, error))?;
        }
        // A store never makes the repository that it lies in dirty.
        let ignore = self.root.join(IGNORE);
        if ignore.exists() { Ok(()) } else { files::write(&ignore, b"*\n") }
    }

    /// The folder of everything that was made under a key.
    pub fn stage_folder(&self, key: &StageKey) -> PathBuf {
        self.root.join("stages").join(key.hex())
    }

    /// The keys below which something was made that start with these hex digits, sorted.
    pub fn keys_from(&self, digits: &str) -> Vec<StageKey> {
        let entries = fs::read_dir(self.root.join("stages")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut keys: Vec<StageKey> =
            names.filter(|name| name.starts_with(digits)).filter_map(|name| name.parse().ok()).collect();
        keys.sort();
        keys
    }

    /// The outputs under a key that can be read, oldest first. Damaged folders are left out.
    pub fn outputs(&self, key: &StageKey) -> Vec<StoredOutput> {
        match &self.memory {
            None => self.read_outputs(key),
            Some(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.entry(*key).or_insert_with(|| self.read_outputs(key)).clone()
            }
        }
    }

    fn read_outputs(&self, key: &StageKey) -> Vec<StoredOutput> {
        let folder = self.stage_folder(key);
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut outputs: Vec<StoredOutput> = entries
            .filter(|entry| entry.file_name().to_str().is_some_and(is_output_name))
            .filter_map(|entry| {
                let manifest = Manifest::read(&entry.path().join(manifest::FILE)).ok()?;
                (manifest.key == *key).then_some(StoredOutput { path: entry.path(), manifest })
            })
            .filter(StoredOutput::is_readable)
            .collect();
        outputs.sort_by(|a, b| (a.manifest.finished, &a.path).cmp(&(b.manifest.finished, &b.path)));
        outputs
    }

    /// The outputs that can be read and whose digest, or whose stage's key, starts with these hex digits, sorted by digest.
    pub fn outputs_named(&self, digits: &str) -> Vec<StoredOutput> {
        let keys = fs::read_dir(self.root.join("stages")).into_iter().flatten().flatten();
        let keys = keys.filter_map(|entry| entry.file_name().to_str()?.parse::<StageKey>().ok());
        let named = |output: &StoredOutput| {
            output.manifest.key.hex().starts_with(digits) || output.manifest.digest.hex().starts_with(digits)
        };
        let mut outputs: Vec<StoredOutput> = keys.flat_map(|key| self.outputs(&key)).filter(named).collect();
        outputs.sort_by_key(|output| output.manifest.digest);
        outputs
    }

    /// One output under a key, if it can be read.
    pub fn output(&self, key: &StageKey, digest: &OutputDigest) -> Option<StoredOutput> {
        self.outputs(key).into_iter().find(|output| output.manifest.digest == *digest)
    }

    /// The output that a run reuses: the oldest whole one that serves it.
    pub fn valid_output(
        &self,
        key: &StageKey,
        inputs: &[ManifestInput],
        prefix: Option<Continued>,
    ) -> Option<StoredOutput> {
        self.outputs(key).into_iter().find(|output| output.manifest.serves(inputs, prefix) && output.is_whole())
    }

    /// All runs, newest first, damaged ones included. A store that doesn't exist has none.
    ///
    /// # Errors
    /// When the folder of runs is there and can't be listed.
    pub fn runs(&self) -> Result<Vec<ListedRun>, StoreError> {
        Ok(index::side_by_side(&self.run_ids()?, |id| self.listed(id.clone())))
    }

    /// The newest run; `None` where there is none.
    ///
    /// # Errors
    /// When the folder of runs is there and can't be listed.
    pub fn newest(&self) -> Result<Option<ListedRun>, StoreError> {
        Ok(self.run_ids()?.into_iter().next().map(|id| self.listed(id)))
    }

    /// The run whose id starts with `prefix`.
    ///
    /// # Errors
    /// When none or several do.
    pub fn run(&self, prefix: &str) -> Result<ListedRun, StoreError> {
        let mut ids: Vec<String> = self.run_ids()?.into_iter().filter(|id| id.starts_with(prefix)).collect();
        ids.reverse();
        match ids.as_slice() {
            [] => Err(StoreError::NoRun { prefix: prefix.into() }),
            [id] => Ok(self.listed(id.clone())),
            _ if ids.iter().any(|id| id == prefix) => Ok(self.listed(prefix.into())),
            _ => Err(StoreError::Ambiguous { prefix: prefix.into(), matches: ids.into_iter().take(8).collect() }),
        }
    }

    /// The record of a run by its whole id, or what is wrong with it.
    ///
    /// # Errors
    /// In words, where it can't be read.
    pub fn record_of(&self, id: &str) -> Result<RunRecord, String> {
        self.listed(id.to_owned()).record
    }

    /// The folder of a run.
    pub fn run_folder(&self, id: &RunId) -> PathBuf {
        self.root.join("runs").join(id.to_string())
    }

    fn listed(&self, id: String) -> ListedRun {
        let path = self.root.join("runs").join(&id).join(run::FILE);
        let record = Self::checked(&id, RunRecord::read(&path));
        ListedRun { id, record }
    }

    /// The record of the run in this folder, or what is wrong with it.
    fn checked(id: &str, record: Result<RunRecord, StoreError>) -> Result<RunRecord, String> {
        let record = record.map_err(|error| error.to_string())?;
        if record.id.as_str() == id { Ok(record) } else { Err(format!("its record is of run {}", record.id)) }
    }

    /// The names of the folders of runs, newest first.
    ///
    /// # Errors
    /// When the folder of runs is there and can't be listed.
    pub fn run_ids(&self) -> Result<Vec<String>, StoreError> {
        let folder = self.root.join("runs");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(StoreError::io("list", &self.root, error));
            }
            Err(error) => return Err(StoreError::Io { verb: "list", path: folder, error }),
        };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<String> = ids.filter(|name| !name.starts_with('.')).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }
}

/// `<digest12>`, or `<digest12>-2` where the same output was made from other inputs.
fn is_output_name(name: &str) -> bool {
    let (digest, count) = name.split_once('-').unwrap_or((name, "2"));
    digest.len() == 12 && digest.bytes().all(|b| b.is_ascii_hexdigit()) && count.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests;
