//! `pretrain`: one iteration, or its beginning, to a model that predicts units at hidden frames (HuBERT) or tells their quantised targets
//! from others (wav2vec 2.0).
//!
//! The trajectory depends on the iteration alone and not on where the stage ends, so that a longer stage can go on from a shorter one's end.
//!
//! Source: HuBERT (arXiv:2106.07447) section 3; fairseq `HubertCriterion` and `Wav2vecCriterion` (loss) and `Trainer` (division by the sample size, clipping).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reprise_spec::contract::{Level, Score};
use reprise_spec::stage::{PretrainStage, PretrainTargets, Role};

use super::Work;
use crate::batch::{self, Steps};
use crate::checkpoint;
use crate::corpus::Corpora;
use crate::failure::StageError;
use crate::framing::Framing;
use crate::labels::Labels;
use crate::model_folder::{self, About, Family, Output};
use crate::report::STOP;
use crate::selection::Labelled;
use crate::shim;

mod model;
mod progress;
mod start;
mod step;
mod training;
mod validation;
mod waits;

pub use start::at_random;
use training::Training;
use validation::Validation;
use waits::Waits;

/// Executes the stage.
pub fn run(settings: &PretrainStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    shim::keep_memory();
    let seed = work.seed()?;
    let (train, validate) = data(settings, work)?;
    let steps_an_epoch = steps(settings, &train, seed, work)?;
    let mut training = Training::begin(settings, seed, steps_an_epoch, &train, &validate, work)?;
    if work.request.attempt > 1 {
        work.report.continues_after(training.progress.step);
    }
    let steps = u64::from(settings.steps.get());
    let mut loader = training.loader(work.request.loader_threads);
    let (mut saved, mut waits) = (Instant::now(), Waits::default());
    loop {
        if training.is_validation_due() {
            training.validate_and_judge(work)?;
        }
        let stop = STOP.load(Ordering::Relaxed);
        if stop || saved.elapsed() >= Duration::from_secs(u64::from(work.request.checkpoint_seconds)) {
            training.save(work)?;
            saved = Instant::now();
        }
        let step = training.progress.step;
        if step >= steps {
            break;
        }
        if stop {
            return Err(StageError::Interrupted { step: Some(step) });
        }
        let batches = waits.of(|| training.next_step(&mut loader))?;
        training.step_and_judge(batches, work)?;
    }
    waits.tell(work);
    finish(&training, work)
}

/// Validates where that wasn't due, and writes the outputs.
fn finish(training: &Training, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let Training { settings, model, adam, progress, .. } = training;
    let mut validations = progress.validations.clone();
    if validations.last().is_none_or(|last| last.step < progress.step) {
        validations.push(training.validate(work)?);
    }
    work.write("validation.tsv", Validation::table(&validations).as_bytes())?;
    let family = Family::of(&settings.targets);
    let about = About::trained(settings.network.clone(), Output::pretrained(settings), family);
    model_folder::save(&work.output(""), &model.store, &about)?;
    checkpoint::save_beside_model(&work.output(""), adam, progress)?;
    let scores = validations.last().map_or_else(Vec::new, Validation::scores);
    Ok(scores.into_iter().chain(progress.watch.scores()).collect())
}

/// What is trained on, and what is validated on.
fn data(settings: &PretrainStage, work: &Work) -> Result<(Labelled, Labelled), StageError> {
    let sets = sets(settings, work)?;
    let framing = Framing::new(&settings.network, &settings.pretraining.batching);
    let training = Labelled::new(Corpora::read(work, &settings.train_on)?, sets.clone(), framing)?;
    let validation = Labelled::new(Corpora::read(work, &settings.validate_on)?, sets, framing)?;
    Ok((training, validation))
}

/// The steps of every epoch; says what is left out.
fn steps(settings: &PretrainStage, training: &Labelled, seed: u64, work: &mut Work) -> Result<Steps, StageError> {
    let (batching, candidates) = (&settings.pretraining.batching, training.candidates());
    let per_epoch = batch::epoch(&candidates, batching, &training.framing, seed, 0).len() as u64;
    let shortest = batching.shortest;
    if per_epoch == 0 {
        let message = format!("no utterance to train on has {} s", shortest.get());
        return Err(StageError::refused(message, "lower `pretraining.batching.shortest`"));
    }
    let short = candidates.iter().filter(|candidate| candidate.samples < shortest.samples()).count();
    let (used, shortest) = (candidates.len() - short, shortest.get());
    let steps = Steps::new(per_epoch, batching);
    let batches = match steps.an_epoch() {
        count if count == per_epoch => format!("{per_epoch} batches"),
        count => format!("{per_epoch} batches, {count} steps"),
    };
    let message = format!("{used} utterances in {batches} an epoch; {short} shorter than {shortest} s left out");
    work.report.say(Level::Info, message);
    Ok(steps)
}

/// The labels of every set of units that is predicted.
fn sets(settings: &PretrainStage, work: &Work) -> Result<Vec<Arc<Labels>>, StageError> {
    let PretrainTargets::Units(sets) = &settings.targets else { return Ok(Vec::new()) };
    sets.iter()
        .enumerate()
        .map(|(set, asked)| {
            let labels = Labels::read(work.input(&Role::Targets(set as u32))?)?;
            if labels.clusters() != asked.get() {
                let (found, asked) = (labels.clusters(), asked.get());
                return Err(StageError::Failed(format!("the labels of set {set} are of {found} units, not {asked}")));
            }
            Ok(Arc::new(labels))
        })
        .collect()
}
