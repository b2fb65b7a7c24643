//! Log-mel frames of 10 ms, brought to frames of 20 or 40 ms: the cheap front-end.
//!
//! Shape suffixes: B utterances, S samples at 16 kHz, F log-mel frames, M bins, C channels, K frames of a kernel, T frames of the network.
//! Source: MelHuBERT (arXiv:2211.09944) section 3.1 for stacking; Fast-HuBERT (arXiv:2309.13860) for convolutions, whose module is the
//! subsampler of fairseq's S2T. Departs from both: the count of frames is the wave front-end's, so that labels and alignments line up
//! alike, and nothing is normalised by statistics of the corpus; the layer norm that follows sees raw logarithms.
//!
//! Where rows are padded, no frame of a row depends on what is behind it.

use reprise_spec::arithmetic::{FEATURE_STRIDE, feature_frames, frames_at};
use reprise_spec::network::{Initialisation, LogMelFrontEnd as Settings, Subsampling, SubsamplingConvolution};
use tch::nn::{Init, Path, init};
use tch::{Kind, Tensor};

use crate::encoder;
use crate::features::LogMel;
use crate::layers::parameter;
use crate::shim;

/// Parameters `conv_layers.{i}.conv.{weight,bias}` where frames are convolved, none where they are stacked.
#[derive(Debug)]
pub struct LogMelFrontEnd {
    bank: LogMel,
    form: Form,
    width: i64,
    stride: u64,
}

#[derive(Debug)]
enum Form {
    /// As many neighbours side by side.
    Stack(i64),
    Convolutions(Vec<Convolution>),
}

/// A strided convolution with zeros around the row, so that output frame t is centred on input frame t · stride, and a gated linear unit:
/// half of the channels times the sigmoid of the other half.
#[derive(Debug)]
struct Convolution {
    weight_cck: Tensor,
    bias_c: Tensor,
    stride: u64,
}

impl LogMelFrontEnd {
    /// Prepares the filter bank on the path's device and registers the parameters. Convolutions start from the framework's default,
    /// weight and bias from U(±1/√fan-in); under Hugging Face's rule they are Kaiming-normal with bias 0.
    pub fn new(path: &Path, settings: &Settings, initialisation: Initialisation) -> Self {
        let bins = i64::from(settings.bins.get());
        let (form, width) = match &settings.subsampling {
            Subsampling::Stack(stack) => {
                let frames = i64::from(stack.frames.get());
                (Form::Stack(frames), frames * bins)
            }
            Subsampling::Convolution(settings) => {
                let convolutions = convolutions(path, bins, settings, initialisation);
                (Form::Convolutions(convolutions), i64::from(settings.width.get()))
            }
        };
        let bank = LogMel::new(bins as usize, path.device());
        Self { bank, form, width, stride: FEATURE_STRIDE * settings.subsampling.factor() }
    }

    pub fn width(&self) -> i64 {
        self.width
    }

    /// B × S to B × T × C; `samples` are those of each row that aren't padding.
    pub fn forward(&self, wave_bs: &Tensor, samples: Option<&[u64]>) -> Tensor {
        // Energies span more than bfloat16 tells apart.
        let mel_bfm = shim::in_single_precision(wave_bs.device(), || tch::no_grad(|| self.bank.forward(wave_bs)));
        let (rows, longest) = wave_bs.size2().expect("a wave has two dimensions");
        let samples = samples.map_or_else(|| vec![longest as u64; rows as usize], <[u64]>::to_vec);
        let mut frames: Vec<u64> = samples.iter().map(|&samples| feature_frames(samples)).collect();
        match &self.form {
            Form::Stack(stack) => {
                let count = frames_at(longest as u64, self.stride) as i64;
                stacked(&mel_bfm, &frames, *stack, count)
            }
            Form::Convolutions(convolutions) => {
                let mut x_bcf = mel_bfm.transpose(1, 2);
                for convolution in convolutions {
                    x_bcf = convolution.forward(&zero_behind(x_bcf, &frames));
                    frames.iter_mut().for_each(|frames| *frames = frames.div_ceil(convolution.stride));
                }
                x_bcf.transpose(1, 2)
            }
        }
    }

    pub fn parameters(&self) -> Vec<&Tensor> {
        match &self.form {
            Form::Stack(_) => Vec::new(),
            Form::Convolutions(all) => all.iter().flat_map(|one| [&one.weight_cck, &one.bias_c]).collect(),
        }
    }
}

/// Frame t is log-mel frames n·t to n·t + n − 1 side by side; beyond the end of a row its last log-mel frame is repeated.
fn stacked(mel_bfm: &Tensor, frames: &[u64], stack: i64, count: i64) -> Tensor {
    let (rows, _, bins) = mel_bfm.size3().expect("log-mel frames have three dimensions");
    let last: Vec<i64> = frames.iter().map(|&frames| frames as i64 - 1).collect();
    let last_b1 = Tensor::from_slice(&last).to_device(mel_bfm.device()).unsqueeze(1);
    let at_f = Tensor::arange(count * stack, (Kind::Int64, mel_bfm.device()));
    let at_bfm = at_f.unsqueeze(0).minimum(&last_b1).unsqueeze(-1).expand([rows, count * stack, bins], false);
    mel_bfm.gather(1, &at_bfm, false).view([rows, count, stack * bins])
}

/// B × C × F with zeros from the length of each row on.
fn zero_behind(x_bcf: Tensor, frames: &[u64]) -> Tensor {
    let longest = x_bcf.size()[2];
    if frames.iter().all(|&frames| frames as i64 >= longest) {
        return x_bcf;
    }
    let padding_bf = encoder::padding(frames, longest, x_bcf.device());
    x_bcf.masked_fill(&padding_bf.unsqueeze(1), 0.0)
}

