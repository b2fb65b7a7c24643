//! The objective of wav2vec 2.0: tell a masked frame's quantised target from those of other masked frames of its utterance.
//!
//! Shape suffixes: B utterances, T frames, C front-end width, D encoder width, N masked frames of the batch, P dimensions of the comparison,
//! K candidates: the target, then its distractors.
//! Source: wav2vec 2.0 (arXiv:2006.11477) section 3.2; fairseq `Wav2Vec2Model` and `Wav2vecCriterion`. Both references gather the
//! candidates' vectors; here the cosines of all pairs of an utterance are one matrix product, of which the candidates are picked.

use reprise_spec::network::Network;
use reprise_spec::strategy::{GumbelTemperature, Quantiser as Settings};
use reprise_spec::training::CosineHead;
use tch::nn::Path;
use tch::{Kind, Reduction, Tensor};

use crate::encoder::Mode;
use crate::head::unit_rows;
use crate::hubert::Encoding;
use crate::layers::Linear;
use crate::quantiser::{Choice, Quantised, Quantiser};
use crate::random::Draws;
use crate::selection::Selection;

mod distractors;

pub use distractors::{blind_guess, distractors};

/// Parameters `quantizer.*` ([`Quantiser`]), `project_hid.*` (P × D) and `project_q.*` (P × dimension of a target).
#[derive(Debug)]
pub struct Contrastive {
    pub quantiser: Quantiser,
    project_hidden: Linear,
    project_target: Linear,
    temperature: f64,
    settings: Settings,
}

/// The masked frames of a batch and what each is told from.
#[derive(Debug)]
pub struct Masked {
    /// N places in the B · T rows, an utterance's side by side.
    pub places_n: Tensor,
    /// Of each utterance, distractors as places among its own masked frames: as many rows as these are.
    pub distractors: Vec<Tensor>,
}

impl Masked {
    /// The masked frames of a selection with `count` distractors each; `draws` gives the generator of a row.
    pub fn new(selection: &Selection, count: u64, draws: &dyn Fn(usize) -> Draws) -> Self {
        let places_n = selection.views[0].masked.places_n.shallow_clone();
        let of_row = |(row, hidden): (usize, &Vec<bool>)| {
            let masked = hidden.iter().filter(|&&hidden| hidden).count() as u64;
            let places = distractors(masked, count, &mut draws(row));
            Tensor::from_slice(&places).view([masked as i64, count as i64]).to_device(places_n.device())
        };
        let distractors = selection.hidden.iter().enumerate().map(of_row).collect();
        Self { places_n, distractors }
    }
}

/// What the masked frames of a batch gave.
#[derive(Debug)]
pub struct Contrast {
    /// Cross-entropy of the targets among their candidates in nats, summed; a scalar.
    pub loss: Tensor,
    /// Share of all entries that aren't in use, (G·V − perplexity) / G·V; a scalar.
    pub idle: Tensor,
    /// Frames whose target is nearer than every distractor; a scalar.
    pub correct: Tensor,
    /// The targets.
    pub quantised: Quantised,
}

impl Contrastive {
    /// Registers the parameters below `path`. The projections start as the framework's default, as in both references.
    pub fn new(path: &Path, network: &Network, width: i64, head: &CosineHead, settings: &Settings) -> Self {
        let dimension = i64::from(head.dimension.get());
        let target = i64::from(settings.dimension.get());
        Self {
            quantiser: Quantiser::new(&(path / "quantizer"), settings, width),
            project_hidden: Linear::uniform(&(path / "project_hid"), network.encoder.width.get().into(), dimension),
            project_target: Linear::uniform(&(path / "project_q"), target, dimension),
            temperature: head.temperature.get(),
            settings: settings.clone(),
        }
    }

    /// Distractors of a masked frame.
    pub fn negatives(&self) -> u64 {
        self.settings.negatives.get().into()
    }

    /// What the share of idle entries counts in the loss.
    pub fn diversity(&self) -> f64 {
        self.settings.diversity.get()
    }

    /// The temperature of the Gumbel softmax at step 1, 2, …
    pub fn gumbel_temperature(&self, step: u64) -> f64 {
        gumbel_temperature(&self.settings.temperature, step)
    }

    /// Quantises and compares the masked frames of a pass. Targets come from the front-end's frames before the mask, dropped out in `mode`.
    pub fn forward(&self, pass: &Encoding, masked: &Masked, choice: Choice, mode: Mode) -> Contrast {
        let chosen = |x: &Tensor| x.reshape([-1, x.size()[2]]).index_select(0, &masked.places_n);
        let features_nc = mode.dropout(chosen(&pass.features_btc), self.settings.dropout.get());
        let quantised = self.quantiser.forward(&features_nc, choice);
        let hidden_np = unit_rows(&self.project_hidden.forward(&chosen(&pass.outputs[0])));
        let targets_np = unit_rows(&self.project_target.forward(&quantised.vectors_nd));
        let logits_nk = self.logits(&hidden_np, &targets_np, &quantised.codes_ng, &masked.distractors);
        let classes_n = Tensor::zeros([logits_nk.size()[0]], (Kind::Int64, logits_nk.device()));
        let loss = logits_nk.cross_entropy_loss(&classes_n, None::<Tensor>, Reduction::Sum, -100, 0.0);
        let correct = tch::no_grad(|| {
            let nearest_n = logits_nk.narrow(1, 1, logits_nk.size()[1] - 1).amax([1i64].as_slice(), false);
            logits_nk.select(1, 0).gt_tensor(&nearest_n).sum(Kind::Int64)
        });
        let idle = 1.0 - &quantised.perplexity / self.quantiser.size() as f64;
        Contrast { loss, idle, correct, quantised }
    }

    /// N × K: cosines over the temperature, −∞ where a distractor is the target itself.
    fn logits(&self, hidden_np: &Tensor, targets_np: &Tensor, codes_ng: &Tensor, distractors: &[Tensor]) -> Tensor {
        let mut start = 0;
        let rows: Vec<Tensor> = distractors
            .iter()
            .map(|others_mk| {
                let frames = others_mk.size()[0];
                let own = |x: &Tensor| x.narrow(0, start, frames);
                let (hidden_mp, targets_mp, codes_mg) = (own(hidden_np), own(targets_np), own(codes_ng));
                start += frames;
                let logits_mm = hidden_mp.matmul(&targets_mp.transpose(0, 1)) / self.temperature;
                let same_mm = codes_mg.unsqueeze(1).eq_tensor(&codes_mg.unsqueeze(0)).all_dim(-1, false);
                let others_mk = logits_mm.masked_fill(&same_mm, f64::NEG_INFINITY).gather(1, others_mk, false);
                Tensor::cat(&[logits_mm.diagonal(0, 0, 1).unsqueeze(1), others_mk], 1)
            })
            .collect();
        Tensor::cat(&rows, 0)
    }
}

fn gumbel_temperature(settings: &GumbelTemperature, step: u64) -> f64 {
    let steps = step.saturating_sub(1) as f64;
    (settings.start.get() * settings.decay.get().powf(steps)).max(settings.end.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// fairseq counts updates from 0, so the first step has the temperature `start`.
    #[test]
    fn the_temperature_falls_from_start_to_end() {
        let settings = GumbelTemperature::default();
        assert_eq!(gumbel_temperature(&settings, 1), 2.0);
        assert!((gumbel_temperature(&settings, 100_001) - 2.0 * (-0.5f64).exp()).abs() < 1e-5);
        assert_eq!(gumbel_temperature(&settings, 400_000), 0.5);
    }
}
