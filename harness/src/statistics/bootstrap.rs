//! Intervals of error rates over seeds and the speakers or utterances that every seed was measured on.
//!
//! A draw takes as many seeds as there are, with replacement, and as many clusters (speakers, or utterances), with replacement. The seeds of a
//! draw share its clusters, as the runs share the set: what is hard in it is hard for all of them, and drawing clusters anew for each seed would
//! average that away and give too narrow an interval. Two groups share seeds and clusters of every draw.
//!
//! Percentile intervals, with linear interpolation between neighbours. They are too narrow where seeds are few: the draws' variance between n
//! seeds is (n − 1)/n of the estimated one, and of one seed alone it is nothing. The t interval over seeds is the one to decide with.

use std::collections::BTreeMap;

use reprise_spec::decoding::{Bootstrap, ResamplingUnit};
use reprise_spec::random::Draws;
use reprise_spec::recognition::Recognised;
use serde::{Deserialize, Serialize};

/// What one cluster adds to an error rate: errors above, units of the reference below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub errors: u64,
    pub units: u64,
}

/// The runs of one setting, one a seed, all measured on the same clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    names: Vec<String>,
    seeds: usize,
    /// Errors and units, seeds of one cluster side by side. Whole numbers, as floats so that sums need no conversion.
    counts: Vec<[f64; 2]>,
}

/// A rate, or a difference of two, with the interval of its draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resampled {
    pub value: f64,
    pub interval: (f64, f64),
}

/// Why groups can't be resampled together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmatched {
    #[error("there is nothing to resample")]
    Nothing,
    #[error("{0} was not measured in every run")]
    Cluster(String),
    #[error("{0} seeds and {1} are not the same")]
    Seeds(usize, usize),
}

/// Sums of word errors by speaker or utterance.
pub fn word_errors(rows: &[Recognised], unit: ResamplingUnit) -> BTreeMap<String, Counts> {
    let mut clusters = BTreeMap::<String, Counts>::new();
    for row in rows {
        let name = match unit {
            ResamplingUnit::Speaker => &row.speaker,
            ResamplingUnit::Utterance => &row.id,
        };
        let edits = row.alignment.edits();
        let sums = clusters.entry(name.clone()).or_default();
        sums.errors += edits.total();
        sums.units += edits.reference;
    }
    clusters
}

impl Group {
    /// Of the clusters of every seed.
    ///
    /// # Errors
    /// When there are no seeds or clusters, or a cluster is missing in one of the seeds.
    pub fn new(seeds: &[BTreeMap<String, Counts>]) -> Result<Self, Unmatched> {
        let first = seeds.first().filter(|clusters| !clusters.is_empty()).ok_or(Unmatched::Nothing)?;
        let names: Vec<String> = first.keys().cloned().collect();
        for clusters in seeds {
            same_names(&names, &clusters.keys().cloned().collect::<Vec<_>>())?;
        }
        let of_cluster = |name| seeds.iter().map(move |clusters: &BTreeMap<String, Counts>| clusters[name]);
        let counts = names.iter().flat_map(of_cluster).map(|Counts { errors, units }| [errors as f64, units as f64]);
        let counts = counts.collect();
        Ok(Self { seeds: seeds.len(), counts, names })
    }

    /// The mean over seeds of the error rate. `draws` are the stream of this purpose; its interval is a function of nothing else.
    pub fn mean_rate(&self, settings: &Bootstrap, draws: Draws) -> Resampled {
        resample(&self.counts, self.names.len(), self.seeds, settings, draws, mean_rate)
    }