fn convolutions(
    path: &Path,
    bins: i64,
    settings: &SubsamplingConvolution,
    initialisation: Initialisation,
) -> Vec<Convolution> {
    let mut inputs = bins;
    let last = settings.kernels.len().saturating_sub(1);
    let pairs = settings.kernels.iter().zip(&settings.strides).enumerate();
    pairs
        .map(|(index, (kernel, stride))| {
            let path = path / "conv_layers" / index / "conv";
            let kernel = i64::from(kernel.get());
            let outputs =
                if index == last { 2 * i64::from(settings.width.get()) } else { settings.channels.get().into() };
            let bound = ((inputs * kernel) as f64).sqrt().recip();
            let uniform = Init::Uniform { lo: -bound, up: bound };
            let (of_weight, of_bias) = match initialisation {
                Initialisation::Fairseq => (uniform, uniform),
                Initialisation::HuggingFace => (init::DEFAULT_KAIMING_NORMAL, Init::Const(0.0)),
            };
            let weight_cck = parameter(&path, "weight", &[outputs, inputs, kernel], of_weight);
            let bias_c = parameter(&path, "bias", &[outputs], of_bias);
            inputs = outputs / 2;
            Convolution { weight_cck, bias_c, stride: stride.get().into() }
        })
        .collect()
}

impl Convolution {
    /// B × C × F to B × C′/2 × ⌈F/stride⌉.
    fn forward(&self, x_bcf: &Tensor) -> Tensor {
        let half = self.weight_cck.size()[2] / 2;
        x_bcf.conv1d(&self.weight_cck, Some(&self.bias_c), self.stride as i64, half, 1, 1).glu(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::network::Stack;
    use reprise_spec::values::Count;
    use tch::Device;
    use tch::nn::VarStore;

    use super::*;

    fn count(value: u64) -> Count {
        Count::try_from(value).unwrap()
    }

    fn stack(frames: u64) -> Subsampling {
        Subsampling::Stack(Stack { frames: count(frames) })
    }

    fn convolution(kernels: &[u64], strides: &[u64]) -> Subsampling {
        let counts = |list: &[u64]| list.iter().map(|&value| count(value)).collect();
        let (kernels, strides) = (counts(kernels), counts(strides));
        Subsampling::Convolution(SubsamplingConvolution { kernels, strides, channels: count(12), width: count(7) })
    }

    fn kinds() -> [Subsampling; 5] {
        [stack(2), stack(4), convolution(&[5, 5], &[2, 2]), convolution(&[3], &[4]), convolution(&[1, 7], &[1, 2])]
    }

    fn front_end(subsampling: Subsampling) -> (VarStore, LogMelFrontEnd) {
        let store = VarStore::new(Device::Cpu);
        let settings = Settings { bins: count(6), subsampling };
        let front_end = LogMelFrontEnd::new(&store.root(), &settings, Initialisation::Fairseq);
        (store, front_end)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn frames_are_counted_as_everywhere(samples in 400i64..9_000) {
            for subsampling in kinds() {
                let (_store, front_end) = front_end(subsampling);
                let found = front_end.forward(&Tensor::zeros([2, samples], (Kind::Float, Device::Cpu)), None).size();
                let frames = frames_at(samples as u64, front_end.stride) as i64;
                prop_assert_eq!(found, [2, frames, front_end.width()]);
            }
        }

        #[test]
        fn what_is_behind_a_row_changes_none_of_its_frames(samples in 400i64..4_000, more in 1i64..3_000) {
            for subsampling in kinds() {
                let (_store, front_end) = front_end(subsampling);
                let wave_1s = Tensor::randn([1, samples], (Kind::Float, Device::Cpu)) * 0.1;
                let alone = front_end.forward(&wave_1s, None);
                let noise = Tensor::randn([1, samples + more], (Kind::Float, Device::Cpu));
                let behind = noise.narrow(1, 0, more);
                let both = Tensor::cat(&[Tensor::cat(&[&wave_1s, &behind], 1), noise.shallow_clone()], 0);
                let among = front_end.forward(&both, Some(&[samples as u64, (samples + more) as u64]));
                let among = among.narrow(0, 0, 1).narrow(1, 0, alone.size()[1]);
                prop_assert!((among - alone).abs().max().double_value(&[]) < 1e-5);
            }
        }
    }

    #[test]
    fn stacked_frames_are_neighbours_and_the_last_is_repeated() {
        let mel = Tensor::arange(7, (Kind::Float, Device::Cpu)).view([1, 7, 1]);
        let rows: Vec<f32> = Vec::try_from(stacked(&mel, &[7], 4, 2).view([-1])).unwrap();
        assert_eq!(rows, [0., 1., 2., 3., 4., 5., 6., 6.]);
    }

    #[test]
    fn only_the_convolutions_learn() {
        let (_store, convolved) = front_end(convolution(&[5, 5], &[2, 2]));
        let wave = Tensor::randn([1, 4_000], (Kind::Float, Device::Cpu));
        convolved.forward(&wave, None).square().sum(Kind::Float).backward();
        assert_eq!(convolved.parameters().len(), 4);
        assert!(convolved.parameters().iter().all(|parameter| parameter.grad().abs().max().double_value(&[]) > 0.0));
        let (_store, stack) = front_end(stack(2));
        assert!(stack.parameters().is_empty() && !stack.forward(&wave, None).requires_grad());
    }
}
