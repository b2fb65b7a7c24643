//! One step of training, on one batch or on several whose gradients add up.

use reprise_spec::training::Precision;
use tch::Tensor;

use super::model::{gradient_scale, penalty_weight};
use super::progress::Window;
use super::training::Training;
use crate::batch::Crop;
use crate::encoder::{Keep, Mode, skipped_layers};
use crate::failure::StageError;
use crate::framing::Rows;
use crate::guards::Verdict;
use crate::loader::Waves;
use crate::mask;
use crate::objective::{Losses, Objective, Sampling};
use crate::random::Draws;
use crate::selection::Selection;
use crate::shim::Autocast;

/// One batch of a step, and which of its frames are hidden.
struct Batch {
    waves: Waves,
    rows: Rows,
    selection: Selection,
}

/// What a backward pass left beside gradients.
struct Seen {
    /// The sum that was minimised, before it was divided; a scalar.
    loss: Tensor,
    losses: Losses,
    penalty: Tensor,
}

/// What all batches of a step share.
struct Shared<'a> {
    step: u64,
    epoch: u64,
    mode: Mode<'a>,
    /// What the loss of every batch is divided by: the frames that count in all of them.
    sample_size: f64,
}

impl Training<'_> {
    /// The next step. Where guards stop it, nothing has been moved and the progress is as it was.
    pub fn step(&mut self, rate: f64, batches: Vec<Waves>) -> Result<Verdict, StageError> {
        let (epoch, step) = (self.epoch(self.progress.step + 1), self.trained + self.progress.step + 1);
        let settings = self.settings;
        let batches: Vec<Batch> = batches.into_iter().map(|waves| self.select(waves, epoch)).collect();
        let size = |batch: &Batch| self.model.objective.sample_size(&batch.selection, &settings.pretraining.loss);
        let sample_size = batches.iter().map(size).sum();
        let mut draws = Draws::new(self.seed, "pretrain layer drop", &[step], "");
        let skipped = skipped_layers(&settings.network.encoder, &mut draws);
        tch::manual_seed(Draws::new(self.seed, "pretrain dropout", &[step], "").torch_seed());
        let shown = self.model.objective.shown(&settings.pretraining, skipped.len());
        let keep = if self.recompute { Keep::Inputs { shown: &shown } } else { Keep::All };
        let mode = Mode::Train { skipped: &skipped, keep };
        let shared = Shared { step, epoch, mode, sample_size };
        let seen = batches.iter().map(|batch| self.learn(batch, &shared)).collect::<Result<Vec<Seen>, _>>()?;
        let Self { model, adam, progress, .. } = self;
        model.hubert.scale_front_end_gradients(gradient_scale(&settings.network));
        let gradients = adam.gradients();
        let norm = gradients.norm;
        let loss = seen.iter().map(|seen| seen.loss.double_value(&[])).sum();
        let verdict = progress.watch.step(&settings.pretraining.guards.of_steps(), loss, norm);
        if let Verdict::Stop(_) = verdict {
            return Ok(verdict);
        }
        progress.step += 1;
        progress.samples += batches.iter().flat_map(|batch| &batch.waves.lengths).sum::<u64>();
        if let Verdict::Answered(_) = verdict {
            adam.clear()?;
            return Ok(verdict);
        }
        adam.step_at(rate, gradients)?;
        progress.window.steps += 1;
        progress.window.gradient_norm += norm;
        progress.window.frames += batches.iter().flat_map(|batch| &batch.rows.frames).sum::<u64>();
        for seen in &seen {
            progress.window.add(seen, 1.0 / batches.len() as f64, &model.objective, step);
        }
        Ok(Verdict::Good)
    }

    /// Draws which frames of a batch are hidden.
    fn select(&self, waves: Waves, epoch: u64) -> Batch {
        let rows = self.train.rows(&waves.crops);
        let draws = waves.crops.iter().map(|crop| self.draws("pretrain mask", epoch, crop));
        let hidden = mask::rows(&self.settings.pretraining.masking, rows.frames.iter().copied().zip(draws));
        let selection = self.model.select(self.settings, self.train, &waves.crops, hidden);
        Batch { waves, rows, selection }
    }

    /// One pass forward and one backward, which adds to the gradients.
    fn learn(&self, Batch { waves, rows, selection }: &Batch, shared: &Shared) -> Result<Seen, StageError> {
        let Self { settings, model, .. } = self;
        let device = model.store.device();
        let wave_bs = waves.wave_bs.f_to_device(device)?;
        let taps = model.objective.taps_of(&settings.pretraining, selection);
        let pass = {
            let half = settings.pretraining.precision == Precision::Bf16;
            let _autocast = half.then(|| Autocast::set(device, true)).transpose()?;
            model.hubert.forward(&wave_bs, Some(rows), &selection.masks, shared.mode, taps)
        };
        let distractors = |row: usize| self.draws("pretrain distractors", shared.epoch, &waves.crops[row]);
        let sampling = Sampling { distractors: &distractors, step: Some(shared.step) };
        let losses = model.objective.losses(&pass, selection, &settings.pretraining.loss, &sampling);
        let mut loss = losses.total.shallow_clone();
        if penalty_weight(&settings.network) > 0.0 {
            loss += &pass.penalty * (penalty_weight(&settings.network) * losses.sample_size);
        }
        (&loss / shared.sample_size.max(1.0)).backward();
        Ok(Seen { loss: loss.detach(), losses: losses.detach(), penalty: pass.penalty.detach() })
    }

    /// What is drawn for a crop of an epoch.
    fn draws(&self, purpose: &str, epoch: u64, crop: &Crop) -> Draws {
        Draws::new(self.seed, purpose, &[epoch], &self.train.candidate(crop.utterance).id)
    }
}

impl Window {
    /// Adds a batch that is `share` of its step.
    fn add(&mut self, Seen { losses, penalty, .. }: &Seen, share: f64, objective: &Objective, step: u64) {
        self.loss += losses.masked_loss.double_value(&[]);
        self.correct += losses.correct.int64_value(&[]) as u64;
        self.masked += losses.masked as u64;
        self.penalty += share * penalty.double_value(&[]);
        if let (Objective::Contrastive(objective), Some(targets)) = (objective, &losses.targets) {
            let codebooks = self.codebooks.get_or_insert_default();
            codebooks.perplexity += share * targets.perplexity.double_value(&[]);
            codebooks.code_perplexity += share * objective.quantiser.usage(&targets.codes_ng).perplexity;
            codebooks.temperature = objective.gumbel_temperature(step);
        }
    }
}
