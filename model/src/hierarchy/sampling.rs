//! From the frame rate of one block of a hierarchy to that of the next.
//!
//! Shape suffixes: B utterances, D channels, K taps, T frames.
//! Source: MR-HuBERT (arXiv:2310.02720); fairseq `multires_hubert`: `ConvAdapter` (residual), `ConvDownsampler` and `ConvUpsampler` (plain).

use reprise_spec::network::{Sampling, SamplingForm};
use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

use crate::layers::parameter;

/// A change of rate by a whole ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One frame of several.
    Down(i64),
    /// Several frames of one.
    Up(i64),
}

impl Change {
    /// The change without parameters: the first of every `ratio` steps along `dimension`, or every step `ratio` times.
    fn pick(self, x: &Tensor, dimension: i64) -> Tensor {
        match self {
            Self::Down(ratio) => x.slice(dimension, None, None, ratio),
            Self::Up(ratio) => x.repeat_interleave_self_int(ratio, dimension, None),
        }
    }

    /// Steps that `frames` of them become.
    pub fn frames(self, frames: i64) -> i64 {
        match self {
            Self::Down(ratio) => (frames + ratio - 1) / ratio,
            Self::Up(ratio) => frames * ratio,
        }
    }
}

/// What stands between two blocks.
///
/// Parameters `upsample_conv.*` and `downsample_conv.*` in the residual form, whichever of them the direction needs in the plain one.
#[derive(Debug)]
pub struct Sampler {
    change: Change,
    convolutions: Vec<Convolution>,
    /// Whether there is a sum around both convolutions too.
    highway: bool,
}

impl Sampler {
    /// Registers the parameters below `path` for frames of `width` dimensions. Convolutions start as the framework's default.
    pub fn new(path: &Path, width: i64, settings: &Sampling, change: Change) -> Self {
        let residual = settings.form == SamplingForm::Residual;
        let kernel = i64::from(settings.kernel.get());
        let (up, down) = match change {
            Change::Down(_) => (Change::Up(1), change),
            Change::Up(_) => (change, Change::Down(1)),
        };
        let new = |change| Convolution::new(path, width, kernel, change);
        let convolutions = if residual { vec![new(up), new(down)] } else { vec![new(change)] };
        Self { change, convolutions, highway: residual }
    }

    /// B × T × D to B × T′ × D, T′ being [`Change::frames`].
    pub fn forward(&self, x_btd: &Tensor) -> Tensor {
        let x_bdt = x_btd.transpose(1, 2);
        let mut y_bdt = x_bdt.shallow_clone();
        for convolution in &self.convolutions {
            y_bdt = convolution.forward(&y_bdt);
        }
        if self.highway {
            y_bdt = scaled_sum(&y_bdt, &self.change.pick(&x_bdt, 2));
        }
        y_bdt.transpose(1, 2)
    }

    /// Takes a B × T mask along: a frame of the lower rate counts as the first of those that it covers, and on the way up they all count
    /// as it.
    pub fn mask(&self, mask_bt: &Tensor) -> Tensor {
        self.change.pick(mask_bt, 1)
    }
}

/// A convolution without bias, group norm of one group, GELU, and a scaled sum with its resampled input.
///
/// Parameters `0.weight` (D × D × K) and `2.{weight,bias}` (D), numbered as fairseq's modules.
#[derive(Debug)]
struct Convolution {
    weight_ddk: Tensor,
    norm_weight_d: Tensor,
    norm_bias_d: Tensor,
    change: Change,
}

impl Convolution {
    fn new(path: &Path, width: i64, kernel: i64, change: Change) -> Self {
        let name = match change {
            Change::Up(_) => "upsample_conv",
            Change::Down(_) => "downsample_conv",
        };
        let (path, bound) = (path / name, 1.0 / ((width * kernel) as f64).sqrt());
        let norm = &path / 2;
        Self {
            weight_ddk: parameter(
                &(&path / 0),
                "weight",
                &[width, width, kernel],
                Init::Uniform { lo: -bound, up: bound },
            ),
            norm_weight_d: parameter(&norm, "weight", &[width], Init::Const(1.0)),
            norm_bias_d: parameter(&norm, "bias", &[width], Init::Const(0.0)),
            change,
        }
    }

    /// The norm runs in single precision over all channels and frames of a row: over padding, and over the frames that a transposed
    /// convolution wider than one frame adds at the end, which are cut off afterwards.
    fn forward(&self, x_bdt: &Tensor) -> Tensor {
        let weight = &self.weight_ddk;
        let y_bdt = match self.change {
            Change::Up(ratio) => x_bdt.conv_transpose1d(weight, None::<Tensor>, ratio, 0, ratio - 1, 1, 1),
            Change::Down(ratio) => x_bdt.conv1d(weight, None::<Tensor>, ratio, (weight.size()[2] - 1) / 2, 1, 1),
        };
        let (norm_weight, norm_bias) = (Some(&self.norm_weight_d), Some(&self.norm_bias_d));
        let y_bdt = y_bdt.to_kind(Kind::Float).group_norm(1, norm_weight, norm_bias, 1e-5, true).to_kind(x_bdt.kind());
        scaled_sum(&y_bdt.gelu("none"), &self.change.pick(x_bdt, 2))
    }
}

/// √0.4 of the sum, up to the end of `b_bdt`.
fn scaled_sum(a_bdt: &Tensor, b_bdt: &Tensor) -> Tensor {
    (a_bdt.narrow(2, 0, b_bdt.size()[2]) + b_bdt) * 0.4f64.sqrt()
}
