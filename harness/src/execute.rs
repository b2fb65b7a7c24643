//! Executes runs: stage by stage, reusing what the store has and asking the trainer for the rest.

use std::path::PathBuf;

use miette::Diagnostic;
use reprise_spec::contract::{Failure, Level, Score};
use reprise_spec::experiment::{Experiment, Variant};
use reprise_spec::identity::{OutputDigest, SpecHash, StageKey, VariantHash};
use thiserror::Error;

use crate::data::{CorpusFiles, DataError, Hasher, Hashing};
use crate::interrupt::Interrupt;
use crate::lease::Owner;
use crate::plan::{Need, Node, Plan, RunOf};
use crate::provenance::Provenance;
use crate::store::{Means, Recipe, RunId, RunRecord, Store, StoreError};

mod chosen;
mod run;
mod schedule;
mod stage;
mod tool;
mod trainer;

pub use tool::run_tool;

/// One run to execute, and where its outputs go.
pub struct Job<'a> {
    /// What tells the run apart from others that are executed with it; empty for one alone.
    pub label: String,
    /// What the run is asked for, kept with it.
    pub recipe: &'a Recipe,
    /// The texts that the experiment was read from, kept with the run.
    pub text: &'a str,
    pub identity: Identity,
    pub plan: &'a Plan,
    /// One of the runs of the plan.
    pub run: RunOf,
    pub corpus: &'a CorpusFiles,
    pub store: &'a Store,
    pub provenance: Provenance,
    pub machine: Machine,
    /// The run to continue; without it the newest that asked for the same and ended without a result, or else a new one.
    pub resume: Option<RunId>,
}

/// Which variant of which experiment a run is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub spec: SpecHash,
    pub variant: VariantHash,
    /// The variant's name; empty where it is alone.
    pub name: String,
    /// The canonical bytes that `spec` is the hash of.
    pub canonical: Vec<u8>,
}

impl Identity {
    pub fn of(experiment: &Experiment, variant: &Variant) -> Self {
        let canonical = experiment.meaning().to_bytes();
        Self { spec: experiment.spec_hash(), variant: variant.setting.hash(), name: variant.name.clone(), canonical }
    }
}

/// What the stages are executed with. None of it is part of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The program that executes a stage; see [`find_trainer`].
    pub trainer: PathBuf,
    /// What a run records, to be continued in the same way.
    pub means: Means,
    /// Where digests of files are remembered; see [`crate::data::hashing::cache_folder`].
    pub cache: Option<PathBuf>,
    /// Whether files of committed lists are read again although the cache knows them.
    pub verify_data: bool,
}

/// Which stage of which run something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The run's number among those that are executed together, and its [`Job::label`].
    pub run: usize,
    pub label: &'a str,
    /// The stage's number in its run, from 1 to `total`.
    pub number: usize,
    pub total: usize,
    pub name: &'a str,
}

/// What an observer is told; of each stage in order, of several stages as it comes.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening<'a> {
    /// Files of committed lists are compared with the corpus on disk. Belongs to no stage.
    Comparing(Hashing),
    /// The stage's output is in the store.
    Reused {
        digest: OutputDigest,
    },
    /// Another process executes the stage; told once, then its result is waited for.
    Waiting {
        owner: Option<Owner>,
    },
    /// The trainer was started. `attempt` is above 1 when earlier work is continued; `stale` says that the store has outputs of the stage,
    /// but made from inputs with other digests.
    Started {
        attempt: u32,
        stale: bool,
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
        seconds: f64,
        digest: OutputDigest,
        summary: &'a [Score],
    },
    /// The stage ended without an output.
    Failed,
    /// A run ended well. Belongs to no stage.
    Ended(&'a Outcome),
}

/// Who is told what happens, possibly by several threads, one at a time.
pub type Observer<'o> = &'o mut (dyn FnMut(Option<Place<'_>>, Happening<'_>) + Send);

