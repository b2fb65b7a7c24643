//! Frame and sample arithmetic that every stage shares, in whole samples at 16 kHz; sizes and costs of networks.

mod flops;
mod size;
#[cfg(test)]
mod tests;
mod work;

pub use flops::{forward_flops, layer_flops};
pub use size::{head_parameters, parameters, quantiser_parameters};
pub use work::{Work, extraction_flops, recogniser_bytes, saved_bytes};

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
