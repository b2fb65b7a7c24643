//! Which stretches of which utterances are trained on together: pure functions of (lengths, settings, seed, epoch).
//!
//! Source: fairseq `HubertDataset` and `batch_by_size`. Departs from it: crops start and end on the frame grid, so that labels line up
//! exactly unless the settings say otherwise, counts are not rounded to multiples of 8, and ties are broken anew every epoch.

use reprise_spec::arithmetic::FRAME_WINDOW;
use reprise_spec::training::{Batching, Lengths};

use crate::framing::Framing;
use crate::random::Draws;

/// An utterance as batching sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Tells its draws from those of others, whatever the order.
    pub id: String,
    pub samples: u64,
}

/// A stretch of one utterance, which starts and ends where [`Framing`] allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Index among the candidates.
    pub utterance: usize,
    pub start: u64,
    pub samples: u64,
}

/// The batches of one epoch, in the order in which they are trained on.
///
/// Utterances of at least `shortest` appear exactly once; utterances × longest of a batch stays within [`Batching::samples`], which also
/// limits how much of one utterance is taken. The number of batches is the same in every epoch.
pub fn epoch(
    candidates: &[Candidate],
    settings: &Batching,
    framing: &Framing,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<Crop>> {
    let most = settings.samples();
    let longest = settings.longest.samples().min(most);
    let shortest = settings.shortest.samples().max(FRAME_WINDOW);
    let mut order: Vec<(u64, u64, usize)> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.samples >= shortest)
        .map(|(index, candidate)| {
            let tie = Draws::new(seed, "batch order", &[epoch], &candidate.id).torch_seed() as u64;
            (framing.length(candidate.samples.min(longest)), tie, index)
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
                    crop(&candidates[utterance], utterance, samples, framing, seed, epoch)
                })
                .collect()
        })
        .collect()
}

/// How the batches of every epoch become steps: as many as are accumulated, and in an epoch's last step those that are left.
///
/// Source: fairseq `GroupedIterator`, with the workers' batches as parts of the step.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    batches: u64,
    accumulation: u64,
}

impl Steps {
    /// Of epochs of `batches`.
    pub fn new(batches: u64, settings: &Batching) -> Self {
        Self { batches, accumulation: settings.accumulation.get().into() }
    }

    /// Steps in an epoch.
    pub fn an_epoch(self) -> u64 {
        self.batches.div_ceil(self.accumulation)
    }

    /// The epoch of the step that follows `before` others, counted from 0.
    pub fn epoch(self, before: u64) -> u64 {
        before / self.an_epoch()
    }

    /// The batches of the step that follows `before` others, counted through its epoch.
    pub fn batches(self, before: u64) -> std::ops::Range<u64> {
        let first = before % self.an_epoch() * self.accumulation;
        first..self.batches.min(first + self.accumulation)
    }
}

