//! What pretraining asks of the network: where frames are taken, and how they are scored.

use reprise_spec::network::{FrontEnd, LayerNormPlacement, Network};
use reprise_spec::stage::PretrainTargets;
use reprise_spec::training::{self, LossWeights, PredictAt, Pretraining, ResolutionTargets};
use reprise_spec::values::Clusters;
use tch::nn::Path;
use tch::{Device, Tensor};

use crate::contrastive::{Contrastive, Masked};
use crate::encoder::Mode;
use crate::failure::StageError;
use crate::head::{Head, Score};
use crate::hubert::{Encoding, Taps};
use crate::layers::LayerNorm;
use crate::quantiser::Choice;
use crate::random::Draws;
use crate::selection::{Chosen, Selection, Tap, View};

/// The part above the network that is trained with it and left behind afterwards.
#[derive(Debug)]
pub enum Objective {
    Units(MaskedUnits),
    Contrastive(Contrastive),
}

/// What a contrastive objective draws in a pass; units draw nothing.
pub struct Sampling<'a> {
    /// Where the distractors of a row come from.
    pub distractors: &'a dyn Fn(usize) -> Draws,
    /// The step that is trained, whose Gumbel noise and dropout libtorch's generator gives; none in evaluation.
    pub step: Option<u64>,
}

/// The sums of one batch.
#[derive(Debug)]
pub struct Losses {
    /// The weighted sum that is minimised once it is divided by `sample_size`; without the front-end's penalty.
    pub total: Tensor,
    /// What it is divided by: frames of the first tap that count.
    pub sample_size: f64,
    /// Cross-entropy at masked frames in nats, over all taps and sets; a scalar.
    pub masked_loss: Tensor,
    /// Masked frames of the first tap.
    pub masked: i64,
    /// Those whose unit of the first set was told rightly by the topmost tap, or whose target from its distractors; a scalar.
    pub correct: Tensor,
    /// The targets of a contrastive objective.
    pub targets: Option<Targets>,
}

/// What the masked frames of a batch should be recognised as.
#[derive(Debug)]
pub struct Targets {
    /// Masked frames × codebooks, `i64`.
    pub codes_ng: Tensor,
    /// Entries that the frames' mean probabilities use in effect, summed over codebooks; a scalar.
    pub perplexity: Tensor,
}

impl Losses {
    /// The same numbers without what would be needed to learn from them.
    pub fn detach(&self) -> Self {
        let targets = |Targets { codes_ng, perplexity }: &Targets| Targets {
            codes_ng: codes_ng.detach(),
            perplexity: perplexity.detach(),
        };
        Self {
            total: self.total.detach(),
            masked_loss: self.masked_loss.detach(),
            correct: self.correct.detach(),
            targets: self.targets.as_ref().map(targets),
            ..*self
        }
    }
}

impl Objective {
    /// Registers the parameters below `path`.
    pub fn new(
        path: &Path,
        network: &Network,
        pretraining: &Pretraining,
        targets: &PretrainTargets,
    ) -> Result<Self, StageError> {
        match targets {
            PretrainTargets::Units(sets) => Ok(Self::Units(MaskedUnits::new(path, network, pretraining, sets))),
            PretrainTargets::Quantiser(quantiser) => match (&network.front_end, &pretraining.head) {
                (FrontEnd::Wave(wave), training::Head::Cosine(head)) => {
                    let width = wave.channels.get().into();
                    Ok(Self::Contrastive(Contrastive::new(path, network, width, head, quantiser)))
                }
                _ => Err(StageError::refused(
                    "a quantiser takes the frames of a wave front-end and compares by cosine",
                    "change `model.front-end` or `pretraining.head`, or predict units",
                )),
            },
        }
    }

