//! One run on its way: which of its stages are open, taken, or done.

use std::time::Instant;

use reprise_spec::identity::StageKey;

use crate::execute::chosen::{Chosen, Inputs};
use crate::execute::run::ActiveRun;
use crate::execute::stage::Unmade;
use crate::execute::{ExecuteError, Job, Keyed, Outcome, Place};
use crate::lease::Watch;

/// One run on its way.
pub struct Run<'a> {
    pub job: &'a Job<'a>,
    pub stages: Vec<Keyed<'a>>,
    /// One a stage.
    pub steps: Vec<Step>,
    pub chosen: Chosen,
    /// Its record, once a stage of it was looked at.
    pub active: Option<ActiveRun<'a>>,
    pub outcome: Option<Result<Outcome, ExecuteError>>,
}

/// How far a stage is.
pub enum Step {
    Open(Look),
    AtWork,
    Done,
    Unmade(Unmade),
}

/// What is known of a stage that another process may be executing.
pub struct Look {
    pub watch: Watch,
    /// Whether the observer knows that it is waited for.
    pub told: bool,
    /// When to look again.
    pub next: Instant,
}

/// A stage that a worker has taken.
pub struct Task<'a> {
    pub job: &'a Job<'a>,
    pub stage: Keyed<'a>,
    pub inputs: Inputs,
    pub look: Look,
    pub run: usize,
    pub position: usize,
    pub total: usize,
}

impl Task<'_> {
    pub fn place(&self) -> Place<'_> {
        let (number, name) = (self.position + 1, self.stage.need.name.as_str());
        Place { run: self.run, label: &self.job.label, number, total: self.total, name }
    }
}

impl<'a> Run<'a> {
    pub fn new(job: &'a Job<'a>, stages: Vec<Keyed<'a>>) -> Self {
        let now = Instant::now();
        let look = || Step::Open(Look { watch: Watch::default(), told: false, next: now });
        let steps = stages.iter().map(|_| look()).collect();
        Self { job, stages, steps, chosen: Chosen::default(), active: None, outcome: None }
    }

    /// The keys of the stages that workers have taken.
    pub fn at_work(&self) -> impl Iterator<Item = StageKey> {
        let taken = |(stage, step): (&Keyed<'_>, &Step)| matches!(step, Step::AtWork).then_some(stage.key);
        self.stages.iter().zip(&self.steps).filter_map(taken)
    }

    /// The stages that nobody has taken and whose inputs are there.
    pub fn ready(&self) -> Vec<usize> {
        let open = |position: &usize| matches!(self.steps[*position], Step::Open(_));
        let inputs = |position: &usize| self.chosen.inputs(&self.stages[*position]).is_some();
        (0..self.stages.len()).filter(open).filter(inputs).collect()
    }

    pub fn take(&mut self, run: usize, position: usize) -> Option<Task<'a>> {
        let (job, stage, total) = (self.job, self.stages[position], self.stages.len());
        let inputs = self.chosen.inputs(&stage)?;
        match std::mem::replace(&mut self.steps[position], Step::AtWork) {
            Step::Open(look) => Some(Task { job, stage, inputs, look, run, position, total }),
            _ => None,
        }
    }

    /// Writes down how the run ended: well, or for the first reason in the order of its plan.
    pub fn close(&mut self) {
        let Some(active) = self.active.take() else { return };
        let open = self.steps.iter().position(|step| matches!(step, Step::Open(_)));
        let mut unmade: Vec<(usize, Unmade)> = Vec::new();
        for (position, step) in self.steps.drain(..).enumerate() {
            if let Step::Unmade(reason) = step {
                unmade.push((position, reason));
            }
        }
        if unmade.is_empty() {
            unmade.extend(open.map(|position| (position, Unmade::Interrupted)));
        }
        self.outcome = Some(active.end(unmade));
    }
}
