//! The trainer as a process: started, listened to, asked to stop, and never left behind.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use reprise_spec::contract::{self, Event};
use rustix::process::{Pid, Signal, kill_process};

use crate::lease::{Lease, Process};
use crate::provenance;

use super::{ExecuteError, Happening, Interrupt, Machine};
use crate::store::StoreError;

/// The longest line that counts as an event.
const LINE: u64 = 1 << 20;

/// Between two looks at signals and at the process.
const TICK: Duration = Duration::from_millis(50);

/// How long events are waited for after the trainer has ended, in case another process holds their pipe open.
const DRAIN: Duration = Duration::from_secs(1);

/// How the trainer ended.
pub struct Ended {
    /// Its last word: done, failed or interrupted.
    pub verdict: Option<Event>,
    pub status: ExitStatus,
    /// Whether it was asked to stop.
    pub asked: bool,
    /// What it said it works with.
    pub environment: BTreeMap<String, String>,
    pub build: String,
    /// The libtorch that it has loaded.
    pub libtorch: Option<PathBuf>,
    /// What it wrote to standard error, its last lines.
    pub log: Option<String>,
}

/// What decides bits of a result and must be set before libtorch starts.
pub fn determinism(threads: u32) -> [(&'static str, String); 6] {
    [
        ("OMP_NUM_THREADS", threads.to_string()),
        ("MKL_NUM_THREADS", threads.to_string()),
        ("OMP_DYNAMIC", "FALSE".into()),
        ("MKL_DYNAMIC", "FALSE".into()),
        ("MKL_CBWR", "AUTO".into()),
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8".into()),
    ]
}

/// How long a thread of libtorch spins before it sleeps. Decides no bit: libgomp's own choice, spinning for milliseconds, made small
/// steps eight times slower when another process wanted the same two cores.
const SPINS: &str = "3000";

/// What the trainer is started for.
pub struct Launch<'a> {
    pub arguments: &'a [&'a OsStr],
    /// The file that its standard error is added to.
    pub log: PathBuf,
    /// The lease of the stage that it executes, which it is ended with.
    pub lease: Option<&'a Lease>,
}

/// Starts the trainer and listens to it until it ends.
pub fn run(
    machine: &Machine,
    launch: &Launch<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Happening<'_>),
) -> Result<Ended, ExecuteError> {
    let path = launch.log.clone();
    let open = || File::options().append(true).create(true).open(&path);
    let log = open().and_then(|log| Ok((log.metadata()?.len(), log.try_clone()?, log)));
    let (start, stderr, log) = log.map_err(|error| StoreError::io("write", &path, error))?;
    let set_worker = |worker| launch.lease.map_or(Ok(()), |lease| lease.set_worker(worker));
    // A harness that is killed before the next call leaves a trainer that the lease doesn't name; what tells of it is the lock.
    if launch.lease.is_some() {
        log.try_lock().map_err(|error| StoreError::io("lock", &path, error.into()))?;
    }
    set_worker(Some(Process::starting()))?;
    let child = Command::new(&machine.trainer)
        .args(launch.arguments)
        .envs(determinism(machine.means.threads))
        .env("GOMP_SPINCOUNT", SPINS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(|error| ExecuteError::NoTrainer { trainer: machine.trainer.clone(), reason: error.to_string() })?;
    let mut child = Kept(child);
    set_worker(Some(Process::with_pid(child.0.id())))?;
    // Standard output was asked for two lines above.
    let events = listen(child.0.stdout.take().expect("a pipe"));
    let mut talk = Talk { machine, log, ended: None, hello: None, verdict: None, asked: 0 };
    let outcome = talk.follow(&mut child, &events, launch.lease, interrupt, observe);
    drop(child);
    set_worker(None)?;
    outcome?;
    let Hello { build, environment, libtorch } = talk.hello.unwrap_or_default();
    // `follow` ends without an error only when the process has.
    let status = talk.ended.expect("a status");
    let log = tail(&path, start);
    Ok(Ended { verdict: talk.verdict, status, asked: talk.asked > 0, environment, build, libtorch, log })
}

/// A child that doesn't outlive its owner.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// What the trainer said of itself.
#[derive(Default)]
struct Hello {
    build: String,
    environment: BTreeMap<String, String>,
    libtorch: Option<PathBuf>,
}

/// What was said so far.
struct Talk<'a> {
    machine: &'a Machine,
    log: File,
    ended: Option<ExitStatus>,
    hello: Option<Hello>,
    verdict: Option<Event>,
    /// Requests to stop that were passed on.
    asked: u32,
}

