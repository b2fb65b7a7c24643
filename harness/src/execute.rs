//! Executes the run of one seed: stage by stage, reusing what the store has and asking the trainer for the rest.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use miette::Diagnostic;
use reprise_spec::contract::{Device, Failure, Level, Score};
use reprise_spec::identity::{OutputDigest, SpecHash, StageKey, VariantHash};
use thiserror::Error;

use crate::data::{CorpusFiles, DataError, Hasher, Hashing};
use crate::interrupt::Interrupt;
use crate::lease::{self, Claim, Owner, Watch};
use crate::plan::{Edge, Node, Plan};
use crate::provenance::Provenance;
use crate::store::{Manifest, ManifestInput, RunError, RunRecord, StageState, Status, Store, StoreError, StoredOutput};

mod run;
mod stage;
mod tool;
mod trainer;

pub use tool::run_tool;

use run::ActiveRun;
use stage::{Made, Ready, Unmade};

/// Between two looks at a stage that another process executes.
const WAIT: Duration = Duration::from_millis(200);

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
    /// Files of committed lists are compared with the corpus on disk.
    Comparing(Hashing),
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
    #[diagnostic(help("run again to continue"))]
    Interrupted { run: String, stage: String },
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

/// Executes the run of one seed and tells `observe` what happens.
///
/// # Errors
/// When data or store can't be used, a stage fails, or `interrupt` asks to stop. The run is then marked so, and all that finished stays.
pub fn execute(
    job: &Job<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Happening<'_>),
) -> Result<Outcome, ExecuteError> {
    let nodes: Vec<(usize, &Node)> = job.plan.run(job.seed).collect();
    let stages = keyed(job, &nodes)?;
    if job.corpus.root.is_some() {
        let cache = job.machine.cache.clone();
        let mut progress = |hashing| observe(Happening::Comparing(hashing));
        job.corpus.check(&mut Hasher::new(cache, job.machine.verify_data, &mut progress))?;
    }
    if let Some(record) = unchanged(job, &nodes)? {
        for (number, stage) in (1..).zip(&record.stages) {
            if let Some(digest) = stage.state.digest() {
                observe(Happening::Reused { number, total: nodes.len(), name: &stage.name, digest });
            }
        }
        return Ok(Outcome::Unchanged(record));
    }
    job.store.prepare()?;
    let mut run = ActiveRun::open(job, &stages)?;
    let mut chosen = Chosen::default();
    for (position, &(index, node)) in nodes.iter().enumerate() {
        let place = Place { number: position + 1, total: nodes.len(), name: &node.name };
        match one_stage(job, node, &chosen, place, &mut run, interrupt, observe) {
            Ok(output) => chosen.add(index, output),
            Err(unmade) => return Err(end(run, position, node, unmade)),
        }
    }
    run.end(Status::Finished, None)?;
    Ok(Outcome::Finished(run.record))
}

/// Which of the run's stages something is about.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// From 1.
    number: usize,
    total: usize,
    name: &'a str,
}

/// The outputs that the run goes on with, by node of the plan.
#[derive(Default)]
struct Chosen(BTreeMap<usize, StoredOutput>);

impl Chosen {
    fn add(&mut self, node: usize, output: StoredOutput) {
        self.0.insert(node, output);
    }

    /// What a stage reads with the folders it lies in, sorted by role; `None` while an input has no output.
    fn inputs(&self, node: &Node) -> Option<Vec<(ManifestInput, PathBuf)>> {
        let input = |edge: &Edge| {
            let output = self.0.get(&edge.node)?;
            let Manifest { key, digest, .. } = output.manifest;
            Some((ManifestInput { role: edge.role.clone(), key, digest }, output.out()))
        };
        let mut inputs = node.inputs.iter().map(input).collect::<Option<Vec<_>>>()?;
        inputs.sort();
        Some(inputs)
    }

    /// What the store has for a stage that reads the chosen outputs.
    fn stored(&self, store: &Store, node: &Node) -> Option<StoredOutput> {
        let inputs: Vec<ManifestInput> = self.inputs(node)?.into_iter().map(|(input, _)| input).collect();
        store.valid_output(&node.key?, &inputs)
    }
}

