//! Decodes and crops the next batches in the background, so that computing never waits for audio.
//!
//! Threads take batches from one plan and hand them over in its order. What is in a batch depends on the plan alone, so the number of threads
//! changes no bit.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tch::Tensor;

use crate::batch::Crop;
use crate::corpus::Corpora;
use crate::failure::StageError;

/// The audio of one batch, on the CPU.
#[derive(Debug)]
pub struct Waves {
    pub crops: Vec<Crop>,
    /// B × S `f32`, zero behind the end of shorter rows.
    pub wave_bs: Tensor,
    /// Samples of each row.
    pub lengths: Vec<u64>,
}

type Loaded = Result<Waves, StageError>;

/// Where a batch arrives when it is loaded.
type Awaited = Receiver<Loaded>;

/// Batches in the order of the plan that it was started with; ends with it, or after an error. Dropping it ends the threads.
#[derive(Debug)]
pub struct Loader {
    /// The batches that were begun, in the order of the plan; `None` after the end.
    begun: Option<Receiver<Awaited>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share: which batch comes next, and who is told that it was begun.
struct Queue<P> {
    plan: P,
    begun: SyncSender<Awaited>,
}

impl Loader {
    /// Starts loading with so many threads, at least one; `ahead` batches wait ready at most, beside those that the threads are at.
    /// `Crop::utterance` counts through [`Corpora::iter`]. `normalise` brings each whole utterance to zero mean and unit variance before it
    /// is cropped.
    pub fn start(
        corpora: Arc<Corpora>,
        normalise: bool,
        threads: u32,
        ahead: usize,
        plan: impl Iterator<Item = Vec<Crop>> + Send + 'static,
    ) -> Self {
        let (sender, begun) = sync_channel(ahead + threads.max(1) as usize);
        let queue = Arc::new(Mutex::new(Queue { plan, begun: sender }));
        let work = || {
            let (corpora, queue) = (corpora.clone(), queue.clone());
            std::thread::spawn(move || {
                while let Some((crops, loaded)) = begin(&queue) {
                    // Nobody waits for it any more when the loader was dropped.
                    let _ = loaded.send(load(&corpora, normalise, crops));
                }
            })
        };
        let threads = (0..threads.max(1)).map(|_| work()).collect();
        Self { begun: Some(begun), threads }
    }

    /// Lets the threads end, and waits for the batches that they are at.
    fn end(&mut self) {
        self.begun = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has left a batch that never arrives, which `next` tells.
            let _ = thread.join();
        }
    }
}

/// The next batch of the plan and where to send it; `None` after the last, or when nobody waits for more. Waits while enough batches are begun.
fn begin<P: Iterator<Item = Vec<Crop>>>(queue: &Mutex<Queue<P>>) -> Option<(Vec<Crop>, SyncSender<Loaded>)> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let crops = queue.plan.next()?;
    let (sender, loaded) = sync_channel(1);
    queue.begun.send(loaded).ok()?;
    Some((crops, sender))
}

impl Iterator for Loader {
    type Item = Loaded;

