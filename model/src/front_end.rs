//! Samples to frames of 20 or 40 ms: the part of the network below the Transformer stack.

use reprise_spec::network::{self as settings, Network};
use tch::Tensor;
use tch::nn::Path;

use crate::encoder::Mode;

mod log_mel;
mod units;
mod wave;

pub use log_mel::LogMelFrontEnd;
pub use units::UnitFrontEnd;
pub use wave::WaveFrontEnd;

/// What turns samples into frames. All give [`reprise_spec::arithmetic::frames_at`] frames, [`Network::frame_stride`] samples apart.
#[derive(Debug)]
pub enum FrontEnd {
    Wave(WaveFrontEnd),
    LogMel(LogMelFrontEnd),
    Units(UnitFrontEnd),
}

impl FrontEnd {
    /// Registers the parameters, if there are any, below `path`.
    pub fn new(path: &Path, network: &Network) -> Self {
        let initialisation = network.encoder.initialisation;
        match &network.front_end {
            settings::FrontEnd::Wave(settings) => Self::Wave(WaveFrontEnd::new(path, settings, initialisation)),
            settings::FrontEnd::LogMel(settings) => Self::LogMel(LogMelFrontEnd::new(path, settings, initialisation)),
            settings::FrontEnd::Units(settings) => Self::Units(UnitFrontEnd::new(path, settings)),
        }
    }

    /// Dimensions of a frame.
    pub fn width(&self) -> i64 {
        match self {
            Self::Wave(wave) => wave.channels(),
            Self::LogMel(log_mel) => log_mel.width(),
            Self::Units(units) => units.width(),
        }
    }

    /// B × S samples at 16 kHz to B × T × C frames. `samples` are those of each row that aren't padding; `None` when none is padded.
    pub fn forward(&self, wave_bs: &Tensor, samples: Option<&[u64]>, mode: Mode) -> Tensor {
        match self {
            Self::Wave(wave) => wave.forward(wave_bs, mode),
            Self::LogMel(log_mel) => log_mel.forward(wave_bs, samples),
            Self::Units(units) => units.forward(wave_bs, samples),
        }
    }

    /// The parameters that pretraining moves.
    pub fn parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Wave(wave) => wave.parameters(),
            Self::LogMel(log_mel) => log_mel.parameters(),
            Self::Units(units) => units.parameters(),
        }
    }
}
