//! HuBERT below its heads: front-end, projection, mask, encoder or hierarchy of encoders.
//!
//! Shape suffixes: B utterances, S samples at 16 kHz, T frames of 20 or 40 ms, C front-end width, D encoder width.
//! Source: HuBERT (arXiv:2106.07447) section 3; fairseq `HubertModel`. Parameters bear the names of Hugging Face's `HubertModel`.

use std::rc::Rc;

use reprise_spec::extraction::State;
use reprise_spec::network::{LinearProjection, Network};
use reprise_spec::values::Height;
use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

use crate::encoder::{self, Mode, Places};
use crate::framing::Rows;
use crate::front_end::FrontEnd;
use crate::layers::{LayerNorm, Linear, parameter, widened};
use crate::trunk::Trunk;

/// The network from samples to the last encoder layer.
#[derive(Debug)]
pub struct Hubert {
    pub front_end: FrontEnd,
    norm: Option<LayerNorm>,
    projection: Option<Linear>,
    mask_embedding_d: Tensor,
    trunk: Trunk,
    input_dropout: f64,
    stride: u64,
}

/// What is hidden from the encoder; nothing by default.
#[derive(Debug, Default)]
pub struct Masks {
    /// B × T `bool`: frames replaced by the mask embedding.
    pub time_bt: Option<Tensor>,
    /// B × D `bool`: channels set to zero in every frame of a row.
    pub channel_bd: Option<Tensor>,
}

