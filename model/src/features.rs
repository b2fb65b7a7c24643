//! Acoustic features at 100 Hz: Kaldi's log-mel filter bank and MFCC, with differences over time.
//!
//! Shape suffixes: B utterances, S samples at 16 kHz, T frames of 10 ms (window 25 ms, edges snipped, so that frame `t` covers
//! `[160t, 160t + 400)`), F bins of the spectrum, M mel bins, C cepstra, D dimensions.
//! Source: Kaldi's `compute-fbank-feats` and `compute-mfcc-feats` without dither and without energy, on waves in `[-1, 1]`; HuBERT's
//! first targets (arXiv:2106.07447, section III-A) are [`Mfcc::with_deltas`]. There is no normalisation of any kind.

use reprise_spec::arithmetic::{FEATURE_STRIDE, FRAME_WINDOW, SAMPLE_RATE};
use reprise_spec::network::FeatureKind;
use tch::{Device, Kind, Tensor};

/// Points of the discrete Fourier transform: the next power of two above the window.
const FFT: i64 = 512;
const BINS: usize = FFT as usize / 2 + 1;
/// Povey's window is Hann's to this power.
const POVEY: f64 = 0.85;
const PREEMPHASIS: f64 = 0.97;
const LOWEST_HZ: f64 = 20.0;
const CEPSTRA: usize = 13;
const CEPSTRAL_BINS: usize = 23;
const LIFTER: f64 = 22.0;
/// Frames to each side that a difference looks at.
const DELTA_REACH: i64 = 2;
/// Frames of a single wave that pass through all steps together on the CPU: what lies between the steps then stays in its cache.
const BLOCK: i64 = 256;
/// Bins of log-mel features.
pub const MEL_BINS: usize = 80;

/// What computes one kind of features.
#[derive(Debug)]
pub enum Extractor {
    Mfcc(Mfcc),
    LogMel(LogMel),
}

impl Extractor {
    /// Prepares for `kind` on `device`.
    pub fn new(kind: FeatureKind, device: Device) -> Self {
        match kind {
            FeatureKind::Mfcc => Self::Mfcc(Mfcc::new(device)),
            FeatureKind::LogMel => Self::LogMel(LogMel::new(MEL_BINS, device)),
        }
    }

    /// Numbers a frame.
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Mfcc(_) => Mfcc::DIMENSIONS,
            Self::LogMel(_) => MEL_BINS,
        }
    }

    /// Features of waves (B × S, on the extractor's device) as B × T × D.
    pub fn forward(&self, wave_bs: &Tensor) -> Tensor {
        match self {
            Self::Mfcc(mfcc) => mfcc.with_deltas(wave_bs),
            Self::LogMel(log_mel) => log_mel.forward(wave_bs),
        }
    }
}

/// Kaldi's log-mel filter bank with its constants on one device.
#[derive(Debug)]
pub struct LogMel {
    window_s: Tensor,
    filters_fm: Tensor,
}

impl LogMel {
    /// A bank of `bins` triangular filters, evenly spaced in mel from 20 Hz to 8 kHz.
    pub fn new(bins: usize, device: Device) -> Self {
        let hann_s = Tensor::hann_window_periodic(FRAME_WINDOW as i64, false, (Kind::Float, Device::Cpu));
        Self {
            window_s: hann_s.pow_tensor_scalar(POVEY).to_device(device),
            filters_fm: constant(&mel_filters(bins), &[BINS, bins], device),
        }
    }

    /// Natural logarithm of the mel energies, floored at the smallest step of `f32` at 1; in single precision where autocast is off.
    ///
    /// `wave_bs` is `f32` in `[-1, 1]` with at least 400 samples; the result is B × T × M.
    pub fn forward(&self, wave_bs: &Tensor) -> Tensor {
        let frames_bts = wave_bs.unfold(1, FRAME_WINDOW as i64, FEATURE_STRIDE as i64);
        if (wave_bs.device(), wave_bs.kind(), wave_bs.requires_grad()) != (Device::Cpu, Kind::Float, false) {
            return logarithms(&self.power(&frames_bts).matmul(&self.filters_fm));
        }
        let of_row = |row| self.of_one(&wave_bs.narrow(0, row, 1), &frames_bts.narrow(0, row, 1));
        let rows: Vec<Tensor> = (0..wave_bs.size()[0]).map(of_row).collect();
        logarithms(&Tensor::cat(&rows, 0))
    }

