//! Long waves in pieces, so that memory has a bound.

use std::ops::Range;

use reprise_spec::arithmetic::{FEATURE_STRIDE, FRAME_WINDOW, frames_at};
use reprise_spec::network::{Hierarchy, Network};

/// Samples of a piece at most, up to its last frame's window: 100 s, as in the reference (hubert.md section 4.2).
pub const LONGEST: u64 = 1_600_000;

/// The pieces that a wave passes through `network` in, without context of each other.
///
/// A piece reads up to the end of its last frame's window, so that together they have as many frames as the whole wave at the rate of
/// every layer. A wave shorter than one frame has none.
pub fn pieces(samples: u64, network: &Network) -> impl Iterator<Item = Range<usize>> + use<> {
    let stride = network.frame_stride();
    let coarsest = stride * network.hierarchy.as_ref().map_or(1, Hierarchy::lowest);
    let piece = (LONGEST / coarsest).max(1) * coarsest;
    // A log-mel frame is made of features that begin up to the next frame, whatever the stride.
    let window = FRAME_WINDOW + stride - FEATURE_STRIDE;
    let end = frames_at(samples, stride) * stride;
    (0..end).step_by(piece as usize).map(move |start| {
        let next = start + piece;
        let to = if next < end { next - stride + window } else { samples };
        start as usize..to as usize
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::network::{FrontEnd, LogMelFrontEnd, Stack, Subsampling};
    use reprise_spec::values::Count;

    use super::*;

    fn count(value: u64) -> Count {
        Count::try_from(value).unwrap()
    }

    proptest! {
        #[test]
        fn pieces_have_as_many_frames_as_the_whole(
            samples in prop_oneof![0u64..2_000, 1_599_000u64..1_601_000, 0u64..20_000_000],
            stacked in 0usize..3, ratio in 0u64..4,
        ) {
            let mut network = Network::default();
            if stacked > 0 {
                let subsampling = Subsampling::Stack(Stack { frames: count(2 * stacked as u64) });
                network.front_end = FrontEnd::LogMel(LogMelFrontEnd { subsampling, ..LogMelFrontEnd::default() });
            }
            network.hierarchy =
                (ratio > 0).then(|| Hierarchy { ratios: vec![count(ratio)], ..Hierarchy::default() });
            for layer in [0, 6] {
                let stride = network.layer_stride(layer);
                let frames = |samples: u64| {
                    frames_at(samples, network.frame_stride()).div_ceil(stride / network.frame_stride())
                };
                let of_pieces: u64 = pieces(samples, &network).map(|piece| frames(piece.len() as u64)).sum();
                prop_assert_eq!(of_pieces, frames_at(samples, stride));
            }
            prop_assert!(pieces(samples, &network).all(|piece| piece.len() as u64 <= LONGEST + 1_000));
        }
    }
}
