//! Fine-tuning in memory: what a step learns from, and one step.
//!
//! Everything drawn is keyed by (seed, purpose, epoch or step, utterance), so a step depends on nothing but its number and the state
//! before it. Source: wav2vec 2.0 (arXiv:2006.11477) section 4.3; fairseq `hubert/config/finetune/base_10h.yaml`.

use std::collections::HashMap;
use std::path::Path;

use reprise_spec::arithmetic::{SAMPLE_RATE, frames_at};
use reprise_spec::finetuning::Top;
use reprise_spec::network::Network;
use reprise_spec::stage::FinetuneStage;
use reprise_spec::training::{Batching, Lengths, SpanMasking};
use reprise_spec::values::Seconds;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::batch::{self, Candidate, Crop};
use crate::checkpoint::Checkpoints;
use crate::corpus::{Corpora, Corpus, Utterance};
use crate::ctc::{self, CtcModel, Frames};
use crate::encoder::{self, Keep, Mode};
use crate::failure::StageError;
use crate::framing::Framing;
use crate::guards::{Verdict, Watch};
use crate::hubert::Masks;
use crate::mask;
use crate::model_folder::{self, About, Family, Output};
use crate::optimiser::Adam;
use crate::random::Draws;
use crate::recogniser::{self, Recogniser, VOCABULARY};
use crate::schedule;
use crate::vocabulary::{Vocabulary, frames_needed};

/// Bytes of front-end frames that are kept where nothing in the front-end learns.
const KEPT_BYTES: usize = 2 << 30;

/// Utterances to learn from, with their labels.
#[derive(Debug)]
pub struct Examples<'a> {
    utterances: Vec<(&'a Corpus, &'a Utterance, Vec<i64>)>,
    candidates: Vec<Candidate>,
    batching: Batching,
    framing: Framing,
    /// Utterances whose transcript has more symbols than the audio has frames: CTC cannot align them.
    pub left_out: Vec<String>,
}

impl<'a> Examples<'a> {
    /// The utterances of `corpora`, which gave `vocabulary`, as `network` sees them; none is cropped.
    ///
    /// # Errors
    /// Refuses an utterance longer than a batch may be, and corpora with nothing to learn from.
    pub fn of(
        corpora: &'a Corpora,
        vocabulary: &Vocabulary,
        network: &Network,
        batch: Seconds,
    ) -> Result<Self, StageError> {
        let batching = Batching {
            seconds: batch,
            longest: batch,
            shortest: Seconds::try_from(1.0 / f64::from(SAMPLE_RATE)).map_err(StageError::Failed)?,
            lengths: Lengths::Pad,
            ..Batching::default()
        };
        let framing = Framing::new(network, &batching);
        let (utterances, candidates, left_out) = (Vec::new(), Vec::new(), Vec::new());
        let mut examples = Self { utterances, candidates, batching, framing, left_out };
        for (split, corpus, utterance) in corpora.iter() {
            let label = vocabulary
                .encode(recogniser::transcript(split, utterance)?)
                .map_err(|unseen| StageError::Failed(format!("{}: {unseen}", utterance.id)))?;
            let id = format!("{split}/{}", utterance.id);
            let frames = frames_at(utterance.samples, framing.stride);
            if frames == 0 || frames_needed(&label) > frames {
                examples.left_out.push(id);
                continue;
            }
            if utterance.samples > batch.samples() {
                let seconds = utterance.samples as f64 / f64::from(SAMPLE_RATE);
                return Err(StageError::refused(
                    format!(
                        "{id} lasts {seconds:.2} s, but a batch holds at most {} s and nothing is cropped",
                        batch.get()
                    ),
                    "raise `finetuning.batch-seconds`",
                ));
            }
            examples.candidates.push(Candidate { id, samples: utterance.samples });
            examples.utterances.push((corpus, utterance, label));
        }
        if examples.utterances.is_empty() {
            return Err(StageError::refused(
                "there is no utterance to fine-tune on",
                "name splits with transcribed audio in `corpus.finetune`",
            ));
        }
        Ok(examples)
    }

