//! Frame and sample arithmetic that every stage shares, in whole samples at 16 kHz; sizes and costs of networks.

use crate::network::{
    FrontEnd, FrontEndNorm, Hierarchy, LinearProjection, LogMelFrontEnd, Network, SamplingForm, Subsampling,
};
use crate::strategy::Quantiser;
use crate::training::{CosineHead, Head, PredictAt};

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

/// Frames that `samples` samples give at one frame every `stride` samples, a multiple of 160: none below 400 samples. Frame t of a
/// coarser rate starts with frame t · ratio of a finer one, so a coarser count is the finer one over the ratio, rounded up.
pub fn frames_at(samples: u64, stride: u64) -> u64 {
    if samples < FRAME_WINDOW { 0 } else { (samples - FRAME_WINDOW) / stride + 1 }
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

/// Trainable numbers of a network without its heads: everything that is saved, the mask embedding included. A codebook that a front-end
/// reads isn't trained and doesn't count.
pub fn parameters(network: &Network) -> u64 {
    let encoder = &network.encoder;
    let [layers, width, inner] = [encoder.layers, encoder.width, encoder.feed_forward].map(|n| u64::from(n.get()));
    let (front_end, features) = front_end_parameters(&network.front_end);
    let projected = features != width || network.projection.linear == LinearProjection::Always;
    let mut projection = if network.projection.layer_norm { norm(features) } else { 0 };
    projection += if projected { linear(features, width) } else { 0 };
    let (kernel, groups) = (u64::from(encoder.positional.kernel.get()), u64::from(encoder.positional.groups.get()));
    let positional = width * (width / groups) * kernel + kernel + width;
    let layer = 4 * linear(width, width) + linear(width, inner) + linear(inner, width) + 2 * norm(width);
    let blocks = network.hierarchy.as_ref().map_or(1, |hierarchy| hierarchy.layers.len() as u64);
    let relative = encoder.relative_positions.as_ref();
    let relative = relative.map_or(0, |positions| u64::from(positions.buckets.get()) * u64::from(encoder.heads.get()));
    let sampling = network.hierarchy.as_ref().map_or(0, |hierarchy| sampling_parameters(hierarchy, width));
    front_end + projection + width + positional + blocks * (norm(width) + relative) + sampling + layers * layer
}

/// Trainable numbers of the heads that predict sets of units with as many clusters as `clusters` says.
pub fn head_parameters(network: &Network, head: &Head, predict_at: &PredictAt, clusters: &[u64]) -> u64 {
    let width = u64::from(network.encoder.width.get());
    let tables = |rows: u64, sets: &[u64]| sets.iter().map(|clusters| clusters + rows).sum::<u64>();
    let one = |sets: &[u64]| match head {
        Head::Cosine(CosineHead { dimension, extra_rows, tied, .. }) => {
            let dimension = u64::from(dimension.get());
            let projections = if *tied { 1 } else { sets.len() as u64 };
            projections * linear(width, dimension) + tables((*extra_rows).into(), sets) * dimension
        }
        Head::Linear(head) => tables(head.extra_rows.into(), sets) * (width + 1),
    };
    match predict_at {
        PredictAt::Output => one(clusters),
        PredictAt::Layers(layers) => {
            let pre = network.encoder.norm == crate::network::LayerNormPlacement::Pre;
            layers.len() as u64 * (one(clusters) + if pre { norm(width) } else { 0 })
        }
        PredictAt::Resolutions(crate::training::ResolutionTargets::Shared) => {
            let rates = network.hierarchy.as_ref().map_or(1, |hierarchy| hierarchy.ratios.len() as u64 + 1);
            rates * one(clusters)
        }
        PredictAt::Resolutions(crate::training::ResolutionTargets::Separate) => {
            clusters.iter().map(|set| one(std::slice::from_ref(set))).sum()
        }
    }
}

/// Trainable numbers of a quantiser with its projections (wav2vec 2.0), for a head of `dimension`.
pub fn quantiser_parameters(network: &Network, quantiser: &Quantiser, dimension: u64) -> u64 {
    let (_, features) = front_end_parameters(&network.front_end);
    let (groups, entries) = (u64::from(quantiser.groups.get()), u64::from(quantiser.entries.get()));
    let vector = u64::from(quantiser.dimension.get());
    linear(features, groups * entries)
        + entries * vector
        + linear(vector, dimension)
        + linear(u64::from(network.encoder.width.get()), dimension)
}

/// Floating-point operations of one forward pass without head over `samples` samples: two for every multiplication with an addition;
/// norms, activations and softmax aren't counted.
pub fn forward_flops(network: &Network, samples: u64) -> u64 {
    let encoder = &network.encoder;
    let [layers, width, inner] = [encoder.layers, encoder.width, encoder.feed_forward].map(|n| u64::from(n.get()));
    let time = frames_at(samples, network.frame_stride());
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
        FrontEnd::LogMel(mel) => {
            let (mut length, mut channels) = (feature_frames(samples), u64::from(mel.bins.get()));
            for (kernel, stride, outputs) in mel_convolutions(mel) {
                length = length.div_ceil(stride);
                total += length * kernel * channels * outputs;
                channels = outputs / 2;
            }
            front_end_parameters(&network.front_end).1
        }
        FrontEnd::Units(units) => u64::from(units.dimension.get()),
    };
    if features != width || network.projection.linear == LinearProjection::Always {
        total += time * features * width;
    }
    total += time
        * width
        * (width / u64::from(encoder.positional.groups.get()))
        * u64::from(encoder.positional.kernel.get());
    total += (1..=layers as u32)
        .map(|layer| {
            let time = frames_at(samples, network.layer_stride(layer));
            time * (4 * width * width + 2 * width * inner) + 2 * time * time * width
        })
        .sum::<u64>();
    total += network.hierarchy.as_ref().map_or(0, |hierarchy| sampling_products(hierarchy, width, time));
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
        FrontEnd::LogMel(mel) => {
            let bins = u64::from(mel.bins.get());
            match &mel.subsampling {
                Subsampling::Stack(stack) => (0, bins * u64::from(stack.frames.get())),
                Subsampling::Convolution(convolution) => {
                    let mut inputs = bins;
                    let mut weights = 0;
                    for (kernel, _, outputs) in mel_convolutions(mel) {
                        weights += kernel * inputs * outputs + outputs;
                        inputs = outputs / 2;
                    }
                    (weights, convolution.width.get().into())
                }
            }
        }
        FrontEnd::Units(units) => {
            let dimension = u64::from(units.dimension.get());
            (u64::from(units.clusters.get()) * dimension, dimension)
        }
    }
}

