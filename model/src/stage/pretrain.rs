//! `pretrain`: one iteration, from random weights to a model that predicts units at hidden frames (HuBERT) or tells their quantised
//! targets from others (wav2vec 2.0).
//!
//! Source: HuBERT (arXiv:2106.07447) section 3; fairseq `HubertCriterion` and `Wav2vecCriterion` (loss) and `Trainer` (division by the sample size, clipping).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::contract::{Level, Score};
use reprise_spec::network::{FrontEnd, Hierarchy, Network};
use reprise_spec::stage::{PretrainStage, PretrainTargets, Role};
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;

use super::Work;
use crate::batch::{self, Crop};
use crate::checkpoint::Checkpoints;
use crate::corpus::Corpora;
use crate::encoder::{Mode, skipped_layers};
use crate::failure::StageError;
use crate::framing::Framing;
use crate::hubert::Hubert;
use crate::labels::Labels;
use crate::loader::{Loader, Waves};
use crate::mask;
use crate::model_folder::{self, About, Family, Output};
use crate::objective::{Objective, Sampling};
use crate::optimiser::Adam;
use crate::random::Draws;
use crate::report::STOP;
use crate::schedule;
use crate::selection::{Labelled, Selection};

mod validation;

use validation::Validation;

/// Steps that one point of the metric log averages over.
const LOG_EVERY: u64 = 10;

/// What a checkpoint knows beside parameters and moments.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    step: u64,
    samples: u64,
    window: Window,
    validations: Vec<Validation>,
}

/// Sums since the last point of the metric log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Window {
    steps: u64,
    loss: f64,
    correct: u64,
    masked: u64,
    frames: u64,
    penalty: f64,
    gradient_norm: f64,
    codebooks: Option<Codebooks>,
}

/// Sums since the last point of the metric log over the codebooks of a quantiser, and the last temperature.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Codebooks {
    perplexity: f64,
    code_perplexity: f64,
    temperature: f64,
}

/// The network and what is trained with it.
struct Model {
    store: VarStore,
    hubert: Hubert,
    objective: Objective,
}

/// What every step works with and none replaces.
struct Given<'a> {
    settings: &'a PretrainStage,
    seed: u64,
    training: &'a Labelled,
    model: &'a Model,
}

