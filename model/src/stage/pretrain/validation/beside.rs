//! What a model that learnt nothing could reach, and what else a validation tells of an objective.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::contrastive::{Contrastive, blind_guess, distractors};
use crate::hubert::Encoding;
use crate::objective::{Losses, MaskedUnits, Objective};
use crate::quality::entropy;
use crate::random::Draws;
use crate::selection::Selection;

/// The numbers that only one objective has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Beside {
    Units {
        unmasked_accuracy: f64,
        /// Share of the most frequent unit among the masked frames.
        most_frequent_unit: f64,
    },
    Targets {
        /// Share that [`blind_guess`] tells rightly.
        blind_guess: f64,
        /// Entries that the masked frames' targets use in effect, e to their entropy, summed over codebooks.
        code_perplexity: f64,
        /// Share of all entries that some masked frame's target has.
        codes_used: f64,
    },
}

impl Beside {
    /// The masked accuracy that a model reaches without having learnt anything.
    pub fn chance(&self) -> f64 {
        match self {
            Self::Units { most_frequent_unit, .. } => *most_frequent_unit,
            Self::Targets { blind_guess, .. } => *blind_guess,
        }
    }

    /// The numbers under the names that tables and the metric log have, the latter behind `validation-`.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Self::Units { unmasked_accuracy, most_frequent_unit } => {
                vec![("unmasked-accuracy", unmasked_accuracy), ("most-frequent-unit", most_frequent_unit)]
            }
            Self::Targets { blind_guess, code_perplexity, codes_used } => {
                vec![("blind-guess", blind_guess), ("code-perplexity", code_perplexity), ("codes-used", codes_used)]
            }
        }
    }
}

/// What was seen of the batches of a validation.
#[derive(Default)]
pub(super) struct Seen {
    units: BTreeMap<i64, u64>,
    masked: i64,
    unmasked: i64,
    unmasked_correct: i64,
    /// Of each batch, codes of the masked frames (N × G, on the CPU).
    codes: Vec<Tensor>,
    /// Masked frames that each class is predicted at.
    predicted: BTreeMap<i64, u64>,
    output: Moments,
}

/// Sums over frames of the output, `f64`, one entry a dimension.
#[derive(Default)]
struct Moments {
    frames: i64,
    sums_d: Option<(Tensor, Tensor)>,
}

impl Moments {
    fn add(&mut self, output_btd: &Tensor) {
        let x_nd = output_btd.to_kind(Kind::Double).flatten(0, 1);
        let sum = |x_nd: &Tensor| x_nd.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        self.frames += x_nd.size()[0];
        let (first, second) = (sum(&x_nd), sum(&x_nd.square()));
        self.sums_d = Some(match self.sums_d.take() {
            Some((before, squares)) => (before + first, squares + second),
            None => (first, second),
        });
    }

    /// The standard deviation, averaged over dimensions, as a share of the root mean square; 0 where all is zero.
    fn spread(&self) -> f64 {
        let Some((sum_d, squares_d)) = &self.sums_d else { return 0.0 };
        let (mean_d, square_d) = (sum_d / self.frames as f64, squares_d / self.frames as f64);
        let size = square_d.mean(Kind::Double).sqrt().double_value(&[]);
        let deviation = (square_d - mean_d.square()).clamp_min(0.0).sqrt().mean(Kind::Double).double_value(&[]);
        if size == 0.0 { 0.0 } else { deviation / size }
    }
}

impl Seen {
    /// Adds a batch of one utterance.
    pub fn add(&mut self, objective: &Objective, pass: &Encoding, selection: &Selection, losses: &Losses) {
        self.masked += losses.masked;
        self.output.add(objective.output(pass));
        if let Objective::Units(units) = objective {
            self.visible(units, pass, selection);
            for class in units.predictions(pass, selection) {
                *self.predicted.entry(class).or_default() += 1;
            }
        }
        self.codes.extend(losses.targets.iter().map(|targets| targets.codes_ng.to_device(Device::Cpu)));
    }

    fn visible(&mut self, objective: &MaskedUnits, pass: &Encoding, selection: &Selection) {
        let scores = objective.score(pass, selection, false);
        let visible = objective.primary(&scores);
        self.unmasked += visible.frames;
        self.unmasked_correct += visible.correct.int64_value(&[]);
        for unit in selection.views[0].masked.units() {
            *self.units.entry(unit).or_default() += 1;
        }
    }

    /// Sums up; `draws` gives the generator that the distractors of a batch came from.
    pub fn beside(&self, objective: &Objective, draws: impl Fn(usize) -> Draws) -> Beside {
        match objective {
            Objective::Units(_) => Beside::Units {
                unmasked_accuracy: self.unmasked_correct as f64 / self.unmasked.max(1) as f64,
                most_frequent_unit: self.units.values().copied().max().unwrap_or(0) as f64 / self.masked.max(1) as f64,
            },
            Objective::Contrastive(contrastive) => self.targets(contrastive, draws),
        }
    }

    /// Units that are predicted at masked frames in effect, or entries of a codebook that they have.
    pub fn in_use(&self, objective: &Objective) -> f64 {
        match objective {
            Objective::Units(_) => entropy(&self.predicted.values().copied().collect::<Vec<_>>()).exp(),
            Objective::Contrastive(contrastive) => {
                let usage = contrastive.quantiser.usage(&Tensor::cat(&self.codes, 0));
                (usage.perplexity / contrastive.quantiser.groups() as f64).max(1.0)
            }
        }
    }

    /// How far the output's frames spread.
    pub fn spread(&self) -> f64 {
        self.output.spread()
    }

    fn targets(&self, objective: &Contrastive, draws: impl Fn(usize) -> Draws) -> Beside {
        let mut numbers: BTreeMap<Vec<i64>, u64> = BTreeMap::new();
        let mut number = |frame: usize, codes_ng: &Tensor| {
            let codes: Vec<i64> = (0..codes_ng.size()[1]).map(|g| codes_ng.int64_value(&[frame as i64, g])).collect();
            let next = numbers.len() as u64;
            *numbers.entry(codes).or_insert(next)
        };
        let utterances: Vec<Vec<u64>> = self
            .codes
            .iter()
            .map(|codes_ng| (0..codes_ng.size()[0] as usize).map(|frame| number(frame, codes_ng)).collect())
            .collect();
        let of = |index: usize| {
            let masked = utterances[index].len() as u64;
            distractors(masked, objective.negatives(), &mut draws(index))
        };
        let usage = objective.quantiser.usage(&Tensor::cat(&self.codes, 0));
        Beside::Targets {
            blind_guess: blind_guess(&utterances, of),
            code_perplexity: usage.perplexity,
            codes_used: usage.used,
        }
    }
}
