//! How much units say about phones: PNMI and purities with their null and their bias.
//!
//! With p(i, j) the share of frames of phone i and cluster j: PNMI = I(y; z) / H(y), phone purity = Σⱼ maxᵢ p(i, j), cluster purity =
//! Σᵢ maxⱼ p(i, j); natural logarithms. Phone purity grows with K and cluster purity falls, so numbers are compared at equal [`Setting`] only.
//!
//! Source: HuBERT section III.B with the corrections of hubert.md section 5. The plug-in mutual information of independent labels is about
//! (K − 1)(P − 1) / 2N nats above zero (Miller 1955), over the clusters and phones that occur.

use serde::{Deserialize, Serialize};

use crate::random::Draws;

/// The largest bias of the mutual information, as a share of the phone entropy, under which a number is sound.
pub const BIAS_LIMIT: f64 = 0.05;

/// What must be equal before two numbers are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Setting {
    /// K, the size of the codebook.
    pub clusters: u32,
    /// P, the size of the phone inventory.
    pub phones: u32,
    /// The name of the phone inventory.
    pub inventory: String,
    /// Frames a second.
    pub rate: u32,
    /// N, the frames that were measured.
    pub frames: u64,
}

/// Counts of (phone, cluster) pairs over frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Joint {
    phones: usize,
    clusters: usize,
    counts: Vec<u64>,
}

/// The numbers of one joint distribution; entropies and information in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scores {
    /// In 0..=1; 0 where a single phone leaves nothing to tell.
    pub pnmi: f64,
    pub phone_purity: f64,
    pub cluster_purity: f64,
    pub mutual_information: f64,
    pub phone_entropy: f64,
    pub cluster_entropy: f64,
}

impl Joint {
    /// Counts pairs of phone and label, all below `phones` and `clusters`.
    pub fn count(phones: usize, clusters: usize, pairs: impl IntoIterator<Item = (u8, u16)>) -> Self {
        Self::of(phones, clusters, pairs.into_iter().map(|(phone, label)| (phone.into(), label.into())))
    }

    /// [`Joint::count`] where classes of any kind and number, such as words, stand for the phones.
    pub fn of(classes: usize, clusters: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![0; classes * clusters];
        for (class, cluster) in pairs {
            counts[class * clusters + cluster] += 1;
        }
        Self { phones: classes, clusters, counts }
    }

    /// All frames.
    pub fn frames(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Frames of each phone.
    pub fn by_phone(&self) -> Vec<u64> {
        self.counts.chunks_exact(self.clusters).map(|row| row.iter().sum()).collect()
    }

    /// Frames of each cluster.
    pub fn by_cluster(&self) -> Vec<u64> {
        (0..self.clusters).map(|cluster| self.column(cluster).sum()).collect()
    }

    /// For each cluster the phone that most of its frames have (the first one on ties) and how many do; `None` for a dead cluster.
    pub fn likeliest_phones(&self) -> Vec<Option<(usize, u64)>> {
        (0..self.clusters)
            .map(|cluster| {
                let most = self.column(cluster).max().filter(|most| *most > 0)?;
                Some((self.column(cluster).position(|count| count == most)?, most))
            })
            .collect()
    }

    /// PNMI, purities and what they are made of; all zero without frames.
    pub fn scores(&self) -> Scores {
        let frames = self.frames().max(1) as f64;
        let (by_phone, by_cluster) = (self.by_phone(), self.by_cluster());
        let mut information = 0.;
        for (row, &of_phone) in self.counts.chunks_exact(self.clusters).zip(&by_phone) {
            for (&count, &of_cluster) in row.iter().zip(&by_cluster).filter(|(count, _)| **count > 0) {
                let (count, expected) = (count as f64, of_phone as f64 * (of_cluster as f64 / frames));
                information += count / frames * (count / expected).ln();
            }
        }
        let information = information.max(0.);
        let phone_entropy = entropy(&by_phone);
        let best_clusters: u64 = self.counts.chunks_exact(self.clusters).filter_map(|row| row.iter().max()).sum();
        let best_phones: u64 = self.likeliest_phones().iter().flatten().map(|(_, most)| most).sum();
        Scores {
            pnmi: if phone_entropy > 0. { (information / phone_entropy).min(1.) } else { 0. },
            phone_purity: best_phones as f64 / frames,
            cluster_purity: best_clusters as f64 / frames,
            mutual_information: information,
            phone_entropy,
            cluster_entropy: entropy(&by_cluster),
        }
    }

    /// What the plug-in mutual information has too much: (K − 1)(P − 1) / 2N nats over the clusters and phones that occur.
    pub fn bias(&self) -> f64 {
        let occurring = |counts: Vec<u64>| counts.into_iter().filter(|count| *count > 0).count();
        excess(occurring(self.by_cluster()), occurring(self.by_phone()), self.frames())
    }

    fn column(&self, cluster: usize) -> impl Iterator<Item = u64> {
        (0..self.phones).map(move |phone| self.counts[phone * self.clusters + cluster])
    }
}

/// The expected bias of the plug-in mutual information in nats, were all of so many clusters and phones to occur.
pub fn excess(clusters: usize, phones: usize, frames: u64) -> f64 {
    clusters.saturating_sub(1) as f64 * phones.saturating_sub(1) as f64 / (2. * frames.max(1) as f64)
}

/// Entropy of the distribution with these counts, in nats.
pub fn entropy(counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let share = |count: &u64| *count as f64 / total;
    -counts.iter().filter(|count| **count > 0).map(|count| share(count) * share(count).ln()).sum::<f64>() + 0.
}

/// Mean and standard deviation over draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Spread {
    pub mean: f64,
    /// With n − 1 in the denominator; 0 for a single draw.
    pub deviation: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: (squares / (count - 1.).max(1.)).sqrt() }
    }
}

