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

    /// Another stream under the same words, its draws independent of this one's and of those of other numbers.
    pub fn stream(&self, number: u64) -> Self {
        let mut stream = self.0.clone();
        stream.set_stream(number);
        stream.set_word_pos(0);
        Self(stream)
    }

    /// Whole numbers below `bound`, each equally likely, many at once: each takes 32 bits where [`Draws::below`] takes 64, and more where
    /// Lemire's method doesn't use them; 0 for a bound of 0.
    pub fn fill_below(&mut self, bound: u32, numbers: &mut [u32]) {
        if bound == 0 {
            return numbers.fill(0);
        }
        let (mut filled, mut bytes) = (0, [0; 4 * FILL]);
        while filled < numbers.len() {
            let numbers = &mut numbers[filled..];
            let bytes = &mut bytes[..4 * FILL.min(numbers.len())];
            self.0.fill_bytes(bytes);
            filled += used(bytes, bound, numbers);
        }
    }

    /// 32 random bits for each number.
    pub fn fill(&mut self, numbers: &mut [u32]) {
        let mut bytes = [0; 4 * FILL];
        for numbers in numbers.chunks_mut(FILL) {
            let bytes = &mut bytes[..4 * numbers.len()];
            self.0.fill_bytes(bytes);
            for (number, four) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
                *number = u32::from_le_bytes(four.try_into().expect("chunks of four"));
            }
        }
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

/// The numbers below `bound` that each 32 bits give, without those that Lemire's method doesn't use; how many they are.
fn used(bytes: &[u8], bound: u32, numbers: &mut [u32]) -> usize {
    let threshold = bound.wrapping_neg() % bound;
    let product = |four: &[u8]| {
        let wide = u64::from(u32::from_le_bytes(four.try_into().expect("chunks of four"))) * u64::from(bound);
        ((wide >> 32) as u32, wide as u32 >= threshold)
    };
    let mut all = true;
    for (number, four) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
        let (drawn, used) = product(four);
        *number = drawn;
        all &= used;
    }
    if all {
        return bytes.len() / 4;
    }
    let used = bytes.chunks_exact(4).map(product).filter(|(_, used)| *used);
    numbers.iter_mut().zip(used).map(|(number, (drawn, _))| *number = drawn).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draws(seed: u64) -> Draws {
        Draws::new(seed, "test", &[], "")
    }

    #[test]
    fn bits_that_would_favour_small_numbers_are_left_out() {
        // 2³² = 1 mod 3, so that one of the 2³² is too many: zero.
        let bytes: Vec<u8> = [u32::MAX, 0, 1 << 31, 0, 1].iter().flat_map(|bits: &u32| bits.to_le_bytes()).collect();
        let mut numbers = [9; 5];
        assert_eq!((used(&bytes, 3, &mut numbers), &numbers[..3]), (3, &[2, 1, 0][..]));
    }

    #[test]
    fn every_number_is_drawn_about_as_often() {
        let mut numbers = vec![0; 70_000];
        draws(5).fill_below(7, &mut numbers);
        for number in 0..7 {
            let count = numbers.iter().filter(|&&drawn| drawn == number).count();
            assert!((9_600..10_400).contains(&count), "{number}: {count}");
        }
    }

    #[test]
    fn streams_depend_on_their_number_and_not_on_what_was_drawn() {
        let (fresh, mut used) = (draws(1), draws(1));
        used.unit();
        let first = |draws: &Draws, number| draws.stream(number).below(u64::MAX);
        assert_eq!(first(&fresh, 3), first(&used, 3));
        assert_ne!(first(&fresh, 3), first(&fresh, 4));
        assert_ne!(first(&fresh, 3), first(&draws(2), 3));
    }

    proptest! {
        /// Bounds above 2³¹ leave out up to half of the bits.
        #[test]
        fn numbers_are_below_their_bound_and_in_parts_the_same(seed: u64, bound: u32, count in 0usize..500, first in 0usize..500) {
            let mut numbers = vec![7; count];
            draws(seed).fill_below(bound, &mut numbers);
            prop_assert!(numbers.iter().all(|number| *number < bound.max(1)));
            let (mut parts, mut again) = (vec![7; count], draws(seed));
            let (front, back) = parts.split_at_mut(first.min(count));
            again.fill_below(bound, front);
            again.fill_below(bound, back);
            prop_assert_eq!(numbers, parts);
        }
    }
}
