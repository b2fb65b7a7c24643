//! The strided convolutions over the samples.
//!
//! Shape suffixes: B utterances, S samples at 16 kHz, C channels, T frames of 20 ms.
//! Source: wav2vec 2.0 (arXiv:2006.11477) sections 2 and 4.2; fairseq `ConvFeatureExtractionModel`.
//! Departs from the paper as the released models do: in group mode only the first convolution is normalised.
//!
//! A frame depends on the samples under it alone, except in group mode, whose statistics run over the whole row: there, padding
//! behind an utterance changes its frames, in the references too.

use reprise_spec::network::{FrontEndNorm, Initialisation, WaveFrontEnd as Settings};
use tch::nn::{Init, Path, init};
use tch::{Device, Kind, Tensor};

use crate::encoder::Mode;
use crate::kernels;
use crate::layers::parameter;

/// Parameters `conv_layers.{i}.conv.weight` (C × C × kernel, `.bias` if asked for) and `conv_layers.{i}.layer_norm.{weight,bias}`.
#[derive(Debug)]
pub struct WaveFrontEnd {
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    norm: Norm,
}

#[derive(Debug)]
enum Norm {
    None,
    /// Each channel over time: group norm with as many groups as channels.
    Group {
        weight: Tensor,
        bias: Tensor,
    },
    /// Each frame over the channels.
    Layer {
        weight: Tensor,
        bias: Tensor,
    },
}

impl WaveFrontEnd {
    /// Convolution weights are Kaiming-normal (fan-in, gain √2), biases of the framework's default or, under Hugging Face's rule, 0.
    pub fn new(path: &Path, settings: &Settings, initialisation: Initialisation) -> Self {
        let channels = i64::from(settings.channels.get());
        let mut inputs = 1;
        let blocks = settings.kernels.iter().zip(&settings.strides).enumerate().map(|(index, (kernel, stride))| {
            let path = path / "conv_layers" / index;
            let kernel = i64::from(kernel.get());
            let fan_in = (inputs * kernel) as f64;
            let conv = &path / "conv";
            let weight = parameter(&conv, "weight", &[channels, inputs, kernel], init::DEFAULT_KAIMING_NORMAL);
            let bound = fan_in.sqrt().recip();
            let of_bias = match initialisation {
                Initialisation::Fairseq => Init::Uniform { lo: -bound, up: bound },
                Initialisation::HuggingFace => Init::Const(0.0),
            };
            let bias = settings.bias.then(|| parameter(&conv, "bias", &[channels], of_bias));
            let norm = || {
                let path = &path / "layer_norm";
                let weight = parameter(&path, "weight", &[channels], Init::Const(1.0));
                (weight, parameter(&path, "bias", &[channels], Init::Const(0.0)))
            };
            let norm = match settings.norm {
                FrontEndNorm::Group if index == 0 => {
                    let (weight, bias) = norm();
                    Norm::Group { weight, bias }
                }
                FrontEndNorm::Group => Norm::None,
                FrontEndNorm::Layer => {
                    let (weight, bias) = norm();
                    Norm::Layer { weight, bias }
                }
            };
            inputs = channels;
            Block { weight, bias, stride: i64::from(stride.get()), norm }
        });
        Self { blocks: blocks.collect() }
    }

    pub fn channels(&self) -> i64 {
        self.blocks[0].weight.size()[0]
    }

    /// B × S to B × T × C, T = ⌊(S − 80)/320⌋ for the published kernels and strides.
    pub fn forward(&self, wave_bs: &Tensor, mode: Mode) -> Tensor {
        match (mode, wave_bs.device(), wave_bs.kind()) {
            (Mode::Train { .. }, Device::Cpu, Kind::Float) => self.frame_by_frame(wave_bs),
            _ => self.channel_by_channel(wave_bs),
        }
    }

    /// On frames that hold their channels side by side, which a CPU learns faster on; equal to [`Self::channel_by_channel`] but for rounding.
    fn frame_by_frame(&self, wave_bs: &Tensor) -> Tensor {
        let mut x_btc = wave_bs.unsqueeze(-1);
        for block in &self.blocks {
            let y_btc = kernels::convolution(&x_btc, &block.weight, block.bias.as_ref(), block.stride);
            x_btc = match &block.norm {
                Norm::None => y_btc.gelu("none"),
                Norm::Group { weight, bias } => kernels::group_norm_gelu(&y_btc, weight, bias),
                Norm::Layer { weight, bias } => {
                    y_btc.layer_norm(weight.size(), Some(weight), Some(bias), 1e-5, true).gelu("none")
                }
            };
        }
        x_btc
    }

    fn channel_by_channel(&self, wave_bs: &Tensor) -> Tensor {
        let mut x_bct = wave_bs.unsqueeze(1);
        for block in &self.blocks {
            x_bct = x_bct.conv1d(&block.weight, block.bias.as_ref(), block.stride, 0, 1, 1);
            x_bct = match &block.norm {
                Norm::None => x_bct,
                Norm::Group { weight, bias } => {
                    x_bct.group_norm(weight.size()[0], Some(weight), Some(bias), 1e-5, true)
                }
                Norm::Layer { weight, bias } => x_bct
                    .transpose(1, 2)
                    .layer_norm(weight.size(), Some(weight), Some(bias), 1e-5, true)
                    .transpose(1, 2),
            };
            x_bct = x_bct.gelu("none");
        }
        x_bct.transpose(1, 2)
    }

    pub fn parameters(&self) -> Vec<&Tensor> {
        let mut parameters = Vec::new();
        for block in &self.blocks {
            parameters.push(&block.weight);
            parameters.extend(&block.bias);
            if let Norm::Group { weight, bias } | Norm::Layer { weight, bias } = &block.norm {
                parameters.extend([weight, bias]);
            }
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use reprise_spec::values::Count;
    use tch::nn::VarStore;

    use super::*;

    #[test]
    fn learning_computes_what_evaluation_does_with_any_norm_and_bias() {
        for norm in [FrontEndNorm::Group, FrontEndNorm::Layer] {
            tch::manual_seed(1);
            let settings = Settings { norm, bias: true, channels: Count::try_from(24).unwrap(), ..Settings::default() };
            let store = VarStore::new(Device::Cpu);
            let front_end = WaveFrontEnd::new(&store.root(), &settings, Initialisation::Fairseq);
            let wave_bs = Tensor::randn([2, 7_001], (Kind::Float, Device::Cpu));
            let gradients = |frames: &Tensor| {
                Tensor::run_backward(&[frames.sin().sum(Kind::Float)], &front_end.parameters(), false, false)
            };
            let evaluated = front_end.forward(&wave_bs, Mode::Evaluate);
            let learnt = front_end.forward(&wave_bs, Mode::LEARN);
            assert_eq!(learnt.size(), evaluated.size());
            assert!((&learnt - &evaluated).abs().max().double_value(&[]) < 1e-5);
            for (learnt, evaluated) in gradients(&learnt).iter().zip(gradients(&evaluated)) {
                let scale = 1.0 + evaluated.abs().max().double_value(&[]);
                assert!((learnt - evaluated).abs().max().double_value(&[]) < 1e-4 * scale);
            }
        }
    }
}
