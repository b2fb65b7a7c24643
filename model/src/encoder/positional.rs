//! Positions from a wide grouped convolution, weight-normed over its taps.
//!
//! Source: wav2vec 2.0 section 2; fairseq `make_conv_pos`. The norm runs over outputs and inputs for each tap (dimension 2 of the
//! weight), not over the rows as usual: weight[:, :, k] = g[k] · v[:, :, k] / ‖v[:, :, k]‖.

use reprise_spec::network::{Initialisation, PositionalConvolution as Settings};
use tch::nn::{self, Init, Path};
use tch::{Device, Tensor};

use super::Mode;
use crate::layers::parameter;
use crate::{kernels, shim};

/// Channels of a group up to which the kernel of our own is used under autocast; without it, it always is. Forward and backward with GELU on two
/// cores, ours against libtorch's in milliseconds: with 12 channels and 32 taps (4 × 399 frames) 5.0 against 9.4 in bfloat16 and 9.9 in
/// single precision, with 16 6.0 against 6.7 and 7.7; with 24 8.4 against 8.2 and 11.4; with 48 and 128 taps (2 × 499 frames) 144 against
/// 139 and 235.
const NARROW: i64 = 16;

/// Parameters `weight_g` (1 × 1 × kernel), `weight_v` (D × D/groups × kernel) and `bias` (D).
#[derive(Debug)]
pub struct PositionalConvolution {
    g_11k: Tensor,
    v_dck: Tensor,
    bias: Tensor,
    groups: i64,
}

impl PositionalConvolution {
    /// v from N(0, √(4/(kernel · D))), g its norm, bias 0. Hugging Face's rule writes to the weight that is derived from v and g, which
    /// leaves them the framework's default: v from U(±1/√fan-in).
    pub fn new(path: &Path, width: i64, settings: &Settings, initialisation: Initialisation) -> Self {
        let (kernel, groups) = (i64::from(settings.kernel.get()), i64::from(settings.groups.get()));
        let bound = ((width / groups * kernel) as f64).sqrt().recip();
        let init = match initialisation {
            Initialisation::Fairseq => Init::Randn { mean: 0.0, stdev: (4.0 / (kernel * width) as f64).sqrt() },
            Initialisation::HuggingFace => Init::Uniform { lo: -bound, up: bound },
        };
        let v_dck = nn::init(init, &[width, width / groups, kernel], Device::Cpu);
        Self {
            g_11k: path.var_copy("weight_g", &tap_norms(&v_dck)),
            v_dck: path.var_copy("weight_v", &v_dck),
            bias: parameter(path, "bias", &[width], Init::Const(0.0)),
            groups,
        }
    }

    /// B × T × D to B × T × D: convolution with same padding (an even kernel drops its last step), then GELU.
    pub fn forward(&self, x_btd: &Tensor, mode: Mode) -> Tensor {
        let weight = &self.v_dck * (&self.g_11k / tap_norms(&self.v_dck));
        let half = self.v_dck.size()[2] / 2;
        let frames = x_btd.size()[1];
        if let (Mode::Train { .. }, Device::Cpu) = (mode, x_btd.device()) {
            if self.v_dck.size()[1] <= NARROW || !shim::autocasts(Device::Cpu) {
                return kernels::positional(x_btd, &weight, &self.bias, self.groups);
            }
            // As an image of one line that holds its channels side by side, which libtorch convolves without moving it.
            let x_bd1t = x_btd.unsqueeze(1).permute([0, 3, 1, 2]);
            let weight = weight.unsqueeze(2);
            let y_bd1t = x_bd1t.conv2d(&weight, Some(&self.bias), [1, 1], [0, half], [1, 1], self.groups);
            return y_bd1t.permute([0, 2, 3, 1]).squeeze_dim(1).narrow(1, 0, frames).gelu("none");
        }
        let y_bdt = x_btd.transpose(1, 2).conv1d(&weight, Some(&self.bias), 1, half, 1, self.groups);
        y_bdt.narrow(2, 0, frames).gelu("none").transpose(1, 2)
    }
}

fn tap_norms(v_dck: &Tensor) -> Tensor {
    v_dck.square().sum_dim_intlist([0i64, 1].as_slice(), true, None::<tch::Kind>).sqrt()
}

#[cfg(test)]
mod tests {
    use tch::Kind;
    use tch::nn::VarStore;

    use super::*;
    use crate::encoder::Keep;
    use crate::shim::Autocast;

    #[test]
    fn training_and_evaluation_agree_whoever_convolves() {
        // Channels of a group, autocast, and the kind that its convolution gives.
        let cases = [(NARROW, true, Kind::Float), (NARROW + 1, true, Kind::BFloat16), (NARROW + 1, false, Kind::Float)];
        for (group, half, kind) in cases {
            let settings = Settings { kernel: 6.try_into().unwrap(), groups: 2.try_into().unwrap() };
            let (store, width) = (VarStore::new(Device::Cpu), 2 * group);
            let positional = PositionalConvolution::new(&store.root(), width, &settings, Initialisation::HuggingFace);
            let x_btd = Tensor::randn([2, 21, width], (Kind::Float, Device::Cpu));
            let expected = positional.forward(&x_btd, Mode::Evaluate);
            let _autocast = Autocast::set(Device::Cpu, half).unwrap();
            let found = positional.forward(&x_btd, Mode::Train { skipped: &[], keep: Keep::All });
            assert_eq!((found.size(), found.kind()), (expected.size(), kind));
            let distance = (found - expected).abs().max().double_value(&[]);
            assert!(distance < if kind == Kind::Float { 1e-5 } else { 0.05 }, "{group} {half}: {distance}");
        }
    }
}
