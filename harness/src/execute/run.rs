//! One run on disk: made or continued, and written down after every change.

use std::collections::BTreeMap;
use std::fs::File;

use jiff::Timestamp;
use miette::Diagnostic;

use super::stage::Unmade;
use super::{ExecuteError, Job, Keyed, Outcome};
use crate::lease::Owner;
use crate::store::{
    Attempt, Means, RunError, RunId, RunRecord, Seen, StageRecord, StageState, Status, Store, StoreError, Summary, run,
};

/// A run that this process executes. Its lock ends with the process, however that ends.
pub struct ActiveRun<'a> {
    store: &'a Store,
    record: RunRecord,
    /// What the stages that this attempt executed were made with, by position in the plan.
    environments: BTreeMap<usize, BTreeMap<String, String>>,
    _lock: File,
}

impl<'a> ActiveRun<'a> {
    /// Continues the run that the job names, or else the newest of the same experiment, seed and stages that ended without a result, or
    /// else makes one.
    pub fn open(job: &Job<'a>, stages: &[Keyed<'_>]) -> Result<Self, ExecuteError> {
        let stages: Vec<StageRecord> = stages.iter().map(pending).collect();
        if let Some(id) = &job.resume {
            let busy = || ExecuteError::Busy { run: id.to_string() };
            return Self::resume(job, id, &stages)?.ok_or_else(busy);
        }
        let same = |record: &RunRecord| {
            let keys = |stages: &[StageRecord]| stages.iter().map(|stage| stage.key).collect::<Vec<_>>();
            record.spec == job.identity.spec
                && record.variant == job.identity.variant
                && record.seed == job.run.seed
                && keys(&record.stages) == keys(&stages)
        };
        let like = |summary: &Summary| {
            matches!(summary.seen, Seen::Failed | Seen::Interrupted | Seen::Lost)
                && summary.variant == job.identity.variant
                && summary.seed == job.run.seed
        };
        for record in job.store.records(like)? {
            if same(&record)
                && let Some(run) = Self::resume(job, &record.id, &stages)?
            {
                return Ok(run);
            }
        }
        let record = |id| RunRecord {
            format: run::FORMAT,
            id,
            experiment: job.recipe.experiment.name.to_string(),
            spec: job.identity.spec,
            variant: job.identity.variant,
            variant_name: job.identity.name.clone(),
            seed: job.run.seed,
            status: Status::Running,
            stages: stages.clone(),
            attempts: vec![attempt(job.machine.means)],
            environment: BTreeMap::new(),
            provenance: job.provenance.clone(),
            error: None,
        };
        let (record, lock) = job.store.create_run(job.text, &job.identity.canonical, job.recipe, record)?;
        Ok(Self { store: job.store, record, environments: BTreeMap::new(), _lock: lock })
    }

    /// The run with one more attempt; `None` when somebody else is at it, or has finished it.
    fn resume(job: &Job<'a>, id: &RunId, stages: &[StageRecord]) -> Result<Option<Self>, ExecuteError> {
        let Some(lock) = job.store.lock_run(id)? else { return Ok(None) };
        let mut record = RunRecord::read(&job.store.run_folder(id).join(run::FILE))?;
        if record.status == Status::Finished {
            return Ok(None);
        }
        record.status = Status::Running;
        record.stages = stages.to_vec();
        record.attempts.push(attempt(job.machine.means));
        record.provenance = job.provenance.clone();
        record.error = None;
        job.store.write_changes(&record)?;
        let run = Self { store: job.store, record, environments: BTreeMap::new(), _lock: lock };
        run.write()?;
        Ok(Some(run))
    }

    /// Writes down how far a stage is.
    pub fn set_stage(&mut self, position: usize, state: StageState) -> Result<(), StoreError> {
        self.record.stages[position].state = state;
        self.write()
    }

    /// Adds what a stage was made with. What the record says doesn't depend on which stage ended first.
    pub fn add_environment(&mut self, position: usize, environment: BTreeMap<String, String>) {
        self.environments.insert(position, environment);
        self.record.environment.extend(self.environments.values().flatten().map(|(k, v)| (k.clone(), v.clone())));
    }

    /// Writes down how the run ended: well if every stage has an output, else without these. The error is of the first stage that failed, or
    /// else was interrupted; one in writing it down doesn't hide it.
    pub fn end(mut self, unmade: Vec<(usize, Unmade)>) -> Result<Outcome, ExecuteError> {
        let mut failed: Option<(String, ExecuteError)> = None;
        let mut interrupted = None;
        for (position, reason) in unmade {
            let stage = &mut self.record.stages[position];
            let (run, name) = (self.record.id.to_string(), stage.name.clone());
            stage.state = match reason {
                Unmade::Interrupted => StageState::Interrupted,
                Unmade::Failed { .. } | Unmade::Error(_) => StageState::Failed,
            };
            let error = match reason {
                Unmade::Interrupted => {
                    interrupted.get_or_insert(ExecuteError::Interrupted { run, stage: name });
                    continue;
                }
                Unmade::Failed { class, message, help, log } => {
                    ExecuteError::Stage { run, stage: name.clone(), class, message, log, help }
                }
                Unmade::Error(error) => *error,
            };
            failed.get_or_insert((name, error));
        }
        let note = failed.as_ref().map(|(stage, error)| RunError {
            stage: Some(stage.clone()),
            message: error.to_string(),
            help: error.help().map(|help| help.to_string()),
        });
        let error = failed.map(|(_, error)| error).or(interrupted);
        let status = match &error {
            None => Status::Finished,
            Some(ExecuteError::Interrupted { .. }) => Status::Interrupted,
            Some(_) => Status::Failed,
        };
        self.record.status = status;
        self.record.error = note;
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.ended = Some(Timestamp::now());
        }
        let written = self.write();
        match error {
            Some(error) => Err(error),
            None => written.map(|()| Outcome::Finished(self.record)).map_err(ExecuteError::from),
        }
    }

    fn write(&self) -> Result<(), StoreError> {
        self.store.write_run(&self.record)
    }
}

fn pending(stage: &Keyed<'_>) -> StageRecord {
    let (name, kind) = (stage.need.name.clone(), stage.node.kind.into());
    StageRecord { name, kind, point: stage.need.point, key: stage.key, state: StageState::Pending }
}

fn attempt(means: Means) -> Attempt {
    Attempt { owner: Owner::current(), means: Some(means), started: Timestamp::now(), ended: None }
}