    /// The mean over seeds of the error rate, less that of `other`, whose seeds are taken for the same in the same order.
    ///
    /// # Errors
    /// When the two have other clusters or another number of seeds.
    pub fn less(&self, other: &Self, settings: &Bootstrap, draws: Draws) -> Result<Resampled, Unmatched> {
        if self.seeds != other.seeds {
            return Err(Unmatched::Seeds(self.seeds, other.seeds));
        }
        same_names(&self.names, &other.names)?;
        let both = self.counts.chunks(self.seeds).zip(other.counts.chunks(self.seeds));
        let counts: Vec<[f64; 2]> = both.flat_map(|(ours, theirs)| ours.iter().chain(theirs).copied()).collect();
        Ok(resample(&counts, self.names.len(), self.seeds, settings, draws, |sums, chosen| {
            let (ours, theirs) = sums.split_at(chosen.len());
            mean_rate(ours, chosen) - mean_rate(theirs, chosen)
        }))
    }

    /// How many seeds there are.
    pub fn seeds(&self) -> usize {
        self.seeds
    }
}

fn same_names(one: &[String], other: &[String]) -> Result<(), Unmatched> {
    match one.iter().zip(other).find(|(a, b)| a != b) {
        Some((a, b)) => Err(Unmatched::Cluster(a.min(b).clone())),
        None => match one.get(other.len()).or(other.get(one.len())) {
            Some(alone) => Err(Unmatched::Cluster(alone.clone())),
            None => Ok(()),
        },
    }
}

/// The mean of the rates of the chosen seeds.
fn mean_rate(sums: &[[f64; 2]], chosen: &[usize]) -> f64 {
    chosen.iter().map(|&seed| sums[seed][0] / sums[seed][1].max(1.0)).sum::<f64>() / chosen.len() as f64
}

