//! Which frames a crop gives and which label goes with each: the network's frame grid, and the rules on which references differ.
//!
//! Source: hubert.md section 1.6; fairseq `HubertDataset`, `HubertModel.forward_targets` and `forward_padding_mask`; torchaudio's HuBERT
//! recipe, `_crop_audio_label`.

use reprise_spec::arithmetic::{FRAME_STRIDE, FRAME_WINDOW, SAMPLE_RATE, frames, frames_at};
use reprise_spec::network::{Hierarchy, Network};
use reprise_spec::training::{Batching, LabelAlignment, Lengths, PaddingRule};

use crate::batch::Crop;

/// How much of each row of a batch is speech; what follows is padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    pub samples: Vec<u64>,
    /// At the rate of the front-end. Frames of a batch beyond the longest row are cut.
    pub frames: Vec<u64>,
}

impl Rows {
    /// Rows with all the frames that their samples give, `stride` samples apart.
    pub fn of(samples: &[u64], stride: u64) -> Self {
        Self { frames: samples.iter().map(|&samples| frames_at(samples, stride)).collect(), samples: samples.to_vec() }
    }
}

/// Frames of a crop that have labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// Frames all of whose labels are there.
    pub whole: u64,
    /// Frames whose first label is there, which is the one that is read.
    pub begun: u64,
}

impl Covered {
    /// Where nothing is labelled.
    pub const ALL: Self = Self { whole: u64::MAX, begun: u64::MAX };

    /// Frames that several sets of labels cover together.
    pub fn and(self, other: Self) -> Self {
        Self { whole: self.whole.min(other.whole), begun: self.begun.min(other.begun) }
    }
}

/// The frame grid of a network, and how crops and labels lie on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Samples from one frame of the front-end to the next.
    pub stride: u64,
    /// Samples from one frame of a hierarchy's lowest rate to the next; elsewhere the stride.
    coarsest: u64,
    alignment: LabelAlignment,
    padding: PaddingRule,
    lengths: Lengths,
}

impl Framing {
    pub fn new(network: &Network, batching: &Batching) -> Self {
        let Batching { label_alignment, padding_rule, lengths, .. } = batching;
        let stride = network.frame_stride();
        let coarsest = stride * network.hierarchy.as_ref().map_or(1, Hierarchy::lowest);
        Self { stride, coarsest, alignment: *label_alignment, padding: *padding_rule, lengths: *lengths }
    }

    /// The most samples up to `samples` that a crop may have: all, or where crops are snapped as many as end with a whole frame.
    pub fn length(&self, samples: u64) -> u64 {
        match (self.alignment, frames_at(samples, self.stride)) {
            (_, 0) => 0,
            (LabelAlignment::Snapped, frames) => (frames - 1) * self.stride + FRAME_WINDOW,
            (LabelAlignment::Rounded | LabelAlignment::Floored, _) => samples,
        }
    }

    /// Samples between two places where a crop may start; those of a hierarchy's lowest rate where they are snapped, so that frames of every
    /// rate have the labels of their own windows.
    pub fn step(&self) -> u64 {
        match self.alignment {
            LabelAlignment::Snapped => self.coarsest,
            LabelAlignment::Rounded | LabelAlignment::Floored => 1,
        }
    }

    /// The place among an utterance's labels, of which there are `rate` a second, of the label for a frame that starts `offset` samples
    /// into a crop.
    ///
    /// Snapped, it is the label that covers the frame's first sample: every one at 50 Hz and every second one at 100 Hz for frames of
    /// 20 ms. Rounded, labels count from the one that starts nearest to the crop. Floored, they count from the first whose 20-ms frame doesn't
    /// lie wholly before the crop, which is 80 to 400 samples early where the start isn't near the utterance's.
    pub fn label(&self, crop: &Crop, offset: u64, rate: u32) -> usize {
        let covering = |sample: u64| sample * u64::from(rate) / u64::from(SAMPLE_RATE);
        let place = match self.alignment {
            LabelAlignment::Snapped => covering(crop.start + offset),
            LabelAlignment::Rounded => nearest_label(crop.start, rate) + covering(offset),
            LabelAlignment::Floored => covering(frames(crop.start) * FRAME_STRIDE + offset),
        };
        place as usize
    }

    /// Frames of a crop that have a label, of an utterance with `count` labels: only where starts are rounded may the last one lack it.
    pub fn labelled(&self, crop: &Crop, count: usize, rate: u32) -> Covered {
        if self.alignment != LabelAlignment::Rounded {
            let frames = frames_at(crop.samples, self.stride);
            return Covered { whole: frames, begun: frames };
        }
        let left = (count as u64).saturating_sub(nearest_label(crop.start, rate));
        let labels = nearest_label(crop.samples, rate).min(left) * u64::from(SAMPLE_RATE);
        let frame = u64::from(rate) * self.stride;
        Covered { whole: labels / frame, begun: labels.div_ceil(frame) }
    }

