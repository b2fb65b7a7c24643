//! `finetune`: a CTC model, from a pretrained network or from random weights.
//!
//! The model of the last step is the result. Validation is watched and never chooses a checkpoint, so that claims may rest on it; the
//! references keep the checkpoint with the best validation WER instead.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::contract::{Level, Score};
use reprise_spec::finetuning::Symbols;
use reprise_spec::stage::{FinetuneStage, Role};
use serde::{Deserialize, Serialize};

use super::Work;
use crate::checkpoint::Checkpoints;
use crate::corpus::Corpora;
use crate::failure::StageError;
use crate::finetune::{Examples, Finetuner, Learned};
use crate::guards::{Finding, Verdict, Watch};
use crate::recogniser;
use crate::report::STOP;
use crate::shim;
use crate::vocabulary::Vocabulary;

/// What a checkpoint knows beside parameters and moments.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    step: u64,
    /// Audio learnt from so far, repetitions counted.
    samples: u64,
    validations: Vec<Validation>,
    watch: Watch,
}

/// One row of `validation.tsv`: all validation splits together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Validation {
    step: u64,
    /// CTC loss in nats an utterance.
    loss: Option<f64>,
    wer: f64,
    cer: f64,
}

/// Writes `model.safetensors`, `model.json`, `vocabulary.txt` and `validation.tsv`.
pub fn run(settings: &FinetuneStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    shim::keep_memory();
    let finetuning = &settings.finetuning;
    let train = Corpora::read(work, &settings.train_on)?;
    let watched = Corpora::read(work, &settings.validate_on)?;
    let transcripts: Vec<&str> =
        train.iter().map(|(split, _, utterance)| recogniser::transcript(split, utterance)).collect::<Result<_, _>>()?;
    let vocabulary = match finetuning.symbols {
        Symbols::Characters => Vocabulary::of(transcripts),
        Symbols::WordPieces(pieces) => Vocabulary::of_pieces(transcripts, pieces.count.get() as usize),
    }?;
    let examples = Examples::of(&train, &vocabulary, &settings.network, finetuning.batch_seconds)?;
    announce(&examples, &vocabulary, work);
    let mut finetuner = Finetuner::new(settings, examples, vocabulary, work.seed()?, work.device);
    finetuner.recompute = work.request.recompute;
    match work.find(&Role::Pretrained) {
        Some(pretrained) => finetuner.start_from(&pretrained.path)?,
        None => work.adopt_input_units(&finetuner.recogniser.model.hubert)?,
    }
    let checkpoints = Checkpoints::open(&work.request.work)?;
    let mut progress: Progress = finetuner.restore(&checkpoints)?.unwrap_or_default();
    if work.request.attempt > 1 {
        work.report.continues_after(progress.step);
    }

    let steps = u64::from(finetuning.steps.get());
    let mut saved = Instant::now();
    loop {
        let due = progress.step == steps || progress.step.is_multiple_of(u64::from(finetuning.validate_every.get()));
        if due && progress.step > 0 && progress.validations.last().is_none_or(|last| last.step < progress.step) {
            validate(&finetuner, &watched, &mut progress, work)?;
        }
        let stop = STOP.load(Ordering::Relaxed);
        if stop || saved.elapsed() >= Duration::from_secs(u64::from(work.request.checkpoint_seconds)) {
            work.report.keep()?;
            finetuner.save(&checkpoints, progress.step, &progress)?;
            work.report.checkpoint(progress.step);
            saved = Instant::now();
        }
        if stop {
            return Err(StageError::Interrupted { step: Some(progress.step) });
        }
        if progress.step >= steps {
            break;
        }
        let step = progress.step + 1;
        let (learned, verdict) = finetuner.step(step, &mut progress.watch)?;
        match verdict {
            Verdict::Good => {}
            Verdict::Answered(findings) => progress.watch.tell(&findings, step, &mut work.report)?,
            Verdict::Stop(finding) => return Err(halt(&finding, &learned, &finetuner, &checkpoints, &progress, work)),
        }
        progress.step = step;
        progress.samples += learned.samples;
        log(&learned, &progress, steps, work)?;
    }
    finetuner.save_model(&work.output(""))?;
    work.write("validation.tsv", table(&progress.validations).as_bytes())?;
    let scores = progress.validations.last().map_or_else(Vec::new, Validation::scores);
    Ok(scores.into_iter().chain(progress.watch.scores()).collect())
}

