//! Which stage comes next: several workers take stages of several runs, each as soon as what it reads is there.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reprise_spec::contract::Failure;
use reprise_spec::identity::StageKey;

use super::chosen::{self, Inputs};
use super::run::ActiveRun;
use super::stage::{self, Made, Ready, Recovered, Unmade};
use super::{ExecuteError, Happening, Interrupt, Job, Keyed, Observer, Outcome, Place};
use crate::lease::{self, Claim};
use crate::store::{StageState, StoreError, StoredOutput};

mod run;

use run::{Run, Step, Task};

/// Between two looks at a stage that another process executes.
const WAIT: Duration = Duration::from_millis(200);

/// Executes the runs with `at_once` workers, of which this thread is one.
pub fn run<'a>(
    jobs: &'a [Job<'a>],
    stages: Vec<Vec<Keyed<'a>>>,
    at_once: usize,
    interrupt: &Interrupt,
    observe: Observer<'_>,
) -> Result<Vec<Outcome>, ExecuteError> {
    let runs = jobs.iter().zip(stages).map(|(job, stages)| Run::new(job, stages)).collect();
    let schedule = Schedule {
        interrupt,
        observe: Mutex::new(observe),
        state: Mutex::new(State { runs, stopping: false }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 1..at_once {
            scope.spawn(|| schedule.work());
        }
        schedule.work();
    });
    let state = schedule.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes(state.runs)
}

/// What all runs came to; where some ended otherwise, why the first of them failed, or else that it was interrupted.
fn outcomes(runs: Vec<Run<'_>>) -> Result<Vec<Outcome>, ExecuteError> {
    let mut ended = Vec::new();
    let mut errors = Vec::new();
    for run in runs {
        match run.outcome {
            Some(Ok(outcome)) => ended.push(outcome),
            Some(Err(error)) => errors.push(error),
            None => errors.push(ExecuteError::Interrupted {
                run: String::new(),
                stage: run.stages.first().map(|stage| stage.need.name.clone()).unwrap_or_default(),
            }),
        }
    }
    let failure = errors.iter().position(|error| !matches!(error, ExecuteError::Interrupted { .. }));
    match errors.is_empty() {
        true => Ok(ended),
        false => Err(errors.swap_remove(failure.unwrap_or(0))),
    }
}

/// A stage whose output was just stored, as it is found there.
fn executed(job: &Job<'_>, stage: &Keyed<'_>, inputs: &Inputs, made: Made) -> Result<Stepped, Unmade> {
    match chosen::stored(job.store, stage, inputs) {
        Some(output) => Ok(Stepped::Executed(Box::new(output), made)),
        None => {
            let path = job.store.stage_folder(&stage.key);
            let reason = "the output that was just stored is not there".into();
            Err(StoreError::Damaged { path, reason }.into())
        }
    }
}

struct Schedule<'a, 'o> {
    interrupt: &'o Interrupt,
    observe: Mutex<Observer<'o>>,
    state: Mutex<State<'a>>,
    /// Told whenever a stage ends.
    changed: Condvar,
}

struct State<'a> {
    runs: Vec<Run<'a>>,
    /// Whether nothing new is started: somebody asked to stop, or a fault would meet every stage.
    stopping: bool,
}

/// What a worker does next.
enum Next<'a> {
    Take(Box<Task<'a>>),
    Wait,
    Nothing,
}

/// What came of a task.
enum Stepped {
    Reused(Box<StoredOutput>),
    Executed(Box<StoredOutput>, Made),
    /// Another process has the stage.
    Held,
}

