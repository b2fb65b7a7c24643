//! How many numbers of a network are trained.

use crate::network::{
    FrontEnd, FrontEndNorm, Hierarchy, LayerNormPlacement, LinearProjection, LogMelFrontEnd, Network, SamplingForm,
    Subsampling,
};
use crate::strategy::Quantiser;
use crate::training::{CosineHead, Head, PredictAt, ResolutionTargets};

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
            let pre = network.encoder.norm == LayerNormPlacement::Pre;
            layers.len() as u64 * (one(clusters) + if pre { norm(width) } else { 0 })
        }
        PredictAt::Resolutions(ResolutionTargets::Shared) => {
            let rates = network.hierarchy.as_ref().map_or(1, |hierarchy| hierarchy.ratios.len() as u64 + 1);
            rates * one(clusters)
        }
        PredictAt::Resolutions(ResolutionTargets::Separate) => {
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

pub(super) fn front_end_parameters(front_end: &FrontEnd) -> (u64, u64) {
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
pub(super) fn mel_convolutions(mel: &LogMelFrontEnd) -> Vec<(u64, u64, u64)> {
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

pub(super) fn convolutions_of(hierarchy: &Hierarchy) -> u64 {
    match hierarchy.sampling.form {
        SamplingForm::Residual => 2,
        SamplingForm::Plain => 1,
    }
}

fn linear(from: u64, to: u64) -> u64 {
    from * to + to
}

fn norm(width: u64) -> u64 {
    2 * width
}
