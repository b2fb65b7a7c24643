//! `run.json`: one execution of one variant with one seed.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use reprise_spec::contract::Device;
use reprise_spec::evaluation::Point;
use reprise_spec::identity::{OutputDigest, SpecHash, StageKey, VariantHash};
use serde::{Deserialize, Serialize};

use super::{Recipe, Store, StoreError, files, packed, recipe};
use crate::inert;
use crate::lease::{Liveness, Owner};
use crate::provenance::Provenance;

/// The name of a run's record in its folder.
pub const FILE: &str = "run.json";

/// The texts of the experiment, in the folder of a run.
pub const TEXT: &str = "experiment.yaml";

/// The canonical bytes of the experiment, in the folder of a run whose recipe is spelled out.
pub const CANONICAL: &str = "spec.canon";

/// The uncommitted changes of the repository that holds the experiment, in the folder of a run.
pub const CHANGES: &str = "changes.patch";

/// History of the format: 1, the first.
pub const FORMAT: u64 = 1;

/// `YYYYMMDD-HHMMSS-xxxxxx`: when the run was made (UTC), and six random hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// An id for a run that starts now.
    pub fn new(now: Timestamp) -> Self {
        let random = RandomState::new().build_hasher().finish() & 0xff_ffff;
        Self(format!("{}-{random:06x}", now.strftime("%Y%m%d-%H%M%S")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let shape = |(index, byte): (usize, u8)| match index {
            8 | 15 => byte == b'-',
            0..15 => byte.is_ascii_digit(),
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        };
        match text.len() == 22 && text.bytes().enumerate().all(shape) {
            true => Ok(Self(text)),
            false => Err(format!("{text:?} is not the id of a run")),
        }
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.0
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One execution of one variant with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunRecord {
    pub format: u64,
    pub id: RunId,
    /// The name of the experiment.
    pub experiment: String,
    pub spec: SpecHash,
    pub variant: VariantHash,
    /// The name of the variant; empty where the experiment has one alone.
    #[serde(default)]
    pub variant_name: String,
    pub seed: u64,
    /// What the run's own process last wrote; an observer asks [`RunRecord::seen`].
    pub status: Status,
    /// In the order of the plan.
    pub stages: Vec<StageRecord>,
    /// At least one; the last is the present or latest.
    pub attempts: Vec<Attempt>,
    /// What the trainer said it works with, merged over the stages that this run executed.
    pub environment: BTreeMap<String, String>,
    pub provenance: Provenance,
    /// Why the run failed.
    pub error: Option<RunError>,
}

/// How far a run's own process says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Running,
    Finished,
    Failed,
    Interrupted,
}

/// The state of a run as an observer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    Running,
    Finished,
    Failed,
    Interrupted,
    /// It says that it is running, but its process is gone.
    Lost,
    /// Its record can't be read.
    Damaged,
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageRecord {
    /// As the plan names it.
    pub name: String,
    /// Kind and version.
    pub kind: String,
    /// Where in pretraining the stage lies, if it trains or judges a model of there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<Point>,
    pub key: StageKey,
    pub state: StageState,
}

/// How far one stage of a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageState {
    Pending,
    Running,
    /// Taken from the store.
    Reused {
        digest: OutputDigest,
    },
    /// Executed by this run.
    Executed {
        digest: OutputDigest,
        seconds: f64,
    },
    Failed,
    Interrupted,
}

impl StageState {
    /// The output that the run goes on with.
    pub fn digest(&self) -> Option<OutputDigest> {
        match self {
            Self::Reused { digest } | Self::Executed { digest, .. } => Some(*digest),
            Self::Pending | Self::Running | Self::Failed | Self::Interrupted => None,
        }
    }
}

/// One life of the process that executes a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attempt {
    pub owner: Owner,
    /// Absent in runs of a program that didn't record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<Means>,
    pub started: Timestamp,
    /// Absent while it runs, and for good if it was killed.
    pub ended: Option<Timestamp>,
}

/// What an attempt was asked to execute its stages with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Means {
    pub device: Device,
    /// Intra-op threads of a stage.
    pub threads: u32,
    /// Threads that load audio; one in runs of a program that knew no others.
    #[serde(default = "one")]
    pub loader_threads: u32,
    /// Whether a training computes layers again instead of keeping what they computed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: u32,
}

fn one() -> u32 {
    1
}

impl Default for Means {
    /// What `reprise run` takes where nothing is said.
    fn default() -> Self {
        Self { device: Device::Cpu, threads: 2, loader_threads: 2, recompute: false, checkpoint_seconds: 120 }
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunError {
    /// The name of the stage, where one failed.
    pub stage: Option<String>,
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

impl RunRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// When it is damaged or of a newer format.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        files::read_versioned(path, FORMAT)
    }

    /// A record from its bytes; `path` is where they were read.
    ///
    /// # Errors
    /// When it is damaged or of a newer format.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        files::parse_versioned(path, bytes, FORMAT)
    }

    /// The state as an observer sees it: a run whose process is gone isn't running, whatever its record says.
    pub fn seen(&self) -> Seen {
        match self.status {
            Status::Finished => Seen::Finished,
            Status::Failed => Seen::Failed,
            Status::Interrupted => Seen::Interrupted,
            Status::Running => match self.attempts.last().map(|attempt| attempt.owner.liveness()) {
                Some(Liveness::Alive | Liveness::Unknown) => Seen::Running,
                Some(Liveness::Gone) | None => Seen::Lost,
            },
        }
    }

    /// The experiment, the variant where there are several, and the seed, for people.
    pub fn title(&self) -> String {
        let Self { experiment, variant_name, seed, .. } = self;
        let variant = if variant_name.is_empty() { String::new() } else { format!("  {variant_name}") };
        inert::terminal(&format!("{experiment}{variant}  seed {seed}")).into_owned()
    }

