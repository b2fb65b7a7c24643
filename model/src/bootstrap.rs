//! Percentile bootstrap intervals of error rates over a set (Bisani and Ney 2004; speakers as in SCIENCE's resampling rule).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reprise_spec::decoding::{Bootstrap, ResamplingUnit};

use crate::random::Draws;

mod pool;

use pool::{Pool, Room};

/// Resamples that a thread takes at once.
const PART: usize = 64;

/// What one utterance adds to a ratio: errors above, units of the reference below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contribution<'a> {
    pub speaker: &'a str,
    pub errors: u64,
    pub units: u64,
}

/// What is drawn from these utterances: `wanted`, but utterances where there is a single speaker, because one speaker says nothing about
/// how speakers differ. The interval then holds for that speaker alone.
pub fn resampling_unit<'a>(speakers: impl IntoIterator<Item = &'a str>, wanted: ResamplingUnit) -> ResamplingUnit {
    let mut speakers = speakers.into_iter();
    let first = speakers.next();
    if speakers.any(|speaker| Some(speaker) != first) { wanted } else { ResamplingUnit::Utterance }
}

/// The percentile interval of Σ errors / Σ units over `utterances`, resampled by `unit`.
///
/// By speaker, as many speakers as there are are drawn with replacement, and within each drawn speaker as many of the speaker's utterances
/// as there are, again with replacement. Each resample has a stream of `draws` of its own, so that the number of threads changes no bit.
pub fn interval(
    utterances: &[Contribution],
    unit: ResamplingUnit,
    settings: &Bootstrap,
    draws: Draws,
    threads: usize,
) -> (f64, f64) {
    let mut groups: BTreeMap<&str, Vec<Sums>> = BTreeMap::new();
    for utterance in utterances {
        let group = match unit {
            ResamplingUnit::Speaker => utterance.speaker,
            ResamplingUnit::Utterance => "",
        };
        groups.entry(group).or_default().push(Sums { errors: utterance.errors, units: utterance.units });
    }
    let groups: Vec<Pool> = groups.into_values().map(Pool::new).collect();
    let mut rates = vec![0.0; settings.draws.get() as usize];
    let parts = Mutex::new(rates.chunks_mut(PART).enumerate());
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut room = Room::default();
        while let Some((part, rates)) = next() {
            for (resample, rate) in (part * PART..).zip(rates) {
                *rate = resampled(&groups, draws.stream(resample as u64), &mut room);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    settings.interval(&mut rates)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Sums {
    errors: u64,
    units: u64,
}

/// The rate of one resample.
fn resampled(groups: &[Pool], mut draws: Draws, room: &mut Room) -> f64 {
    let mut sums = Sums::default();
    for _ in groups {
        let mut group = [0];
        draws.fill_below(groups.len() as u32, &mut group);
        let Sums { errors, units } = groups[group[0] as usize].draw(&mut draws, room);
        sums.errors += errors;
        sums.units += units;
    }
    sums.errors as f64 / sums.units.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(draws: u64) -> Bootstrap {
        Bootstrap { draws: draws.try_into().unwrap(), ..Bootstrap::default() }
    }

    fn draws(number: u64) -> Draws {
        Draws::new(7, "test", &[number], "")
    }

    fn utterances(rows: &[(&'static str, u64, u64)]) -> Vec<Contribution<'static>> {
        rows.iter().map(|&(speaker, errors, units)| Contribution { speaker, errors, units }).collect()
    }

    #[test]
    fn utterances_that_all_agree_leave_no_width() {
        let utterances = utterances(&[("a", 1, 4), ("a", 2, 8), ("b", 3, 12)]);
        for unit in [ResamplingUnit::Speaker, ResamplingUnit::Utterance] {
            assert_eq!(interval(&utterances, unit, &settings(200), draws(0), 2), (0.25, 0.25));
        }
    }

    #[test]
    fn empty_references_and_no_utterances_give_numbers() {
        assert_eq!(
            interval(&utterances(&[("a", 0, 0)]), ResamplingUnit::Speaker, &settings(9), draws(0), 2),
            (0.0, 0.0)
        );
        assert_eq!(interval(&[], ResamplingUnit::Speaker, &settings(9), draws(0), 2), (0.0, 0.0));
    }

    #[test]
    fn one_speaker_is_resampled_by_utterance() {
        use ResamplingUnit::{Speaker, Utterance};
        assert_eq!(resampling_unit(["a", "a"], Speaker), Utterance);
        assert_eq!(resampling_unit(["a", "b"], Speaker), Speaker);
        assert_eq!(resampling_unit(["a", "b"], Utterance), Utterance);
    }

    #[test]
    fn speakers_that_differ_widen_the_interval() {
        let rows: Vec<_> = (0..80).map(|i| (["a", "b", "c", "d"][i / 20], [0, 1, 3, 4][i / 20], 10)).collect();
        let utterances = utterances(&rows);
        let width = |unit| {
            let (low, high) = interval(&utterances, unit, &settings(2_000), draws(0), 2);
            high - low
        };
        assert!(width(ResamplingUnit::Speaker) > 3.0 * width(ResamplingUnit::Utterance));
    }

    #[test]
    fn two_speakers_give_the_binomial_interval() {
        // Both drawn speakers are the same one with probability 1/2, so the quartiles reach both ends.
        let utterances = utterances(&[("a", 0, 10), ("b", 10, 10)]);
        let settings = Bootstrap { level: 0.9.try_into().unwrap(), ..settings(500) };
        assert_eq!(interval(&utterances, ResamplingUnit::Speaker, &settings, draws(0), 2), (0.0, 1.0));
        let narrow = Bootstrap { level: 0.3.try_into().unwrap(), ..settings };
        assert_eq!(interval(&utterances, ResamplingUnit::Speaker, &narrow, draws(0), 2), (0.5, 0.5));
    }

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        const TRUTH: f64 = 0.3;
        let covered = (0..300)
            .filter(|&trial| {
                let mut world = Draws::new(11, "world", &[trial], "");
                let utterances: Vec<Contribution> = (0..60)
                    .map(|_| {
                        let errors = (0..8).filter(|_| world.unit() < TRUTH).count() as u64;
                        Contribution { speaker: "", errors, units: 8 }
                    })
                    .collect();
                let (low, high) = interval(&utterances, ResamplingUnit::Utterance, &settings(400), draws(trial), 1);
                (low..=high).contains(&TRUTH)
            })
            .count();
        // 95 % of 300 is 285; three standard deviations are 11.
        assert!((270..=298).contains(&covered), "{covered} of 300");
    }

    #[test]
    fn threads_change_no_bit() {
        let rows: Vec<_> = (0..301).map(|i| ("a", i % 7, 5 + i)).collect();
        let on = |threads| interval(&utterances(&rows), ResamplingUnit::Utterance, &settings(1_003), draws(3), threads);
        assert_eq!([on(2), on(3), on(7)], [on(1); 3]);
        let mut rates: Vec<f64> = (0..1_003)
            .map(|resample| {
                let (mut draws, mut places) = (draws(3).stream(resample), vec![0; 1 + rows.len()]);
                draws.fill_below(1, &mut places[..1]);
                draws.fill_below(rows.len() as u32, &mut places[1..]);
                let drawn: Vec<_> = places[1..].iter().map(|&place| rows[place as usize]).collect();
                drawn.iter().map(|row| row.1).sum::<u64>() as f64 / drawn.iter().map(|row| row.2).sum::<u64>() as f64
            })
            .collect();
        assert_eq!(settings(1_003).interval(&mut rates), on(1));
    }
}