impl Talk<'_> {
    fn follow(
        &mut self,
        child: &mut Kept,
        events: &Receiver<Vec<u8>>,
        lease: Option<&Lease>,
        interrupt: &Interrupt,
        observe: &mut dyn FnMut(Happening<'_>),
    ) -> Result<(), ExecuteError> {
        let mut deadline = None;
        let mut closed = false;
        loop {
            if !closed {
                match events.recv_timeout(TICK) {
                    Ok(line) => self.hear(&line, child.0.id(), observe)?,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => closed = true,
                }
            } else if self.ended.is_none() {
                std::thread::sleep(TICK);
            }
            if self.ended.is_none()
                && let Ok(Some(status)) = child.0.try_wait()
            {
                self.ended = Some(status);
                deadline = Some(Instant::now() + DRAIN);
            }
            if self.ended.is_some() && (closed || deadline.is_some_and(|deadline| Instant::now() > deadline)) {
                return Ok(());
            }
            if let Some(lease) = lease.filter(|lease| lease.is_lost()) {
                return Err(StoreError::Lost { path: lease.work() }.into());
            }
            if interrupt.count() > self.asked && self.ended.is_none() {
                let signal = if self.asked == 0 { Signal::TERM } else { Signal::KILL };
                self.asked = interrupt.count().min(self.asked + 1);
                if let Some(pid) = Pid::from_raw(child.0.id() as i32) {
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }

    fn hear(&mut self, line: &[u8], pid: u32, observe: &mut dyn FnMut(Happening<'_>)) -> Result<(), ExecuteError> {
        let Ok(event) = serde_json::from_slice::<Event>(line) else {
            let _ = self.log.write_all(&[b"event: ", line, b"\n"].concat());
            return Ok(());
        };
        let other = |reason| ExecuteError::OtherTrainer { trainer: self.machine.trainer.clone(), reason };
        match event {
            Event::Hello { contract, build, environment } => {
                if contract != contract::VERSION {
                    return Err(other(format!(
                        "it speaks version {contract} of the contract, not {}",
                        contract::VERSION
                    )));
                }
                if option_env!("REPRISE_BUILD_ID").is_some() && build != provenance::BUILD {
                    return Err(other(format!("its build is {build}, not {}", provenance::BUILD)));
                }
                self.hello = Some(Hello { build, environment, libtorch: loaded_libtorch(pid) });
            }
            _ if self.hello.is_none() => return Err(other("its first event is not `hello`".into())),
            Event::Progress { done, total, unit, note } => {
                observe(Happening::Progress { done, total, unit: &unit, note: &note });
            }
            Event::Checkpoint { step } => observe(Happening::Checkpoint { step }),
            Event::Log { level, message } => observe(Happening::Log { level, message: &message }),
            Event::Done { .. } | Event::Failed { .. } | Event::Interrupted { .. } => self.verdict = Some(event),
        }
        Ok(())
    }
}

/// Sends the lines of a pipe until it closes.
fn listen(stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    while line.last().is_some_and(|byte| byte.is_ascii_whitespace()) {
                        line.pop();
                    }
                    if !line.is_empty() && sender.send(line).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}

/// The file of `libtorch_cpu` that a process has loaded.
fn loaded_libtorch(pid: u32) -> Option<PathBuf> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let path = maps.lines().find(|line| line.contains("/libtorch_cpu."))?;
    Some(PathBuf::from(&path[path.find('/')?..]))
}

/// The last lines that this attempt wrote to its log, without control characters.
fn tail(path: &Path, start: u64) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let bytes = bytes.get(usize::try_from(start).ok()?..)?;
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4096)..]).into_owned();
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let mut lines: Vec<String> = text.lines().rev().take(12).map(clean).filter(|line| !line.is_empty()).collect();
    lines.reverse();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What a signal that ended the trainer means.
pub fn signal_meaning(status: ExitStatus) -> Option<String> {
    let signal = status.signal()?;
    let (name, meaning) = match signal {
        2 => ("SIGINT", "somebody interrupted it"),
        4 => ("SIGILL", "the program or libtorch is built for another processor"),
        6 => ("SIGABRT", "native code gave up; its last words are in the log"),
        7 => ("SIGBUS", "a mapped file was cut short, or the disk is full"),
        8 => ("SIGFPE", "a fault in native code"),
        9 => ("SIGKILL", "out of memory, or somebody ended it"),
        11 => ("SIGSEGV", "a fault in native code"),
        15 => ("SIGTERM", "somebody ended it"),
        24 => ("SIGXCPU", "the limit of processor time was reached"),
        25 => ("SIGXFSZ", "the limit of file size was reached"),
        _ => ("unnamed", "somebody or the system ended it"),
    };
    Some(format!("killed by signal {signal} ({name}): {meaning}"))
}