/// Which frames a pass gives.
#[derive(Clone, Copy, Debug)]
pub enum Taps<'a> {
    /// The last layer's, after the final norm of pre-norm encoders; in a hierarchy the highest rate's, after its sum.
    Output,
    /// The same, of which nothing but these frames will be read: others may be zero.
    OutputAt(&'a Rc<Places>),
    /// The outputs of these layers, ascending, before any final norm.
    Layers(&'a [Height]),
    /// Every rate of a hierarchy, the highest first; in any other network the output.
    Rates,
}

/// What a pass gives.
#[derive(Debug)]
pub struct Encoding {
    /// The frames that were asked for, B × T × D each, in the order of the [`Taps`].
    pub outputs: Vec<Tensor>,
    /// The front-end's frames before projection and masks, normalised where the network does so: B × T × C.
    pub features_btc: Tensor,
    /// Mean square of the front-end's output, a scalar.
    pub penalty: Tensor,
}

impl Hubert {
    /// Registers the parameters below `path` and draws them from libtorch's CPU generator, which the caller has seeded.
    pub fn new(path: &Path, network: &Network) -> Self {
        let front_end = FrontEnd::new(&(path / "feature_extractor"), network);
        let (inner, width) = (front_end.width(), i64::from(network.encoder.width.get()));
        let projection = path / "feature_projection";
        let projects = inner != width || network.projection.linear == LinearProjection::Always;
        Self {
            norm: network.projection.layer_norm.then(|| LayerNorm::new(&(&projection / "layer_norm"), inner)),
            projection: projects
                .then(|| Linear::outside(&(&projection / "projection"), inner, width, network.encoder.initialisation)),
            mask_embedding_d: parameter(path, "masked_spec_embed", &[width], Init::Uniform { lo: 0.0, up: 1.0 }),
            trunk: Trunk::new(path, network),
            front_end,
            input_dropout: network.dropout.input.get(),
            stride: network.frame_stride(),
        }
    }

    /// Number of layers; in a hierarchy those of all blocks.
    pub fn depth(&self) -> usize {
        self.trunk.depth()
    }

    /// Encodes B × S samples. `rows` says what of them isn't padding; `None` when no row is padded and no frame is cut.
    pub fn forward(&self, wave_bs: &Tensor, rows: Option<&Rows>, masks: &Masks, mode: Mode, taps: Taps) -> Encoding {
        let features_btc = self.features(wave_bs, rows, mode);
        let penalty = features_btc.square().mean(Kind::Float);
        let features_btc = self.normalise(&features_btc);
        let x_btd = self.project(&features_btc, masks, mode);
        let padding_bt = padding(&x_btd, rows);
        let padding_bt = padding_bt.as_ref();
        let outputs = match taps {
            Taps::Output => vec![self.trunk.forward(&x_btd, padding_bt, mode).remove(0)],
            Taps::OutputAt(places) => vec![self.trunk.forward_at(&x_btd, padding_bt, mode, places)],
            Taps::Rates => self.trunk.forward(&x_btd, padding_bt, mode),
            Taps::Layers(layers) => {
                let last = layers.last().map_or(0, |layer| layer.get() as usize);
                let states = self.trunk.states(&x_btd, padding_bt, mode, last);
                layers.iter().map(|layer| states[layer.get() as usize].shallow_clone()).collect()
            }
        };
        Encoding { outputs, features_btc, penalty }
    }

    /// Encodes B × T × C front-end frames to B × T × D. `lengths` are the frames of each row; the others are padding.
    pub fn encode(&self, features_btc: &Tensor, lengths: &[u64], masks: &Masks, mode: Mode) -> Tensor {
        let x_btd = self.project(&self.normalise(features_btc), masks, mode);
        let padding_bt = beyond(&x_btd, lengths);
        self.trunk.forward(&x_btd, padding_bt.as_ref(), mode).remove(0)
    }

    /// Layers 0 to `last`, each B × T × D, without masks and dropout: 0 is the input of the stack, the others are outputs of its
    /// blocks before any final norm. In a hierarchy they run through all blocks, each at its own rate ([`Network::layer_stride`]), and
    /// none is a sum. `lengths` are the samples of each row; `None` when no row is padded.
    pub fn hidden_states(&self, wave_bs: &Tensor, lengths: Option<&[u64]>, last: usize) -> Vec<Tensor> {
        let rows = lengths.map(|lengths| Rows::of(lengths, self.stride));
        let x_btd = self.frames(wave_bs, rows.as_ref());
        let padding_bt = padding(&x_btd, rows.as_ref());
        self.trunk.states(&x_btd, padding_bt.as_ref(), Mode::Evaluate, last)
    }

    /// These states of B × S samples, each B × T × D at its layer's rate, without masks and dropout; the layers above are not computed.
    pub fn states(&self, wave_bs: &Tensor, states: &[State]) -> Vec<Tensor> {
        self.states_in(wave_bs, states, Mode::Evaluate)
    }

    /// [`Hubert::states`] in a mode of the caller's.
    pub fn states_in(&self, wave_bs: &Tensor, states: &[State], mode: Mode) -> Vec<Tensor> {
        let x_btd = self.frames(wave_bs, None);
        let last = states.iter().map(|state| state.layer as usize).max().unwrap_or(0);
        let mut found: Vec<Option<Tensor>> = states.iter().map(|_| None).collect();
        let mut layer = 0;
        self.trunk.walk(&x_btd, None, mode, last, |state_btd| {
            for (state, found) in states.iter().zip(&mut found).filter(|(state, _)| state.layer == layer) {
                let normed = state.after_final_norm;
                *found = Some(if normed { self.trunk.normalise(state_btd) } else { state_btd.shallow_clone() });
            }
            layer += 1;
        });
        found.into_iter().flatten().collect()
    }

    /// Takes the front-end out of training for good: its parameters get no gradient and its pass is not recorded.
    pub fn freeze_front_end(&self) {
        for parameter in self.front_end.parameters() {
            let _ = parameter.set_requires_grad(false);
        }
    }

    /// Scales the gradients of the front-end's parameters.
    ///
    /// Equals fairseq's `GradMultiply` at the front-end's output, as every path to these parameters goes through it, and leaves the
    /// forward pass exact. Call once after each backward pass.
    pub fn scale_front_end_gradients(&self, scale: f64) {
        for parameter in self.front_end.parameters() {
            let mut gradient = parameter.grad();
            if scale != 1.0 && gradient.defined() {
                let _ = gradient.g_mul_scalar_(scale);
            }
        }
    }

    /// What the encoder is given without masks and dropout.
    fn frames(&self, wave_bs: &Tensor, rows: Option<&Rows>) -> Tensor {
        let features_btc = self.normalise(&self.features(wave_bs, rows, Mode::Evaluate));
        self.project(&features_btc, &Masks::default(), Mode::Evaluate)
    }

    /// The front-end's frames up to the end of the longest row.
    fn features(&self, wave_bs: &Tensor, rows: Option<&Rows>, mode: Mode) -> Tensor {
        let samples = rows.map(|rows| rows.samples.as_slice());
        let features_btc = widened(self.front_end.forward(wave_bs, samples, mode));
        let frames = rows.and_then(|rows| rows.frames.iter().max()).map(|&frames| frames as i64);
        match frames {
            Some(frames) if frames < features_btc.size()[1] => features_btc.narrow(1, 0, frames),
            _ => features_btc,
        }
    }

    fn normalise(&self, features_btc: &Tensor) -> Tensor {
        self.norm.as_ref().map_or_else(|| features_btc.shallow_clone(), |norm| norm.forward(features_btc))
    }

    /// Normalised features to the encoder's input.
    fn project(&self, features_btc: &Tensor, masks: &Masks, mode: Mode) -> Tensor {
        let mut x_btd = features_btc.shallow_clone();
        if let Some(projection) = &self.projection {
            x_btd = widened(projection.forward(&x_btd));
        }
        x_btd = mode.dropout(x_btd, self.input_dropout);
        if let Some(time_bt) = &masks.time_bt {
            x_btd = self.mask_embedding_d.where_self(&time_bt.unsqueeze(-1), &x_btd);
        }
        if let Some(channel_bd) = &masks.channel_bd {
            x_btd = x_btd.masked_fill(&channel_bd.unsqueeze(1), 0.0);
        }
        x_btd
    }
}

/// B × T, true at padding; `None` when every row is as long as the longest.
fn padding(x_btd: &Tensor, rows: Option<&Rows>) -> Option<Tensor> {
    rows.and_then(|rows| beyond(x_btd, &rows.frames))
}

fn beyond(x_btd: &Tensor, lengths: &[u64]) -> Option<Tensor> {
    let frames = x_btd.size()[1];
    let padded = lengths.iter().any(|&length| (length as i64) < frames);
    padded.then(|| encoder::padding(lengths, frames, x_btd.device()))
}

#[cfg(test)]
mod tests {
    use reprise_spec::arithmetic;
    use reprise_spec::network::{FrontEnd as FrontEndSettings, FrontEndNorm, LayerNormPlacement};
    use reprise_spec::values::Count;
    use tch::nn::VarStore;
    use tch::{Device, Tensor};

    use super::*;

    fn count(value: u64) -> Count {
        Count::try_from(value).unwrap()
    }

    fn nano() -> Network {
        let mut network = Network::default();
        if let FrontEndSettings::Wave(wave) = &mut network.front_end {
            wave.channels = count(8);
        }
        network.encoder.layers = count(2);
        network.encoder.width = count(16);
        network.encoder.heads = count(2);
        network.encoder.feed_forward = count(32);
        network.encoder.positional.groups = count(4);
        network
    }

    /// tch renames a parameter that is registered twice; the names are Hugging Face's (hubert.md section 7.1).
    #[test]
    fn parameters_bear_the_names_of_hugging_face() {
        let store = VarStore::new(Device::Cpu);
        let _hubert = Hubert::new(&store.root(), &nano());
        let mut names: Vec<_> =
            store.variables().into_iter().map(|(name, tensor)| format!("{name} {:?}", tensor.size())).collect();
        names.sort();
        insta::assert_snapshot!(names.join("\n"));
    }

    #[test]
    fn hidden_states_end_with_what_a_pass_gives_and_stop_early() {
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let hubert = Hubert::new(&store.root(), &nano());
        let wave_bs = Tensor::randn([2, 8_000], (Kind::Float, Device::Cpu));
        let states = hubert.hidden_states(&wave_bs, None, 2);
        assert_eq!(states.len(), 3);
        assert_eq!(states[2].size(), [2, arithmetic::frames(8_000) as i64, 16]);
        let output_btd =
            hubert.forward(&wave_bs, None, &Masks::default(), Mode::Evaluate, Taps::Output).outputs.remove(0);
        assert!(output_btd.equal(&states[2]));
        let asked = [2, 0].map(|layer| State { layer, after_final_norm: false });
        let found = hubert.states(&wave_bs, &asked);
        assert!(found[0].equal(&states[2]) && found[1].equal(&states[0]) && found.len() == 2);
    }

    #[test]
    fn the_last_state_after_the_final_norm_is_what_a_pass_gives() {
        tch::manual_seed(1);
        let mut network = nano();
        network.encoder.norm = LayerNormPlacement::Pre;
        let store = VarStore::new(Device::Cpu);
        let hubert = Hubert::new(&store.root(), &network);
        let wave_bs = Tensor::randn([1, 8_000], (Kind::Float, Device::Cpu));
        let output_btd =
            hubert.forward(&wave_bs, None, &Masks::default(), Mode::Evaluate, Taps::Output).outputs.remove(0);
        let states = [false, true].map(|after_final_norm| State { layer: 2, after_final_norm });
        let found = hubert.states(&wave_bs, &states);
        assert!(found[1].equal(&output_btd) && !found[0].equal(&output_btd));
    }

    /// Holds for layer norm; group norm's statistics run over the padding too, here and in the references.
    #[test]
    fn padding_changes_no_frame_of_a_layer_norm_front_end() {
        tch::manual_seed(2);
        let mut network = nano();
        if let FrontEndSettings::Wave(wave) = &mut network.front_end {
            wave.norm = FrontEndNorm::Layer;
        }
        let store = VarStore::new(Device::Cpu);
        let hubert = Hubert::new(&store.root(), &network);
        let wave_bs = Tensor::randn([1, 9_001], (Kind::Float, Device::Cpu));
        let alone = hubert.hidden_states(&wave_bs, None, 2).remove(2);
        let padded = Tensor::cat(
            &[wave_bs.constant_pad_nd([0, 4_000]), Tensor::randn([1, 13_001], (Kind::Float, Device::Cpu))],
            0,
        );
        let among = hubert.hidden_states(&padded, Some(&[9_001, 13_001]), 2).remove(2);
        let among = among.narrow(0, 0, 1).narrow(1, 0, alone.size()[1]);
        assert!((among - alone).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn skipped_layers_and_a_frozen_front_end_get_no_gradient() {
        tch::manual_seed(3);
        let store = VarStore::new(Device::Cpu);
        let hubert = Hubert::new(&store.root(), &nano());
        hubert.freeze_front_end();
        let wave_bs = Tensor::randn([1, 8_000], (Kind::Float, Device::Cpu));
        let mode = Mode::Train { skipped: &[true, false], keep: encoder::Keep::All };
        hubert.forward(&wave_bs, None, &Masks::default(), mode, Taps::Output).outputs[0]
            .square()
            .sum(Kind::Float)
            .backward();
        for (name, parameter) in store.variables() {
            let idle = name.contains("feature_extractor") || name.contains("layers.0.") || name == "masked_spec_embed";
            assert_eq!(parameter.grad().defined(), !idle, "{name}");
        }
    }
}
