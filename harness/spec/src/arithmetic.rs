//! Frame and sample arithmetic that every stage shares, in whole samples at 16 kHz; sizes and costs of networks.

use crate::network::{FrontEnd, FrontEndNorm, Network};

/// Samples a second of everything past the `corpus` stage.
pub const SAMPLE_RATE: u32 = 16_000;
/// Samples between two frames of the encoder: 20 ms.
pub const FRAME_STRIDE: u64 = 320;
/// Samples that one frame of the wave front-end covers.
pub const FRAME_WINDOW: u64 = 400;
/// Samples between two frames of MFCC and log-mel: 10 ms.
pub const FEATURE_STRIDE: u64 = 160;

/// Frames of 20 ms that `samples` samples give: frame `t` covers `[320t, 320t + 400)`; none below 400 samples.
///
/// Equals applying ⌊(n − k)/s⌋ + 1 for the seven published convolutions (kernels 10,3,3,3,3,2,2; strides 5,2,2,2,2,2,2).
pub fn frames(samples: u64) -> u64 {
    if samples < FRAME_WINDOW { 0 } else { (samples - FRAME_WINDOW) / FRAME_STRIDE + 1 }
}

/// Frames of 10 ms (window 25 ms, edges snipped) that `samples` samples give. Encoder frame `t` goes with feature frame `2t`.
pub fn feature_frames(samples: u64) -> u64 {
    if samples < FRAME_WINDOW { 0 } else { (samples - FRAME_WINDOW) / FEATURE_STRIDE + 1 }
}

/// The sample at the centre of frame `t`, where alignment labels are read.
pub fn frame_centre(t: u64) -> u64 {
    t * FRAME_STRIDE + FRAME_WINDOW / 2
}

/// Samples between the edges of what one output of stacked convolutions without padding covers.
pub fn conv_window(kernels: &[u64], strides: &[u64]) -> u64 {
    let steps = strides.iter().scan(1u64, |product, stride| {
        let step = *product;
        *product = product.saturating_mul(*stride);
        Some(step)
    });
    kernels.iter().zip(steps).fold(1, |window, (kernel, step)| window.saturating_add((kernel - 1).saturating_mul(step)))
}

/// Frames that stacked convolutions without padding give: ⌊(n − k)/s⌋ + 1 applied one after the other; 0 where a kernel doesn't fit.
pub fn conv_frames(samples: u64, kernels: &[u64], strides: &[u64]) -> u64 {
    kernels
        .iter()
        .zip(strides)
        .fold(samples, |n, (kernel, stride)| if n < *kernel { 0 } else { (n - kernel) / stride + 1 })
}

/// The head whose parameters are counted beside the backbone: units scored through a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadSize {
    /// Dimensions of the projected frame and of a unit's embedding.
    pub dimension: u64,
    /// Rows of the embedding table.
    pub classes: u64,
}

/// Trainable numbers of a network, with the head where one is given: everything that is saved, the mask embedding included.
///
/// The projection to the encoder's width is there only where the front-end's width differs (fairseq's `post_extract_proj`).
pub fn parameters(network: &Network, head: Option<HeadSize>) -> u64 {
    let encoder = &network.encoder;
    let [layers, width, inner] = [encoder.layers, encoder.width, encoder.feed_forward].map(|n| u64::from(n.get()));
    let (front_end, features) = front_end_parameters(&network.front_end);
    let projection = if features == width { 0 } else { linear(features, width) };
    let (kernel, groups) = (u64::from(encoder.positional.kernel.get()), u64::from(encoder.positional.groups.get()));
    let positional = width * (width / groups) * kernel + kernel + width;
    let layer = 4 * linear(width, width) + linear(width, inner) + linear(inner, width) + 2 * norm(width);
    let backbone = front_end + norm(features) + projection + width + positional + norm(width) + layers * layer;
    backbone + head.map_or(0, |head| linear(width, head.dimension) + head.classes * head.dimension)
}

/// Floating-point operations of one forward pass without head over `samples` samples: two for every multiplication with an addition;
/// norms, activations and softmax aren't counted.
pub fn forward_flops(network: &Network, samples: u64) -> u64 {
    let encoder = &network.encoder;
    let [layers, width, inner] = [encoder.layers, encoder.width, encoder.feed_forward].map(|n| u64::from(n.get()));
    let time = frames(samples);
    let mut total = 0;
    let features = match &network.front_end {
        FrontEnd::Wave(wave) => {
            let (mut length, mut channels_in, channels) = (samples, 1, u64::from(wave.channels.get()));
            for (kernel, stride) in wave.kernels.iter().zip(&wave.strides) {
                length = conv_frames(length, &[kernel.get().into()], &[stride.get().into()]);
                total += length * channels_in * channels * u64::from(kernel.get());
                channels_in = channels;
            }
            channels
        }
        FrontEnd::LogMel(mel) => 2 * u64::from(mel.bins.get()),
    };
    if features != width {
        total += time * features * width;
    }
    total += time
        * width
        * (width / u64::from(encoder.positional.groups.get()))
        * u64::from(encoder.positional.kernel.get());
    total += layers * (time * (4 * width * width + 2 * width * inner) + 2 * time * time * width);
    2 * total
}