impl<'a> Schedule<'a, '_> {
    /// Takes stages until there are none left to take.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            match self.next(&mut state) {
                Next::Take(mut task) => {
                    drop(state);
                    let stepped = self.step(&mut task);
                    state = self.lock();
                    self.settle(&mut state, *task, stepped);
                    self.changed.notify_all();
                }
                Next::Wait => {
                    state = self.changed.wait_timeout(state, WAIT).unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Nothing => {
                    self.changed.notify_all();
                    return;
                }
            }
        }
    }

    /// The first stage that can be looked at, in the order of the runs and of their plans. Runs that are at their end are closed.
    fn next(&self, state: &mut State<'a>) -> Next<'a> {
        state.stopping |= self.interrupt.count() > 0;
        let mut busy: BTreeSet<StageKey> = state.runs.iter().flat_map(Run::at_work).collect();
        let mut waits = false;
        for index in 0..state.runs.len() {
            let (run, stopping) = (&mut state.runs[index], state.stopping);
            if run.outcome.is_some() || (stopping && run.active.is_none()) {
                continue;
            }
            if run.active.is_none() {
                self.begin(run, index);
                if matches!(run.outcome, Some(Err(_))) {
                    state.stopping = true;
                }
            }
            let run = &mut state.runs[index];
            if run.outcome.is_some() {
                continue;
            }
            let ready = if stopping { Vec::new() } else { run.ready() };
            let now = Instant::now();
            let free = |position: &usize| {
                let later = matches!(&run.steps[*position], Step::Open(look) if look.next > now);
                !later && !busy.contains(&run.stages[*position].key)
            };
            if let Some(position) = ready.iter().copied().find(free)
                && let Some(task) = run.take(index, position)
            {
                return Next::Take(Box::new(task));
            }
            if ready.is_empty() && run.at_work().next().is_none() {
                run.close();
                self.tell_ended(run);
            } else {
                waits = true;
                busy.extend(run.at_work());
            }
        }
        if waits { Next::Wait } else { Next::Nothing }
    }

    /// Opens a run, unless an earlier one says all that it would say.
    fn begin(&self, run: &mut Run<'a>, index: usize) {
        let opened =
            chosen::unchanged(run.job, &run.stages).map_err(ExecuteError::from).and_then(|record| match record {
                Some(record) if run.job.resume.is_none() => Ok(Err(record)),
                _ => run
                    .job
                    .store
                    .prepare()
                    .map_err(ExecuteError::from)
                    .and_then(|()| Ok(Ok(ActiveRun::open(run.job, &run.stages)?))),
            });
        match opened {
            Ok(Ok(active)) => run.active = Some(active),
            Ok(Err(record)) => {
                let total = record.stages.len();
                for (number, stage) in (1..).zip(&record.stages) {
                    if let Some(digest) = stage.state.digest() {
                        let place = Place { run: index, label: &run.job.label, number, total, name: &stage.name };
                        self.tell(Some(place), Happening::Reused { digest });
                    }
                }
                run.outcome = Some(Ok(Outcome::Unchanged(record)));
                self.tell_ended(run);
            }
            Err(error) => run.outcome = Some(Err(error)),
        }
    }

    /// Reuses or executes a stage, unless another process executes it.
    fn step(&self, task: &mut Task<'a>) -> Result<Stepped, Unmade> {
        let Task { job, stage, .. } = *task;
        // Asked for before the lease for speed, and under it because another process may have just stored it.
        if let Some(output) = chosen::stored(job.store, &stage, &task.inputs) {
            return Ok(Stepped::Reused(Box::new(output)));
        }
        let folder = job.store.stage_folder(&stage.key);
        let lease = match lease::claim(&folder, &mut task.look.watch)? {
            Claim::Taken(lease) => lease,
            Claim::Held(owner) => {
                if !task.look.told {
                    self.tell(Some(task.place()), Happening::Waiting { owner });
                    task.look.told = true;
                }
                task.look.next = Instant::now() + WAIT;
                return Ok(Stepped::Held);
            }
        };
        if let Some(output) = chosen::stored(job.store, &stage, &task.inputs) {
            return Ok(Stepped::Reused(Box::new(output)));
        }
        // A stage with a key has settings: `keyed` lets no other through.
        let settings = stage.node.stage.as_ref().ok_or(ExecuteError::Unknown)?;
        let ready = Ready { node: stage.node, stage: settings, key: stage.key, inputs: task.inputs.clone() };
        let lease = match stage::recover(job, &ready, lease)? {
            Recovered::Stored(made) => return executed(job, &stage, &task.inputs, made),
            Recovered::Nothing(lease) => lease,
        };
        let request = stage::prepare(job, &ready, &lease)?;
        self.set_stage(&mut self.lock(), task, StageState::Running)?;
        let stale = !job.store.outputs(&stage.key).is_empty();
        self.tell(Some(task.place()), Happening::Started { attempt: request.attempt, stale });
        let place = task.place();
        let mut observe = |happening: Happening<'_>| self.tell(Some(place), happening);
        let made = stage::execute(job, &ready, &request, lease, self.interrupt, &mut observe)?;
        executed(job, &stage, &task.inputs, made)
    }

    /// Writes down what came of a task.
    fn settle(&self, state: &mut State<'a>, task: Task<'a>, stepped: Result<Stepped, Unmade>) {
        let step = stepped.and_then(|stepped| match stepped {
            Stepped::Held => Ok(None),
            Stepped::Reused(output) => {
                let digest = output.manifest.digest;
                self.tell(Some(task.place()), Happening::Reused { digest });
                self.set_stage(state, &task, StageState::Reused { digest })?;
                Ok(Some(output))
            }
            Stepped::Executed(output, Made { digest, seconds, summary, environment }) => {
                if let Some(active) = &mut state.runs[task.run].active {
                    active.add_environment(task.position, environment);
                }
                self.set_stage(state, &task, StageState::Executed { digest, seconds })?;
                self.tell(Some(task.place()), Happening::Finished { seconds, digest, summary: &summary });
                Ok(Some(output))
            }
        });
        let (run, position) = (task.run, task.position);
        let step = match step {
            Ok(Some(output)) => {
                state.runs[run].chosen.add(task.stage.index, *output);
                Step::Done
            }
            Ok(None) => Step::Open(task.look),
            Err(unmade) => {
                // A stage that could not do its work says nothing of others; anything else would meet them too.
                state.stopping |= !matches!(unmade, Unmade::Failed { class: Failure::Stage, .. });
                if !matches!(unmade, Unmade::Interrupted) {
                    self.tell(Some(task.place()), Happening::Failed);
                }
                Step::Unmade(unmade)
            }
        };
        state.runs[run].steps[position] = step;
    }

    fn set_stage(&self, state: &mut State<'a>, task: &Task<'a>, stage: StageState) -> Result<(), StoreError> {
        match &mut state.runs[task.run].active {
            Some(active) => active.set_stage(task.position, stage),
            None => Ok(()),
        }
    }

    fn tell_ended(&self, run: &Run<'_>) {
        if let Some(Ok(outcome)) = &run.outcome {
            self.tell(None, Happening::Ended(outcome));
        }
    }

    /// Never called by the observer, so the two locks are always taken in the same order: state, then observer.
    fn tell(&self, place: Option<Place<'_>>, happening: Happening<'_>) {
        let mut observe = self.observe.lock().unwrap_or_else(PoisonError::into_inner);
        observe(place, happening);
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
