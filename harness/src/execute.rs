//! Executes the run of one seed: stage by stage, reusing what the store has and asking the trainer for the rest.

use std::path::PathBuf;

use miette::Diagnostic;
use reprise_spec::contract::{Device, Failure, Level, Score};
use reprise_spec::identity::{OutputDigest, SpecHash, VariantHash};
use thiserror::Error;

use crate::data::{CorpusFiles, DataError};
use crate::interrupt::Interrupt;
use crate::lease::Owner;
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::store::{RunRecord, Store, StoreError};

/// What to execute and where its outputs go.
pub struct Job<'a> {
    /// The name of the experiment.
    pub experiment: &'a str,
    /// The texts that the experiment was read from, kept with the run.
    pub text: &'a str,
    pub identity: Identity,
    pub plan: &'a Plan,
    /// One of the seeds of the plan.
    pub seed: u64,
    pub corpus: &'a CorpusFiles,
    pub store: &'a Store,
    pub provenance: Provenance,
    pub machine: Machine,
}

/// Which experiment a run is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub spec: SpecHash,
    pub variant: VariantHash,
    /// The canonical bytes that `spec` is the hash of.
    pub canonical: Vec<u8>,
}

/// What the stages are executed with. None of it is part of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The program that executes a stage; see [`find_trainer`].
    pub trainer: PathBuf,
    pub device: Device,
    /// Intra-op threads of a stage.
    pub threads: u32,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: u32,
    /// Where digests of files are remembered; see [`crate::data::hashing::cache_folder`].
    pub cache: Option<PathBuf>,
    /// Whether files of committed lists are read again although the cache knows them.
    pub verify_data: bool,
}

/// What an observer of a run is told, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening<'a> {
    /// The stage's output is in the store. `number` counts the run's stages from 1 to `total`.
    Reused {
        number: usize,
        total: usize,
        name: &'a str,
        digest: OutputDigest,
    },
    /// Another process executes the stage; told once, then the run waits.
    Waiting {
        number: usize,
        total: usize,
        name: &'a str,
        owner: Option<Owner>,
    },
    /// The trainer was started. `attempt` is above 1 when earlier work is continued.
    Started {
        number: usize,
        total: usize,
        name: &'a str,
        attempt: u32,
    },
    Progress {
        done: u64,
        total: u64,
        unit: &'a str,
        note: &'a str,
    },
    /// A whole checkpoint was written after this step.
    Checkpoint {
        step: u64,
    },
    Log {
        level: Level,
        message: &'a str,
    },
    /// The stage's output was stored.
    Finished {
        number: usize,
        total: usize,
        name: &'a str,
        seconds: f64,
        digest: OutputDigest,
        summary: &'a [Score],
    },
}

/// How a run ended well.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A run was made, whether or not it had to execute anything.
    Finished(RunRecord),
    /// Everything was in the store and an earlier finished run of the same variant, seed and outputs says so: no run was made.
    Unchanged(RunRecord),
}

/// How a run ended otherwise.
#[derive(Debug, Error, Diagnostic)]
pub enum ExecuteError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    #[error("cannot start {}: {reason}", .trainer.display())]
    #[diagnostic(help("build it with `cargo build`, or name another in REPRISE_TRAINER"))]
    NoTrainer { trainer: PathBuf, reason: String },
    #[error("the trainer {} is not the one that belongs to this program: {reason}", .trainer.display())]
    #[diagnostic(help("build both with `cargo build`"))]
    OtherTrainer { trainer: PathBuf, reason: String },
    #[error("{stage}: {message}{}", .log.as_deref().map(|log| format!("\n{log}")).unwrap_or_default())]
    Stage {
        /// The run's id.
        run: String,
        stage: String,
        class: Failure,
        message: String,
        /// The last lines that the trainer wrote to standard error.
        log: Option<String>,
        #[help]
        help: Option<String>,
    },
    #[error("interrupted in {stage}")]
    #[diagnostic(help("run again to continue"))]
    Interrupted { run: String, stage: String },
}

impl ExecuteError {
    /// The exit status: 2 when the user can mend it, 3 when a stage failed, 130 when it was interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stage { class: Failure::Stage, .. } => 3,
            Self::Interrupted { .. } => 130,
            _ => 2,
        }
    }
}

/// `REPRISE_TRAINER`, else `reprise-trainer` beside this program.
///
/// # Errors
/// When there is no such file.
pub fn find_trainer() -> Result<PathBuf, ExecuteError> {
    let trainer = match std::env::var_os("REPRISE_TRAINER").filter(|value| !value.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe().unwrap_or_default().with_file_name("reprise-trainer"),
    };
    match trainer.is_file() {
        true => Ok(trainer),
        false => Err(ExecuteError::NoTrainer { trainer, reason: "there is no such file".into() }),
    }
}

/// Executes the run of one seed and tells `observe` what happens.
///
/// # Errors
/// When data or store can't be used, a stage fails, or `interrupt` asks to stop. The run is then marked so, and all that finished stays.
pub fn execute(
    job: &Job<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Happening<'_>),
) -> Result<Outcome, ExecuteError> {
    let _ = (job, interrupt, observe);
    unimplemented!()
}
