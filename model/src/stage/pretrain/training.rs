//! A training between two steps: what it knows, and what it leaves when it ends early.

use reprise_spec::stage::PretrainStage;

use super::Work;
use super::model::{Model, normalises};
use super::progress::Progress;
use super::start;
use super::validation::Validation;
use crate::batch::{self, Steps};
use crate::checkpoint::Checkpoints;
use crate::failure::StageError;
use crate::guards::{Finding, Verdict};
use crate::loader::{Loader, Waves};
use crate::optimiser::Adam;
use crate::schedule;
use crate::selection::Labelled;

/// A training between two steps.
pub struct Training<'a> {
    pub settings: &'a PretrainStage,
    pub seed: u64,
    /// Steps before this iteration's first since weights were drawn at random; what is drawn by step or epoch goes on from there.
    pub trained: u64,
    steps: Steps,
    pub train: &'a Labelled,
    validate: &'a Labelled,
    pub model: Model,
    pub adam: Adam,
    pub progress: Progress,
    checkpoints: Checkpoints,
    /// Whether the layers of the encoder are computed again in the backward pass.
    pub recompute: bool,
}

impl<'a> Training<'a> {
    /// Where training goes on: [`start::restore`].
    pub fn begin(
        settings: &'a PretrainStage,
        seed: u64,
        steps: Steps,
        train: &'a Labelled,
        validate: &'a Labelled,
        work: &mut Work,
    ) -> Result<Self, StageError> {
        let model = Model::new(settings, start::initial(settings, seed), work.device)?;
        let mut adam = Adam::new(&model.store, &settings.pretraining.optimiser);
        let checkpoints = Checkpoints::open(&work.request.work)?;
        let progress = start::restore(settings, &model, &mut adam, &checkpoints, work)?;
        let trained = start::trained(settings);
        let recompute = work.request.recompute;
        Ok(Self { settings, seed, trained, steps, train, validate, model, adam, progress, checkpoints, recompute })
    }

    /// The batches of all steps that are left, loaded by so many threads. Those of two steps wait ready.
    pub fn loader(&self, threads: u32) -> Loader {
        let (seed, framing) = (self.seed, self.train.framing);
        let (batching, candidates) = (self.settings.pretraining.batching.clone(), self.train.candidates());
        let first = self.trained + self.progress.step;
        let last = self.trained + u64::from(self.settings.steps.get());
        let batches: usize = (first..last).map(|before| self.steps.batches(before).count()).sum();
        let ahead = 2 * batching.accumulation.get() as usize;
        let plan = (self.steps.epoch(first)..)
            .flat_map(move |epoch| batch::epoch(&candidates, &batching, &framing, seed, epoch))
            .skip(self.steps.batches(first).start as usize)
            .take(batches);
        Loader::start(self.train.corpora.clone(), normalises(&self.settings.network), threads, ahead, plan)
    }

    /// The epoch of a step of this iteration, counted from 0 where weights were drawn at random.
    pub fn epoch(&self, step: u64) -> u64 {
        self.steps.epoch(self.trained + step - 1)
    }

    /// What the next step is taken on, from the loader of this training.
    pub fn next_step(&self, loader: &mut Loader) -> Result<Vec<Waves>, StageError> {
        let ended = || Err(StageError::Failed("the loader ended before the last step".into()));
        let batches = self.steps.batches(self.trained + self.progress.step);
        batches.map(|_| loader.next().unwrap_or_else(ended)).collect()
    }

    /// Takes the next step, on these batches.
    ///
    /// # Errors
    /// Fails with a diagnosis where guards stop it, and leaves a checkpoint of the state before the step.
    pub fn step_and_judge(&mut self, batches: Vec<Waves>, work: &mut Work) -> Result<(), StageError> {
        let step = self.progress.step + 1;
        let rate = self.rate(step);
        match self.step(rate, batches)? {
            Verdict::Good => {}
            Verdict::Answered(findings) => self.progress.watch.tell(&findings, step, &mut work.report)?,
            Verdict::Stop(finding) => return Err(self.halt(&finding, step, work)),
        }
        let (epoch, steps) = (self.epoch(step), self.settings.steps.get().into());
        self.progress.log(rate, epoch, steps, work)
    }

    /// Whether the iteration is validated after the steps so far and hasn't been yet.
    pub fn is_validation_due(&self) -> bool {
        let (step, every) = (self.progress.step, u64::from(self.settings.pretraining.validate_every.get()));
        let last = self.progress.validations.last();
        step > 0 && step.is_multiple_of(every) && last.is_none_or(|last| last.step < step)
    }

    /// Makes the validation that is due part of the progress.
    ///
    /// # Errors
    /// Fails with a diagnosis where guards stop it, and leaves a checkpoint of the state before the validation.
    pub fn validate_and_judge(&mut self, work: &mut Work) -> Result<(), StageError> {
        let found = self.validate(work)?;
        let PretrainStage { pretraining, span, .. } = self.settings;
        let step = self.progress.step;
        let warm = span.before + step > schedule::warm_up(&pretraining.schedule, span.total);
        match self.progress.watch.validation(&pretraining.guards, step, warm, found.health()) {
            Verdict::Good => {}
            Verdict::Answered(findings) => self.progress.watch.tell(&findings, step, &mut work.report)?,
            Verdict::Stop(finding) => return Err(self.halt(&finding, step, work)),
        }
        self.progress.validations.push(found);
        Ok(())
    }

    /// Validates and logs it.
    pub fn validate(&self, work: &mut Work) -> Result<Validation, StageError> {
        let found = Validation::measure(self.settings, self.seed, self.validate, &self.model, &self.progress, work)?;
        found.log(work)?;
        Ok(found)
    }

    /// Writes a checkpoint.
    pub fn save(&self, work: &mut Work) -> Result<(), StageError> {
        let Progress { step, watch, .. } = &self.progress;
        work.report.keep()?;
        self.checkpoints.save(*step, watch.good_until(), &self.model.store, &self.adam, &self.progress)?;
        work.report.checkpoint(*step);
        Ok(())
    }

    /// Leaves a checkpoint from which the same judgement follows, and says why training ends.
    fn halt(&self, finding: &Finding, step: u64, work: &mut Work) -> StageError {
        let Progress { step: done, watch, window, .. } = &self.progress;
        // A step is judged before it moves anything, a validation when what it shows has long begun.
        let good = if *done < step { *done } else { watch.good_until() };
        let left = self.save(work).and_then(|()| self.checkpoints.left(good));
        let left = left.unwrap_or_else(|error| format!("No checkpoint could be left: {error}"));
        let mut so_far = format!("at a learning rate of {:.3e}", self.rate(step));
        if window.steps > 0 {
            so_far.push_str(&format!(" after a loss of {:.4} nats a masked frame", window.mean_loss()));
        }
        StageError::Failed(finding.diagnosis("pretraining", step, &so_far, &left))
    }

    fn rate(&self, step: u64) -> f64 {
        let PretrainStage { pretraining, span, steps, .. } = self.settings;
        schedule::spanned(&pretraining.schedule, span, step, steps.get().into()) * self.progress.watch.rate()
    }
}
