//! Positions from a wide grouped convolution, weight-normed over its taps.
//!
//! Source: wav2vec 2.0 section 2; fairseq `make_conv_pos`. The norm runs over outputs and inputs for each tap (dimension 2 of the
//! weight), not over the rows as usual: weight[:, :, k] = g[k] · v[:, :, k] / ‖v[:, :, k]‖.

use reprise_spec::network::{Initialisation, PositionalConvolution as Settings};
use tch::nn::{self, Init, Path};
use tch::{Device, Kind, Tensor};

use super::Mode;
use crate::kernels;
use crate::layers::parameter;

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
        if let (Mode::Train { .. }, Device::Cpu, Kind::Float) = (mode, x_btd.device(), weight.kind()) {
            return kernels::positional(x_btd, &weight, &self.bias, self.groups);
        }
        let (half, frames) = (self.v_dck.size()[2] / 2, x_btd.size()[1]);
        let y_bdt = x_btd.transpose(1, 2).conv1d(&weight, Some(&self.bias), 1, half, 1, self.groups);
        y_bdt.narrow(2, 0, frames).gelu("none").transpose(1, 2)
    }
}

fn tap_norms(v_dck: &Tensor) -> Tensor {
    v_dck.square().sum_dim_intlist([0i64, 1].as_slice(), true, None::<Kind>).sqrt()
}

#[cfg(test)]
mod tests {
    use tch::nn::VarStore;

    use super::*;
    use crate::shim::Autocast;

    #[test]
    fn training_and_evaluation_agree_whoever_convolves() {
        // Parity is looked at in double precision too, which the kernel doesn't know.
        for (channels, half, kind) in
            [(12, false, Kind::Float), (12, true, Kind::Float), (17, true, Kind::Float), (12, false, Kind::Double)]
        {
            let settings = Settings { kernel: 6.try_into().unwrap(), groups: 2.try_into().unwrap() };
            let (mut store, width) = (VarStore::new(Device::Cpu), 2 * channels);
            let positional = PositionalConvolution::new(&store.root(), width, &settings, Initialisation::HuggingFace);
            store.set_kind(kind);
            let x_btd = Tensor::randn([2, 21, width], (kind, Device::Cpu));
            let expected = positional.forward(&x_btd, Mode::Evaluate);
            let _autocast = Autocast::set(Device::Cpu, half).unwrap();
            let found = positional.forward(&x_btd, Mode::LEARN);
            assert_eq!((found.size(), found.kind()), (expected.size(), kind));
            let distance = (found - expected).abs().max().double_value(&[]);
            assert!(distance < 1e-5, "{channels} {half} {kind:?}: {distance}");
        }
    }
}
