//! Drawing as many contributions as there are, with replacement.
//!
//! A rate doesn't tell utterances with as many errors and words apart. Where there are many of each kind, how often a kind comes is drawn
//! instead of what comes: numbers of Poisson distributions, one a kind, whose means add up to a little less than what is to be drawn, and
//! the rest one by one. Given their sum, Poisson numbers are multinomial ones (Kingman 1993, Poisson Processes, section 1.4), whatever that
//! sum is, so that all together are what drawing one by one gives; sums above what is to be drawn are drawn again.

use std::collections::BTreeMap;

use super::Sums;
use crate::random::Draws;

/// Standard deviations by which the Poisson numbers' sum stays below what is to be drawn.
const SPARE: f64 = 1.5;

/// Contributions to draw from.
#[derive(Debug)]
pub struct Pool {
    each: Vec<Sums>,
    /// Empty where drawing one by one is less work.
    kinds: Vec<Kind>,
}

#[derive(Debug)]
struct Kind {
    sums: Sums,
    count: Poisson,
}

/// Room for the numbers of one draw.
#[derive(Debug, Default)]
pub struct Room(Vec<u32>);

impl Pool {
    pub fn new(each: Vec<Sums>) -> Self {
        let mut counts = BTreeMap::<Sums, u64>::new();
        for sums in &each {
            *counts.entry(*sums).or_default() += 1;
        }
        let all = each.len() as f64;
        let spare = SPARE * all.sqrt();
        let pays = 2.0 * (counts.len() as f64 + spare) < all;
        let mean = |count| count as f64 * (1.0 - spare / all);
        let kinds =
            counts.into_iter().filter(|_| pays).map(|(sums, count)| Kind { sums, count: Poisson::new(mean(count)) });
        Self { kinds: kinds.collect(), each }
    }

    /// The sums over as many contributions as there are.
    pub fn draw(&self, draws: &mut Draws, Room(numbers): &mut Room) -> Sums {
        numbers.resize(self.each.len(), 0);
        let (mut sums, left) = loop {
            let bits = &mut numbers[..self.kinds.len()];
            draws.fill(bits);
            let (mut sums, mut drawn) = (Sums::default(), 0);
            for (kind, &bits) in self.kinds.iter().zip(&*bits) {
                let count = kind.count.at(bits);
                sums.errors += kind.sums.errors * count;
                sums.units += kind.sums.units * count;
                drawn += count;
            }
            if let Some(left) = (self.each.len() as u64).checked_sub(drawn) {
                break (sums, left as usize);
            }
        };
        let places = &mut numbers[..left];
        draws.fill_below(self.each.len() as u32, places);
        for &place in &*places {
            let Sums { errors, units } = self.each[place as usize];
            sums.errors += errors;
            sums.units += units;
        }
        sums
    }
}

/// A Poisson distribution as a table that 32 bits choose from, its probabilities right to 2⁻³².
///
/// Source: Walker 1977, An efficient method for generating discrete random variables with general distributions; the table is Vose's (1991).
#[derive(Debug)]
struct Poisson {
    /// The smallest number in the table.
    first: u64,
    /// log₂ of the table's length.
    width: u32,
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The bits behind the place's, read as a fraction, stay here below it and go on at or above it.
    below: u32,
    other: u32,
}

impl Poisson {
    fn new(mean: f64) -> Self {
        let (first, probabilities) = probabilities(mean);
        let length = probabilities.len().next_power_of_two();
        let mut shares: Vec<f64> = probabilities.iter().map(|p| p * length as f64).collect();
        shares.resize(length, 0.0);
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..length).partition(|&place| shares[place] < 1.0);
        let mut places: Vec<Place> = (0..length).map(|place| Place { below: u32::MAX, other: place as u32 }).collect();
        while let (Some(place), Some(&from)) = (small.pop(), large.last()) {
            places[place] = Place { below: (shares[place] * 2f64.powi(32)) as u32, other: from as u32 };
            shares[from] -= 1.0 - shares[place];
            if shares[from] < 1.0 {
                large.pop();
                small.push(from);
            }
        }
        Self { first, width: length.ilog2(), places }
    }

    /// The number that these bits choose.
    #[inline]
    fn at(&self, bits: u32) -> u64 {
        // The place is below 2^width, which is the table's length.
        let place = (u64::from(bits) << self.width >> 32) as usize;
        let Place { below, other } = self.places[place];
        self.first + if bits << self.width < below { place as u64 } else { u64::from(other) }
    }
}

