//! What a stage tells the world while it works: events to the harness, points to the metric log.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reprise_spec::contract::{Event, Level};
use reprise_spec::metrics::{Encoder, Log, RECORD};

use crate::failure::StageError;

/// Set by TERM, INT and a closed standard input: write a checkpoint and stop.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Events and metrics of one attempt.
pub struct Reporter {
    events: File,
    /// The metric log; work beside stages has none.
    log: Option<File>,
    encoder: Encoder,
    pending: Vec<u8>,
    flushed: Instant,
    shown: Option<Instant>,
    attempt: u32,
}

impl Reporter {
    /// Continues the metric log in `work`, whatever state its tail is in; events go to `events`.
    pub fn open(events: File, work: &Path, attempt: u32) -> Result<Self, StageError> {
        let path = work.join("metrics.log");
        let fail = |error: std::io::Error| StageError::io("cannot open", &path, &error);
        let mut log = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes).map_err(fail)?;
        let whole = (bytes.len() - bytes.len() % RECORD) as u64;
        log.set_len(whole).map_err(fail)?;
        log.seek(std::io::SeekFrom::Start(whole)).map_err(fail)?;
        let encoder = Encoder::continuing(&Log::decode(&bytes));
        Ok(Self { log: Some(log), encoder, attempt, ..Self::without_metrics(events) })
    }

    /// For work beside stages, which has no metric log: points are dropped.
    pub fn without_metrics(events: File) -> Self {
        let encoder = Encoder::continuing(&Log::default());
        Self { events, log: None, encoder, pending: Vec::new(), flushed: Instant::now(), shown: None, attempt: 1 }
    }

    /// Says that this attempt continues after `step`; points beyond it are superseded. Call once, before the first metric.
    pub fn continues_after(&mut self, step: u64) {
        let record = self.encoder.attempt(self.attempt, step);
        self.pending.extend(record);
    }

    /// Adds a point to the metric log. Written at least every second.
    pub fn metric(&mut self, name: &str, step: u64, value: f64) -> Result<(), StageError> {
        self.encoder.append(&mut self.pending, name, step, value);
        if self.flushed.elapsed() > Duration::from_secs(1) { self.flush() } else { Ok(()) }
    }

    /// Writes what waits. The log is part of the result, so a full disk ends the stage.
    pub fn flush(&mut self) -> Result<(), StageError> {
        self.flushed = Instant::now();
        let Some(log) = &mut self.log else {
            self.pending.clear();
            return Ok(());
        };
        let written = log.write_all(&self.pending);
        self.pending.clear();
        written.map_err(|error| StageError::io("cannot write", Path::new("metrics.log"), &error))
    }

    /// Brings every point so far to the disk. Call before a checkpoint is written: an attempt that continues after it logs none of them again.
    pub fn keep(&mut self) -> Result<(), StageError> {
        self.flush()?;
        let Some(log) = &self.log else { return Ok(()) };
        log.sync_data().map_err(|error| StageError::io("cannot write", Path::new("metrics.log"), &error))
    }

    /// Shows how far the stage is, at most ten times a second and always at the end.
    pub fn progress(&mut self, done: u64, total: u64, unit: &str, note: &str) {
        if done < total && self.shown.is_some_and(|shown| shown.elapsed() < Duration::from_millis(100)) {
            return;
        }
        self.shown = Some(Instant::now());
        self.send(&Event::Progress { done, total, unit: unit.into(), note: note.into() });
    }

    /// Says that a whole checkpoint is on disk.
    pub fn checkpoint(&mut self, step: u64) {
        self.send(&Event::Checkpoint { step });
    }

    /// Tells a person something.
    pub fn say(&mut self, level: Level, message: impl Into<String>) {
        self.send(&Event::Log { level, message: message.into() });
    }

    /// Sends one event. A harness that is gone closes the trainer's standard input, which ends it; so a failed write is not an error here.
    pub fn send(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = self.events.write_all(&line);
        }
    }

    /// An error when the stage was asked to stop. Call between units of work that need not be finished.
    pub fn check_stop(&self) -> Result<(), StageError> {
        if STOP.load(Ordering::Relaxed) { Err(StageError::Interrupted { step: None }) } else { Ok(()) }
    }
}