    /// The frames of a pass that accuracies are told of: B × T × D.
    pub fn output<'a>(&self, pass: &'a Encoding) -> &'a Tensor {
        match self {
            Self::Units(units) => &pass.outputs[units.primary],
            Self::Contrastive(_) => &pass.outputs[0],
        }
    }

    /// Which frames a pass has to give.
    pub fn taps<'a>(&self, pretraining: &'a Pretraining) -> Taps<'a> {
        match &pretraining.predict_at {
            PredictAt::Output => Taps::Output,
            PredictAt::Layers(layers) => Taps::Layers(layers),
            PredictAt::Resolutions(_) => Taps::Rates,
        }
    }

    /// Which frames a pass has to give to learn from a batch: where one tap is scored at hidden frames alone, these.
    pub fn taps_of<'a>(&self, pretraining: &'a Pretraining, selection: &'a Selection) -> Taps<'a> {
        match (self.taps(pretraining), &selection.places) {
            (Taps::Output, Some(places)) if pretraining.loss.unmasked.get() == 0.0 => Taps::OutputAt(places),
            (taps, _) => taps,
        }
    }

    /// Which of so many layers have outputs that are scored although others stand above them.
    pub fn shown(&self, pretraining: &Pretraining, layers: usize) -> Vec<bool> {
        let mut shown = vec![false; layers];
        if let PredictAt::Layers(heights) = &pretraining.predict_at {
            let places = heights.iter().filter_map(|height| (height.get() as usize).checked_sub(1));
            places.filter(|place| *place < layers).for_each(|place| shown[place] = true);
        }
        shown
    }

    /// What the frames of every tap are scored against.
    pub fn views(&self) -> Vec<Tap> {
        match self {
            Self::Units(units) => units.heads.iter().map(|head| head.tap.clone()).collect(),
            Self::Contrastive(_) => vec![Tap { ratio: 1, sets: 0..0 }],
        }
    }

    /// The frames of the first tap that count in the loss of a batch.
    pub fn sample_size(&self, selection: &Selection, weights: &LossWeights) -> f64 {
        match self {
            Self::Units(_) => sample_size(selection, weights),
            Self::Contrastive(_) => selection.views[0].masked.len() as f64,
        }
    }

    /// The losses of a pass.
    pub fn losses(&self, pass: &Encoding, selection: &Selection, weights: &LossWeights, sampling: &Sampling) -> Losses {
        match self {
            Self::Units(units) => units.losses(pass, selection, weights),
            Self::Contrastive(contrastive) => contrasted(contrastive, pass, selection, sampling),
        }
    }
}

/// Cross-entropy + `diversity` · share of idle entries · masked frames (fairseq `Wav2vecCriterion` with `infonce`).
fn contrasted(contrastive: &Contrastive, pass: &Encoding, selection: &Selection, sampling: &Sampling) -> Losses {
    let masked = Masked::new(selection, contrastive.negatives(), sampling.distractors);
    let frames = masked.places_n.size()[0];
    let contrast = match sampling.step {
        Some(step) => {
            let noise_ngv = &contrastive.quantiser.noise(frames);
            let choice = Choice::Sampled { noise_ngv, temperature: contrastive.gumbel_temperature(step) };
            contrastive.forward(pass, &masked, choice, Mode::LEARN)
        }
        None => contrastive.forward(pass, &masked, Choice::Best, Mode::Evaluate),
    };
    let total = &contrast.loss + &contrast.idle * (contrastive.diversity() * frames as f64);
    let (codes_ng, perplexity) = (contrast.quantised.codes_ng, contrast.quantised.perplexity);
    Losses {
        total,
        sample_size: frames as f64,
        masked_loss: contrast.loss,
        masked: frames,
        correct: contrast.correct,
        targets: Some(Targets { codes_ng, perplexity }),
    }
}

/// Masked prediction of units (HuBERT, and ILS-HuBERT and MR-HuBERT with several taps).
#[derive(Debug)]
pub struct MaskedUnits {
    heads: Vec<TapHead>,
    /// The head that accuracies are told of: that of the last of several layers, or of the highest rate.
    primary: usize,
}

/// Parameters as [`Head`]'s; below `heads.{i}` where there are several taps, with `layer_norm.*` for layers of a pre-norm encoder.
#[derive(Debug)]
struct TapHead {
    tap: Tap,
    norm: Option<LayerNorm>,
    head: Head,
}

