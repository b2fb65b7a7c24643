//! Floating-point operations of networks: two for every multiplication with an addition; norms, activations and softmax aren't counted.

use super::size::{front_end_parameters, mel_convolutions};
use super::{conv_frames, feature_frames, frames_at};
use crate::network::{FrontEnd, Hierarchy, LinearProjection, Network, SamplingForm};

/// Operations of one forward pass without head over `samples` samples.
pub fn forward_flops(network: &Network, samples: u64) -> u64 {
    layer_flops(network, samples, network.encoder.layers.get())
}

/// Operations of one forward pass over `samples` samples up to the output of layer `height`; 0 is the input of the first.
pub fn layer_flops(network: &Network, samples: u64, height: u32) -> u64 {
    front_end_flops(network, samples) + trunk_flops(network, samples, height)
}

/// Operations of the front-end.
pub(super) fn front_end_flops(network: &Network, samples: u64) -> u64 {
    let products: u64 = match &network.front_end {
        FrontEnd::Wave(wave) => {
            let (mut length, mut inputs, channels) = (samples, 1, u64::from(wave.channels.get()));
            let convolutions = wave.kernels.iter().zip(&wave.strides);
            convolutions
                .map(|(kernel, stride)| {
                    length = conv_frames(length, &[kernel.get().into()], &[stride.get().into()]);
                    let products = length * inputs * channels * u64::from(kernel.get());
                    inputs = channels;
                    products
                })
                .sum()
        }
        FrontEnd::LogMel(mel) => {
            let (mut length, mut inputs) = (feature_frames(samples), u64::from(mel.bins.get()));
            mel_convolutions(mel)
                .into_iter()
                .map(|(kernel, stride, outputs)| {
                    length = length.div_ceil(stride);
                    let products = length * kernel * inputs * outputs;
                    inputs = outputs / 2;
                    products
                })
                .sum()
        }
        FrontEnd::Units(_) => 0,
    };
    2 * products
}

/// Operations between the front-end and the output of layer `height`. Modules between the blocks of a hierarchy count whatever the height.
pub(super) fn trunk_flops(network: &Network, samples: u64, height: u32) -> u64 {
    let encoder = &network.encoder;
    let [width, inner] = [encoder.width, encoder.feed_forward].map(|n| u64::from(n.get()));
    let [kernel, groups] = [encoder.positional.kernel, encoder.positional.groups].map(|n| u64::from(n.get()));
    let time = frames_at(samples, network.frame_stride());
    let (_, features) = front_end_parameters(&network.front_end);
    let projected = features != width || network.projection.linear == LinearProjection::Always;
    let projection = if projected { time * features * width } else { 0 };
    let positions = time * width * (width / groups) * kernel;
    let layer = |layer| {
        let time = frames_at(samples, network.layer_stride(layer));
        time * (4 * width * width + 2 * width * inner) + 2 * time * time * width
    };
    let layers: u64 = (1..=height.min(encoder.layers.get())).map(layer).sum();
    let sampling = network.hierarchy.as_ref().map_or(0, |hierarchy| sampling_products(hierarchy, width, time));
    2 * (projection + positions + layers + sampling)
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
