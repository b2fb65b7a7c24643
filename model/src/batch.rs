//! Which stretches of which utterances are trained on together: pure functions of (lengths, settings, seed, epoch).
//!
//! Source: fairseq `HubertDataset` and `batch_by_size`. Departs from it: crops start and end on the frame grid, so that labels line up
//! exactly, counts are not rounded to multiples of 8, and ties are broken anew every epoch.

use reprise_spec::arithmetic::{FRAME_STRIDE, FRAME_WINDOW, SAMPLE_RATE, frames};
use reprise_spec::training::{Batching, Lengths};

use crate::random::Draws;

/// An utterance as batching sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Tells its draws from those of others, whatever the order.
    pub id: String,
    pub samples: u64,
}

/// A stretch of one utterance. Start and length are on the frame grid: `start` is a multiple of 320, `samples` is 80 more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Index among the candidates.
    pub utterance: usize,
    pub start: u64,
    pub samples: u64,
}

impl Crop {
    /// Frames of 20 ms.
    pub fn frames(&self) -> u64 {
        frames(self.samples)
    }

    /// The place of a frame's label among the utterance's labels, of which there are `rate` a second; the frame starts `offset` samples
    /// into the crop. It is the label that covers the frame's first sample: every one at 50 Hz and every second one at 100 Hz for frames
    /// of 20 ms.
    pub fn label(&self, offset: u64, rate: u32) -> usize {
        ((self.start + offset) * u64::from(rate) / u64::from(SAMPLE_RATE)) as usize
    }
}

/// The most samples up to `samples` that end with a whole frame: 320 · frames + 80, or 0 where there is no frame.
pub fn snap(samples: u64) -> u64 {
    match frames(samples) {
        0 => 0,
        frames => (frames - 1) * FRAME_STRIDE + FRAME_WINDOW,
    }
}

/// The batches of one epoch, in the order in which they are trained on.
///
/// Utterances of at least `shortest` appear exactly once; utterances × longest of a batch stays within `seconds`, which also limits
/// how much of one utterance is taken. The number of batches is the same in every epoch.
pub fn epoch(candidates: &[Candidate], settings: &Batching, seed: u64, epoch: u64) -> Vec<Vec<Crop>> {
    let most = settings.seconds.samples();
    let longest = settings.longest.samples().min(most);
    let shortest = settings.shortest.samples().max(FRAME_WINDOW);
    let mut order: Vec<(u64, u64, usize)> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.samples >= shortest)
        .map(|(index, candidate)| {
            let tie = Draws::new(seed, "batch order", &[epoch], &candidate.id).torch_seed() as u64;
            (snap(candidate.samples.min(longest)), tie, index)
        })
        .collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    let mut batches: Vec<Vec<(u64, usize)>> = Vec::new();
    let mut room = 0;
    for (samples, _, index) in order {
        match batches.last_mut() {
            Some(batch) if room > 0 => batch.push((samples, index)),
            _ => {
                room = most / samples;
                batches.push(vec![(samples, index)]);
            }
        }
        room -= 1;
    }
    Draws::new(seed, "epoch order", &[epoch], "").shuffle(&mut batches);
    batches
        .into_iter()
        .map(|batch| {
            let least = batch.iter().map(|&(samples, _)| samples).min().unwrap_or(0);
            batch
                .into_iter()
                .map(|(samples, utterance)| {
                    let samples = if settings.lengths == Lengths::Crop { least } else { samples };
                    crop(&candidates[utterance], utterance, samples, seed, epoch)
                })
                .collect()
        })
        .collect()
}