    fn next(&mut self) -> Option<Self::Item> {
        let awaited = self.begun.as_ref()?.recv().ok()?;
        let lost = || Err(StageError::Failed("a thread that loads audio has ended without its batch".into()));
        let waves = awaited.recv().unwrap_or_else(|_| lost());
        if waves.is_err() {
            self.end();
        }
        Some(waves)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.end();
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
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use reprise_spec::network::Network;
    use reprise_spec::training::{Batching, Lengths, SpanMasking};
    use reprise_spec::values::{Seconds, SplitName};

    use super::*;
    use crate::audio::tests::wav;
    use crate::batch::{self, Candidate};
    use crate::corpus::{Corpus, Utterance, table};
    use crate::framing::Framing;
    use crate::mask;
    use crate::random::Draws;

    const SEED: u64 = 7;

    /// Noise in files of odd lengths, those of `missing` left out.
    fn corpora(folder: &std::path::Path, missing: &[usize]) -> Arc<Corpora> {
        let utterances: Vec<Utterance> = (0..23u64)
            .map(|index| {
                let (id, samples) = (format!("u{index:02}"), 4_001 + 1_379 * ((index * 11) % 23));
                let path = format!("{id}.wav");
                let mut draws = Draws::new(SEED, "noise", &[index], "");
                let noise: Vec<i16> = (0..samples).map(|_| draws.below(20_000) as i16 - 10_000).collect();
                if !missing.contains(&(index as usize)) {
                    fs::write(folder.join(&path), wav(16_000, 1, &noise)).unwrap();
                }
                Utterance { id, path, samples, speaker: "s".into(), transcript: None }
            })
            .collect();
        fs::write(folder.join("utterances.tsv"), table(&utterances)).unwrap();
        fs::write(folder.join("corpus.json"), r#"{"transcribed":false,"conversion":"refuse"}"#).unwrap();
        let split = SplitName::try_from("train".to_owned()).unwrap();
        Arc::new(Corpora { splits: vec![(split, Corpus::read(folder, folder).unwrap())] })
    }

    /// Three epochs of batches.
    fn plan(corpora: &Corpora, lengths: Lengths) -> Vec<Vec<Crop>> {
        let seconds = |value: f64| Seconds::try_from(value).unwrap();
        let (seconds, longest, shortest) = (seconds(4.0), seconds(1.3), seconds(0.3));
        let settings = Batching { seconds, longest, shortest, lengths, ..Batching::default() };
        let framing = Framing::new(&Network::default(), &settings);
        let candidate = |utterance: &Utterance| Candidate { id: utterance.id.clone(), samples: utterance.samples };
        let candidates: Vec<Candidate> = corpora.iter().map(|(_, _, utterance)| candidate(utterance)).collect();
        (0..3).flat_map(|epoch| batch::epoch(&candidates, &settings, &framing, SEED, epoch)).collect()
    }

    /// Everything that training sees of a batch: crops, samples by their bits, and masks.
    type Seen = (Vec<Crop>, Vec<u64>, Vec<i64>, Vec<u32>, Vec<Vec<bool>>);

    fn seen(waves: Waves) -> Seen {
        let bits = Vec::<f32>::try_from(waves.wave_bs.flatten(0, -1)).unwrap().into_iter().map(f32::to_bits).collect();
        let draws = |crop: &Crop| Draws::new(SEED, "pretrain mask", &[0], &crop.utterance.to_string());
        let positions = waves.crops.iter().map(|crop| (crop.samples / 320, draws(crop)));
        let masks = mask::rows(&SpanMasking::default(), positions);
        let size = waves.wave_bs.size();
        (waves.crops, waves.lengths, size, bits, masks)
    }

    #[test]
    fn batches_and_masks_are_equal_to_the_bit_with_any_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        for (normalise, lengths) in [(true, Lengths::Crop), (false, Lengths::Pad)] {
            let with = |threads: u32| -> Vec<Seen> {
                let corpora = corpora(folder.path(), &[]); // nothing decoded yet
                let plan = plan(&corpora, lengths);
                let count = plan.len();
                let all: Vec<Seen> = Loader::start(corpora, normalise, threads, 2, plan.into_iter())
                    .map(|waves| seen(waves.unwrap()))
                    .collect();
                assert_eq!(all.len(), count);
                all
            };
            let one = with(1);
            assert!(one.iter().any(|(_, lengths, ..)| lengths.iter().any(|length| *length != lengths[0])) || normalise);
            for threads in [2, 4] {
                assert!(with(threads) == one, "{threads} threads");
            }
        }
    }

    #[test]
    fn a_file_that_is_missing_ends_the_batches_where_the_plan_has_it() {
        for threads in [1, 4] {
            let folder = tempfile::tempdir().unwrap();
            let corpora = corpora(folder.path(), &[3]);
            let plan = plan(&corpora, Lengths::Crop);
            let at = plan.iter().position(|crops| crops.iter().any(|crop| crop.utterance == 3)).unwrap();
            let mut loader = Loader::start(corpora, false, threads, 2, plan.into_iter());
            for _ in 0..at {
                assert!(loader.next().unwrap().is_ok());
            }
            let error = loader.next().unwrap().unwrap_err().to_string();
            assert!(error.contains("u03.wav"), "{error}");
            assert!(loader.next().is_none());
        }
    }

    #[test]
    fn a_loader_that_is_dropped_ends_its_threads_and_has_not_run_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let corpora = corpora(folder.path(), &[]);
        let batch = plan(&corpora, Lengths::Crop).remove(0);
        for threads in [1, 4] {
            let begun = Arc::new(AtomicUsize::new(0));
            let counter = begun.clone();
            let endless = std::iter::repeat(batch.clone()).inspect(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            let mut loader = Loader::start(corpora.clone(), false, threads, 2, endless);
            assert!(loader.next().unwrap().is_ok());
            drop(loader);
            assert_eq!(Arc::strong_count(&begun), 1, "no thread has the plan any more");
            // One was taken; then those that wait, those that the threads were at, and those that nobody wanted.
            assert!(begun.load(Ordering::Relaxed) <= 1 + 2 + 2 * threads as usize);
        }
    }

    #[test]
    fn a_standardised_wave_has_no_mean_and_unit_variance() {
        let mut wave: Vec<f32> = (0..1000).map(|n| 0.25 + 0.5 * (n as f32 * 0.37).sin()).collect();
        standardise(&mut wave);
        let mean = wave.iter().sum::<f32>() / 1000.0;
        let variance = wave.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 1000.0;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
    }
}