    /// Number of utterances.
    pub fn len(&self) -> usize {
        self.utterances.len()
    }

    /// Whether there is none; [`Examples::of`] never gives that.
    pub fn is_empty(&self) -> bool {
        self.utterances.is_empty()
    }

    /// Seconds of audio that one epoch sees.
    pub fn seconds(&self) -> f64 {
        let samples: u64 = self.candidates.iter().map(|candidate| candidate.samples).sum();
        samples as f64 / f64::from(SAMPLE_RATE)
    }

    fn epoch(&self, seed: u64, epoch: u64) -> Vec<Vec<Crop>> {
        batch::epoch(&self.candidates, &self.batching, &self.framing, seed, epoch)
    }
}

/// A model that learns, and what the next step needs.
pub struct Finetuner<'a> {
    pub recogniser: Recogniser,
    store: VarStore,
    adam: Adam,
    examples: Examples<'a>,
    stage: FinetuneStage,
    /// The network that learns: [`FinetuneStage::tuned`], as it is while fine-tuning.
    network: Network,
    family: Family,
    seed: u64,
    /// Whether any parameter of the front-end does, sooner or later.
    front_end_learns: bool,
    /// What learns only after the first `freeze-steps`.
    frozen_at_first: Vec<Tensor>,
    /// Front-end frames by example, where nothing in the front-end learns.
    kept: HashMap<usize, Tensor>,
    kept_bytes: usize,
    epoch: Epoch,
    /// Whether the layers of the encoder are computed again in the backward pass ([`crate::kernels::recomputed`]).
    pub recompute: bool,
}

/// The batches of one epoch.
struct Epoch {
    number: u64,
    batches: Vec<Vec<Crop>>,
}

/// What a step learnt from, and how it went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Nats for each utterance.
    pub loss: f64,
    pub learning_rate: f64,
    /// Before clipping.
    pub gradient_norm: f64,
    /// Counted from 0.
    pub epoch: u64,
    /// Audio of the batch, without padding.
    pub samples: u64,
}

impl<'a> Finetuner<'a> {
    /// A model with random weights drawn from `seed`, ready for step 1.
    pub fn new(
        stage: &FinetuneStage,
        examples: Examples<'a>,
        vocabulary: Vocabulary,
        seed: u64,
        device: Device,
    ) -> Self {
        let settings = &stage.finetuning;
        let network = ctc::regularised(&stage.tuned(), settings);
        let store = VarStore::new(device);
        tch::manual_seed(Draws::new(seed, "finetune weights", &[], "").torch_seed());
        let dropout = settings.dropout.r#final.get();
        let model = CtcModel::new(&store.root(), &network, vocabulary.size(), dropout);
        if settings.freeze_front_end {
            model.hubert.freeze_front_end();
        }
        let front_end_learns = model.hubert.front_end.parameters().iter().any(|parameter| parameter.requires_grad());
        let adam = Adam::new(&store, &settings.optimiser);
        let first_reset = first_reset(stage);
        let pretrained =
            |name: &str| name.starts_with("hubert.") && layer_of(name).is_none_or(|layer| layer < first_reset);
        let learns =
            |(name, parameter): (String, Tensor)| (pretrained(&name) && parameter.requires_grad()).then_some(parameter);
        let frozen_at_first: Vec<Tensor> = store.variables().into_iter().filter_map(learns).collect();
        Self {
            recogniser: Recogniser { model, vocabulary, stride: network.frame_stride() },
            store,
            adam,
            epoch: Epoch { number: 0, batches: examples.epoch(seed, 0) },
            examples,
            stage: stage.clone(),
            network,
            family: Family::default(),
            seed,
            front_end_learns,
            frozen_at_first,
            kept: HashMap::new(),
            kept_bytes: 0,
            recompute: false,
        }
    }