fn crop(candidate: &Candidate, utterance: usize, samples: u64, seed: u64, epoch: u64) -> Crop {
    let places = (candidate.samples - samples) / FRAME_STRIDE + 1;
    let start = FRAME_STRIDE * Draws::new(seed, "crop", &[epoch], &candidate.id).below(places);
    Crop { utterance, start, samples }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::values::Seconds;

    use super::*;

    fn settings(seconds: f64, longest: f64, shortest: f64, lengths: Lengths) -> Batching {
        let seconds_of = |value| Seconds::try_from(value).unwrap();
        Batching {
            seconds: seconds_of(seconds),
            longest: seconds_of(longest),
            shortest: seconds_of(shortest),
            lengths,
            ..Batching::default()
        }
    }

    fn candidates(lengths: &[u64]) -> Vec<Candidate> {
        let candidate = |(index, &samples)| Candidate { id: format!("utterance-{index}"), samples };
        lengths.iter().enumerate().map(candidate).collect()
    }

    fn lengths() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(400u64..300_000, 1..60)
    }

    fn kinds() -> impl Strategy<Value = Lengths> {
        prop_oneof![Just(Lengths::Crop), Just(Lengths::Pad)]
    }

    proptest! {
        #[test]
        fn every_utterance_appears_once_and_limits_hold(
            lengths in lengths(), kind in kinds(), seed: u64, number in 0u64..5,
            seconds in 1.0f64..60.0, longest in 1.0f64..16.0, shortest in 0.03f64..3.0,
        ) {
            let settings = settings(seconds, longest, shortest, kind);
            let candidates = candidates(&lengths);
            let batches = epoch(&candidates, &settings, seed, number);
            let mut seen: Vec<usize> = batches.iter().flatten().map(|crop| crop.utterance).collect();
            seen.sort_unstable();
            let expected: Vec<usize> = (0..lengths.len()).filter(|&i| lengths[i] >= settings.shortest.samples()).collect();
            prop_assert_eq!(seen, expected);
            for batch in &batches {
                let widest = batch.iter().map(|crop| crop.samples).max().unwrap();
                prop_assert!(batch.len() as u64 * widest <= settings.seconds.samples());
                prop_assert!(widest <= settings.longest.samples());
                for crop in batch {
                    prop_assert_eq!(crop.start % FRAME_STRIDE, 0);
                    prop_assert!(crop.frames() > 0 && crop.samples == snap(crop.samples));
                    prop_assert!(crop.start + crop.samples <= lengths[crop.utterance]);
                    prop_assert!(kind == Lengths::Pad || crop.samples == widest);
                }
            }
        }

        #[test]
        fn the_number_of_batches_is_the_same_in_every_epoch(lengths in lengths(), seed: u64) {
            let settings = settings(40.0, 15.0, 0.5, Lengths::Crop);
            let candidates = candidates(&lengths);
            let count = |number| epoch(&candidates, &settings, seed, number).len();
            prop_assert_eq!(count(0), count(7));
        }

        #[test]
        fn crops_depend_on_seed_epoch_and_utterance_alone(lengths in lengths(), seed: u64, number: u64) {
            let settings = settings(40.0, 15.0, 0.5, Lengths::Pad);
            let all = candidates(&lengths);
            let start = |batches: Vec<Vec<Crop>>, index: usize| {
                batches.into_iter().flatten().find(|crop| crop.utterance == index).map(|crop| crop.start)
            };
            let alone = start(epoch(&all[..1], &settings, seed, number), 0);
            prop_assert_eq!(alone, start(epoch(&all, &settings, seed, number), 0));
        }

        /// The label that a frame reads is the one whose own window starts where the frame does, at either rate.
        #[test]
        fn frames_read_the_labels_that_start_where_they_do(start in 0u64..500, length in 400u64..100_000) {
            let whole = start * FRAME_STRIDE + length;
            let crop = Crop { utterance: 0, start: start * FRAME_STRIDE, samples: snap(length) };
            for t in [0, crop.frames() / 2, crop.frames() - 1] {
                let first_sample = crop.start + t * FRAME_STRIDE;
                for (rate, stride, count) in [
                    (50, FRAME_STRIDE, frames(whole)),
                    (100, reprise_spec::arithmetic::FEATURE_STRIDE, reprise_spec::arithmetic::feature_frames(whole)),
                ] {
                    let label = crop.label(t * FRAME_STRIDE, rate) as u64;
                    prop_assert_eq!(label * stride, first_sample);
                    prop_assert!(label < count);
                }
            }
        }
    }

    #[test]
    fn epochs_differ_in_order_and_crops() {
        let settings = settings(20.0, 4.0, 1.0, Lengths::Crop);
        let candidates = candidates(&[160_000; 20]);
        assert_ne!(epoch(&candidates, &settings, 1, 0), epoch(&candidates, &settings, 1, 1));
        assert_eq!(epoch(&candidates, &settings, 1, 3), epoch(&candidates, &settings, 1, 3));
    }
}
