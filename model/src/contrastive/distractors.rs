//! Which other frames a masked frame's target has to be told from, and how often a guess would tell it.

use std::collections::BTreeMap;

use crate::random::Draws;

/// For each of an utterance's `masked` frames `count` others of them, uniformly and with replacement: `masked` · `count` places among the
/// masked frames, a frame's distractors side by side.
///
/// A function of its arguments alone. The only masked frame of an utterance gets its own place, where its target equals itself and doesn't
/// count. Source: wav2vec 2.0 section 3.2; fairseq `sample_negatives`, which draws with replacement, too.
pub fn distractors(masked: u64, count: u64, draws: &mut Draws) -> Vec<i64> {
    let mut places = Vec::with_capacity((masked * count) as usize);
    for own in 0..masked {
        for _ in 0..count {
            let other = draws.below(masked.saturating_sub(1));
            places.push((other + u64::from(other >= own && masked > 1)) as i64);
        }
    }
    places
}

/// The share of masked frames that a guess tells rightly that knows which targets are frequent and nothing about the frame: of each frame's
/// candidates it takes the one whose target is the most frequent of all, and any of those that tie.
///
/// The counterpart of the most frequent unit's share. With many targets, all as frequent, it is 1 / (1 + distinct distractors); with few it
/// is higher, because distractors that equal the right target don't count. `utterances` are the targets of each one's masked frames, and
/// `distractors` gives those of the utterance at an index.
pub fn blind_guess(utterances: &[Vec<u64>], distractors: impl Fn(usize) -> Vec<i64>) -> f64 {
    let mut frequency: BTreeMap<u64, u64> = BTreeMap::new();
    for target in utterances.iter().flatten() {
        *frequency.entry(*target).or_default() += 1;
    }
    let (mut right, mut frames) = (0.0, 0u64);
    for (index, targets) in utterances.iter().enumerate() {
        let places = distractors(index);
        let count = places.len() / targets.len().max(1);
        for (own, target) in targets.iter().enumerate() {
            let others = places[own * count..(own + 1) * count].iter().map(|&place| targets[place as usize]);
            let mut ahead: Vec<u64> =
                others.filter(|other| other != target && frequency[other] >= frequency[target]).collect();
            ahead.sort_unstable();
            ahead.dedup();
            if ahead.iter().all(|other| frequency[other] == frequency[target]) {
                right += 1.0 / (1 + ahead.len()) as f64;
            }
            frames += 1;
        }
    }
    right / frames.max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draws(seed: u64, epoch: u64, utterance: &str) -> Draws {
        Draws::new(seed, "distractors", &[epoch], utterance)
    }

    proptest! {
        #[test]
        fn distractors_are_other_masked_frames(masked in 2u64..60, count in 1u64..40, seed: u64) {
            let places = distractors(masked, count, &mut draws(seed, 0, "u"));
            prop_assert_eq!(places.len() as u64, masked * count);
            for (index, place) in places.iter().enumerate() {
                let own = (index as u64 / count) as i64;
                prop_assert!((0..masked as i64).contains(place) && *place != own);
            }
        }

        #[test]
        fn distractors_depend_on_seed_epoch_and_utterance_alone(masked in 12u64..60, seed: u64, epoch in 0u64..9) {
            let of = |seed, epoch, utterance| distractors(masked, 10, &mut draws(seed, epoch, utterance));
            prop_assert_eq!(of(seed, epoch, "a"), of(seed, epoch, "a"));
            prop_assert_ne!(of(seed, epoch, "a"), of(seed, epoch, "b"));
            prop_assert_ne!(of(seed, epoch, "a"), of(seed, epoch + 1, "a"));
            prop_assert_ne!(of(seed, epoch, "a"), of(seed.wrapping_add(1), epoch, "a"));
        }
    }

    #[test]
    fn every_other_frame_is_as_likely() {
        let places = distractors(5, 100_000, &mut draws(7, 0, "u"));
        for own in 0..5 {
            for other in (0..5).filter(|&other| other != own) {
                let found =
                    places[own * 100_000..(own + 1) * 100_000].iter().filter(|&&place| place == other as i64).count();
                // Five standard errors around a quarter.
                assert!((found as f64 / 100_000.0 - 0.25).abs() < 0.007, "{own} and {other}: {found}");
            }
        }
    }

    #[test]
    fn a_frame_alone_has_only_itself() {
        assert_eq!(distractors(1, 3, &mut draws(7, 0, "u")), [0, 0, 0]);
        assert!(distractors(0, 3, &mut draws(7, 0, "u")).is_empty());
    }

    #[test]
    fn a_blind_guess_knows_frequencies_alone() {
        // All others, once each.
        let all = |targets: &[Vec<u64>]| {
            let lengths: Vec<i64> = targets.iter().map(|targets| targets.len() as i64).collect();
            move |index: usize| {
                let own_and_other =
                    (0..lengths[index]).flat_map(|own| (0..lengths[index]).map(move |other| (own, other)));
                own_and_other.filter(|(own, other)| own != other).map(|(_, other)| other).collect()
            }
        };
        let share = |targets: &[Vec<u64>]| blind_guess(targets, all(targets));
        assert_eq!(share(&[vec![4, 5, 6, 7]]), 0.25, "all as frequent");
        assert_eq!(share(&[vec![4, 4, 4, 7]]), 0.75, "the frequent one is always a candidate");
        assert_eq!(share(&[vec![4, 4, 4, 4]]), 1.0, "one target is told by itself");
        assert_eq!(share(&[vec![4, 4], vec![7, 8]]), 0.75, "frequencies are of all utterances, candidates of one");
        assert_eq!(share(&[]), 0.0);
    }
}
