//! One step of training on one batch.

use reprise_spec::training::Precision;

use super::model::{gradient_scale, penalty_weight};
use super::training::Training;
use crate::batch::Crop;
use crate::encoder::{Mode, skipped_layers};
use crate::failure::StageError;
use crate::guards::Verdict;
use crate::loader::Waves;
use crate::mask;
use crate::objective::{Objective, Sampling};
use crate::random::Draws;
use crate::shim::Autocast;

impl Training<'_> {
    /// The next step, on one batch. Where guards stop it, nothing has been moved and the progress is as it was.
    pub fn step(&mut self, rate: f64, waves: Waves) -> Result<Verdict, StageError> {
        let (epoch, step) = (self.epoch(self.progress.step + 1), self.trained + self.progress.step + 1);
        let Self { settings, seed, train, model, adam, progress, .. } = self;
        let (settings, seed, train) = (*settings, *seed, *train);
        let device = model.store.device();
        let draws =
            |purpose: &str, crop: &Crop| Draws::new(seed, purpose, &[epoch], &train.candidate(crop.utterance).id);
        let rows = train.rows(&waves.crops);
        let positions = rows.frames.iter().copied().zip(waves.crops.iter().map(|crop| draws("pretrain mask", crop)));
        let hidden = mask::rows(&settings.pretraining.masking, positions);
        let selection = model.select(settings, train, &waves.crops, hidden);
        let skipped =
            skipped_layers(&settings.network.encoder, &mut Draws::new(seed, "pretrain layer drop", &[step], ""));
        tch::manual_seed(Draws::new(seed, "pretrain dropout", &[step], "").torch_seed());
        let wave_bs = waves.wave_bs.f_to_device(device)?;
        let mode = Mode::Train { skipped: &skipped };
        let taps = model.objective.taps(&settings.pretraining);
        let pass = {
            let half = settings.pretraining.precision == Precision::Bf16;
            let _autocast = half.then(|| Autocast::set(device, true)).transpose()?;
            model.hubert.forward(&wave_bs, Some(&rows), &selection.masks, mode, taps)
        };
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
        let gradients = adam.gradients();
        let norm = gradients.norm;
        let verdict = progress.watch.step(&settings.pretraining.guards.of_steps(), loss.double_value(&[]), norm);
        if let Verdict::Stop(_) = verdict {
            return Ok(verdict);
        }
        progress.step += 1;
        progress.samples += waves.lengths.iter().sum::<u64>();
        if let Verdict::Answered(_) = verdict {
            adam.clear()?;
            return Ok(verdict);
        }
        adam.step_at(rate, gradients)?;
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
        Ok(Verdict::Good)
    }
}
