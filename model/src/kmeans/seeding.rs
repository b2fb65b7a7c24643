//! Greedy k-means++: several starts at once.
//!
//! Each centre after the first is the best of a few candidates, drawn with probability proportional to the squared distance to the
//! nearest centre so far; the best leaves the smallest sum of squared distances.
//!
//! Source: Arthur and Vassilvitskii 2007, and scikit-learn's `MiniBatchKMeans` (hubert.md section 4.3). Departs from scikit-learn: all starts
//! share one sample of the frames, drawn without replacement, so that the distances to all candidates of all starts are one matrix product.

use crate::random::Draws;

/// Candidates of one centre.
pub fn candidates(clusters: usize) -> usize {
    2 + (clusters as f64).ln() as usize
}

/// The draws of each start.
pub fn draws(starts: usize, seed: u64) -> Vec<Draws> {
    (0..starts).map(|start| Draws::new(seed, "k-means start", &[start as u64], "")).collect()
}

/// The frames that starts are drawn from: at most `most` of `count`, without replacement.
pub fn subset(count: usize, most: usize, seed: u64) -> Vec<u64> {
    if count <= most {
        return (0..count as u64).collect();
    }
    Draws::new(seed, "k-means seeding frames", &[], "").distinct(most as u64, count as u64)
}

/// The frames that starts are compared on: so many of `count`, with replacement.
pub fn validation(count: usize, size: usize, seed: u64) -> Vec<u64> {
    let mut draws = Draws::new(seed, "k-means validation frames", &[], "");
    (0..size).map(|_| draws.below(count as u64)).collect()
}