fn front_end_parameters(front_end: &FrontEnd) -> (u64, u64) {
    match front_end {
        FrontEnd::Wave(wave) => {
            let channels = u64::from(wave.channels.get());
            let inputs = std::iter::once(1).chain(std::iter::repeat(channels));
            let weights: u64 =
                wave.kernels.iter().zip(inputs).map(|(kernel, input)| u64::from(kernel.get()) * input * channels).sum();
            let convolutions = wave.kernels.len() as u64;
            let norms = match wave.norm {
                FrontEndNorm::Group => 1,
                FrontEndNorm::Layer => convolutions,
            };
            let bias = if wave.bias { convolutions * channels } else { 0 };
            (weights + bias + norms * norm(channels), channels)
        }
        FrontEnd::LogMel(mel) => (0, 2 * u64::from(mel.bins.get())),
    }
}

fn linear(from: u64, to: u64) -> u64 {
    from * to + to
}

fn norm(width: u64) -> u64 {
    2 * width
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::{Encoder, LayerNormPlacement, WaveFrontEnd, count};

    const KERNELS: [u64; 7] = [10, 3, 3, 3, 3, 2, 2];
    const STRIDES: [u64; 7] = [5, 2, 2, 2, 2, 2, 2];

    fn large(layers: u64, width: u64, feed_forward: u64) -> Network {
        Network {
            front_end: FrontEnd::Wave(WaveFrontEnd { norm: FrontEndNorm::Layer, ..WaveFrontEnd::default() }),
            encoder: Encoder {
                layers: count(layers),
                width: count(width),
                heads: count(16),
                feed_forward: count(feed_forward),
                norm: LayerNormPlacement::Pre,
                ..Encoder::default()
            },
            ..Network::default()
        }
    }

    fn with_head(network: &Network, dimension: u64) -> [u64; 2] {
        [parameters(network, None), parameters(network, Some(HeadSize { dimension, classes: 504 }))]
    }

    #[test]
    fn the_published_sizes_have_their_published_parameters() {
        assert_eq!(with_head(&Network::default(), 256), [94_371_712, 94_697_600]);
        assert_eq!(with_head(&large(24, 1024, 4096), 768), [315_435_136, 316_609_408]);
        assert_eq!(with_head(&large(48, 1280, 5120), 1024), [962_493_824, 964_321_664]);
    }

    #[test]
    fn known_lengths_give_known_frames() {
        assert_eq!([399, 400, 16_000, 32_000, 93_680, 250_000].map(frames), [0, 1, 49, 99, 292, 781]);
        assert_eq!(conv_window(&KERNELS, &STRIDES), FRAME_WINDOW);
        assert_eq!(STRIDES.iter().product::<u64>(), FRAME_STRIDE);
    }

    #[test]
    fn one_second_of_base_costs_about_seven_gigaflops() {
        // By hand for 49 frames: convolutions 4.6 G, projection 0.04 G, positions 0.46 G, layers 8.4 G, two a multiply-add.
        let flops = forward_flops(&Network::default(), 16_000);
        assert!((13_000_000_000..15_000_000_000).contains(&flops), "{flops}");
    }

    proptest! {
        #[test]
        fn frames_equal_the_seven_convolutions(samples in 0u64..2_000_000) {
            prop_assert_eq!(frames(samples), conv_frames(samples, &KERNELS, &STRIDES));
        }

        #[test]
        fn one_more_stride_is_one_more_frame(samples in 400u64..2_000_000) {
            prop_assert_eq!(frames(samples + FRAME_STRIDE), frames(samples) + 1);
        }

        #[test]
        fn every_frame_has_its_feature_frame_and_lies_within_the_samples(samples in 400u64..2_000_000) {
            let last = frames(samples) - 1;
            prop_assert!(2 * last < feature_frames(samples));
            prop_assert_eq!(last * FRAME_STRIDE, 2 * last * FEATURE_STRIDE);
            prop_assert!(last * FRAME_STRIDE + FRAME_WINDOW <= samples);
            prop_assert!(frame_centre(last) < samples);
        }
    }
}
