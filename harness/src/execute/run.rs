//! One run on disk: made or continued, and written down after every change.

use std::collections::BTreeMap;
use std::fs::File;

use jiff::Timestamp;
use reprise_spec::identity::StageKey;

use super::{ExecuteError, Job};
use crate::lease::Owner;
use crate::plan::Node;
use crate::store::{Attempt, RunError, RunRecord, Seen, StageRecord, StageState, Status, Store, StoreError, run};

/// A run that this process executes. Its lock ends with the process, however that ends.
pub struct ActiveRun<'a> {
    store: &'a Store,
    pub record: RunRecord,
    _lock: File,
}

impl<'a> ActiveRun<'a> {
    /// Continues the newest run of the same experiment, seed and stages that ended without a result, or else makes one.
    pub fn open(job: &Job<'a>, stages: &[(&Node, StageKey)]) -> Result<Self, ExecuteError> {
        let stages: Vec<StageRecord> = stages.iter().map(|(node, key)| pending(node, *key)).collect();
        let same = |record: &RunRecord| {
            let keys = |stages: &[StageRecord]| stages.iter().map(|stage| stage.key).collect::<Vec<_>>();
            record.spec == job.identity.spec && record.seed == job.seed && keys(&record.stages) == keys(&stages)
        };
        let ended = |seen| matches!(seen, Seen::Failed | Seen::Interrupted | Seen::Lost);
        let runs = job.store.runs()?;
        for record in runs.iter().filter(|run| ended(run.seen())).filter_map(|run| run.record.as_ref().ok()) {
            if same(record)
                && let Some(run) = Self::resume(job, &record.id, &stages)?
            {
                return Ok(run);
            }
        }
        let id = job.store.create_run(job.text, &job.identity.canonical)?;
        let lock = lock(job.store, &id)?.ok_or_else(|| StoreError::Lost { path: job.store.run_folder(&id) })?;
        let record = RunRecord {
            format: run::FORMAT,
            id,
            experiment: job.experiment.into(),
            spec: job.identity.spec,
            variant: job.identity.variant,
            seed: job.seed,
            status: Status::Running,
            stages,
            attempts: vec![attempt()],
            environment: BTreeMap::new(),
            provenance: job.provenance.clone(),
            error: None,
        };
        let run = Self { store: job.store, record, _lock: lock };
        if let Err(error) = run.write() {
            job.store.discard_run(&run.record.id);
            return Err(error.into());
        }
        Ok(run)
    }

    /// The run with one more attempt; `None` when somebody else was faster.
    fn resume(job: &Job<'a>, id: &run::RunId, stages: &[StageRecord]) -> Result<Option<Self>, ExecuteError> {
        let Some(lock) = lock(job.store, id)? else { return Ok(None) };
        let mut record = RunRecord::read(&job.store.run_folder(id).join(run::FILE))?;
        if record.status == Status::Finished {
            return Ok(None);
        }
        record.status = Status::Running;
        record.stages = stages.to_vec();
        record.attempts.push(attempt());
        record.provenance = job.provenance.clone();
        record.error = None;
        let run = Self { store: job.store, record, _lock: lock };
        run.write()?;
        Ok(Some(run))
    }

    /// Writes down how far a stage is.
    pub fn set_stage(&mut self, index: usize, state: StageState) -> Result<(), StoreError> {
        self.record.stages[index].state = state;
        self.write()
    }

    /// Writes down how the run ended.
    pub fn end(&mut self, status: Status, error: Option<RunError>) -> Result<(), StoreError> {
        self.record.status = status;
        self.record.error = error;
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.ended = Some(Timestamp::now());
        }
        self.write()
    }

    fn write(&self) -> Result<(), StoreError> {
        self.store.write_run(&self.record)
    }
}

fn pending(node: &Node, key: StageKey) -> StageRecord {
    StageRecord { name: node.name.clone(), kind: node.kind.into(), key, state: StageState::Pending }
}

fn attempt() -> Attempt {
    Attempt { owner: Owner::current(), started: Timestamp::now(), ended: None }
}

/// The lock of a run's folder; `None` when another process has it.
fn lock(store: &Store, id: &run::RunId) -> Result<Option<File>, StoreError> {
    let path = store.run_folder(id).join("lock");
    let fail = |error| StoreError::io("lock", &path, error);
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(fail(error)),
    }
}