/// Executes the stage.
pub fn run(settings: &PretrainStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let seed = work.seed()?;
    let sets = sets(settings, work)?;
    let batching = &settings.pretraining.batching;
    let framing = Framing::new(&settings.network, batching);
    let training = Labelled::new(Corpora::read(work, &settings.train_on)?, sets.clone(), framing)?;
    let validation = Labelled::new(Corpora::read(work, &settings.validate_on)?, sets, framing)?;
    let candidates = training.candidates();
    let per_epoch = batch::epoch(&candidates, batching, &framing, seed, 0).len() as u64;
    if per_epoch == 0 {
        let message = format!("no utterance to train on has {} s", batching.shortest.get());
        return Err(StageError::refused(message, "lower `pretraining.batching.shortest`"));
    }
    let short = candidates.iter().filter(|candidate| candidate.samples < batching.shortest.samples()).count();
    let used = candidates.len() - short;
    work.report.say(
        Level::Info,
        format!(
            "{used} utterances in {per_epoch} batches an epoch; {short} shorter than {} s left out",
            batching.shortest.get()
        ),
    );

    let model = Model::new(settings, seed, work.device)?;
    work.adopt_input_units(&model.hubert)?;
    let mut adam = Adam::new(&model.store, &settings.pretraining.optimiser);
    let checkpoints = Checkpoints::open(&work.request.work)?;
    let mut progress: Progress = checkpoints.restore(&model.store, &mut adam)?.unwrap_or_default();
    if work.request.attempt > 1 {
        work.report.continues_after(progress.step);
    }

    let steps = u64::from(settings.steps.get());
    let plan = {
        let (batching, first) = (batching.clone(), progress.step);
        (first / per_epoch..)
            .flat_map(move |epoch| batch::epoch(&candidates, &batching, &framing, seed, epoch))
            .skip((first % per_epoch) as usize)
            .take((steps - first.min(steps)) as usize)
    };
    let mut loader =
        Loader::start(training.corpora.clone(), normalises(&settings.network), work.request.loader_threads, plan);
    let given = Given { settings, seed, training: &training, model: &model };
    let mut saved = Instant::now();
    while progress.step < steps {
        let waves =
            loader.next().ok_or_else(|| StageError::Failed("the loader ended before the last step".into()))??;
        let epoch = progress.step / per_epoch;
        progress.step += 1;
        let rate = schedule::linear(&settings.pretraining.schedule, progress.step, steps);
        progress.samples += waves.lengths.iter().sum::<u64>();
        step(&given, epoch, rate, waves, &mut adam, &mut progress)?;
        log(&mut progress, rate, epoch, steps, work)?;
        let due = progress.step.is_multiple_of(u64::from(settings.pretraining.validate_every.get()));
        if due || progress.step == steps {
            let found = Validation::measure(settings, seed, &validation, &model, &progress, work)?;
            found.log(work)?;
            progress.validations.push(found);
        }
        let stop = STOP.load(Ordering::Relaxed);
        if stop || saved.elapsed() >= Duration::from_secs(u64::from(work.request.checkpoint_seconds)) {
            work.report.keep()?;
            checkpoints.save(progress.step, &model.store, &adam, &progress)?;
            work.report.checkpoint(progress.step);
            saved = Instant::now();
        }
        if stop && progress.step < steps {
            return Err(StageError::Interrupted { step: Some(progress.step) });
        }
    }
    work.write("validation.tsv", Validation::table(&progress.validations).as_bytes())?;
    let family = Family::of(&settings.targets);
    let about = About::trained(settings.network.clone(), Output::pretrained(settings), family);
    model_folder::save(&work.output(""), &model.store, &about)?;
    Ok(progress.validations.last().map_or_else(Vec::new, Validation::scores))
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

impl Model {
    /// Initial weights depend on the seed and the network alone.
    fn new(settings: &PretrainStage, seed: u64, device: tch::Device) -> Result<Self, StageError> {
        tch::manual_seed(Draws::new(seed, "pretrain initial weights", &[], "").torch_seed());
        let store = VarStore::new(device);
        let hubert = Hubert::new(&store.root(), &settings.network);
        let objective = Objective::new(&store.root(), &settings.network, &settings.pretraining, &settings.targets)?;
        if gradient_scale(&settings.network) == 0.0 {
            hubert.freeze_front_end();
        }
        Ok(Self { store, hubert, objective })
    }

    /// Which frames of a batch are hidden and scored.
    fn select(&self, settings: &PretrainStage, data: &Labelled, crops: &[Crop], hidden: Vec<Vec<bool>>) -> Selection {
        let network = &settings.network;
        let lowest = network.hierarchy.as_ref().map_or(1, Hierarchy::lowest);
        let (taps, device) = (self.objective.views(), self.store.device());
        Selection::new(data, crops, hidden, &taps, lowest, device)
    }
}

/// One step of training on one batch.
fn step(
    given: &Given<'_>,
    epoch: u64,
    rate: f64,
    waves: Waves,
    adam: &mut Adam,
    progress: &mut Progress,
) -> Result<(), StageError> {
    let &Given { settings, seed, training, model } = given;
    let step = progress.step;
    let device = model.store.device();
    let draws =
        |purpose: &str, crop: &Crop| Draws::new(seed, purpose, &[epoch], &training.candidate(crop.utterance).id);
    let rows = training.rows(&waves.crops);
    let positions = rows.frames.iter().copied().zip(waves.crops.iter().map(|crop| draws("pretrain mask", crop)));
    let hidden = mask::rows(&settings.pretraining.masking, positions);
    let selection = model.select(settings, training, &waves.crops, hidden);
    let skipped = skipped_layers(&settings.network.encoder, &mut Draws::new(seed, "pretrain layer drop", &[step], ""));
    tch::manual_seed(Draws::new(seed, "pretrain dropout", &[step], "").torch_seed());
    let wave_bs = waves.wave_bs.f_to_device(device)?;
    let mode = Mode::Train { skipped: &skipped };
    let taps = model.objective.taps(&settings.pretraining);
    let pass = model.hubert.forward(&wave_bs, Some(&rows), &selection.masks, mode, taps);
    let distractors = |row: usize| draws("pretrain distractors", &waves.crops[row]);
    let sampling = Sampling { distractors: &distractors, step: Some(step) };
    let losses = model.objective.losses(&pass, &selection, &settings.pretraining.loss, &sampling);
    let sample_size = losses.sample_size;
    let mut loss = losses.total.shallow_clone();
    if penalty_weight(&settings.network) > 0.0 {
        loss += &pass.penalty * (penalty_weight(&settings.network) * sample_size);
    }
    (&loss / sample_size.max(1.0)).backward();
    model.hubert.scale_front_end_gradients(gradient_scale(&settings.network));
    let norm = adam.step_at(rate)?;
    let value = loss.double_value(&[]);
    if !value.is_finite() || !norm.is_finite() {
        let last = progress.window.loss / progress.window.masked.max(1) as f64;
        return Err(StageError::Failed(format!(
            "training diverged at step {step}: loss {value}, gradient norm {norm}, learning rate {rate:.3e}; the loss before was \
             {last:.4} nats a masked frame. Lower `pretraining.schedule.peak`, lengthen its warm-up, or clip gradients"
        )));
    }
    let window = &mut progress.window;
    window.steps += 1;
    window.loss += losses.masked_loss.double_value(&[]);
    window.correct += losses.correct.int64_value(&[]) as u64;
    window.masked += losses.masked as u64;
    window.frames += rows.frames.iter().sum::<u64>();
    window.penalty += pass.penalty.double_value(&[]);
    window.gradient_norm += norm;
    if let (Objective::Contrastive(objective), Some(targets)) = (&model.objective, &losses.targets) {
        let codebooks = window.codebooks.get_or_insert_default();
        codebooks.perplexity += targets.perplexity.double_value(&[]);
        codebooks.code_perplexity += objective.quantiser.usage(&targets.codes_ng).perplexity;
        codebooks.temperature = objective.gumbel_temperature(step);
    }
    Ok(())
}

/// Shows progress and, every few steps, writes a point of the metric log.
fn log(progress: &mut Progress, rate: f64, epoch: u64, steps: u64, work: &mut Work) -> Result<(), StageError> {
    let window = &progress.window;
    let (masked, count) = (window.masked.max(1) as f64, window.steps.max(1) as f64);
    let (loss, accuracy) = (window.loss / masked, window.correct as f64 / masked);
    let note = format!("loss {loss:.3}, masked accuracy {:.1} %", 100.0 * accuracy);
    work.report.progress(progress.step, steps, "steps", &note);
    if !progress.step.is_multiple_of(LOG_EVERY) && progress.step != steps {
        return Ok(());
    }
    let mut points = vec![
        ("loss", loss),
        ("masked-accuracy", accuracy),
        ("mask-fraction", window.masked as f64 / window.frames.max(1) as f64),
        ("penalty", window.penalty / count),
        ("gradient-norm", window.gradient_norm / count),
        ("learning-rate", rate),
        ("epoch", epoch as f64),
        ("audio-seconds", progress.samples as f64 / f64::from(SAMPLE_RATE)),
    ];
    if let Some(codebooks) = &window.codebooks {
        points.push(("probability-perplexity", codebooks.perplexity / count));
        points.push(("code-perplexity", codebooks.code_perplexity / count));
        points.push(("temperature", codebooks.temperature));
    }
    for (name, value) in points {
        work.report.metric(name, progress.step, value)?;
    }
    progress.window = Window::default();
    Ok(())
}

fn gradient_scale(network: &Network) -> f64 {
    match &network.front_end {
        FrontEnd::Wave(wave) => wave.gradient_scale.get(),
        FrontEnd::LogMel(_) | FrontEnd::Units(_) => 1.0,
    }
}

fn penalty_weight(network: &Network) -> f64 {
    match &network.front_end {
        FrontEnd::Wave(wave) => wave.penalty.get(),
        FrontEnd::LogMel(_) | FrontEnd::Units(_) => 0.0,
    }
}

/// Whether utterances are standardised before they are cropped.
pub fn normalises(network: &Network) -> bool {
    matches!(&network.front_end, FrontEnd::Wave(wave) if wave.normalise_waveform)
}