    /// Of frames (B × T × S) as B × T × F.
    fn power(&self, frames_bts: &Tensor) -> Tensor {
        let frames_bts = frames_bts - frames_bts.mean_dim(-1, true, Kind::Float);
        let previous_bts =
            Tensor::cat(&[frames_bts.narrow(-1, 0, 1), frames_bts.narrow(-1, 0, FRAME_WINDOW as i64 - 1)], -1);
        let frames_bts = (frames_bts - previous_bts * PREEMPHASIS) * &self.window_s;
        let spectrum_btf2 = frames_bts.fft_rfft(FFT, -1, "backward").view_as_real();
        spectrum_btf2.square().sum_dim_intlist(-1, false, Kind::Float)
    }

    /// Mel energies (1 × T × M) of a single wave on the CPU, to the bit what [`LogMel::power`] and its product give: in blocks of frames, and
    /// what libtorch does number by number, a pass over memory for each operation, in one go.
    fn of_one(&self, wave_1s: &Tensor, frames_1ts: &Tensor) -> Tensor {
        let (count, bins) = (frames_1ts.size()[1], self.filters_fm.size()[1]);
        let wave_1s = wave_1s.contiguous();
        let means_t = frames_1ts.mean_dim(-1, false, Kind::Float).contiguous();
        let (wave, means, window) = (numbers(&wave_1s), numbers(&means_t), numbers(&self.window_s));
        let mel_tm = Tensor::empty([count, bins], (Kind::Float, Device::Cpu));
        let blocks = (count / BLOCK).max(1);
        // The last block takes what is left over, so that none is so short that its product is computed otherwise.
        let largest = count - (blocks - 1) * BLOCK;
        let mut frames_ts = Tensor::zeros([largest, FFT], (Kind::Float, Device::Cpu));
        let mut power_tf = Tensor::zeros([largest, BINS as i64], (Kind::Float, Device::Cpu));
        for block in 0..blocks {
            let (start, length) = (block * BLOCK, if block + 1 == blocks { largest } else { BLOCK });
            let mine = start as usize..(start + length) as usize;
            for (frame, t) in numbers_mut(&mut frames_ts).chunks_exact_mut(FFT as usize).zip(mine) {
                emphasise(&wave[t * FEATURE_STRIDE as usize..][..FRAME_WINDOW as usize], means[t], window, frame);
            }
            let spectrum_tf2 = frames_ts.narrow(0, 0, length).fft_rfft(FFT, -1, "backward").view_as_real().contiguous();
            for (power, parts) in numbers_mut(&mut power_tf).iter_mut().zip(numbers(&spectrum_tf2).chunks_exact(2)) {
                *power = parts[0] * parts[0] + parts[1] * parts[1];
            }
            let product_tm = power_tf.narrow(0, 0, length).matmul(&self.filters_fm);
            mel_tm.narrow(0, start, length).copy_(&product_tm);
        }
        mel_tm.unsqueeze(0)
    }
}

/// A frame without its mean, pre-emphasised, under the window: the first numbers of `frame`, whose others stay.
fn emphasise(wave: &[f32], mean: f32, window: &[f32], frame: &mut [f32]) {
    let emphasis = PREEMPHASIS as f32;
    frame[0] = ((wave[0] - mean) - (wave[0] - mean) * emphasis) * window[0];
    for ((number, pair), window) in frame[1..].iter_mut().zip(wave.windows(2)).zip(&window[1..]) {
        *number = ((pair[1] - mean) - (pair[0] - mean) * emphasis) * window;
    }
}

fn logarithms(mel_btm: &Tensor) -> Tensor {
    mel_btm.clamp_min(f64::from(f32::EPSILON)).log()
}

/// The numbers of a contiguous `f32` tensor on the CPU.
fn numbers(tensor: &Tensor) -> &[f32] {
    assert!(tensor.is_contiguous() && tensor.kind() == Kind::Float && tensor.device() == Device::Cpu);
    // SAFETY: the tensor owns as many numbers from its first on, which nobody changes while it is borrowed.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
}

/// [`numbers`] to be changed.
fn numbers_mut(tensor: &mut Tensor) -> &mut [f32] {
    let count = numbers(tensor).len();
    // SAFETY: as in `numbers`; the tensor shares its numbers with no other while it is borrowed.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), count) }
}

/// Kaldi's MFCC: 13 cepstra of 23 mel bins, the first of them the mean of the logarithms and not an energy.
#[derive(Debug)]
pub struct Mfcc {
    log_mel: LogMel,
    cosines_mc: Tensor,
}

impl Mfcc {
    /// Dimensions of [`Mfcc::with_deltas`].
    pub const DIMENSIONS: usize = 3 * CEPSTRA;

    /// Prepares the constants on `device`.
    pub fn new(device: Device) -> Self {
        Self {
            log_mel: LogMel::new(CEPSTRAL_BINS, device),
            cosines_mc: constant(&liftered_cosines(), &[CEPSTRAL_BINS, CEPSTRA], device),
        }
    }

