//! A recogniser: the HuBERT encoder, one output layer, and the CTC loss.
//!
//! Shape suffixes: B utterances, T frames of 20 or 40 ms, C front-end width, D encoder width, V symbols with the blank first.
//! Source: HuBERT (arXiv:2106.07447) section 4.3, CTC (Graves et al. 2006); fairseq `HubertCtc`. Parameters bear the names of Hugging Face's
//! `HubertForCTC`. Departs from fairseq: each utterance passes the front-end by itself, so that padding never reaches its group norm
//! and what shares a batch with an utterance does not change its frames; but the sampling modules of a hierarchy normalise over padding.

use std::borrow::Cow;

use reprise_spec::finetuning::Finetuning;
use reprise_spec::network::{FrontEnd, Initialisation, Network};
use tch::nn::{Init, Path};
use tch::{Device, Kind, Reduction, Tensor};

use crate::encoder::Mode;
use crate::hubert::{Hubert, Masks};
use crate::layers::{Linear, parameter};
use crate::loader;
use crate::vocabulary::BLANK;

/// Parameters `hubert.*` and `lm_head.*`.
#[derive(Debug)]
pub struct CtcModel {
    pub hubert: Hubert,
    output: Linear,
    dropout: f64,
    normalise_waveform: bool,
}

/// Front-end frames of several utterances, those of shorter ones followed by zeros.
#[derive(Debug)]
pub struct Frames {
    features_btc: Tensor,
    lengths: Vec<u64>,
}

impl Frames {
    /// Puts utterances of 1 × T × C side by side.
    pub fn side_by_side(utterances: &[Tensor]) -> Self {
        let lengths: Vec<u64> = utterances.iter().map(|features_1tc| features_1tc.size()[1] as u64).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0) as i64;
        let padded: Vec<Tensor> = utterances
            .iter()
            .map(|features_1tc| features_1tc.constant_pad_nd([0, 0, 0, longest - features_1tc.size()[1]]))
            .collect();
        Self { features_btc: Tensor::cat(&padded, 0), lengths }
    }

    /// Frames of each utterance.
    pub fn lengths(&self) -> &[u64] {
        &self.lengths
    }
}

/// `network` as it is while fine-tuning: with the dropout and layer drop of `settings`.
pub fn regularised(network: &Network, settings: &Finetuning) -> Network {
    let mut network = network.clone();
    network.dropout.residual = settings.dropout.residual;
    network.dropout.attention = settings.dropout.attention;
    network.dropout.activation = settings.dropout.activation;
    network.dropout.input = settings.dropout.input;
    network.encoder.layer_drop = settings.layer_drop;
    network
}

impl CtcModel {
    /// Registers the parameters below `path` and draws them from libtorch's CPU generator, which the caller has seeded: HuBERT as for
    /// pretraining, the output layer Xavier-uniform (from N(0, 0.02) under Hugging Face's rule) with bias 0. `dropout` stands before the output layer.
    pub fn new(path: &Path, network: &Network, symbols: usize, dropout: f64) -> Self {
        let (width, symbols) = (i64::from(network.encoder.width.get()), symbols as i64);
        let hubert = Hubert::new(&(path / "hubert"), network);
        let head = path / "lm_head";
        let bound = (6.0 / (width + symbols) as f64).sqrt();
        let output = match network.encoder.initialisation {
            Initialisation::HuggingFace => Linear::bert(&head, width, symbols),
            Initialisation::Fairseq => Linear {
                weight: parameter(&head, "weight", &[symbols, width], Init::Uniform { lo: -bound, up: bound }),
                bias: parameter(&head, "bias", &[symbols], Init::Const(0.0)),
            },
        };
        let normalise_waveform = matches!(&network.front_end, FrontEnd::Wave(wave) if wave.normalise_waveform);
        Self { hubert, output, dropout, normalise_waveform }
    }

