//! Leases: one process at a time works on a stage, and a dead one doesn't hold it.
//!
//! The owner of `work/` counts up in `work/lease` about once a second. An observer calls a lease dead at once when it can tell that the
//! owner's process is gone (same host, boot and process namespace), and otherwise when the count has stood still for [`PATIENCE`] of
//! the observer's own monotonic clock. Wall clocks are never compared. A lease isn't flushed to disk: a machine that loses its power loses
//! the owner as well, and an empty file is waited for like one of another machine. Who changes a lease holds the lock of `guard` while doing so.

use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::files;

/// How long a count may stand still before its owner is called dead.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two counts.
const BEAT: Duration = Duration::from_secs(1);

/// How long the lock of `guard`, which is held for milliseconds, is waited for.
const GUARD: Duration = Duration::from_secs(10);

/// History of the format: 1, the first.
const FORMAT: u64 = 1;

/// The folder that a lease is about, below the folder of its stage.
pub const WORK: &str = "work";

const FILE: &str = "lease";

/// Below `work/`: where the worker's standard error goes. Who starts a worker takes the lock of this file first; the worker inherits it
/// with the descriptor, so that the lock is held for as long as either of the two lives.
pub const LOG: &str = "log.txt";

/// A process, told apart from later ones with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Process {
    pub pid: u32,
    /// In clock ticks after boot; absent where the system doesn't say.
    pub start: Option<u64>,
}

impl Process {
    /// The process with this number, now.
    pub fn with_pid(pid: u32) -> Self {
        Self { pid, start: start_time(pid) }
    }

    /// A process that is about to be started, so that nobody knows its number yet.
    pub fn starting() -> Self {
        Self { pid: 0, start: None }
    }

    fn is_gone(&self) -> bool {
        start_time(self.pid) != self.start
    }
}

/// The process that holds a lease or executes a run, and where its number means something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Owner {
    pub host: String,
    /// The boot id of the machine; absent where the system has none.
    pub boot: Option<String>,
    /// The process namespace: the same number is another process in another container.
    pub namespace: Option<String>,
    pub process: Process,
}

/// Whether a process lives, as far as this one can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    Alive,
    Gone,
    /// It is on another machine or in another container.
    Unknown,
}

impl Owner {
    /// This process.
    pub fn current() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: fs::read_link("/proc/self/ns/pid").ok().map(|link| link.to_string_lossy().into_owned()),
            process: Process::with_pid(std::process::id()),
        }
    }

    /// Whether the process lives.
    pub fn liveness(&self) -> Liveness {
        self.liveness_of(&self.process)
    }

    /// Whether a process beside this one lives.
    fn liveness_of(&self, process: &Process) -> Liveness {
        let here = Self::current();
        let rebooted = self.host == here.host && self.boot.is_some() && here.boot.is_some() && self.boot != here.boot;
        let comparable = self.boot.is_some() && self.boot == here.boot && self.namespace == here.namespace;
        match () {
            () if comparable && process.start.is_some() && process.is_gone() => Liveness::Gone,
            () if comparable && process.start.is_some() => Liveness::Alive,
            () if rebooted && self.namespace == here.namespace => Liveness::Gone,
            () => Liveness::Unknown,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.process.pid, self.host)
    }
}

/// When a process started, in clock ticks after boot; `None` for one that has ended, though nobody may have asked for its status yet.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?; // the name before it may hold anything
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?; // field 22; the state is field 3
    (!matches!(state, "Z" | "X")).then_some(start)
}

/// What a lease file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    format: u64,
    owner: Owner,
    /// Tells two leases of one process apart.
    token: String,
    count: u64,
    /// The trainer; it may outlive its owner for the time that it needs to notice.
    worker: Option<Process>,
}

impl Record {
    fn liveness(&self, work: &Path) -> Liveness {
        let worker = self.worker.filter(|worker| worker.start.is_some());
        match (self.owner.liveness(), worker.map(|worker| self.owner.liveness_of(&worker))) {
            // Threads of a killed process may live a little longer than its number says.
            (Liveness::Gone, None | Some(Liveness::Gone)) => liveness_by_lock(&work.join(LOG)),
            (Liveness::Gone, Some(liveness)) => liveness,
            (liveness, _) => liveness,
        }
    }
}

/// Whether a process has the lock of its log.
fn liveness_by_lock(log: &Path) -> Liveness {
    match File::open(log).map(|log| log.try_lock()) {
        Ok(Ok(())) => Liveness::Gone,
        Ok(Err(TryLockError::WouldBlock)) => Liveness::Alive,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Liveness::Gone,
        Ok(Err(TryLockError::Error(_))) | Err(_) => Liveness::Unknown,
    }
}

/// What came of asking for a lease.
pub enum Claim {
    /// It is ours.
    Taken(Lease),
    /// Somebody has it; ask again later with the same [`Watch`].
    Held(Option<Owner>),
}