/// Leaves a checkpoint of the state before the step that guards stop at, and says why training ends.
fn halt(
    finding: &Finding,
    learned: &Learned,
    finetuner: &Finetuner,
    checkpoints: &Checkpoints,
    progress: &Progress,
    work: &mut Work,
) -> StageError {
    let step = progress.step;
    let left = work.report.flush().and_then(|()| finetuner.save(checkpoints, step, progress));
    let left = left.and_then(|()| checkpoints.left(step));
    let left = left.unwrap_or_else(|error| format!("No checkpoint could be left: {error}"));
    let utterances = finetuner.utterances(step + 1).join(", ");
    let so_far = format!("at a learning rate of {:.3e}, on the utterances {utterances}", learned.learning_rate);
    StageError::Failed(finding.diagnosis("finetuning", step + 1, &so_far, &left))
}

fn announce(examples: &Examples, vocabulary: &Vocabulary, work: &mut Work) {
    let (seconds, symbols) = (examples.seconds(), vocabulary.size());
    work.report.say(Level::Info, format!("{} utterances, {seconds:.0} s, {symbols} symbols", examples.len()));
    let left_out = &examples.left_out;
    if !left_out.is_empty() {
        let message = format!(
            "{} utterances are left out, because CTC cannot fit their symbols into their frames: {}",
            left_out.len(),
            left_out.join(", ")
        );
        work.report.say(Level::Warning, message);
    }
}

/// Adds a row to `progress`; adds none without utterances to validate on, or when the stage was asked to stop meanwhile.
fn validate(
    finetuner: &Finetuner,
    watched: &Corpora,
    progress: &mut Progress,
    work: &mut Work,
) -> Result<(), StageError> {
    if watched.iter().next().is_none() {
        return Ok(());
    }
    let found = match finetuner.recogniser.validate(watched, || work.report.check_stop()) {
        Ok(found) => found,
        Err(StageError::Interrupted { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let (wer, cer) = (found.words.rate(), found.characters.rate());
    let validation = Validation { step: progress.step, loss: found.loss, wer, cer };
    for Score { name, value, .. } in validation.scores() {
        work.report.metric(&name, progress.step, value)?;
    }
    progress.validations.push(validation);
    Ok(())
}

fn log(learned: &Learned, progress: &Progress, steps: u64, work: &mut Work) -> Result<(), StageError> {
    let mut note = format!("loss {:.2}", learned.loss);
    if let Some(Validation { wer, .. }) = progress.validations.last() {
        note.push_str(&format!(", validation WER {:.1} %", 100.0 * wer));
    }
    work.report.progress(progress.step, steps, "steps", &note);
    for (name, value) in [
        ("loss", learned.loss),
        ("learning-rate", learned.learning_rate),
        ("gradient-norm", learned.gradient_norm),
        ("epoch", learned.epoch as f64),
        ("audio-seconds", progress.samples as f64 / f64::from(SAMPLE_RATE)),
    ] {
        if value.is_finite() {
            work.report.metric(name, progress.step, value)?;
        }
    }
    Ok(())
}

impl Validation {
    fn scores(&self) -> Vec<Score> {
        let score = |name: &str, value| Score { name: name.into(), value, interval: None };
        let mut scores = vec![score("validation-wer", self.wer), score("validation-cer", self.cer)];
        scores.extend(self.loss.map(|loss| score("validation-loss", loss)));
        scores
    }
}

fn table(validations: &[Validation]) -> String {
    let mut text = String::from("step\tloss\twer\tcer\n");
    for Validation { step, loss, wer, cer } in validations {
        let loss = loss.map_or(String::new(), |loss| loss.to_string());
        text.push_str(&format!("{step}\t{loss}\t{wer}\t{cer}\n"));
    }
    text
}
