//! How well the model predicts units of utterances that it isn't trained on.

use std::collections::BTreeMap;

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::contract::Score;
use reprise_spec::stage::PretrainStage;
use serde::{Deserialize, Serialize};

use super::{Model, Progress, normalises};
use crate::batch::Crop;
use crate::encoder::Mode;
use crate::failure::StageError;
use crate::loader::Loader;
use crate::mask;
use crate::objective::Objective;
use crate::random::Draws;
use crate::selection::Labelled;
use crate::stage::Work;

/// One validation. Utterances are taken one by one, so that nothing is padded, from their start up to the longest stretch that is trained
/// on; masks are the same every time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    pub step: u64,
    /// Cross-entropy in nats a masked frame.
    pub loss: f64,
    pub masked_accuracy: f64,
    pub unmasked_accuracy: f64,
    /// Share of the most frequent unit among the masked frames: what a model that learnt nothing could reach.
    pub most_frequent_unit: f64,
    /// Audio trained on so far, repetitions counted.
    pub audio_seconds: f64,
}

impl Validation {
    /// Measures now.
    pub(super) fn measure(
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
        let mut units: BTreeMap<i64, u64> = BTreeMap::new();
        let (mut loss, mut masked, mut masked_correct, mut unmasked, mut unmasked_correct) = (0.0, 0, 0, 0, 0);
        for waves in Loader::start(data.corpora.clone(), normalises(&settings.network), crops.into_iter()) {
            let waves = waves?;
            let draws = |crop: &Crop| {
                let id = &data.candidate(crop.utterance).id;
                Draws::new(seed, "pretrain validation mask", &[0], id)
            };
            let rows = data.rows(&waves.crops);
            let positions = rows.frames.iter().copied().zip(waves.crops.iter().map(draws));
            let hidden = mask::rows(&settings.pretraining.masking, positions);
            let selection = model.select(settings, data, &waves.crops, hidden);
            let wave_bs = waves.wave_bs.f_to_device(work.device)?;
            let taps = model.objective.taps(&settings.pretraining);
            let pass = model.hubert.forward(&wave_bs, Some(&rows), &selection.masks, Mode::Evaluate, taps);
            let losses = model.objective.losses(&pass, &selection, &settings.pretraining.loss);
            loss += losses.masked_loss.double_value(&[]);
            masked += losses.masked;
            masked_correct += losses.correct.int64_value(&[]);
            let Objective::Units(objective) = &model.objective;
            let scores = objective.score(&pass, &selection, false);
            let visible = objective.primary(&scores);
            unmasked += visible.frames;
            unmasked_correct += visible.correct.int64_value(&[]);
            for unit in selection.views[0].masked.units() {
                *units.entry(unit).or_default() += 1;
            }
        }
        let masked = masked.max(1) as f64;
        Ok(Self {
            step: progress.step,
            loss: loss / masked,
            masked_accuracy: masked_correct as f64 / masked,
            unmasked_accuracy: unmasked_correct as f64 / unmasked.max(1) as f64,
            most_frequent_unit: units.values().copied().max().unwrap_or(0) as f64 / masked,
            audio_seconds: progress.samples as f64 / f64::from(SAMPLE_RATE),
        })
    }

    /// Adds the numbers to the metric log.
    pub fn log(&self, work: &mut Work) -> Result<(), StageError> {
        for (name, value) in self.named() {
            work.report.metric(name, self.step, value)?;
        }
        Ok(())
    }

    /// The numbers that listings show; `trained` is 1 where masked accuracy beats the most frequent unit.
    pub fn scores(&self) -> Vec<Score> {
        let trained = f64::from(u8::from(self.masked_accuracy > self.most_frequent_unit));
        let score = |(name, value): (&str, f64)| Score {
            name: name.strip_prefix("validation-").filter(|rest| *rest != "loss").unwrap_or(name).into(),
            value,
            interval: None,
        };
        self.named().into_iter().chain([("trained", trained)]).map(score).collect()
    }

    /// The text of `validation.tsv`.
    pub fn table(rows: &[Self]) -> String {
        let mut text = "step\tloss\tmasked-accuracy\tunmasked-accuracy\tmost-frequent-unit\taudio-seconds\n".to_owned();
        for Self { step, loss, masked_accuracy, unmasked_accuracy, most_frequent_unit, audio_seconds } in rows {
            text.push_str(&format!(
                "{step}\t{loss}\t{masked_accuracy}\t{unmasked_accuracy}\t{most_frequent_unit}\t{audio_seconds}\n"
            ));
        }
        text
    }

    fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("validation-loss", self.loss),
            ("validation-masked-accuracy", self.masked_accuracy),
            ("validation-unmasked-accuracy", self.unmasked_accuracy),
            ("validation-most-frequent-unit", self.most_frequent_unit),
        ]
    }
}