    /// Takes front-end and encoder from the pretrained model in `folder`, without the layers that the stage resets or removes.
    ///
    /// # Errors
    /// Refuses a model of another network.
    pub fn start_from(&mut self, folder: &Path) -> Result<(), StageError> {
        let (pretrained, _, about) = model_folder::load(folder, self.store.device())?;
        if about.network != self.stage.network {
            return Err(StageError::refused(
                format!("the model in {} is of another network than the one to fine-tune", folder.display()),
                "fine-tune the network that was pretrained, or leave out pretraining",
            ));
        }
        if !about.mask_embedding || !matches!(about.output, Output::Pretrained { .. } | Output::Backbone) {
            return Err(StageError::refused(
                format!("the model in {} is not one to fine-tune: {:?}", folder.display(), about.output),
                "start from a pretrained model with an embedding of masked frames",
            ));
        }
        self.family = about.family;
        let mut ours = self.store.variables();
        let first_new = first_reset(&self.stage).min(self.network.encoder.layers.get());
        let kept = |name: &str| layer_of(name).is_none_or(|layer| layer < first_new);
        for (name, parameter) in pretrained.variables().into_iter().filter(|(name, _)| kept(name)) {
            let mut to = ours
                .remove(&format!("hubert.{name}"))
                .ok_or_else(|| StageError::Failed(format!("the network to fine-tune has no parameter {name}")))?;
            tch::no_grad(|| to.f_copy_(&parameter))?;
        }
        Ok(())
    }

    /// Writes the state after `step`.
    pub fn save<P: Serialize>(&self, checkpoints: &Checkpoints, step: u64, progress: &P) -> Result<(), StageError> {
        checkpoints.save(step, step, &self.store, &self.adam, progress)
    }

    /// Continues from the newest checkpoint, if there is one, and returns the progress beside it.
    pub fn restore<P: DeserializeOwned>(&mut self, checkpoints: &Checkpoints) -> Result<Option<P>, StageError> {
        checkpoints.restore(&self.store, &mut self.adam)
    }

    /// Writes the model and its vocabulary into `folder`.
    pub fn save_model(&self, folder: &Path) -> Result<(), StageError> {
        let vocabulary = &self.recogniser.vocabulary;
        let output = Output::Characters { symbols: vocabulary.size() as u32 };
        model_folder::save(folder, &self.store, &About::trained(self.stage.tuned(), output, self.family))?;
        let path = folder.join(VOCABULARY);
        std::fs::write(&path, vocabulary.to_text()).map_err(|error| StageError::io("cannot write", &path, &error))
    }

    /// Learns from one batch, unless the guards say otherwise: then nothing is moved. Steps count from 1 and each must follow the one before.
    pub fn step(&mut self, step: u64, watch: &mut Watch) -> Result<(Learned, Verdict), StageError> {
        let batches = self.epoch.batches.len() as u64;
        let (epoch, place) = ((step - 1) / batches, (step - 1) % batches);
        if epoch != self.epoch.number {
            self.epoch = Epoch { number: epoch, batches: self.examples.epoch(self.seed, epoch) };
        }
        let batch: Vec<usize> = self.epoch.batches[place as usize].iter().map(|crop| crop.utterance).collect();
        let features: Vec<Tensor> = batch.iter().map(|&example| self.features(example)).collect::<Result<_, _>>()?;
        let frames = Frames::side_by_side(&features);
        let masks = self.masks(&batch, frames.lengths(), epoch);
        let mut draws = Draws::new(self.seed, "finetune step", &[step], "");
        let skipped = encoder::skipped_layers(&self.network.encoder, &mut draws);
        tch::manual_seed(draws.torch_seed());
        let freeze_steps = u64::from(self.stage.finetuning.freeze_steps.get());
        for parameter in &self.frozen_at_first {
            let _ = parameter.set_requires_grad(step > freeze_steps);
        }
        // While the encoder is frozen nothing of it is kept anyway.
        let keep = if self.recompute && step > freeze_steps { Keep::Inputs { shown: &[] } } else { Keep::All };
        let logits_btv = self.recogniser.model.logits(&frames, &masks, Mode::Train { skipped: &skipped, keep });
        let labels: Vec<&[i64]> = batch.iter().map(|&example| self.examples.utterances[example].2.as_slice()).collect();
        let loss = ctc::loss(&logits_btv, frames.lengths(), &labels) / batch.len() as f64;
        loss.backward();
        let settings = &self.stage.finetuning;
        let scheduled = schedule::tri_stage(&settings.schedule, step, u64::from(settings.steps.get()));
        let learning_rate = scheduled * watch.rate();
        let gradients = self.adam.gradients();
        let learned = Learned {
            loss: loss.double_value(&[]),
            learning_rate,
            gradient_norm: gradients.norm,
            epoch,
            samples: batch.iter().map(|&example| self.examples.candidates[example].samples).sum(),
        };
        if step == freeze_steps + 1 {
            watch.forget_norms();
        }
        let verdict = watch.step(&settings.guards, learned.loss, learned.gradient_norm);
        match verdict {
            Verdict::Good => self.adam.step_at(learning_rate, gradients)?,
            Verdict::Answered(_) | Verdict::Stop(_) => self.adam.clear()?,
        }
        Ok((learned, verdict))
    }

