//! A learnt bias on attention by how far one frame lies before or behind another.
//!
//! Shape suffixes: T frames, H heads.
//! Source: T5 (arXiv:1910.10683) section 2.1, in both directions; ILS-HuBERT's release (UniSpeech `ils_hubert`, `compute_bias`). There the
//! first layer owns the table and hands the bias on, so that a step which skips that layer goes without; here it belongs to the encoder.

use reprise_spec::network::RelativePositions as Settings;
use tch::nn::{Init, Path};
use tch::{Device, Kind, Tensor};

use crate::layers::parameter;

/// Parameter `weight` (buckets × H).
#[derive(Debug)]
pub struct RelativePositions {
    table_nh: Tensor,
    max_distance: i64,
}

impl RelativePositions {
    /// The table starts from N(0, 0.02), as embeddings inside the encoder do in fairseq.
    pub fn new(path: &Path, heads: i64, settings: &Settings) -> Self {
        let shape = [i64::from(settings.buckets.get()), heads];
        Self {
            table_nh: parameter(path, "weight", &shape, Init::Randn { mean: 0.0, stdev: 0.02 }),
            max_distance: settings.max_distance.get().into(),
        }
    }

    /// What frame t adds to its logit for frame u: 1 × H × T × T.
    pub fn bias(&self, frames: i64) -> Tensor {
        let buckets_tt = buckets(frames, self.table_nh.size()[0], self.max_distance, self.table_nh.device());
        self.table_nh
            .index_select(0, &buckets_tt.flatten(0, 1))
            .view([frames, frames, -1])
            .permute([2, 0, 1])
            .unsqueeze(0)
    }
}

/// The bucket of every pair of frames, T × T. Half of the buckets are for frames ahead. Of each half, one half is for as many exact
/// distances, from 0 on; in the other the distances widen with their logarithm up to `max_distance`, from which on all share the last.
fn buckets(frames: i64, count: i64, max_distance: i64, device: Device) -> Tensor {
    let places = Tensor::arange(frames, (Kind::Int64, device));
    let ahead_tt = places.unsqueeze(0) - places.unsqueeze(1);
    let (half, exact) = (count / 2, count / 4);
    let distance_tt = ahead_tt.abs();
    let range = (max_distance as f64 / exact as f64).ln();
    // Single precision and truncation as the reference, or distances at the edge of a bucket could fall into its neighbour.
    let wide_tt = (distance_tt.to_kind(Kind::Float) / exact as f64).log() / range * (half - exact) as f64;
    let wide_tt = (wide_tt.clamp_min(0.0).to_kind(Kind::Int64) + exact).clamp_max(half - 1);
    distance_tt.where_self(&distance_tt.lt(exact), &wide_tt) + ahead_tt.gt(0).to_kind(Kind::Int64) * half
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of T5's formula, one distance at a time, in PyTorch's single precision (`bucket` in tests/fixtures/generate/multires.py).
    #[test]
    fn distances_fall_into_their_buckets() {
        let buckets_tt = buckets(1_201, 320, 800, Device::Cpu);
        let distances = [0, 1, 79, 80, 82, 83, 100, 253, 400, 789, 799, 800, 1_200];
        let ahead = distances.map(|distance| buckets_tt.int64_value(&[0, distance]));
        assert_eq!(ahead, [0, 161, 239, 240, 240, 241, 247, 280, 295, 319, 319, 319, 319]);
        let behind = distances.map(|distance| buckets_tt.int64_value(&[distance, 0]));
        assert_eq!(behind, [0, 1, 79, 80, 80, 81, 87, 120, 135, 159, 159, 159, 159]);
    }
}