/// The numbers with a probability of 2⁻³² or more and some that have less: the first of them and their probabilities.
fn probabilities(mean: f64) -> (u64, Vec<f64>) {
    let mode = mean.floor() as u64;
    // Here all are relative to the mode's, which is above 1 / (10 √mean + 10).
    let least = 2f64.powi(-34) * (10.0 * mean.sqrt() + 10.0);
    let mut rising = vec![1.0];
    while rising[rising.len() - 1] >= least {
        let number = mode + rising.len() as u64;
        rising.push(rising[rising.len() - 1] * mean / number as f64);
    }
    let mut falling = Vec::new();
    let mut last = 1.0;
    for number in (1..=mode).rev() {
        last *= number as f64 / mean;
        if last < least {
            break;
        }
        falling.push(last);
    }
    let first = mode - falling.len() as u64;
    let all: Vec<f64> = falling.into_iter().rev().chain(rising).collect();
    let sum: f64 = all.iter().sum();
    (first, all.into_iter().map(|p| p / sum).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(kinds: &[(u64, u64, u64)]) -> Vec<Sums> {
        kinds.iter().flat_map(|&(errors, units, count)| (0..count).map(move |_| Sums { errors, units })).collect()
    }

    fn draws(number: u64) -> Draws {
        Draws::new(7, "test", &[number], "")
    }

    fn one_by_one(each: Vec<Sums>) -> Pool {
        Pool { each, kinds: Vec::new() }
    }

    #[test]
    fn a_table_chooses_every_number_as_often_as_poisson_s_formula() {
        for mean in [0.003, 0.9, 1.0, 7.5, 140.2, 3_000.0] {
            let table = Poisson::new(mean);
            let mut shares = vec![0.0; table.places.len()];
            for (place, &Place { below, other }) in table.places.iter().enumerate() {
                let stays = f64::from(below) / 2f64.powi(32);
                shares[place] += stays / table.places.len() as f64;
                shares[other as usize] += (1.0 - stays) / table.places.len() as f64;
            }
            let mut logarithm = -mean; // of the probability of 0
            for number in 0..table.first + table.places.len() as u64 {
                let place = number.checked_sub(table.first);
                let share = place.map_or(0.0, |place| shares[place as usize]);
                let expected = logarithm.exp();
                assert!((share - expected).abs() < 1e-9, "{number} of mean {mean}: {share}, not {expected}");
                logarithm += mean.ln() - ((number + 1) as f64).ln();
            }
        }
    }

    #[test]
    fn bits_choose_what_the_table_says() {
        let table = Poisson::new(2.5);
        let mut bits = vec![0; 1 << 20];
        draws(0).fill(&mut bits);
        let numbers: Vec<f64> = bits.iter().map(|&bits| table.at(bits) as f64).collect();
        let moment =
            |power| numbers.iter().map(|number| (number - 2.5f64).powi(power)).sum::<f64>() / numbers.len() as f64;
        // All of a Poisson number's first three central moments but the first are its mean.
        for (power, expected) in [(1, 0.0), (2, 2.5), (3, 2.5)] {
            assert!((moment(power) - expected).abs() < 0.05, "{power}: {}", moment(power));
        }
    }

    /// How often one kind comes is binomial, and as often as when drawn one by one.
    #[test]
    fn kinds_come_as_often_as_drawn_one_by_one() {
        let each = of(&[(1, 1, 50), (0, 1, 300), (0, 2, 50)]);
        let (pool, plain) = (Pool::new(each.clone()), one_by_one(each));
        assert_eq!(pool.kinds.len(), 3);
        let seen = |pool: &Pool, number: u64| {
            let (mut draws, mut room) = (draws(number), Room::default());
            let errors: Vec<f64> = (0..40_000).map(|_| pool.draw(&mut draws, &mut room).errors as f64).collect();
            let mean = errors.iter().sum::<f64>() / errors.len() as f64;
            let central = |power| errors.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / errors.len() as f64;
            [mean, central(2), central(3)]
        };
        let (n, p) = (400.0, 0.125);
        let expected = [n * p, n * p * (1.0 - p), n * p * (1.0 - p) * (1.0 - 2.0 * p)];
        for found in [seen(&pool, 1), seen(&plain, 2)] {
            for ((found, expected), tolerance) in found.iter().zip(expected).zip([0.15, 1.5, 15.0]) {
                assert!((found - expected).abs() < tolerance, "{found} of {expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn as_many_are_drawn_as_there_are(
            kinds in prop::collection::vec((0u64..4, 0u64..3, 0u64..200), 0..8), number: u64,
        ) {
            // Each counts one unit, so that their sum is how many were drawn.
            let each: Vec<Sums> = of(&kinds).into_iter().map(|sums| Sums { units: 1, ..sums }).collect();
            let (count, most) = (each.len() as u64, each.iter().map(|sums| sums.errors).max().unwrap_or(0));
            let pool = Pool::new(each);
            let (mut draws, mut room) = (draws(number), Room::default());
            for _ in 0..20 {
                let sums = pool.draw(&mut draws, &mut room);
                prop_assert_eq!(sums.units, count);
                prop_assert!(sums.errors <= most * count);
            }
        }
    }
}