    /// The utterances of a step's batch.
    pub fn utterances(&self, step: u64) -> Vec<&str> {
        let batches = &self.epoch.batches;
        let batch = &batches[((step - 1) % batches.len() as u64) as usize];
        batch.iter().map(|crop| self.examples.candidates[crop.utterance].id.as_str()).collect()
    }

    /// Front-end frames of an example: 1 × T × C, computed once where nothing in the front-end learns and memory allows.
    fn features(&mut self, example: usize) -> Result<Tensor, StageError> {
        if let Some(features) = self.kept.get(&example) {
            return Ok(features.shallow_clone());
        }
        let (corpus, utterance, _) = &self.examples.utterances[example];
        let features = self.recogniser.model.features(&corpus.wave(utterance)?);
        if !self.front_end_learns {
            let bytes = 4 * features.numel();
            if self.kept_bytes + bytes <= KEPT_BYTES {
                self.kept_bytes += bytes;
                self.kept.insert(example, features.shallow_clone());
            }
        }
        Ok(features)
    }

    /// Masks over frames and channels, drawn for each utterance and epoch.
    fn masks(&self, batch: &[usize], lengths: &[u64], epoch: u64) -> Masks {
        let device = self.store.device();
        let rows = |settings: &SpanMasking, purpose: &str, positions: &dyn Fn(usize) -> u64| {
            (settings.prob.get() > 0.0).then(|| {
                let of = batch.iter().enumerate().map(|(row, &example)| {
                    let draws = Draws::new(self.seed, purpose, &[epoch], &self.examples.candidates[example].id);
                    (positions(row), draws)
                });
                let rows = mask::rows(settings, of);
                let width = rows.iter().map(Vec::len).max().unwrap_or(0);
                mask::tensor(&rows, width, device)
            })
        };
        let width = u64::from(self.network.encoder.width.get());
        Masks {
            time_bt: rows(&self.stage.finetuning.time_masking, "time mask", &|row| lengths[row]),
            channel_bd: rows(&self.stage.finetuning.channel_masking, "channel mask", &|_| width),
        }
    }
}

/// The first of the stack's layers, counted from 0, that is drawn anew; one that isn't there where none is.
fn first_reset(stage: &FinetuneStage) -> u32 {
    match stage.top {
        Top::Reset(reset) => stage.network.encoder.layers.get().saturating_sub(reset.get()),
        Top::Kept | Top::Removed(_) => u32::MAX,
    }
}

/// Which of the stack's layers, counted from 0, a parameter is of: `[hubert.]encoder.layers.3.…`.
fn layer_of(parameter: &str) -> Option<u32> {
    let (_, after) = parameter.split_once("encoder.layers.")?;
    after.split('.').next()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests;