/// What labels without any bearing on the phones score: the same labels, shuffled over the measured frames.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Null {
    pub draws: u32,
    pub pnmi: Spread,
    pub phone_purity: Spread,
    pub cluster_purity: Spread,
}

/// What `pairs` of class and cluster score after their clusters were shuffled, `draws` times.
pub fn null(classes: usize, clusters: usize, pairs: impl IntoIterator<Item = (usize, usize)>, draws: u32) -> Null {
    let (of_class, mut of_cluster): (Vec<usize>, Vec<usize>) = pairs.into_iter().unzip();
    let nulls: Vec<Scores> = (0..draws)
        .map(|draw| {
            Draws::new(0, "shuffled labels", &[u64::from(draw)], "").shuffle(&mut of_cluster);
            Joint::of(classes, clusters, of_class.iter().copied().zip(of_cluster.iter().copied())).scores()
        })
        .collect();
    let spread = |of: fn(&Scores) -> f64| Spread::of(&nulls.iter().map(of).collect::<Vec<_>>());
    Null {
        draws,
        pnmi: spread(|scores| scores.pnmi),
        phone_purity: spread(|scores| scores.phone_purity),
        cluster_purity: spread(|scores| scores.cluster_purity),
    }
}

/// Whether the numbers may be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Sound,
    /// They are stored, but support nothing.
    Refused {
        reason: String,
    },
}

/// Everything that is known about units on one set of frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Quality {
    pub setting: Setting,
    pub verdict: Verdict,
    pub scores: Scores,
    /// What the mutual information is expected to have too much, in nats.
    pub bias: f64,
    /// (I − bias) / H(y); may be below 0.
    pub pnmi_corrected: f64,
    pub null: Null,
    /// Clusters that none of the measured frames has.
    pub dead_clusters: u32,
}