fn crop(candidate: &Candidate, utterance: usize, samples: u64, framing: &Framing, seed: u64, epoch: u64) -> Crop {
    let places = (candidate.samples - samples) / framing.step() + 1;
    let start = framing.step() * Draws::new(seed, "crop", &[epoch], &candidate.id).below(places);
    Crop { utterance, start, samples }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::network::{FrontEnd, LogMelFrontEnd, Network, Stack, Subsampling};
    use reprise_spec::training::LabelAlignment;
    use reprise_spec::values::{Count, Seconds};

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

    /// Of log-mel frames of 10 ms, `stack` of which become one.
    fn framing(settings: &Batching, stack: u64) -> Framing {
        let stack = Stack { frames: Count::try_from(stack).unwrap() };
        let front_end = LogMelFrontEnd { subsampling: Subsampling::Stack(stack), ..LogMelFrontEnd::default() };
        Framing::new(&Network { front_end: FrontEnd::LogMel(front_end), ..Network::default() }, settings)
    }

    fn batches(candidates: &[Candidate], settings: &Batching, seed: u64, number: u64) -> Vec<Vec<Crop>> {
        epoch(candidates, settings, &framing(settings, 2), seed, number)
    }

    fn alignments() -> impl Strategy<Value = LabelAlignment> {
        prop_oneof![Just(LabelAlignment::Snapped), Just(LabelAlignment::Rounded), Just(LabelAlignment::Floored)]
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
            lengths in lengths(), kind in kinds(), alignment in alignments(), stack in 1u64..3, seed: u64, number in 0u64..5,
            seconds in 1.0f64..60.0, longest in 1.0f64..16.0, shortest in 0.03f64..3.0, accumulation in 1u64..5,
        ) {
            let settings = Batching {
                label_alignment: alignment,
                accumulation: Count::try_from(accumulation).unwrap(),
                ..settings(seconds * accumulation as f64, longest, shortest, kind)
            };
            let framing = framing(&settings, 2 * stack);
            let candidates = candidates(&lengths);
            let batches = epoch(&candidates, &settings, &framing, seed, number);
            let mut seen: Vec<usize> = batches.iter().flatten().map(|crop| crop.utterance).collect();
            seen.sort_unstable();
            let expected: Vec<usize> = (0..lengths.len()).filter(|&i| lengths[i] >= settings.shortest.samples()).collect();
            prop_assert_eq!(seen, expected);
            for batch in &batches {
                let widest = batch.iter().map(|crop| crop.samples).max().unwrap();
                prop_assert!(batch.len() as u64 * widest <= settings.samples());
                prop_assert!(widest <= settings.longest.samples());
                for crop in batch {
                    prop_assert_eq!(crop.start % framing.step(), 0);
                    prop_assert!(crop.samples >= 400 && crop.samples == framing.length(crop.samples));
                    prop_assert!(crop.start + crop.samples <= lengths[crop.utterance]);
                    prop_assert!(kind == Lengths::Pad || crop.samples == widest);
                }
            }
        }

        #[test]
        fn the_number_of_batches_is_the_same_in_every_epoch(lengths in lengths(), seed: u64) {
            let settings = settings(40.0, 15.0, 0.5, Lengths::Crop);
            let candidates = candidates(&lengths);
            let count = |number| batches(&candidates, &settings, seed, number).len();
            prop_assert_eq!(count(0), count(7));
        }

        #[test]
        fn crops_depend_on_seed_epoch_and_utterance_alone(lengths in lengths(), seed: u64, number: u64) {
            let settings = settings(40.0, 15.0, 0.5, Lengths::Pad);
            let all = candidates(&lengths);
            let start = |epoch: Vec<Vec<Crop>>, index: usize| {
                epoch.into_iter().flatten().find(|crop| crop.utterance == index).map(|crop| crop.start)
            };
            let alone = start(batches(&all[..1], &settings, seed, number), 0);
            prop_assert_eq!(alone, start(batches(&all, &settings, seed, number), 0));
        }
    }

    proptest! {
        #[test]
        fn the_steps_of_an_epoch_have_each_of_its_batches_once(
            batches in 1u64..200, accumulation in 1u64..40, epoch in 0u64..1_000_000,
        ) {
            let settings = Batching { accumulation: Count::try_from(accumulation).unwrap(), ..Batching::default() };
            let steps = Steps::new(batches, &settings);
            let (first, count) = (epoch * steps.an_epoch(), steps.an_epoch());
            let seen: Vec<u64> = (first..first + count).flat_map(|before| steps.batches(before)).collect();
            prop_assert_eq!(seen, (0..batches).collect::<Vec<_>>());
            for before in first..first + count {
                prop_assert_eq!(steps.epoch(before), epoch);
                let whole = before + 1 < first + count;
                let size = steps.batches(before).count() as u64;
                prop_assert!(size > 0 && (size == accumulation || !whole && size < accumulation));
            }
        }
    }

    #[test]
    fn epochs_differ_in_order_and_crops() {
        let settings = settings(20.0, 4.0, 1.0, Lengths::Crop);
        let candidates = candidates(&[160_000; 20]);
        assert_ne!(batches(&candidates, &settings, 1, 0), batches(&candidates, &settings, 1, 1));
        assert_eq!(batches(&candidates, &settings, 1, 3), batches(&candidates, &settings, 1, 3));
    }
}