/// The statistic of all `counts` and the interval of its draws; `statistic` is given the sums of each column and the seeds that are chosen.
fn resample(
    counts: &[[f64; 2]],
    clusters: usize,
    seeds: usize,
    settings: &Bootstrap,
    mut draws: Draws,
    statistic: impl Fn(&[[f64; 2]], &[usize]) -> f64,
) -> Resampled {
    let columns = counts.len() / clusters;
    let mut sums = vec![[0.0; 2]; columns];
    let mut chosen: Vec<usize> = (0..seeds).collect();
    let add = |sums: &mut [[f64; 2]], cluster: usize| {
        for (sum, count) in sums.iter_mut().zip(&counts[cluster * columns..]) {
            sum[0] += count[0];
            sum[1] += count[1];
        }
    };
    (0..clusters).for_each(|cluster| add(&mut sums, cluster));
    let value = statistic(&sums, &chosen);
    let mut values: Vec<f64> = (0..settings.draws.get())
        .map(|_| {
            sums.fill([0.0; 2]);
            (0..clusters).for_each(|_| add(&mut sums, draws.below(clusters as u64) as usize));
            chosen.fill_with(|| draws.below(seeds as u64) as usize);
            statistic(&sums, &chosen)
        })
        .collect();
    Resampled { value, interval: settings.interval(&mut values) }
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

    /// One seed: a cluster a number of errors, of ten units each.
    fn seed(errors: impl IntoIterator<Item = u64>) -> BTreeMap<String, Counts> {
        let named = |(index, errors)| (format!("c{index:04}"), Counts { errors, units: 10 });
        errors.into_iter().enumerate().map(named).collect()
    }

    #[test]
    fn what_does_not_vary_has_no_width() {
        let group = Group::new(&[seed([2, 2, 2]), seed([2, 2, 2])]).unwrap();
        assert_eq!(group.mean_rate(&settings(99), draws(0)), Resampled { value: 0.2, interval: (0.2, 0.2) });
        // Nor has the difference of groups of which one is worse by the same everywhere, however hard the clusters are.
        let [better, worse] = [0, 1].map(|more| Group::new(&[seed([more, more + 4, more + 7])]).unwrap());
        let found = worse.less(&better, &settings(99), draws(0)).unwrap();
        assert!([found.value, found.interval.0, found.interval.1].iter().all(|x| (x - 0.1).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn what_does_not_match_is_named() {
        let group = |errors: &[&[u64]]| {
            Group::new(&errors.iter().map(|errors| seed(errors.iter().copied())).collect::<Vec<_>>())
        };
        let two = group(&[&[1, 2]]).unwrap();
        assert_eq!(Group::new(&[]), Err(Unmatched::Nothing));
        assert_eq!(group(&[&[]]), Err(Unmatched::Nothing));
        assert_eq!(group(&[&[1, 2], &[1]]), Err(Unmatched::Cluster("c0001".into())));
        let less = |other: Group| two.less(&other, &settings(9), draws(0)).unwrap_err();
        assert_eq!(less(group(&[&[1, 2, 3]]).unwrap()), Unmatched::Cluster("c0002".into()));
        assert_eq!(less(group(&[&[1, 2], &[1, 2]]).unwrap()), Unmatched::Seeds(1, 2));
    }

    #[test]
    fn words_are_summed_by_speaker_or_utterance() {
        let row = |id: &str, speaker: &str, alignment: &str| Recognised {
            id: id.into(),
            speaker: speaker.into(),
            reference: String::new(),
            hypothesis: String::new(),
            alignment: alignment.parse().unwrap(),
        };
        let rows = [row("u1", "s", "CSI"), row("u2", "s", "CC"), row("u3", "t", "D")];
        let speakers = word_errors(&rows, ResamplingUnit::Speaker);
        assert_eq!(speakers["s"], Counts { errors: 2, units: 4 });
        assert_eq!(speakers["t"], Counts { errors: 1, units: 1 });
        assert_eq!(word_errors(&rows, ResamplingUnit::Utterance)["u2"], Counts { errors: 0, units: 2 });
    }

    #[test]
    fn two_seeds_or_two_clusters_give_the_binomial_interval() {
        // Both drawn seeds (clusters) are the same one with probability 1/2, so the quartiles reach both ends.
        let by_seed = Group::new(&[seed([0]), seed([10])]).unwrap();
        let by_cluster = Group::new(&[seed([0, 10])]).unwrap();
        for group in [by_seed, by_cluster] {
            let settings = Bootstrap { level: 0.9.try_into().unwrap(), ..settings(500) };
            assert_eq!(group.mean_rate(&settings, draws(0)), Resampled { value: 0.5, interval: (0.0, 1.0) });
        }
    }

    #[test]
    fn the_interval_is_as_wide_as_the_normal_one_and_repeats() {
        // 400 utterances of ten words, with 0 to 6 errors: the mean of 400 has the deviation 2/√400, of errors 0.01 of a rate.
        let group = Group::new(&[seed((0..400).map(|i| i % 7))]).unwrap();
        let found = group.mean_rate(&settings(4_000), draws(1));
        assert_eq!(found, group.mean_rate(&settings(4_000), draws(1)));
        assert_ne!(found, group.mean_rate(&settings(4_000), draws(2)));
        let (low, high) = found.interval;
        assert!(((high - low) / (2.0 * 1.96 * 0.01) - 1.0).abs() < 0.05, "{found:?}");
    }

    #[test]
    fn the_interval_covers_the_truth_where_seeds_share_hard_speakers() {
        let covered = (0..200)
            .filter(|&trial| {
                let mut world = Draws::new(11, "world", &[trial], "");
                // Ten seeds and 40 speakers, whose difficulty differs much more than seeds do.
                let difficulty: Vec<u64> = (0..40).map(|_| world.below(700)).collect();
                let seeds: Vec<_> = (0..10)
                    .map(|_| {
                        let better = world.below(60);
                        let counts = difficulty.iter().enumerate();
                        let counts = counts.map(|(i, &hard)| {
                            (i.to_string(), Counts { errors: hard + better + world.below(60), units: 1_000 })
                        });
                        counts.collect()
                    })
                    .collect();
                let found = Group::new(&seeds).unwrap().mean_rate(&settings(400), draws(trial));
                (found.interval.0..=found.interval.1).contains(&(0.3495 + 0.0295 + 0.0295))
            })
            .count();
        // 95 % of 200 is 190, percentile intervals of 40 speakers cover about 94 %; three standard deviations are 10.
        assert!((177..=198).contains(&covered), "{covered} of 200");
    }
}
