//! One step of training on one batch.

use reprise_spec::stage::PretrainStage;

use super::model::{Model, gradient_scale, penalty_weight};
use super::progress::Progress;
use crate::batch::Crop;
use crate::encoder::{Mode, skipped_layers};
use crate::failure::StageError;
use crate::loader::Waves;
use crate::mask;
use crate::objective::{Objective, Sampling};
use crate::optimiser::Adam;
use crate::random::Draws;
use crate::selection::Labelled;

/// What every step works with and none replaces.
pub struct Given<'a> {
    pub settings: &'a PretrainStage,
    pub seed: u64,
    /// Steps before this iteration's first since weights were drawn at random; what is drawn by step or epoch goes on from there.
    pub trained: u64,
    pub per_epoch: u64,
    pub training: &'a Labelled,
    pub model: &'a Model,
}

impl Given<'_> {
    /// The epoch of a step of this iteration, counted from 0 where weights were drawn at random.
    pub fn epoch(&self, step: u64) -> u64 {
        (self.trained + step - 1) / self.per_epoch
    }

    /// Step `progress.step`, on one batch.
    pub fn step(&self, rate: f64, waves: Waves, adam: &mut Adam, progress: &mut Progress) -> Result<(), StageError> {
        let &Self { settings, seed, trained, training, model, .. } = self;
        let (epoch, step) = (self.epoch(progress.step), trained + progress.step);
        progress.samples += waves.lengths.iter().sum::<u64>();
        let device = model.store.device();
        let draws =
            |purpose: &str, crop: &Crop| Draws::new(seed, purpose, &[epoch], &training.candidate(crop.utterance).id);
        let rows = training.rows(&waves.crops);
        let positions = rows.frames.iter().copied().zip(waves.crops.iter().map(|crop| draws("pretrain mask", crop)));
        let hidden = mask::rows(&settings.pretraining.masking, positions);
        let selection = model.select(settings, training, &waves.crops, hidden);
        let skipped =
            skipped_layers(&settings.network.encoder, &mut Draws::new(seed, "pretrain layer drop", &[step], ""));
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
            let (step, last) = (progress.step, progress.window.mean_loss());
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
}
