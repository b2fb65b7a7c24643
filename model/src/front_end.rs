//! Samples to frames of 20 ms: the part of the network below the Transformer stack.

use reprise_spec::network as settings;
use tch::Tensor;
use tch::nn::Path;

mod log_mel;
mod wave;

pub use log_mel::LogMelFrontEnd;
pub use wave::WaveFrontEnd;

/// What turns samples into frames. Both kinds give [`reprise_spec::arithmetic::frames`] frames.
#[derive(Debug)]
pub enum FrontEnd {
    Wave(WaveFrontEnd),
    LogMel(LogMelFrontEnd),
}

impl FrontEnd {
    /// Registers the parameters, if there are any, below `path`.
    pub fn new(path: &Path, settings: &settings::FrontEnd) -> Self {
        match settings {
            settings::FrontEnd::Wave(settings) => Self::Wave(WaveFrontEnd::new(path, settings)),
            settings::FrontEnd::LogMel(settings) => Self::LogMel(LogMelFrontEnd::new(settings, path.device())),
            settings::FrontEnd::Units(_) => unreachable!("`stage::unbuilt` refuses it"),
        }
    }

    /// Dimensions of a frame.
    pub fn width(&self) -> i64 {
        match self {
            Self::Wave(wave) => wave.channels(),
            Self::LogMel(log_mel) => log_mel.width(),
        }
    }

    /// B × S samples at 16 kHz to B × T × C frames.
    pub fn forward(&self, wave_bs: &Tensor) -> Tensor {
        match self {
            Self::Wave(wave) => wave.forward(wave_bs),
            Self::LogMel(log_mel) => log_mel.forward(wave_bs),
        }
    }

    /// The parameters that pretraining moves.
    pub fn parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Wave(wave) => wave.parameters(),
            Self::LogMel(_) => Vec::new(),
        }
    }
}