    /// Seconds that its ended attempts took together; `None` while it has none.
    pub fn seconds(&self) -> Option<f64> {
        let took = |attempt: &Attempt| attempt.ended.map(|ended| ended.duration_since(attempt.started).as_secs_f64());
        self.attempts.iter().filter_map(took).reduce(|sum, seconds| sum + seconds)
    }

    /// The output of each stage, by name; absent while the run has none.
    pub fn digests(&self) -> BTreeMap<&str, Option<OutputDigest>> {
        self.stages.iter().map(|stage| (stage.name.as_str(), stage.state.digest())).collect()
    }
}

impl Store {
    /// Makes the folder of a new run, locked: the texts of the experiment, its canonical bytes, its recipe, and the record that `record`
    /// gives for an id. The folder gets its name when all of that is in it, so a run that is listed is whole.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create_run(
        &self,
        experiment: &str,
        canonical: &[u8],
        recipe: &Recipe,
        record: impl Fn(RunId) -> RunRecord,
    ) -> Result<(RunRecord, File), StoreError> {
        self.remove_unfinished_runs()?;
        loop {
            let record = record(RunId::new(Timestamp::now()));
            let folder = self.run_folder(&record.id);
            let unfinished = folder.with_file_name(format!("{}{}", files::UNFINISHED, record.id));
            match fs::create_dir(&unfinished) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(StoreError::io("create", &unfinished, error)),
            }
            let write = || {
                let Some(lock) = lock(&unfinished)? else { return Ok(None) };
                let written = files::to_line(&record);
                let mut parts: Vec<(&str, &[u8])> = vec![(TEXT, experiment.as_bytes()), (FILE, &written)];
                // What has no short form is spelled out.
                let short = recipe.shortened(canonical);
                if short.is_none() {
                    parts.push((CANONICAL, canonical));
                }
                let (name, packed) = packed::pack(recipe::FILE, &short.unwrap_or_else(|| files::to_line(recipe)));
                parts.push((&name, &packed));
                parts.extend(patch(&record).map(|patch| (CHANGES, patch)));
                files::write_new(&unfinished, &parts)?;
                fs::rename(&unfinished, &folder).map_err(|error| StoreError::io("rename to", &folder, error))?;
                files::sync(&self.root.join("runs"))?;
                Ok(Some(lock))
            };
            let written = write();
            match written {
                Ok(Some(lock)) => return Ok((record, lock)),
                // Somebody took it for one that was left behind.
                Ok(None) => {}
                Err(StoreError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let _ = fs::remove_dir_all(&unfinished);
                    return Err(error);
                }
            }
        }
    }

    /// Removes runs whose process was killed while it made them.
    fn remove_unfinished_runs(&self) -> Result<(), StoreError> {
        let runs = self.root.join("runs");
        for entry in fs::read_dir(&runs).map_err(|error| StoreError::io("list", &runs, error))?.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(files::UNFINISHED))
                && let Ok(Some(_lock)) = lock(&entry.path())
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    /// The lock of a run, without what a killed process had begun to write there; `None` when another process has it.
    pub(crate) fn lock_run(&self, id: &RunId) -> Result<Option<File>, StoreError> {
        let folder = self.run_folder(id);
        let lock = lock(&folder)?;
        if lock.is_some() {
            files::remove_unfinished(&folder)?;
        }
        Ok(lock)
    }

    /// The canonical bytes that a run's `spec` is the hash of.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn canonical(&self, id: &RunId) -> Result<Vec<u8>, StoreError> {
        let path = self.run_folder(id).join(CANONICAL);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => match self.meaning(id)? {
                Some(canonical) => Ok(canonical),
                None => Err(StoreError::Io { verb: "read", path, error }),
            },
            read => read.map_err(|error| StoreError::Io { verb: "read", path, error }),
        }
    }

    /// The texts that a run's experiment was read from.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn experiment_text(&self, id: &RunId) -> Result<String, StoreError> {
        let path = self.run_folder(id).join(TEXT);
        fs::read_to_string(&path).map_err(|error| StoreError::Io { verb: "read", path, error })
    }

    /// Writes the patch of uncommitted changes that goes with a run's record, in place of one that an earlier attempt went with.
    pub(crate) fn write_changes(&self, record: &RunRecord) -> Result<(), StoreError> {
        write_changes(&self.run_folder(&record.id), record)
    }

    /// The file with the patch of uncommitted changes that a run's record tells of.
    pub fn changes(&self, id: &RunId) -> PathBuf {
        self.run_folder(id).join(CHANGES)
    }

    /// Writes a run's record in place of what it was.
    ///
    /// # Errors
    /// When the disk refuses; the record is then what it was.
    pub fn write_run(&self, record: &RunRecord) -> Result<(), StoreError> {
        files::write(&self.run_folder(&record.id).join(FILE), &files::to_line(record))
    }
}

/// The uncommitted changes that go with a record, where there are any.
fn patch(record: &RunRecord) -> Option<&[u8]> {
    record.provenance.changes.as_ref().map(|changes| changes.patch.as_slice()).filter(|patch| !patch.is_empty())
}

fn write_changes(folder: &Path, record: &RunRecord) -> Result<(), StoreError> {
    let path = folder.join(CHANGES);
    match patch(record) {
        Some(patch) => files::write(&path, patch),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", &path, error)),
            _ => Ok(()),
        },
    }
}

/// The lock of a run's folder, which ends with the process that has it.
fn lock(folder: &Path) -> Result<Option<File>, StoreError> {
    let path = folder.join("lock");
    let fail = |error: std::io::Error| StoreError::io("lock", &path, error);
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}