/// Kernel, stride and channels before gating of every convolution of a log-mel front-end.
fn mel_convolutions(mel: &LogMelFrontEnd) -> Vec<(u64, u64, u64)> {
    let Subsampling::Convolution(convolution) = &mel.subsampling else { return Vec::new() };
    let last = convolution.kernels.len().saturating_sub(1);
    let outputs =
        |index| if index == last { 2 * u64::from(convolution.width.get()) } else { convolution.channels.get().into() };
    let pairs = convolution.kernels.iter().zip(&convolution.strides).enumerate();
    pairs.map(|(index, (kernel, stride))| (kernel.get().into(), stride.get().into(), outputs(index))).collect()
}

/// Convolutions of a hierarchy's sampling modules, each with its norm and without bias: two a module in the residual form, one in the plain one.
fn sampling_parameters(hierarchy: &Hierarchy, width: u64) -> u64 {
    let modules = 2 * hierarchy.ratios.len() as u64;
    modules * convolutions_of(hierarchy) * (width * width * u64::from(hierarchy.sampling.kernel.get()) + norm(width))
}

fn convolutions_of(hierarchy: &Hierarchy) -> u64 {
    match hierarchy.sampling.form {
        SamplingForm::Residual => 2,
        SamplingForm::Plain => 1,
    }
}

/// Multiplications of the sampling modules for `time` frames at the front-end's rate.
fn sampling_products(hierarchy: &Hierarchy, width: u64, time: u64) -> u64 {
    let kernel = u64::from(hierarchy.sampling.kernel.get());
    let mut fine = time;
    let mut frames = 0;
    for ratio in &hierarchy.ratios {
        let ratio = u64::from(ratio.get());
        let coarse = fine.div_ceil(ratio);
        frames += match hierarchy.sampling.form {
            // Down: a convolution at the fine rate, then a strided one. Up: a transposed one, then one at the fine rate.
            SamplingForm::Residual => (fine + coarse) + (coarse + coarse * ratio),
            SamplingForm::Plain => coarse + coarse,
        };
        fine = coarse;
    }
    frames * width * width * kernel
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
    use crate::training::ResolutionTargets;

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
        let head = Head::Cosine(CosineHead { dimension: count(dimension), ..CosineHead::default() });
        let backbone = parameters(network);
        [backbone, backbone + head_parameters(network, &head, &PredictAt::Output, &[504])]
    }

    #[test]
    fn the_published_sizes_have_their_published_parameters() {
        assert_eq!(with_head(&Network::default(), 256), [94_371_712, 94_697_600]);
        assert_eq!(with_head(&large(24, 1024, 4096), 768), [315_435_136, 316_609_408]);
        assert_eq!(with_head(&large(48, 1280, 5120), 1024), [962_493_824, 964_321_664]);
    }

    /// fairseq's README says about 97 and 321 million; the paper 9 to 13 % less computing (papers.md section 5).
    #[test]
    fn mr_hubert_has_about_its_published_parameters_and_costs_less() {
        let with_heads = |network: &Network, dimension: u64| {
            let head = Head::Cosine(CosineHead { dimension: count(dimension), ..CosineHead::default() });
            let at = PredictAt::Resolutions(ResolutionTargets::Shared);
            parameters(network) + head_parameters(network, &head, &at, &[504])
        };
        let base = Network { hierarchy: Some(Hierarchy::default()), ..Network::default() };
        assert_eq!(parameters(&base), 94_371_712 + 2 * 1536 + 4 * (768 * 768 + 1536));
        assert_eq!(with_heads(&base, 256) / 1_000_000, 97);
        let layers = vec![count(8); 3];
        let large = Network { hierarchy: Some(Hierarchy { layers, ..Hierarchy::default() }), ..large(24, 1024, 4096) };
        assert_eq!(with_heads(&large, 768) / 1_000_000, 321);
        let saved = 1.0 - forward_flops(&base, 250_000) as f64 / forward_flops(&Network::default(), 250_000) as f64;
        assert!((0.09..0.13).contains(&saved), "{saved}");
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
        fn stacked_convolutions_are_one_with_their_window_and_stride(
            samples in 0u64..20_000,
            convolutions in prop::collection::vec((1u64..12, 1u64..6), 1..9),
        ) {
            let (kernels, strides): (Vec<u64>, Vec<u64>) = convolutions.into_iter().unzip();
            let (window, stride) = (conv_window(&kernels, &strides), strides.iter().product::<u64>());
            let frames = if samples < window { 0 } else { (samples - window) / stride + 1 };
            prop_assert_eq!(conv_frames(samples, &kernels, &strides), frames);
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
