//! Log-mel frames of 10 ms, two stacked to a frame of 20 ms: the cheap front-end, without parameters.
//!
//! Shape suffixes: B utterances, S samples at 16 kHz, F log-mel frames, M bins, T frames of 20 ms.
//! Source: MelHuBERT (arXiv:2211.09944) section 3.1. Departs from it: frame t stacks log-mel frames 2t and 2t + 1, the count is the
//! wave front-end's, so that labels and alignments line up alike, and nothing is normalised by statistics of the corpus.

use reprise_spec::arithmetic;
use reprise_spec::network::LogMelFrontEnd as Settings;
use tch::{Device, Tensor};

use crate::features::LogMel;

/// The filter bank.
#[derive(Debug)]
pub struct LogMelFrontEnd {
    bank: LogMel,
    bins: i64,
}

impl LogMelFrontEnd {
    /// Prepares the filter bank on `device`.
    pub fn new(settings: &Settings, device: Device) -> Self {
        let bins = settings.bins.get();
        Self { bank: LogMel::new(bins as usize, device), bins: i64::from(bins) }
    }

    pub fn width(&self) -> i64 {
        2 * self.bins
    }

    /// B × S to B × T × 2M. Where the last frame lacks its second half, the first is repeated.
    pub fn forward(&self, wave_bs: &Tensor) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let (rows, samples) = wave_bs.size2().expect("a wave has two dimensions");
        let frames = arithmetic::frames(samples as u64) as i64;
        let mel_bfm = self.bank.forward(wave_bs);
        let missing = 2 * frames - mel_bfm.size()[1];
        let mel_bfm = if missing > 0 {
            Tensor::cat(&[&mel_bfm, &mel_bfm.narrow(1, -1, 1)], 1)
        } else {
            mel_bfm.narrow(1, 0, 2 * frames)
        };
        mel_bfm.contiguous().view([rows, frames, self.width()])
    }
}
