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
use crate::batch;
use crate::checkpoint::{self, Checkpoints};
use crate::corpus::Corpora;
use crate::failure::StageError;
use crate::framing::Framing;
use crate::labels::Labels;
use crate::loader::Loader;
use crate::model_folder::{self, About, Family, Output};
use crate::optimiser::Adam;
use crate::report::STOP;
use crate::schedule;
use crate::selection::Labelled;

mod model;
mod progress;
mod start;
mod step;
mod validation;

use model::{Model, normalises};
use step::Given;
use validation::Validation;

/// Executes the stage.
pub fn run(settings: &PretrainStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let seed = work.seed()?;
    let (training, validation) = data(settings, work)?;
    let per_epoch = batches_an_epoch(settings, &training, seed, work)?;
    let model = Model::new(settings, start::initial(settings, seed), work.device)?;
    let mut adam = Adam::new(&model.store, &settings.pretraining.optimiser);
    let checkpoints = Checkpoints::open(&work.request.work)?;
    let mut progress = start::restore(settings, &model, &mut adam, &checkpoints, work)?;
    if work.request.attempt > 1 {
        work.report.continues_after(progress.step);
    }

    let (steps, trained) = (u64::from(settings.steps.get()), start::trained(settings));
    let plan = {
        let (batching, framing) = (settings.pretraining.batching.clone(), training.framing);
        let (candidates, first) = (training.candidates(), trained + progress.step);
        (first / per_epoch..)
            .flat_map(move |epoch| batch::epoch(&candidates, &batching, &framing, seed, epoch))
            .skip((first % per_epoch) as usize)
            .take(steps.saturating_sub(progress.step) as usize)
    };
    let mut loader = Loader::start(training.corpora.clone(), normalises(&settings.network), plan);
    let given = Given { settings, seed, trained, per_epoch, training: &training, model: &model };
    let validate = |progress: &progress::Progress, work: &mut Work| -> Result<Validation, StageError> {
        let found = Validation::measure(settings, seed, &validation, &model, progress, work)?;
        found.log(work)?;
        Ok(found)
    };
    let due = |step: u64| step > 0 && step.is_multiple_of(u64::from(settings.pretraining.validate_every.get()));
    let mut saved = Instant::now();
    while progress.step < steps {
        let waves =
            loader.next().ok_or_else(|| StageError::Failed("the loader ended before the last step".into()))??;
        progress.step += 1;
        let rate = schedule::spanned(&settings.pretraining.schedule, &settings.span, progress.step, steps);
        given.step(rate, waves, &mut adam, &mut progress)?;
        progress.log(rate, given.epoch(progress.step), steps, work)?;
        if due(progress.step) {
            let found = validate(&progress, work)?;
            progress.validations.push(found);
        }
        let stop = STOP.load(Ordering::Relaxed);
        if stop || saved.elapsed() >= Duration::from_secs(u64::from(work.request.checkpoint_seconds)) {
            // The metric log first: what it lacks of the steps before a checkpoint is never written again.
            work.report.flush()?;
            checkpoints.save(progress.step, &model.store, &adam, &progress)?;
            work.report.checkpoint(progress.step);
            saved = Instant::now();
        }
        if stop && progress.step < steps {
            return Err(StageError::Interrupted { step: Some(progress.step) });
        }
    }
    let mut validations = progress.validations.clone();
    if !due(progress.step) {
        validations.push(validate(&progress, work)?);
    }
    work.write("validation.tsv", Validation::table(&validations).as_bytes())?;
    let family = Family::of(&settings.targets);
    let about = About::trained(settings.network.clone(), Output::pretrained(settings), family);
    model_folder::save(&work.output(""), &model.store, &about)?;
    checkpoint::save_beside_model(&work.output(""), &adam, &progress)?;
    Ok(validations.last().map_or_else(Vec::new, Validation::scores))
}

/// What is trained on, and what is validated on.
fn data(settings: &PretrainStage, work: &Work) -> Result<(Labelled, Labelled), StageError> {
    let sets = sets(settings, work)?;
    let framing = Framing::new(&settings.network, &settings.pretraining.batching);
    let training = Labelled::new(Corpora::read(work, &settings.train_on)?, sets.clone(), framing)?;
    let validation = Labelled::new(Corpora::read(work, &settings.validate_on)?, sets, framing)?;
    Ok((training, validation))
}

/// The number of batches in every epoch; says what is left out.
fn batches_an_epoch(
    settings: &PretrainStage,
    training: &Labelled,
    seed: u64,
    work: &mut Work,
) -> Result<u64, StageError> {
    let (batching, candidates) = (&settings.pretraining.batching, training.candidates());
    let per_epoch = batch::epoch(&candidates, batching, &training.framing, seed, 0).len() as u64;
    let shortest = batching.shortest;
    if per_epoch == 0 {
        let message = format!("no utterance to train on has {} s", shortest.get());
        return Err(StageError::refused(message, "lower `pretraining.batching.shortest`"));
    }
    let short = candidates.iter().filter(|candidate| candidate.samples < shortest.samples()).count();
    let (used, shortest) = (candidates.len() - short, shortest.get());
    let message =
        format!("{used} utterances in {per_epoch} batches an epoch; {short} shorter than {shortest} s left out");
    work.report.say(Level::Info, message);
    Ok(per_epoch)
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