/// How a run ended well.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A run was made, whether or not it had to execute anything.
    Finished(RunRecord),
    /// Everything was in the store and an earlier finished run of the same variant, seed and outputs says so: no run was made.
    Unchanged(RunRecord),
}

impl Outcome {
    /// The record that has the results.
    pub fn record(&self) -> &RunRecord {
        let (Self::Finished(record) | Self::Unchanged(record)) = self;
        record
    }
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
    #[error("the files of the corpus are not known")]
    #[diagnostic(help("give the experiment's corpus a list for every split, or pass --data DIR"))]
    Unknown,
    #[error("{message}{}", .log.as_deref().map(|log| format!("\n{log}")).unwrap_or_default())]
    Tool {
        class: Failure,
        message: String,
        /// The last lines that the trainer wrote to standard error, where they may say more than the message.
        log: Option<String>,
        #[help]
        help: Option<String>,
    },
    #[error("interrupted")]
    #[diagnostic(help("give the same command again"))]
    ToolInterrupted,
    #[error("interrupted in {stage}")]
    #[diagnostic(help("give the same command again to continue; `reprise resume` continues a run without its file"))]
    Interrupted { run: String, stage: String },
    #[error("run {run} is executed by another process")]
    #[diagnostic(help("wait for it, or stop that process"))]
    Busy { run: String },
}

impl ExecuteError {
    /// The exit status: 2 when the user can mend it, 3 when a stage failed, 130 when it was interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stage { class: Failure::Stage, .. } | Self::Tool { class: Failure::Stage, .. } => 3,
            Self::Interrupted { .. } | Self::ToolInterrupted => 130,
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

/// Executes runs, at most `at_once` stages at a time, and tells `observe` what happens.
///
/// A stage starts when what it reads is there, in the order of the jobs and of their plans. One that fails ends nothing but what
/// depends on it; when the fault is not the stage's own (disk, corpus, another trainer), nothing new is started.
///
/// # Errors
/// When data or store can't be used, a stage fails, or `interrupt` asks to stop: the first in the order of jobs and plans. The runs are then
/// marked so, and all that finished stays.
pub fn execute(
    jobs: &[Job<'_>],
    at_once: usize,
    interrupt: &Interrupt,
    observe: Observer<'_>,
) -> Result<Vec<Outcome>, ExecuteError> {
    let stages = jobs.iter().map(keyed).collect::<Result<Vec<_>, _>>()?;
    let mut checked: Vec<&CorpusFiles> = Vec::new();
    for job in jobs.iter().filter(|job| job.corpus.root.is_some()) {
        if !checked.iter().any(|corpus| std::ptr::eq(*corpus, job.corpus)) {
            let cache = job.machine.cache.clone();
            let mut progress = |hashing| observe(None, Happening::Comparing(hashing));
            job.corpus.check(&mut Hasher::new(cache, job.machine.verify_data, &mut progress))?;
            checked.push(job.corpus);
        }
    }
    schedule::run(jobs, stages, at_once, interrupt, observe)
}

/// A stage of a run: its node, what it is in the run, the node's index in the plan, and its key.
#[derive(Clone, Copy)]
struct Keyed<'a> {
    node: &'a Node,
    need: &'a Need,
    index: usize,
    key: StageKey,
}

/// The stages of a run in the order of its plan.
fn keyed<'a>(job: &'a Job<'_>) -> Result<Vec<Keyed<'a>>, ExecuteError> {
    let nodes = job.plan.run(job.run);
    match nodes.into_iter().map(|(index, node, need)| node.key.map(|key| Keyed { node, need, index, key })).collect() {
        Some(stages) => Ok(stages),
        // Only a corpus whose files are not known leaves keys open, and the files of one that is there are known.
        None => Err(job.corpus.complete().map(|_| ExecuteError::Unknown).unwrap_or_else(ExecuteError::from)),
    }
}

#[cfg(test)]
mod tests;