impl MaskedUnits {
    fn new(path: &Path, network: &Network, pretraining: &Pretraining, sets: &[Clusters]) -> Self {
        let rates: Vec<u64> =
            network.hierarchy.iter().flat_map(|hierarchy| &hierarchy.ratios).fold(vec![1], |mut rates, ratio| {
                rates.push(rates[rates.len() - 1] * u64::from(ratio.get()));
                rates
            });
        let all = 0..sets.len();
        let taps: Vec<Tap> = match &pretraining.predict_at {
            PredictAt::Output => vec![Tap { ratio: 1, sets: all }],
            PredictAt::Layers(layers) => layers.iter().map(|_| Tap { ratio: 1, sets: all.clone() }).collect(),
            PredictAt::Resolutions(ResolutionTargets::Shared) => {
                rates.iter().map(|&ratio| Tap { ratio, sets: all.clone() }).collect()
            }
            PredictAt::Resolutions(ResolutionTargets::Separate) => {
                rates.iter().enumerate().map(|(set, &ratio)| Tap { ratio, sets: set..set + 1 }).collect()
            }
        };
        let several = pretraining.predict_at != PredictAt::Output;
        let normalised =
            matches!(pretraining.predict_at, PredictAt::Layers(_)) && network.encoder.norm == LayerNormPlacement::Pre;
        let heads = taps.into_iter().enumerate().map(|(index, tap)| {
            let path = if several { path / "heads" / index } else { path.clone() };
            let width = i64::from(network.encoder.width.get());
            TapHead {
                norm: normalised.then(|| LayerNorm::new(&(&path / "layer_norm"), width)),
                head: Head::new(&path, network, &pretraining.head, &sets[tap.sets.clone()]),
                tap,
            }
        });
        let heads: Vec<TapHead> = heads.collect();
        let primary = if matches!(pretraining.predict_at, PredictAt::Layers(_)) { heads.len() - 1 } else { 0 };
        Self { heads, primary }
    }

    /// Of the scores of all taps, that of the first set at the primary one.
    pub fn primary<'a>(&self, scores: &'a [Vec<Score>]) -> &'a Score {
        &scores[self.primary][0]
    }

    /// Scores of the masked or of the other frames: for each tap one of each of its sets.
    pub fn score(&self, pass: &Encoding, selection: &Selection, masked: bool) -> Vec<Vec<Score>> {
        let taps = self.heads.iter().zip(&pass.outputs).zip(&selection.views);
        taps.map(|((head, output_btd), view)| head.score(output_btd, view, masked)).collect()
    }

    /// The class that the primary head holds likeliest at each masked frame, among its units and its extra rows.
    pub fn predictions(&self, pass: &Encoding, selection: &Selection) -> Vec<i64> {
        let (head, view) = (&self.heads[self.primary], &selection.views[self.primary]);
        let frames_nd = head.frames(&pass.outputs[self.primary], &view.masked);
        let classes_n = head.head.logits(&frames_nd)[0].argmax(-1, false).to_device(Device::Cpu);
        Vec::try_from(&classes_n).expect("places are whole numbers")
    }

    /// The losses of a pass, which draw nothing.
    pub fn losses(&self, pass: &Encoding, selection: &Selection, weights: &LossWeights) -> Losses {
        let scores = self.score(pass, selection, true);
        let masked_loss = sum(&scores);
        let masked = scores[0][0].frames;
        let mut total = &masked_loss * weights.masked.get();
        if weights.unmasked.get() > 0.0 {
            total += sum(&self.score(pass, selection, false)) * weights.unmasked.get();
        }
        let correct = self.primary(&scores).correct.shallow_clone();
        Losses { total, sample_size: sample_size(selection, weights), masked_loss, masked, correct, targets: None }
    }
}

/// Masked frames of the first tap, and the others where they count.
fn sample_size(selection: &Selection, weights: &LossWeights) -> f64 {
    let View { masked, unmasked } = &selection.views[0];
    let unmasked = if weights.unmasked.get() > 0.0 { unmasked.len() } else { 0 };
    (masked.len() + unmasked) as f64
}

impl TapHead {
    /// Only the chosen frames are projected.
    fn score(&self, output_btd: &Tensor, view: &View, masked: bool) -> Vec<Score> {
        let chosen = if masked { &view.masked } else { &view.unmasked };
        self.head.score(&self.frames(output_btd, chosen), &chosen.units)
    }

    /// The chosen frames as the head takes them: N × D.
    fn frames(&self, output_btd: &Tensor, chosen: &Chosen) -> Tensor {
        let x_nd = output_btd.reshape([-1, output_btd.size()[2]]).index_select(0, &chosen.places_n);
        self.norm.as_ref().map_or_else(|| x_nd.shallow_clone(), |norm| norm.forward(&x_nd))
    }
}

fn sum(scores: &[Vec<Score>]) -> Tensor {
    let losses: Vec<&Tensor> = scores.iter().flatten().map(|score| &score.loss).collect();
    Tensor::stack(&losses, 0).sum(tch::Kind::Float)
}
