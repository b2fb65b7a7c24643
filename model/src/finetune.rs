//! Fine-tuning in memory: what a step learns from, and one step.
//!
//! Everything drawn is keyed by (seed, purpose, epoch or step, utterance), so a step depends on nothing but its number and the state
//! before it. Source: wav2vec 2.0 (arXiv:2006.11477) section 4.3; fairseq `hubert/config/finetune/base_10h.yaml`.

use std::collections::HashMap;
use std::path::Path;

use reprise_spec::arithmetic::{SAMPLE_RATE, frames_at};
use reprise_spec::network::Network;
use reprise_spec::training::{Batching, Finetuning, Lengths, SpanMasking};
use reprise_spec::values::Seconds;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::batch::{self, Candidate, Crop};
use crate::checkpoint::Checkpoints;
use crate::corpus::{Corpora, Corpus, Utterance};
use crate::ctc::{self, CtcModel, Frames};
use crate::encoder::{self, Mode};
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
    network: Network,
    family: Family,
    settings: Finetuning,
    seed: u64,
    /// Front-end frames by example, where nothing in the front-end learns.
    kept: HashMap<usize, Tensor>,
    kept_bytes: usize,
    epoch: Epoch,
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
        network: &Network,
        settings: &Finetuning,
        examples: Examples<'a>,
        vocabulary: Vocabulary,
        seed: u64,
        device: Device,
    ) -> Self {
        let network = ctc::regularised(network, settings);
        let store = VarStore::new(device);
        tch::manual_seed(Draws::new(seed, "finetune weights", &[], "").torch_seed());
        let dropout = settings.dropout.r#final.get();
        let model = CtcModel::new(&store.root(), &network, vocabulary.size(), dropout);
        if settings.freeze_front_end {
            model.hubert.freeze_front_end();
        }
        let adam = Adam::new(&store, &settings.optimiser);
        Self {
            recogniser: Recogniser { model, vocabulary },
            store,
            adam,
            epoch: Epoch { number: 0, batches: examples.epoch(seed, 0) },
            examples,
            network,
            family: Family::default(),
            settings: settings.clone(),
            seed,
            kept: HashMap::new(),
            kept_bytes: 0,
        }
    }

    /// Takes front-end and encoder from the pretrained model in `folder`.
    ///
    /// # Errors
    /// Refuses a model of another network.
    pub fn start_from(&mut self, folder: &Path, network: &Network) -> Result<(), StageError> {
        let (pretrained, _, about) = model_folder::load(folder, self.store.device())?;
        if about.network != *network {
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
        for (name, parameter) in pretrained.variables() {
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
    pub fn save_model(&self, folder: &Path, network: &Network) -> Result<(), StageError> {
        let vocabulary = &self.recogniser.vocabulary;
        let output = Output::Characters { symbols: vocabulary.size() as u32 };
        model_folder::save(folder, &self.store, &About::trained(network.clone(), output, self.family))?;
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
        let encoder_learns = step > u64::from(self.settings.freeze_steps.get());
        let logits_btv =
            self.recogniser.model.logits(&frames, &masks, Mode::Train { skipped: &skipped }, encoder_learns);
        let labels: Vec<&[i64]> = batch.iter().map(|&example| self.examples.utterances[example].2.as_slice()).collect();
        let loss = ctc::loss(&logits_btv, frames.lengths(), &labels) / batch.len() as f64;
        loss.backward();
        let scheduled = schedule::tri_stage(&self.settings.schedule, step, u64::from(self.settings.steps.get()));
        let learning_rate = scheduled * watch.rate();
        let gradients = self.adam.gradients();
        let learned = Learned {
            loss: loss.double_value(&[]),
            learning_rate,
            gradient_norm: gradients.norm,
            epoch,
            samples: batch.iter().map(|&example| self.examples.candidates[example].samples).sum(),
        };
        if step == u64::from(self.settings.freeze_steps.get()) + 1 {
            watch.forget_norms();
        }
        let verdict = watch.step(&self.settings.guards, learned.loss, learned.gradient_norm);
        match verdict {
            Verdict::Good => self.adam.step_at(learning_rate, gradients)?,
            Verdict::Answered(_) | Verdict::Stop(_) => self.adam.clear(),
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
        if !features.requires_grad() {
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
            time_bt: rows(&self.settings.time_masking, "time mask", &|row| lengths[row]),
            channel_bd: rows(&self.settings.channel_masking, "channel mask", &|_| width),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use reprise_spec::network as parts;
    use reprise_spec::values::{Count, Fraction, Positive, Steps};

    use super::*;
    use crate::audio::tests::wav;
    use crate::corpus;

    /// A corpus in which every letter is a tone of its own and a space is silence.
    pub(crate) fn tones(dir: &std::path::Path, transcripts: &[&str]) -> Corpora {
        let mut utterances = Vec::new();
        for (index, transcript) in transcripts.iter().enumerate() {
            let mut samples: Vec<i16> = vec![0; 1600];
            for letter in transcript.chars() {
                let hertz = 300.0 * f64::from(letter as u32 % 32);
                let amplitude = if letter == ' ' { 0.0 } else { 8_000.0 };
                let wave = |n: u32| amplitude * (f64::from(n) / 16_000.0 * hertz * std::f64::consts::TAU).sin();
                samples.extend((0..1_920).map(|n| wave(n) as i16));
                samples.extend([0; 960]);
            }
            let id = format!("tones-{index}");
            let path = format!("{id}.wav");
            std::fs::write(dir.join(&path), wav(16_000, 1, &samples)).unwrap();
            let transcript = Some((*transcript).into());
            utterances.push(Utterance { id, path, samples: samples.len() as u64, speaker: "s".into(), transcript });
        }
        std::fs::write(dir.join("utterances.tsv"), corpus::table(&utterances)).unwrap();
        std::fs::write(dir.join("corpus.json"), r#"{"transcribed":true,"conversion":"refuse"}"#).unwrap();
        let split = "tones".to_owned().try_into().unwrap();
        Corpora { splits: vec![(split, Corpus::read(dir, dir).unwrap())] }
    }

    pub(crate) fn network() -> Network {
        let count = |value: u64| Count::try_from(value).unwrap();
        Network {
            front_end: parts::FrontEnd::LogMel(parts::LogMelFrontEnd { bins: count(20), ..Default::default() }),
            encoder: parts::Encoder {
                layers: count(2),
                width: count(48),
                heads: count(2),
                feed_forward: count(96),
                positional: parts::PositionalConvolution { kernel: count(8), groups: count(4) },
                ..parts::Encoder::default()
            },
            ..Network::default()
        }
    }

    pub(crate) fn settings(steps: u64) -> Finetuning {
        let defaults = Finetuning::default();
        Finetuning {
            steps: Steps::try_from(steps).unwrap(),
            freeze_steps: Steps::try_from(5).unwrap(),
            schedule: reprise_spec::training::TriStage { peak: Positive::try_from(3e-3).unwrap(), ..defaults.schedule },
            time_masking: SpanMasking { prob: Fraction::try_from(0.1).unwrap(), ..defaults.time_masking.clone() },
            channel_masking: SpanMasking { prob: Fraction::try_from(0.0).unwrap(), ..defaults.channel_masking.clone() },
            layer_drop: Fraction::try_from(0.0).unwrap(),
            batch_seconds: Seconds::try_from(6.0).unwrap(),
            ..defaults
        }
    }

    pub(crate) fn finetuner<'a>(corpora: &'a Corpora, settings: &Finetuning) -> Finetuner<'a> {
        tch::set_num_threads(1); // Tests run side by side already, and the tensors are small.
        let vocabulary = Vocabulary::of(corpora.iter().filter_map(|(_, _, u)| u.transcript.as_deref())).unwrap();
        let examples = Examples::of(corpora, &vocabulary, &network(), settings.batch_seconds).unwrap();
        Finetuner::new(&network(), settings, examples, vocabulary, 1, Device::Cpu)
    }

    #[test]
    fn a_small_network_learns_three_utterances() {
        let dir = tempfile::tempdir().unwrap();
        let corpora = tones(dir.path(), &["abba cab", "bed", "dada be"]);
        let settings = settings(400);
        let mut finetuner = finetuner(&corpora, &settings);
        let before = finetuner.recogniser.validate(&corpora, || Ok(())).unwrap();
        let mut watch = Watch::default();
        for step in 1..=400 {
            assert_eq!(finetuner.step(step, &mut watch).unwrap().1, Verdict::Good);
        }
        let after = finetuner.recogniser.validate(&corpora, || Ok(())).unwrap();
        assert!(before.characters.rate() > 0.5, "{before:?}");
        // Tests beside this one draw from the same libtorch generator, so the initial weights, and with them the last errors, vary.
        assert!(after.characters.rate() < 0.25, "{after:?}");
        assert!(after.loss.unwrap() < 0.5 * before.loss.unwrap(), "{before:?}, {after:?}");
    }

    #[test]
    fn the_encoder_rests_while_it_is_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let corpora = tones(dir.path(), &["abba", "bad"]);
        let mut finetuner = finetuner(&corpora, &settings(20));
        let mut changed = |steps: std::ops::RangeInclusive<u64>| {
            let copy = |variables: &VarStore| -> std::collections::BTreeMap<String, Tensor> {
                variables.variables().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
            };
            let before = copy(&finetuner.store);
            for step in steps {
                finetuner.step(step, &mut Watch::default()).unwrap();
            }
            let after = copy(&finetuner.store);
            before.into_iter().filter(|(name, tensor)| *tensor != after[name]).map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(changed(1..=5), ["lm_head.bias", "lm_head.weight"]);
        let names = changed(6..=7);
        assert!(names.iter().any(|name| name.starts_with("hubert.encoder")), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("hubert.feature_projection")), "{names:?}");
    }

    #[test]
    fn a_written_model_recognises_the_same_and_a_pretrained_one_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let corpora = tones(dir.path(), &["abba cab", "bed"]);
        let finetuner = finetuner(&corpora, &settings(1));
        finetuner.save_model(dir.path(), &network()).unwrap();
        let again = Recogniser::read(dir.path(), Device::Cpu).unwrap();
        let validate = |recogniser: &Recogniser| recogniser.validate(&corpora, || Ok(())).unwrap();
        assert_eq!(validate(&again), validate(&finetuner.recogniser));

        tch::manual_seed(5);
        let store = VarStore::new(Device::Cpu);
        let _hubert = crate::hubert::Hubert::new(&store.root(), &network());
        let about = About::trained(network(), Output::Backbone, Family::Wav2vec2);
        model_folder::save(dir.path(), &store, &about).unwrap();
        let mut finetuner = finetuner;
        let before = store.variables()["masked_spec_embed"].copy();
        assert!(!finetuner.store.variables()["hubert.masked_spec_embed"].equal(&before));
        finetuner.start_from(dir.path(), &network()).unwrap();
        for (name, parameter) in store.variables() {
            assert!(finetuner.store.variables()[&format!("hubert.{name}")].equal(&parameter), "{name}");
        }
        assert!(finetuner.start_from(dir.path(), &Network::default()).is_err());
    }

    #[test]
    fn utterances_with_too_many_symbols_are_left_out_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut corpora = tones(dir.path(), &["ab", "cd"]);
        corpora.splits[0].1.utterances[1].transcript = Some("a".repeat(60));
        let vocabulary = Vocabulary::of(["abcd"]).unwrap();
        let examples = Examples::of(&corpora, &vocabulary, &network(), Seconds::try_from(2.0).unwrap()).unwrap();
        assert_eq!(examples.left_out, ["tones/tones-1"]);
        let error = Examples::of(&corpora, &vocabulary, &network(), Seconds::try_from(0.1).unwrap()).unwrap_err();
        insta::assert_snapshot!(error, @"tones/tones-0 lasts 0.46 s, but a batch holds at most 0.1 s and nothing is cropped");
    }

    #[test]
    fn what_shares_a_batch_does_not_change_the_scores() {
        let dir = tempfile::tempdir().unwrap();
        let corpora = tones(dir.path(), &["abba cab", "bed"]);
        let finetuner = finetuner(&corpora, &settings(1));
        let model = &finetuner.recogniser.model;
        let (_, corpus) = &corpora.splits[0];
        let features: Vec<Tensor> =
            corpus.utterances.iter().map(|utterance| model.features(&corpus.wave(utterance).unwrap())).collect();
        let logits = |features: &[Tensor]| {
            model.logits(&Frames::side_by_side(features), &Masks::default(), Mode::Evaluate, true)
        };
        let (together, alone) = (logits(&features), logits(&features[1..]));
        let frames = alone.size()[1];
        let difference = (together.narrow(0, 1, 1).narrow(1, 0, frames) - alone).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{difference}");
    }
}