    /// Front-end frames of one whole utterance at 16 kHz: 1 × T × C.
    pub fn features(&self, wave: &[f32]) -> Tensor {
        let mut wave = Cow::Borrowed(wave);
        if self.normalise_waveform {
            loader::standardise(wave.to_mut());
        }
        let wave_1s = Tensor::from_slice(&wave).unsqueeze(0).to_device(self.output.weight.device());
        self.hubert.front_end.forward(&wave_1s, None, Mode::Evaluate)
    }

    /// Scores of every symbol at every frame, B × T × V; frames beyond an utterance's own mean nothing.
    pub fn logits(&self, frames: &Frames, masks: &Masks, mode: Mode) -> Tensor {
        let x_btd = self.hubert.encode(&frames.features_btc, &frames.lengths, masks, mode);
        self.output.forward(&mode.dropout(x_btd, self.dropout))
    }
}

/// The CTC loss in nats, summed over the batch; a scalar on the CPU.
///
/// `lengths` are valid frames of each row and `labels` symbols without blanks, each of which must fit its frames
/// ([`crate::vocabulary::frames_needed`]), or the loss is infinite. Computed in single precision on the CPU, because CTC's backward pass
/// on CUDA has no deterministic form.
pub fn loss(logits_btv: &Tensor, lengths: &[u64], labels: &[&[i64]]) -> Tensor {
    let log_probabilities_tbv = logits_btv.log_softmax(-1, Kind::Float).transpose(0, 1).to_device(Device::Cpu);
    let lengths: Vec<i64> = lengths.iter().map(|&length| length as i64).collect();
    let label_lengths: Vec<i64> = labels.iter().map(|label| label.len() as i64).collect();
    let targets = Tensor::from_slice(&labels.concat());
    Tensor::ctc_loss(&log_probabilities_tbv, &targets, lengths, label_lengths, BLANK, Reduction::Sum, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// −ln Σ over all paths that collapse to the label.
    fn by_enumeration(probabilities: &[Vec<f64>], label: &[i64]) -> f64 {
        let (frames, symbols) = (probabilities.len() as u32, probabilities[0].len());
        let mut total = 0.0;
        for mut code in 0..symbols.pow(frames) {
            let mut path = Vec::new();
            let mut probability = 1.0;
            for row in probabilities {
                path.push((code % symbols) as i64);
                probability *= row[code % symbols];
                code /= symbols;
            }
            if crate::greedy::collapse(&path) == label {
                total += probability;
            }
        }
        -total.ln()
    }

    #[test]
    fn the_loss_sums_all_paths_of_the_label() {
        tch::manual_seed(3);
        let logits = Tensor::randn([2, 5, 3], (Kind::Float, Device::Cpu));
        let labels: [&[i64]; 2] = [&[1, 1], &[2]];
        let probabilities = logits.softmax(-1, Kind::Double);
        let expected: f64 = [(0, 5, labels[0]), (1, 3, labels[1])]
            .into_iter()
            .map(|(row, frames, label)| {
                let rows: Vec<Vec<f64>> = Vec::try_from(probabilities.get(row).narrow(0, 0, frames)).unwrap();
                by_enumeration(&rows, label)
            })
            .sum();
        let found = loss(&logits, &[5, 3], &labels).double_value(&[]);
        assert!((found - expected).abs() < 1e-5, "{found} against {expected}");
    }

    #[test]
    fn an_empty_label_is_all_blanks() {
        let logits = Tensor::zeros([1, 4, 3], (Kind::Float, Device::Cpu));
        let found = loss(&logits, &[4], &[&[]]).double_value(&[]);
        assert!((found - 4.0 * 3f64.ln()).abs() < 1e-5, "{found}");
    }

    #[test]
    fn padding_gets_no_gradient() {
        let logits = Tensor::zeros([2, 4, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        loss(&logits, &[4, 2], &[&[1, 2], &[2]]).backward();
        assert_eq!(logits.grad().get(1).narrow(0, 2, 2).abs().sum(Kind::Float).double_value(&[]), 0.0);
    }
}
