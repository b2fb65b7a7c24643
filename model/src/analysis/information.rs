//! What clusters of segments say about their labels: mutual information with its null and its bias.
//!
//! The same numbers as of units and phones ([`crate::quality`]), over segments instead of frames and labels of any number instead of a phone
//! inventory. Source: papers.md section 4.2 (MI / H(label) after a k-means fitted on other segments), hubert.md section 5.

use serde::{Deserialize, Serialize};

use crate::failure::StageError;
use crate::quality::{self, BIAS_LIMIT, Joint, Null, Scores, Verdict};

/// What clusters of segments say about labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Information {
    pub segments: u64,
    /// The size of the label set; labels that no segment has count.
    pub labels: u32,
    /// The size of the codebook.
    pub clusters: u32,
    pub verdict: Verdict,
    pub mutual_information: f64,
    pub label_entropy: f64,
    pub cluster_entropy: f64,
    /// Mutual information over label entropy, in 0..=1.
    pub pnmi: f64,
    /// The share of segments that have their cluster's commonest label.
    pub label_purity: f64,
    /// The share of segments that are in their label's commonest cluster.
    pub cluster_purity: f64,
    /// What the mutual information is expected to have too much, in nats.
    pub bias: f64,
    /// (I − bias) / H(label); may be below 0.
    pub pnmi_corrected: f64,
    /// Of the same clusters, shuffled over the segments; its phone purity is that of labels.
    pub null: Null,
}

/// Measures segments by their label (below `labels`) and cluster (below `clusters`).
///
/// The numbers are [`Verdict::Refused`] where the expected bias of the mutual information exceeds [`BIAS_LIMIT`] of the label entropy.
///
/// # Errors
/// No segments; no draws of the null; a label or cluster out of range; not one cluster for each label.
pub fn measure(
    (labels, clusters): (u32, u32),
    of_label: &[u32],
    of_cluster: &[u32],
    draws: u32,
) -> Result<Information, StageError> {
    if of_label.len() != of_cluster.len() || of_label.is_empty() || draws == 0 {
        let (of_label, of_cluster) = (of_label.len(), of_cluster.len());
        return Err(StageError::Failed(format!("{of_label} labels with {of_cluster} clusters and {draws} null draws")));
    }
    if of_label.iter().any(|label| *label >= labels) || of_cluster.iter().any(|cluster| *cluster >= clusters) {
        return Err(StageError::Failed(format!(
            "a segment's label is not below {labels}, or its cluster not below {clusters}"
        )));
    }
    let sizes = (labels as usize, clusters as usize);
    let pairs = || of_label.iter().zip(of_cluster).map(|(label, cluster)| (*label as usize, *cluster as usize));
    let joint = Joint::of(sizes.0, sizes.1, pairs());
    let Scores { pnmi, phone_purity, cluster_purity, mutual_information, phone_entropy, cluster_entropy } =
        joint.scores();
    let (segments, bias) = (joint.frames(), joint.bias());
    let (worst, allowed) = (quality::excess(sizes.1, sizes.0, segments), BIAS_LIMIT * phone_entropy);
    let verdict = if worst <= allowed {
        Verdict::Sound
    } else {
        let share = BIAS_LIMIT * 100.;
        let reason = format!(
            "{segments} segments are too few for {clusters} clusters and {labels} labels: the expected bias of the mutual \
             information, {worst:.3} nats, is above {allowed:.3}, which is {share:.0} % of the label entropy"
        );
        Verdict::Refused { reason }
    };
    Ok(Information {
        segments,
        labels,
        clusters,
        verdict,
        mutual_information,
        label_entropy: phone_entropy,
        cluster_entropy,
        pnmi,
        label_purity: phone_purity,
        cluster_purity,
        bias,
        pnmi_corrected: if phone_entropy > 0. { (mutual_information - bias) / phone_entropy } else { 0. },
        null: quality::null(sizes.0, sizes.1, pairs(), draws),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Draws;

    proptest! {
        #[test]
        fn relabelling_changes_nothing_and_mutual_information_is_symmetric(
            pairs in prop::collection::vec((0u32..6, 0u32..9), 1..200), shift in 0u32..6,
        ) {
            let (labels, clusters): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
            let found = measure((6, 9), &labels, &clusters, 1).unwrap();
            let renamed: Vec<u32> = labels.iter().map(|label| (label * 5 + shift) % 6).collect();
            let renumbered: Vec<u32> = clusters.iter().map(|cluster| (cluster * 4 + shift) % 9).collect();
            let other = measure((6, 9), &renamed, &renumbered, 1).unwrap();
            prop_assert!((found.pnmi - other.pnmi).abs() < 1e-12);
            prop_assert_eq!((found.label_purity, found.cluster_purity), (other.label_purity, other.cluster_purity));
            let turned = measure((9, 6), &clusters, &labels, 1).unwrap();
            prop_assert!((found.mutual_information - turned.mutual_information).abs() < 1e-12);
            prop_assert_eq!(found.label_purity, turned.cluster_purity);
        }
    }

    #[test]
    fn more_labels_than_a_byte_holds_are_told_apart_and_chance_is_corrected() {
        let mut draws = Draws::new(1, "test", &[], "");
        let labels: Vec<u32> = (0..300_000).map(|_| draws.below(400) as u32).collect();
        let clusters: Vec<u32> = labels.iter().map(|_| draws.below(100) as u32).collect();
        let found = measure((400, 100), &labels, &clusters, 3).unwrap();
        assert_eq!(found.verdict, Verdict::Sound);
        assert!(found.pnmi_corrected.abs() < 1e-3 && (found.pnmi - found.null.pnmi.mean).abs() < 1e-3, "{found:?}");
        let whole = measure((400, 400), &labels, &labels, 1).unwrap();
        assert!((whole.pnmi - 1.).abs() < 1e-12 && whole.label_purity == 1.);
    }

    #[test]
    fn too_few_segments_and_what_cannot_be_counted_are_refused() {
        let labels: Vec<u32> = (0..50).map(|n| n % 5).collect();
        let Verdict::Refused { reason } = measure((5, 10), &labels, &labels, 1).unwrap().verdict else { panic!() };
        insta::assert_snapshot!(reason, @"50 segments are too few for 10 clusters and 5 labels: the expected bias of the mutual information, 0.360 nats, is above 0.080, which is 5 % of the label entropy");
        for (labels, clusters, draws) in
            [(&[][..], &[][..], 1), (&[0], &[0, 1], 1), (&[9], &[0], 1), (&[0], &[9], 1), (&[0], &[0], 0)]
        {
            assert!(measure((2, 2), labels, clusters, draws).is_err());
        }
    }
}
