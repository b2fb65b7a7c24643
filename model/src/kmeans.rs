//! k-means: greedy k-means++ starts, then mini-batches as published or Lloyd's full passes.

mod centroids;

pub use centroids::{Assignment, Centroids};
