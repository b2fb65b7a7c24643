//! Randomness that is passed in: a counter-based generator for each (seed, purpose, numbers).
//!
//! Draws depend on these words alone, never on order, threads or device.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::identity::sha256;

/// Numbers that are drawn at once.
const FILL: usize = 128;

/// A stream of draws for one purpose.
#[derive(Clone, Debug)]
pub struct Draws(ChaCha8Rng);

impl Draws {
    /// The stream of `purpose` under `seed`, told apart further by `numbers` (an epoch, a step) and `name` (an utterance).
    pub fn new(seed: u64, purpose: &str, numbers: &[u64], name: &str) -> Self {
        let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        Self(ChaCha8Rng::from_seed(sha256(&[&seed.to_le_bytes(), purpose.as_bytes(), &numbers, name.as_bytes()])))
    }

    /// A whole number below `bound`, each equally likely (Lemire's method); 0 for a bound of 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        loop {
            let wide = u128::from(self.0.next_u64()) * u128::from(bound);
            // The threshold is below the bound, so that its division is seldom needed.
            if wide as u64 >= bound || wide as u64 >= bound.wrapping_neg() % bound {
                return (wide >> 64) as u64;
            }
        }
    }

    /// What as many calls of [`Draws::below`] give, in less time. How many further bits it took to draw again where a draw was not to be used:
    /// with none, each number comes from 64 bits of its own.
    pub fn fill_below(&mut self, bound: u64, numbers: &mut [u32]) -> u64 {
        debug_assert!(bound <= 1 << 32);
        let threshold = if bound == 0 { 0 } else { bound.wrapping_neg() % bound };
        let (mut filled, mut again) = (0, 0);
        let mut bytes = [0; 8 * FILL];
        while bound > 0 && filled < numbers.len() {
            let bytes = &mut bytes[..8 * FILL.min(numbers.len() - filled)];
            self.0.fill_bytes(bytes);
            for eight in bytes.chunks_exact(8) {
                let bits = u64::from_le_bytes(eight.try_into().expect("chunks of eight"));
                let wide = u128::from(bits) * u128::from(bound);
                numbers[filled] = (wide >> 64) as u32;
                let used = wide as u64 >= threshold;
                filled += usize::from(used);
                again += u64::from(!used);
            }
        }
        if bound == 0 {
            numbers.fill(0);
        }
        again * 64
    }

    /// Passes over 64 bits, as many times as `count` says: what a number takes that is drawn at the first attempt.
    pub fn skip(&mut self, count: u64) {
        self.0.set_word_pos(self.0.get_word_pos() + 2 * u128::from(count));
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 63 random bits, as libtorch takes seeds.
    pub fn torch_seed(&mut self) -> i64 {
        (self.0.next_u64() >> 1) as i64
    }

    /// `items` in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// `count` distinct numbers below `bound`, ascending (Floyd's method); all of them if there are no more.
    pub fn distinct(&mut self, count: u64, bound: u64) -> Vec<u64> {
        let mut chosen = std::collections::BTreeSet::new();
        for top in bound.saturating_sub(count)..bound {
            let pick = self.below(top + 1);
            if !chosen.insert(pick) {
                chosen.insert(top);
            }
        }
        chosen.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draws(seed: u64) -> Draws {
        Draws::new(seed, "test", &[], "")
    }

    proptest! {
        #[test]
        fn many_at_once_are_those_one_by_one(seed in any::<u64>(), bound in 0u64..1 << 32, count in 0usize..500, before in 0u64..40) {
            let (mut one, mut many) = (draws(seed), draws(seed));
            let mut numbers = vec![7; count];
            one.skip(before);
            (0..before).for_each(|_| _ = many.unit());
            prop_assert_eq!(many.fill_below(bound, &mut numbers), 0);
            let expected: Vec<u32> = (0..count).map(|_| one.below(bound) as u32).collect();
            prop_assert_eq!(numbers, expected);
            prop_assert_eq!(many.unit(), one.unit());
        }
    }
}