    /// The rows of a batch of crops, `labelled` saying which frames of each have labels.
    ///
    /// A batch keeps the frames all of whose labels are there: in crops of one length in every row, in padded ones in any. A padded row
    /// keeps those of them that the padding rule gives it and that have a label; fairseq trains the others on its padding symbol.
    pub fn rows(&self, crops: &[Crop], labelled: &[Covered]) -> Rows {
        let samples: Vec<u64> = crops.iter().map(|crop| crop.samples).collect();
        let longest = samples.iter().copied().max().unwrap_or(0);
        let whole = frames_at(longest, self.stride);
        let labels = match self.lengths {
            Lengths::Crop => labelled.iter().map(|covered| covered.whole).min(),
            Lengths::Pad => labelled.iter().map(|covered| covered.whole).max(),
        };
        let cut = labels.map_or(whole, |labels| labels.min(whole));
        let valid = |samples: u64| match self.padding {
            PaddingRule::Convolution => frames_at(samples, self.stride),
            PaddingRule::Reshape => samples.div_ceil((longest / cut.max(1)).max(1)),
        };
        let frames = samples.iter().zip(labelled).map(|(&samples, covered)| valid(samples).min(covered.begun).min(cut));
        Rows { frames: frames.collect(), samples }
    }
}

/// The label that starts nearest to a sample; of two equally near ones the even one, as Python rounds.
fn nearest_label(sample: u64, rate: u32) -> u64 {
    let (scaled, whole) = (sample * u64::from(rate), u64::from(SAMPLE_RATE));
    let (below, rest) = (scaled / whole, 2 * (scaled % whole));
    below + u64::from(rest > whole || (rest == whole && below % 2 == 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::arithmetic::{FEATURE_STRIDE, feature_frames};

    use super::*;

    fn framing(stride: u64, alignment: LabelAlignment) -> Framing {
        Framing { stride, coarsest: stride, alignment, padding: PaddingRule::Convolution, lengths: Lengths::Crop }
    }

    fn strides() -> impl Strategy<Value = u64> {
        prop_oneof![Just(FRAME_STRIDE), Just(2 * FRAME_STRIDE)]
    }

    fn alignments() -> impl Strategy<Value = LabelAlignment> {
        prop_oneof![Just(LabelAlignment::Snapped), Just(LabelAlignment::Rounded), Just(LabelAlignment::Floored)]
    }

    /// A crop of an utterance of `samples`, from the start of which `skip` is taken, at most `longest` of it.
    fn crop(framing: &Framing, samples: u64, skip: u64, longest: u64) -> Crop {
        let start = skip.min(samples - 400) / framing.step() * framing.step();
        Crop { utterance: 0, start, samples: framing.length((samples - start).min(longest)) }
    }

    #[test]
    fn frames_of_a_hierarchy_s_lowest_rate_read_the_labels_that_start_where_they_do() {
        let network = Network { hierarchy: Some(Hierarchy::default()), ..Network::default() };
        let framing = Framing::new(&network, &Batching::default());
        let crop = crop(&framing, 100_000, 5 * FRAME_STRIDE, 30_000);
        assert_eq!(crop.start, 4 * FRAME_STRIDE);
        let labels = [0, 1, 7].map(|t| framing.label(&crop, t * 2 * FRAME_STRIDE, 25));
        assert_eq!(labels, [2, 3, 9]);
    }

    /// Labels of 10, 20 and 40 ms of an utterance: rate, stride and count.
    fn rates(samples: u64) -> [(u32, u64, u64); 3] {
        [100, 50, 25].map(|rate| {
            let stride = 16_000 / u64::from(rate);
            (rate, stride, frames_at(samples, stride))
        })
    }

    proptest! {
        /// The label that a frame reads is the one whose own window starts where the frame does, at any rate that isn't below the frames'.
        #[test]
        fn snapped_frames_read_the_labels_that_start_where_they_do(
            stride in strides(), samples in 400u64..300_000, skip in 0u64..200_000, longest in 400u64..100_000,
        ) {
            let framing = framing(stride, LabelAlignment::Snapped);
            let crop = crop(&framing, samples, skip, longest);
            let frames = framing.rows(std::slice::from_ref(&crop), &[Covered::ALL]).frames[0];
            prop_assert_eq!(crop.samples, (frames - 1) * stride + 400);
            for t in [0, frames / 2, frames - 1] {
                let first_sample = crop.start + t * stride;
                for (rate, label_stride, count) in rates(samples).into_iter().filter(|(_, step, _)| *step <= stride) {
                    let label = framing.label(&crop, t * stride, rate) as u64;
                    prop_assert_eq!(label * label_stride, first_sample);
                    prop_assert!(label < count);
                }
            }
        }

        #[test]
        fn no_frame_reads_beyond_the_labels(
            stride in strides(), alignment in alignments(), samples in 3_200u64..300_000, skip in 0u64..300_000, longest in 3_200u64..100_000,
        ) {
            let framing = framing(stride, alignment);
            let crop = crop(&framing, samples, skip.min(samples - 3_200), longest);
            for (rate, _, count) in rates(samples) {
                let labelled = framing.labelled(&crop, count as usize, rate);
                let frames = framing.rows(std::slice::from_ref(&crop), &[labelled]).frames[0];
                prop_assert!(frames > 0 && frames <= frames_at(crop.samples, stride));
                prop_assert!(frames + 2 >= frames_at(crop.samples, stride), "{} of {}", frames, frames_at(crop.samples, stride));
                for t in 0..frames {
                    prop_assert!((framing.label(&crop, t * stride, rate) as u64) < count);
                }
            }
        }

        #[test]
        fn rounded_labels_are_at_most_half_a_label_off(
            stride in strides(), samples in 3_200u64..300_000, skip in 0u64..300_000, t in 0u64..100,
        ) {
            let framing = framing(stride, LabelAlignment::Rounded);
            let crop = crop(&framing, samples, skip, 100_000);
            for (rate, label_stride, _) in rates(samples).into_iter().filter(|(_, step, _)| *step <= stride) {
                let label = framing.label(&crop, t * stride, rate) as u64;
                prop_assert!((label * label_stride).abs_diff(crop.start + t * stride) * 2 <= label_stride);
            }
        }

        /// `max(floor((start − 400) / 320) + 1, 0)`, as the recipe computes it with kernel 25 ms and stride 20 ms.
        #[test]
        fn floored_labels_are_torchaudio_s(start in 0u64..100_000, t in 0u64..100) {
            let crop = Crop { utterance: 0, start, samples: 40_000 };
            let first = ((start as i64 - 400).div_euclid(320) + 1).max(0);
            let label = framing(320, LabelAlignment::Floored).label(&crop, t * 320, 50);
            prop_assert_eq!(label as i64, first + t as i64);
        }

        #[test]
        fn either_padding_rule_gives_the_longest_row_all_frames(
            stride in strides(), lengths in prop::collection::vec(400u64..100_000, 1..6),
        ) {
            let crops: Vec<Crop> = lengths.iter().map(|&samples| Crop { utterance: 0, start: 0, samples }).collect();
            let longest = *lengths.iter().max().unwrap();
            for padding in [PaddingRule::Convolution, PaddingRule::Reshape] {
                let framing = Framing { padding, lengths: Lengths::Pad, ..framing(stride, LabelAlignment::Floored) };
                let rows = framing.rows(&crops, &vec![Covered::ALL; crops.len()]);
                for (samples, frames) in rows.samples.iter().zip(&rows.frames) {
                    prop_assert!(*frames > 0 && *frames <= frames_at(longest, stride));
                    prop_assert!(*samples < longest || *frames == frames_at(longest, stride));
                    prop_assert!(padding == PaddingRule::Reshape || *frames == frames_at(*samples, stride));
                }
            }
        }
    }

    /// hubert.md section 1.6: 250,000 samples have 781 frames, and 1,561 labels of MFCC, which is one too few for the last of them.
    #[test]
    fn a_frame_whose_label_is_missing_is_cut() {
        let framing = framing(FRAME_STRIDE, LabelAlignment::Rounded);
        let crop = Crop { utterance: 0, start: 0, samples: 250_000 };
        assert_eq!((frames(250_000), feature_frames(250_000)), (781, 1_561));
        let labelled = framing.labelled(&crop, 1_561, 100);
        assert_eq!(framing.rows(std::slice::from_ref(&crop), &[labelled]).frames, [780]);
        assert_eq!(framing.labelled(&crop, 781, 50), Covered { whole: 781, begun: 781 });
    }

    /// fairseq reshapes the mask of 32,000 samples into 99 stretches of 323.
    #[test]
    fn reshaped_padding_counts_stretches_with_a_sample() {
        let framing = Framing {
            padding: PaddingRule::Reshape,
            lengths: Lengths::Pad,
            ..framing(FRAME_STRIDE, LabelAlignment::Rounded)
        };
        let crops = [32_000, 31_978, 31_977, 323, 324].map(|samples| Crop { utterance: 0, start: 0, samples });
        assert_eq!(framing.rows(&crops, &[Covered::ALL; 5]).frames, [99, 99, 99, 1, 2]);
        assert_eq!(Rows::of(&[32_000, 31_978], FRAME_STRIDE).frames, [99, 99]);
        let half = [32_000, 16_000].map(|samples| Crop { utterance: 0, start: 0, samples });
        assert_eq!(
            (framing.rows(&half, &[Covered { whole: 99, begun: 99 }; 2]).frames, frames(16_000)),
            (vec![99, 50], 49)
        );
    }

    #[test]
    fn halves_go_to_the_even_label() {
        assert_eq!([160, 480, 800, 159, 161].map(|sample| nearest_label(sample, 50)), [0, 2, 2, 0, 1]);
        assert_eq!(FEATURE_STRIDE, 160);
    }
}
