//! The layers that every part of the network is made of, with initial values drawn on the CPU.
//!
//! tch's own layers draw on the device of the parameters, where the same seed gives other numbers, and their default for linear
//! layers is not the framework's.

use reprise_spec::network::Initialisation;
use tch::nn::{self, Init, Path};
use tch::{Device, Kind, Tensor};

/// Registers a trainable parameter whose initial value is drawn on the CPU, so that it is the same on every device.
pub fn parameter(path: &Path, name: &str, shape: &[i64], init: Init) -> Tensor {
    path.var_copy(name, &nn::init(init, shape, Device::Cpu))
}

/// In single precision what was computed in half.
pub fn widened(x: Tensor) -> Tensor {
    if matches!(x.kind(), Kind::BFloat16 | Kind::Half) { x.to_kind(Kind::Float) } else { x }
}

/// `x · weightᵀ + bias`; parameters `weight` (out × in) and `bias` (out).
#[derive(Debug)]
pub struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Linear {
    /// The framework's default: weight and bias from U(±1/√in).
    pub fn uniform(path: &Path, inputs: i64, outputs: i64) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        Self {
            weight: parameter(path, "weight", &[outputs, inputs], init),
            bias: parameter(path, "bias", &[outputs], init),
        }
    }

    /// The encoder's: weight from N(0, 0.02), bias 0 (BERT; fairseq `init_bert_params`).
    pub fn bert(path: &Path, inputs: i64, outputs: i64) -> Self {
        Self {
            weight: parameter(path, "weight", &[outputs, inputs], Init::Randn { mean: 0.0, stdev: 0.02 }),
            bias: parameter(path, "bias", &[outputs], Init::Const(0.0)),
        }
    }

    /// One outside the encoder: the framework's default in fairseq, the encoder's in Hugging Face.
    pub fn outside(path: &Path, inputs: i64, outputs: i64, initialisation: Initialisation) -> Self {
        match initialisation {
            Initialisation::Fairseq => Self::uniform(path, inputs, outputs),
            Initialisation::HuggingFace => Self::bert(path, inputs, outputs),
        }
    }

    /// Maps the last dimension.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Layer normalisation over the last dimension, ε = 1e-5; parameters `weight` (1) and `bias` (0).
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Registers the parameters for a last dimension of `width`.
    pub fn new(path: &Path, width: i64) -> Self {
        Self {
            weight: parameter(path, "weight", &[width], Init::Const(1.0)),
            bias: parameter(path, "bias", &[width], Init::Const(0.0)),
        }
    }

    /// Normalises the last dimension.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), 1e-5, true)
    }
}