/// The keys of all stages.
fn keyed<'a>(job: &Job<'_>, nodes: &[(usize, &'a Node)]) -> Result<Vec<(&'a Node, StageKey)>, ExecuteError> {
    let keys = nodes.iter().map(|(_, node)| node.key.map(|key| (*node, key))).collect::<Option<Vec<_>>>();
    match keys {
        Some(keys) => Ok(keys),
        // Only a corpus whose files are not known leaves keys open, and the files of one that is there are known.
        None => Err(job.corpus.located().map(|_| ExecuteError::Unknown).unwrap_or_else(ExecuteError::from)),
    }
}

/// An earlier finished run of the same variant and seed with the outputs that this one would choose.
fn unchanged(job: &Job<'_>, nodes: &[(usize, &Node)]) -> Result<Option<RunRecord>, StoreError> {
    let mut chosen = Chosen::default();
    let mut outputs = Vec::new();
    for (index, node) in nodes {
        let Some(output) = chosen.stored(job.store, node) else { return Ok(None) };
        outputs.push((output.manifest.key, Some(output.manifest.digest)));
        chosen.add(*index, output);
    }
    let same = |record: &RunRecord| {
        record.status == Status::Finished
            && record.variant == job.identity.variant
            && record.seed == job.seed
            && record.stages.iter().map(|stage| (stage.key, stage.state.digest())).eq(outputs.iter().copied())
    };
    Ok(job.store.runs()?.into_iter().filter_map(|run| run.record.ok()).find(same))
}

/// Reuses or executes one stage, waiting for another process that executes it.
fn one_stage(
    job: &Job<'_>,
    node: &Node,
    chosen: &Chosen,
    place: Place<'_>,
    run: &mut ActiveRun<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Happening<'_>),
) -> Result<StoredOutput, Unmade> {
    let Place { number, total, name } = place;
    // Every node has settings and a key, which `keyed` made sure of, and its inputs come before it.
    let ready = chosen.inputs(node).zip(node.stage.as_ref()).zip(node.key);
    let ((inputs, stage), key) = ready.ok_or(ExecuteError::Unknown)?;
    let ready = Ready { node, stage, key, inputs };
    let folder = job.store.stage_folder(&key);
    let (mut watch, mut told) = (Watch::default(), false);
    let lease = loop {
        if interrupt.count() > 0 {
            return Err(Unmade::Interrupted);
        }
        // Asked for before the lease for speed, and under it because another process may have just stored it.
        let stored = |observe: &mut dyn FnMut(Happening<'_>)| {
            let output = chosen.stored(job.store, node)?;
            observe(Happening::Reused { number, total, name, digest: output.manifest.digest });
            Some(output)
        };
        if let Some(output) = stored(observe) {
            run.set_stage(number - 1, StageState::Reused { digest: output.manifest.digest })?;
            return Ok(output);
        }
        match lease::claim(&folder, &mut watch)? {
            Claim::Taken(lease) => match stored(observe) {
                Some(output) => {
                    run.set_stage(number - 1, StageState::Reused { digest: output.manifest.digest })?;
                    return Ok(output);
                }
                None => break lease,
            },
            Claim::Held(owner) => {
                if !told {
                    observe(Happening::Waiting { number, total, name, owner });
                    told = true;
                }
                std::thread::sleep(WAIT);
            }
        }
    };
    let request = stage::prepare(job, &ready, &lease)?;
    run.set_stage(number - 1, StageState::Running)?;
    observe(Happening::Started { number, total, name, attempt: request.attempt });
    let made = stage::execute(job, &ready, &request, lease, interrupt, observe)?;
    let Made { digest, seconds, summary, environment } = made;
    run.record.environment.extend(environment);
    run.set_stage(number - 1, StageState::Executed { digest, seconds })?;
    observe(Happening::Finished { number, total, name, seconds, digest, summary: &summary });
    chosen.stored(job.store, node).ok_or_else(|| {
        let reason = "the output that was just stored is not there".into();
        StoreError::Damaged { path: folder, reason }.into()
    })
}

/// Marks a run that ended without a result. An error in doing so doesn't hide why it ended.
fn end(mut run: ActiveRun<'_>, position: usize, node: &Node, unmade: Unmade) -> ExecuteError {
    let (id, stage) = (run.record.id.to_string(), node.name.clone());
    let (state, status, error) = match unmade {
        Unmade::Interrupted => {
            let error = ExecuteError::Interrupted { run: id, stage: stage.clone() };
            (StageState::Interrupted, Status::Interrupted, error)
        }
        Unmade::Failed { class, message, help, log } => {
            let error = ExecuteError::Stage { run: id, stage: stage.clone(), class, message, log, help };
            (StageState::Failed, Status::Failed, error)
        }
        Unmade::Error(error) => (StageState::Failed, Status::Failed, *error),
    };
    let note = (status == Status::Failed).then(|| RunError {
        stage: Some(stage),
        message: error.to_string(),
        help: error.help().map(|help| help.to_string()),
    });
    run.record.stages[position].state = state;
    let _ = run.end(status, note);
    error
}

#[cfg(test)]
mod tests;
