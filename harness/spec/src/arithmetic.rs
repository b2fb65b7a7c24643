//! Frame and sample arithmetic that every stage shares, in whole samples at 16 kHz.

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
