//! Decodes and crops the next batches in the background, so that computing never waits for audio.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use tch::Tensor;

use crate::batch::Crop;
use crate::corpus::Corpora;
use crate::failure::StageError;

/// Batches that wait ready at most.
const AHEAD: usize = 2;

/// The audio of one batch, on the CPU.
#[derive(Debug)]
pub struct Waves {
    pub crops: Vec<Crop>,
    /// B × S `f32`, zero behind the end of shorter rows.
    pub wave_bs: Tensor,
    /// Samples of each row.
    pub lengths: Vec<u64>,
}

/// Batches in the order of the plan that it was started with; ends with it, or after an error. Dropping it ends the thread.
#[derive(Debug)]
pub struct Loader {
    batches: Receiver<Result<Waves, StageError>>,
}

impl Loader {
    /// Starts loading. `Crop::utterance` counts through [`Corpora::iter`]. `normalise` brings each whole utterance to zero mean and
    /// unit variance before it is cropped.
    pub fn start(
        corpora: Arc<Corpora>,
        normalise: bool,
        plan: impl Iterator<Item = Vec<Crop>> + Send + 'static,
    ) -> Self {
        let (sender, batches) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            for crops in plan {
                let waves = load(&corpora, normalise, crops);
                let failed = waves.is_err();
                if sender.send(waves).is_err() || failed {
                    return;
                }
            }
        });
        Self { batches }
    }
}

impl Iterator for Loader {
    type Item = Result<Waves, StageError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.recv().ok()
    }
}

/// Loads one batch now.
pub fn load(corpora: &Corpora, normalise: bool, crops: Vec<Crop>) -> Result<Waves, StageError> {
    let lengths: Vec<u64> = crops.iter().map(|crop| crop.samples).collect();
    let width = lengths.iter().copied().max().unwrap_or(0) as usize;
    let mut flat = vec![0f32; crops.len() * width];
    for (crop, row) in crops.iter().zip(flat.chunks_mut(width.max(1))) {
        let (corpus, utterance) = find(corpora, crop.utterance).ok_or_else(|| {
            StageError::Failed(format!("a batch names utterance {}, which is not there", crop.utterance))
        })?;
        let row = &mut row[..crop.samples as usize];
        if normalise {
            let mut wave = corpus.wave(utterance)?;
            standardise(&mut wave);
            let start = crop.start as usize;
            row.copy_from_slice(&wave[start..start + row.len()]);
        } else {
            row.copy_from_slice(&corpus.crop(utterance, crop.start, crop.samples)?);
        }
    }
    let wave_bs = Tensor::f_from_slice(&flat)?.view([crops.len() as i64, width as i64]);
    Ok(Waves { crops, wave_bs, lengths })
}

fn find(corpora: &Corpora, index: usize) -> Option<(&crate::corpus::Corpus, &crate::corpus::Utterance)> {
    let mut index = index;
    for (_, corpus) in &corpora.splits {
        match corpus.utterances.get(index) {
            Some(utterance) => return Some((corpus, utterance)),
            None => index -= corpus.utterances.len(),
        }
    }
    None
}

/// Zero mean and unit variance (biased, ε = 1e-5), as fairseq's `layer_norm(wav, wav.shape)`.
pub fn standardise(wave: &mut [f32]) {
    let count = wave.len().max(1) as f64;
    let mean = wave.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = wave.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    let scale = (variance + 1e-5).sqrt().recip();
    for x in wave {
        *x = ((f64::from(*x) - mean) * scale) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standardised_wave_has_no_mean_and_unit_variance() {
        let mut wave: Vec<f32> = (0..1000).map(|n| 0.25 + 0.5 * (n as f32 * 0.37).sin()).collect();
        standardise(&mut wave);
        let mean = wave.iter().sum::<f32>() / 1000.0;
        let variance = wave.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 1000.0;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
    }
}