/// What an observer has seen of a lease that somebody else has.
pub struct Watch {
    patience: Duration,
    seen: Option<(Vec<u8>, Instant)>,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl Watch {
    /// An observer that calls a lease dead when it has stood still this long.
    pub fn new(patience: Duration) -> Self {
        Self { patience, seen: None }
    }

    /// Whether the lease has stood still for as long as the observer has patience.
    fn stands_still(&mut self, bytes: &[u8]) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == bytes => since.elapsed() >= self.patience,
            _ => {
                self.seen = Some((bytes.to_vec(), Instant::now()));
                self.patience.is_zero()
            }
        }
    }
}

/// A lease that this process holds. Dropping it gives it back; `work/` stays if anything is in it.
pub struct Lease {
    folder: PathBuf,
    record: Arc<Mutex<Record>>,
    lost: Arc<AtomicBool>,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Asks for the lease of `work/` below the folder of a stage, which is made if it isn't there.
///
/// # Errors
/// When the store can't be written.
pub fn claim(folder: &Path, watch: &mut Watch) -> Result<Claim, StoreError> {
    fs::create_dir_all(folder).map_err(|error| StoreError::io("create", folder, error))?;
    let _guard = guard(folder)?;
    let work = folder.join(WORK);
    let path = work.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => {
            let record = serde_json::from_slice::<Record>(&bytes).ok();
            let dead = match record.as_ref().map_or(Liveness::Unknown, |record| record.liveness(&work)) {
                Liveness::Gone => true,
                Liveness::Alive => false,
                Liveness::Unknown => watch.stands_still(&bytes),
            };
            if !dead {
                return Ok(Claim::Held(record.map(|record| record.owner)));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::Io { verb: "read", path, error }),
    }
    fs::create_dir_all(&work).map_err(|error| StoreError::io("create", &work, error))?;
    let token = format!("{:016x}", RandomState::new().build_hasher().finish());
    let record = Record { format: FORMAT, owner: Owner::current(), token, count: 0, worker: None };
    files::write_fleeting(&path, &record)?;
    Ok(Claim::Taken(Lease::start(folder.to_path_buf(), record)))
}

impl Lease {
    fn start(folder: PathBuf, record: Record) -> Self {
        let record = Arc::new(Mutex::new(record));
        let lost = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = mpsc::channel();
        let beat = {
            let (folder, record, lost) = (folder.clone(), record.clone(), lost.clone());
            move || {
                while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                    // A beat that the disk refuses is made up for by the next; a lease that somebody took is lost for good.
                    if let Ok(false) = renew(&folder, &record) {
                        lost.store(true, Ordering::Relaxed);
                        return;
                    }
                }
            }
        };
        Self { folder, record, lost, heart: Some((stop, std::thread::spawn(beat))) }
    }

    /// The folder that the lease is about.
    pub fn work(&self) -> PathBuf {
        self.folder.join(WORK)
    }

    /// Whether somebody else took the lease because this process stood still for too long.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Says which process works in `work/`, so that nobody takes the lease while it lives.
    pub fn set_worker(&self, worker: Option<Process>) -> Result<(), StoreError> {
        lock(&self.record).worker = worker;
        if !renew(&self.folder, &self.record)? {
            self.lost.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Renames `work/` to `name`, without what a killed process had begun to write there, and gives the lease back. False when the lease
    /// was lost; nothing is renamed then.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn commit(mut self, name: &str) -> Result<bool, StoreError> {
        self.stop();
        let _guard = guard(&self.folder)?;
        if !is_ours(&self.folder, &lock(&self.record).token) {
            return Ok(false);
        }
        files::remove_unfinished(&self.work())?;
        let target = self.folder.join(name);
        fs::rename(self.work(), &target).map_err(|error| StoreError::io("rename to", &target, error))?;
        let _ = fs::remove_file(target.join(FILE)); // outside `work/` it says nothing
        files::sync(&self.folder)?;
        Ok(true)
    }

    fn stop(&mut self) {
        if let Some((stop, heart)) = self.heart.take() {
            drop(stop);
            let _ = heart.join();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop();
        if let Ok(_guard) = guard(&self.folder)
            && is_ours(&self.folder, &lock(&self.record).token)
        {
            let _ = fs::remove_file(self.work().join(FILE));
            let _ = fs::remove_dir(self.work()); // refused where something is left to continue
        }
    }
}

/// Counts up. False when the lease is somebody else's by now.
fn renew(folder: &Path, record: &Mutex<Record>) -> Result<bool, StoreError> {
    let _guard = guard(folder)?;
    let mut record = lock(record);
    if !is_ours(folder, &record.token) {
        return Ok(false);
    }
    record.count += 1;
    files::write_fleeting(&folder.join(WORK).join(FILE), &*record)?;
    Ok(true)
}

fn is_ours(folder: &Path, token: &str) -> bool {
    let bytes = fs::read(folder.join(WORK).join(FILE)).unwrap_or_default();
    serde_json::from_slice::<Record>(&bytes).is_ok_and(|record| record.token == token)
}

/// The lock of `guard`, until the file is dropped.
fn guard(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("guard");
    let fail = |error| StoreError::io("lock", &path, error);
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(fail)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < GUARD => std::thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => return Err(fail(std::io::Error::other("somebody holds it for too long"))),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
    }
}

fn lock(record: &Mutex<Record>) -> std::sync::MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