    /// Cepstra of waves as [`LogMel::forward`] takes them: B × T × 13.
    pub fn forward(&self, wave_bs: &Tensor) -> Tensor {
        self.log_mel.forward(wave_bs).matmul(&self.cosines_mc)
    }

    /// Cepstra, their differences, and the differences of those: B × T × 39.
    pub fn with_deltas(&self, wave_bs: &Tensor) -> Tensor {
        let cepstra_btc = self.forward(wave_bs);
        let first_btc = deltas(&cepstra_btc);
        let second_btc = deltas(&first_btc);
        Tensor::cat(&[cepstra_btc, first_btc, second_btc], -1)
    }
}

/// Differences over time, Σₙ n·(xₜ₊ₙ − xₜ₋ₙ) / 10 for n = 1, 2, with the outermost frames repeated beyond the edges: B × T × D.
pub fn deltas(x_btd: &Tensor) -> Tensor {
    let last = x_btd.size()[1] - 1;
    let shifted = |by: i64| {
        let at_t = (Tensor::arange(last + 1, (Kind::Int64, x_btd.device())) + by).clamp(0, last);
        x_btd.index_select(1, &at_t)
    };
    let sum_btd: Tensor = (1..=DELTA_REACH).map(|n| (shifted(n) - shifted(-n)) * n as f64).sum();
    let scale: i64 = 2 * (1..=DELTA_REACH).map(|n| n * n).sum::<i64>();
    sum_btd / scale as f64
}

fn constant(numbers: &[f64], shape: &[usize], device: Device) -> Tensor {
    let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    Tensor::from_slice(numbers).view(&shape[..]).to_kind(Kind::Float).to_device(device)
}

fn mel(hz: f64) -> f64 {
    1127.0 * (1.0 + hz / 700.0).ln()
}

/// F × M weights of the triangular filters; the bin at 8 kHz belongs to none.
fn mel_filters(bins: usize) -> Vec<f64> {
    let nyquist = f64::from(SAMPLE_RATE) / 2.0;
    let (low, high) = (mel(LOWEST_HZ), mel(nyquist));
    let width = (high - low) / (bins + 1) as f64;
    let mut weights = vec![0.0; BINS * bins];
    for f in 0..BINS - 1 {
        let at = (mel(f as f64 * nyquist / (BINS - 1) as f64) - low) / width;
        for m in 0..bins {
            weights[f * bins + m] = (at - m as f64).min(m as f64 + 2.0 - at).max(0.0);
        }
    }
    weights
}

/// M × C matrix of the orthonormal cosine transform (type II) with Kaldi's lifter, 1 + 11·sin(πc/22), multiplied in.
fn liftered_cosines() -> Vec<f64> {
    let mels = CEPSTRAL_BINS as f64;
    let mut matrix = Vec::with_capacity(CEPSTRAL_BINS * CEPSTRA);
    for m in 0..CEPSTRAL_BINS {
        for c in 0..CEPSTRA {
            let angle = std::f64::consts::PI / mels * (m as f64 + 0.5) * c as f64;
            let norm = if c == 0 { (1.0 / mels).sqrt() } else { (2.0 / mels).sqrt() };
            let lifter = 1.0 + 0.5 * LIFTER * (std::f64::consts::PI * c as f64 / LIFTER).sin();
            matrix.push(norm * angle.cos() * lifter);
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_on_a_cpu_have_the_bits_of_the_common_way() {
        for (rows, bins, frames) in [
            (1, CEPSTRAL_BINS, 1),
            (3, 40, 1),
            (1, 40, 2),
            (2, CEPSTRAL_BINS, 511),
            (1, CEPSTRAL_BINS, 512),
            (4, 40, 798),
            (1, MEL_BINS, 513),
            (1, 40, 1025),
            (5, 80, 1300),
        ] {
            let log_mel = LogMel::new(bins, Device::Cpu);
            let samples = FRAME_WINDOW as i64 + (frames - 1) * FEATURE_STRIDE as i64 + 7;
            let angles = Tensor::arange(rows * samples, (Kind::Float, Device::Cpu)).remainder(100_003).square() * 1e-6;
            let wave_bs = angles.sin().view([rows, samples]);
            let frames_bts = wave_bs.unfold(1, FRAME_WINDOW as i64, FEATURE_STRIDE as i64);
            let common_btm = logarithms(&log_mel.power(&frames_bts).matmul(&log_mel.filters_fm));
            assert_eq!(common_btm.size(), [rows, frames, bins as i64]);
            assert!(log_mel.forward(&wave_bs).equal(&common_btm), "{rows} × {frames} frames of {bins} bins");
        }
    }
}
