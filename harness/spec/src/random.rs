//! Randomness that is passed in: a counter-based generator for each (seed, purpose, numbers).
//!
//! Draws depend on these words alone, never on order, threads or device.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::identity::sha256;

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