/// Measures `pairs` of phone and label; the null is drawn from the pairs' number and order alone.
///
/// Refuses the numbers when (K − 1)(P − 1) / 2N, with the sizes of codebook and inventory, exceeds [`BIAS_LIMIT`] of the phone entropy.
pub fn measure(setting: Setting, pairs: &[(u8, u16)], draws: u32) -> (Quality, Joint) {
    let (phones, clusters) = (setting.phones as usize, setting.clusters as usize);
    let joint = Joint::count(phones, clusters, pairs.iter().copied());
    let scores = joint.scores();
    let worst = excess(clusters, phones, setting.frames);
    let allowed = BIAS_LIMIT * scores.phone_entropy;
    let verdict = if worst <= allowed {
        Verdict::Sound
    } else {
        Verdict::Refused {
            reason: format!(
                "{} frames are too few for {clusters} clusters and {phones} phones: the expected bias of the mutual information, \
                 {worst:.3} nats, is above {allowed:.3}, which is {:.0} % of the phone entropy",
                setting.frames,
                BIAS_LIMIT * 100.
            ),
        }
    };
    let bias = joint.bias();
    let corrected = (scores.mutual_information - bias) / scores.phone_entropy;
    let quality = Quality {
        verdict,
        scores,
        bias,
        pnmi_corrected: if scores.phone_entropy > 0. { corrected } else { 0. },
        null: null(
            phones,
            clusters,
            pairs.iter().map(|(phone, label)| (usize::from(*phone), usize::from(*label))),
            draws,
        ),
        dead_clusters: joint.by_cluster().iter().filter(|count| **count == 0).count() as u32,
        setting,
    };
    (quality, joint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const P: usize = 5;
    const K: usize = 7;

    fn pairs() -> impl Strategy<Value = Vec<(u8, u16)>> {
        proptest::collection::vec((0..P as u8, 0..K as u16), 1..300)
    }

    fn scores(pairs: &[(u8, u16)]) -> Scores {
        Joint::count(P, K, pairs.iter().copied()).scores()
    }

    fn setting(frames: usize) -> Setting {
        let (clusters, phones) = (K as u32, P as u32);
        Setting { clusters, phones, inventory: "test".into(), rate: 50, frames: frames as u64 }
    }

    proptest! {
        #[test]
        fn pnmi_is_a_share_and_purities_are_those_of_direct_counting(pairs in pairs()) {
            let found = scores(&pairs);
            prop_assert!((0. ..=1.).contains(&found.pnmi));
            let most = |of: &dyn Fn(usize, usize) -> usize, outer: usize, inner: usize| -> usize {
                (0..outer).map(|a| (0..inner).map(|b| of(a, b)).max().unwrap()).sum()
            };
            let count = |i: usize, j: usize| pairs.iter().filter(|pair| **pair == (i as u8, j as u16)).count();
            let n = pairs.len() as f64;
            prop_assert_eq!(found.cluster_purity, most(&|i, j| count(i, j), P, K) as f64 / n);
            prop_assert_eq!(found.phone_purity, most(&|j, i| count(i, j), K, P) as f64 / n);
        }

        #[test]
        fn names_of_clusters_do_not_matter(pairs in pairs(), shift in 1..K as u16) {
            let renamed: Vec<_> = pairs.iter().map(|(phone, label)| (*phone, (label * 3 + shift) % K as u16)).collect();
            let (a, b) = (scores(&pairs), scores(&renamed));
            prop_assert!((a.pnmi - b.pnmi).abs() < 1e-12);
            prop_assert_eq!((a.phone_purity, a.cluster_purity), (b.phone_purity, b.cluster_purity));
        }

        #[test]
        fn one_cluster_tells_nothing(phones in proptest::collection::vec(0..P as u8, 1..100)) {
            let found = scores(&phones.iter().map(|phone| (*phone, 3)).collect::<Vec<_>>());
            prop_assert!(found.pnmi.abs() < 1e-12);
            prop_assert_eq!(found.cluster_purity, 1.);
        }

        #[test]
        fn labels_that_are_the_phones_tell_everything(phones in proptest::collection::vec(0..P as u8, 2..100)) {
            prop_assume!(phones.iter().any(|phone| *phone != phones[0]));
            let found = scores(&phones.iter().map(|phone| (*phone, u16::from(*phone))).collect::<Vec<_>>());
            prop_assert!((found.pnmi - 1.).abs() < 1e-12);
            prop_assert_eq!((found.phone_purity, found.cluster_purity), (1., 1.));
        }
    }

    #[test]
    fn independent_labels_are_at_the_null_and_zero_after_correction() {
        let mut draws = Draws::new(5, "test", &[], "");
        let pairs: Vec<_> = (0..4000).map(|_| (draws.below(P as u64) as u8, draws.below(K as u64) as u16)).collect();
        let (quality, _) = measure(setting(pairs.len()), &pairs, 40);
        assert_eq!(quality.verdict, Verdict::Sound);
        let away = (quality.scores.pnmi - quality.null.pnmi.mean) / quality.null.pnmi.deviation;
        assert!(away.abs() < 4., "{quality:?}");
        let expected = quality.bias / quality.scores.phone_entropy;
        assert!((quality.null.pnmi.mean / expected - 1.).abs() < 0.2, "{quality:?}");
        assert!(quality.pnmi_corrected.abs() < 0.003);
    }

    #[test]
    fn too_few_frames_are_refused_with_the_reason() {
        let pairs: Vec<_> = (0..60).map(|i| (i % P as u8, u16::from(i) % K as u16)).collect();
        let (quality, _) = measure(setting(pairs.len()), &pairs, 2);
        let Verdict::Refused { reason } = quality.verdict else { panic!("{quality:?}") };
        insta::assert_snapshot!(reason, @"60 frames are too few for 7 clusters and 5 phones: the expected bias of the mutual information, 0.200 nats, is above 0.080, which is 5 % of the phone entropy");
    }
}
