//! How well the model predicts units, or tells targets from others, on utterances that it isn't trained on.

use reprise_spec::contract::Score;
use reprise_spec::stage::PretrainStage;
use serde::{Deserialize, Serialize};

use super::model::{Model, normalises};
use super::progress::Progress;
use crate::batch::Crop;
use crate::encoder::Mode;
use crate::failure::StageError;
use crate::guards::Health;
use crate::loader::Loader;
use crate::mask;
use crate::objective::Sampling;
use crate::random::Draws;
use crate::selection::Labelled;
use crate::stage::Work;

mod beside;

pub use beside::Beside;
use beside::Seen;

/// The purpose of the draws of distractors.
const DISTRACTORS: &str = "pretrain validation distractors";

/// One validation. Utterances are taken one by one, so that nothing is padded, from their start up to the longest stretch that is trained
/// on; masks are the same every time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    pub step: u64,
    /// Cross-entropy in nats a masked frame: over all units, or over a target and its distractors.
    pub loss: f64,
    /// Share of masked frames whose unit, or whose target among its distractors, comes first.
    pub masked_accuracy: f64,
    /// What the objective has to compare that with.
    pub beside: Beside,
    /// Audio trained on so far, repetitions counted.
    pub audio_seconds: f64,
    /// Units that are predicted at masked frames in effect, or entries of a codebook that they have ([`DeadCodebook`]).
    ///
    /// [`DeadCodebook`]: reprise_spec::guards::DeadCodebook
    pub in_use: f64,
    /// How far the output's frames spread ([`Collapse`]).
    ///
    /// [`Collapse`]: reprise_spec::guards::Collapse
    pub spread: f64,
}

impl Validation {
    /// Measures now.
    pub fn measure(
        settings: &PretrainStage,
        seed: u64,
        data: &Labelled,
        model: &Model,
        progress: &Progress,
        work: &Work,
    ) -> Result<Self, StageError> {
        let _no_grad = tch::no_grad_guard();
        let batching = &settings.pretraining.batching;
        let crops: Vec<Vec<Crop>> = data
            .candidates()
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.samples >= batching.shortest.samples())
            .map(|(utterance, candidate)| {
                let samples = data.framing.length(candidate.samples.min(batching.longest.samples()));
                vec![Crop { utterance, start: 0, samples }]
            })
            .filter(|crops| crops[0].samples > 0)
            .collect();
        if crops.is_empty() {
            let message = format!("no utterance to validate on has {} s", batching.shortest.get());
            return Err(StageError::refused(
                message,
                "lower `pretraining.batching.shortest`, or validate on other splits",
            ));
        }
        let draws = |purpose: &str, crop: &Crop| Draws::new(seed, purpose, &[0], &data.candidate(crop.utterance).id);
        let mut seen = Seen::default();
        let (mut loss, mut masked, mut correct) = (0.0, 0, 0);
        let (normalise, threads) = (normalises(&settings.network), work.request.loader_threads);
        for waves in Loader::start(data.corpora.clone(), normalise, threads, 2, crops.clone().into_iter()) {
            let waves = waves?;
            let rows = data.rows(&waves.crops);
            let of = waves.crops.iter().map(|crop| draws("pretrain validation mask", crop));
            let hidden = mask::rows(&settings.pretraining.masking, rows.frames.iter().copied().zip(of));
            let selection = model.select(settings, data, &waves.crops, hidden);
            let wave_bs = waves.wave_bs.f_to_device(work.device)?;
            let taps = model.objective.taps(&settings.pretraining);
            let pass = model.hubert.forward(&wave_bs, Some(&rows), &selection.masks, Mode::Evaluate, taps);
            let of_row = |row: usize| draws(DISTRACTORS, &waves.crops[row]);
            let sampling = Sampling { distractors: &of_row, step: None };
            let losses = model.objective.losses(&pass, &selection, &settings.pretraining.loss, &sampling);
            loss += losses.masked_loss.double_value(&[]);
            masked += losses.masked;
            correct += losses.correct.int64_value(&[]);
            seen.add(&model.objective, &pass, &selection, &losses);
        }
        let masked = masked.max(1) as f64;
        Ok(Self {
            step: progress.step,
            loss: loss / masked,
            masked_accuracy: correct as f64 / masked,
            beside: seen.beside(&model.objective, |batch| draws(DISTRACTORS, &crops[batch][0])),
            audio_seconds: progress.audio_seconds(),
            in_use: seen.in_use(&model.objective),
            spread: seen.spread(),
        })
    }

    /// What guards judge by.
    pub fn health(&self) -> Health {
        Health { loss: self.loss, in_use: self.in_use, spread: self.spread }
    }

    /// Adds the numbers to the metric log.
    pub fn log(&self, work: &mut Work) -> Result<(), StageError> {
        for (name, value) in self.named().into_iter().chain([("in-use", self.in_use), ("spread", self.spread)]) {
            work.report.metric(&format!("validation-{name}"), self.step, value)?;
        }
        Ok(())
    }

    /// The numbers that listings show; `trained` is 1 where masked accuracy beats what nothing learnt could reach.
    pub fn scores(&self) -> Vec<Score> {
        let trained = f64::from(u8::from(self.masked_accuracy > self.beside.chance()));
        let score = |(name, value): (&str, f64)| Score {
            name: if name == "loss" { "validation-loss".into() } else { name.into() },
            value,
            interval: None,
        };
        let beside = [("trained", trained), ("audio-seconds", self.audio_seconds)];
        self.named().into_iter().chain(beside).map(score).collect()
    }

    /// The text of `validation.tsv`. All rows are of one objective.
    pub fn table(rows: &[Self]) -> String {
        let names = rows.first().map_or_else(Vec::new, |row| row.named().into_iter().map(|(name, _)| name).collect());
        let mut text = format!("step\t{}\taudio-seconds\n", names.join("\t"));
        for row in rows {
            let values: Vec<String> = row.named().into_iter().map(|(_, value)| value.to_string()).collect();
            text.push_str(&format!("{}\t{}\t{}\n", row.step, values.join("\t"), row.audio_seconds));
        }
        text
    }

    fn named(&self) -> Vec<(&'static str, f64)> {
        let mut named = vec![("loss", self.loss), ("masked-accuracy", self.masked_accuracy)];
        named.extend(self.beside.named());
        named
    }
}
