//! What stands above the front-end: one encoder, or a hierarchy of them.

use std::rc::Rc;

use reprise_spec::network::Network;
use tch::Tensor;
use tch::nn::Path;

use crate::encoder::{Encoder, Mode, Places};
use crate::hierarchy::Hierarchy;

/// Layers of one or several blocks, counted through all of them.
#[derive(Debug)]
pub enum Trunk {
    Encoder(Encoder),
    Hierarchy(Hierarchy),
}

impl Trunk {
    /// Registers the parameters: an encoder's below `encoder`, those of a hierarchy directly below `path`.
    pub fn new(path: &Path, network: &Network) -> Self {
        match &network.hierarchy {
            None => Self::Encoder(Encoder::new(&(path / "encoder"), network)),
            Some(settings) => Self::Hierarchy(Hierarchy::new(path, network, settings)),
        }
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        match self {
            Self::Encoder(encoder) => encoder.depth(),
            Self::Hierarchy(hierarchy) => hierarchy.depth(),
        }
    }

    /// Every rate's frames after the last layer, the highest rate first: B × T × D each. `padding_bt` is true at padding.
    pub fn forward(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>, mode: Mode) -> Vec<Tensor> {
        match self {
            Self::Encoder(encoder) => vec![encoder.forward(x_btd, padding_bt, mode)],
            Self::Hierarchy(hierarchy) => hierarchy.forward(x_btd, padding_bt, mode),
        }
    }

    /// The highest rate's frames after the last layer, B × T × D, of which some alone are asked for: an encoder gives zeros at the others.
    pub fn forward_at(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>, mode: Mode, places: &Rc<Places>) -> Tensor {
        match self {
            Self::Encoder(encoder) => places.spread(&encoder.forward_at(x_btd, padding_bt, mode, places)),
            Self::Hierarchy(hierarchy) => hierarchy.forward(x_btd, padding_bt, mode).remove(0),
        }
    }

    /// Layers 0 to `last`, as [`Encoder::states`] has them; in a hierarchy each at the rate of its block.
    pub fn states(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>, mode: Mode, last: usize) -> Vec<Tensor> {
        let mut states = Vec::with_capacity(last + 1);
        self.walk(x_btd, padding_bt, mode, last, |state| states.push(state.shallow_clone()));
        states
    }

    /// The norm behind the last block of pre-norm encoders.
    pub fn normalise(&self, x_btd: &Tensor) -> Tensor {
        match self {
            Self::Encoder(encoder) => encoder.normalise(x_btd),
            Self::Hierarchy(hierarchy) => hierarchy.normalise(x_btd),
        }
    }

    /// Shows the states 0 to `last`; layers above it are not computed.
    pub fn walk(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>, mode: Mode, last: usize, see: impl FnMut(&Tensor)) {
        match self {
            Self::Encoder(encoder) => drop(encoder.walk(x_btd, padding_bt, mode, last, see)),
            Self::Hierarchy(hierarchy) => drop(hierarchy.walk(x_btd, padding_bt, mode, last, see)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::network::{
        Hierarchy as HierarchySettings, LayerNormPlacement, RelativePositions, Sampling, SamplingForm,
    };
    use reprise_spec::values::Count;
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    use super::*;

    fn count(value: usize) -> Count {
        Count::try_from(value as u64).unwrap()
    }

    /// Small networks: one encoder, or one to two ratios with any sampling; either norm; with and without relative positions.
    fn networks() -> impl Strategy<Value = Network> {
        let sampling = (any::<bool>(), prop::sample::select(vec![1, 3, 7]));
        let layers = prop::collection::vec(1usize..3, 5);
        let ratios = prop::collection::vec(1usize..4, 0..3);
        (sampling, layers, ratios, any::<bool>(), any::<bool>()).prop_map(
            |((plain, kernel), layers, ratios, pre, relative)| {
                let mut network = Network::default();
                let layers = layers[..2 * ratios.len() + 1].to_vec();
                let encoder = &mut network.encoder;
                (encoder.layers, encoder.width, encoder.heads) = (count(layers.iter().sum()), count(8), count(2));
                (encoder.feed_forward, encoder.positional.groups) = (count(6), count(2));
                encoder.norm = if pre { LayerNormPlacement::Pre } else { LayerNormPlacement::Post };
                encoder.relative_positions =
                    relative.then(|| RelativePositions { buckets: count(8), max_distance: count(9) });
                network.hierarchy = (!ratios.is_empty()).then(|| HierarchySettings {
                    layers: layers.into_iter().map(count).collect(),
                    ratios: ratios.into_iter().map(count).collect(),
                    sampling: Sampling {
                        form: if plain { SamplingForm::Plain } else { SamplingForm::Residual },
                        kernel: count(kernel),
                    },
                });
                network
            },
        )
    }

    fn trunk(network: &Network) -> (VarStore, Trunk) {
        let store = VarStore::new(Device::Cpu);
        let trunk = Trunk::new(&store.root(), network);
        (store, trunk)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_layer_has_the_frames_of_its_stride_and_every_rate_its_own(
            network in networks(), frames in 1i64..40, shorter in 0i64..40,
        ) {
            let _no_grad = tch::no_grad_guard();
            let (_store, trunk) = trunk(&network);
            let x_btd = Tensor::ones([2, frames, 8], (Kind::Float, Device::Cpu));
            let lengths = [frames as u64, (frames - shorter).max(1) as u64];
            let padding_bt = crate::encoder::padding(&lengths, frames, Device::Cpu);
            for padding_bt in [None, Some(&padding_bt)] {
                let states = trunk.states(&x_btd, padding_bt, Mode::Evaluate, trunk.depth());
                prop_assert_eq!(states.len(), network.encoder.layers.get() as usize + 1);
                for (layer, state) in states.iter().enumerate() {
                    let ratio = network.layer_stride(layer as u32) / network.frame_stride();
                    prop_assert_eq!(state.size(), [2, (frames as u64).div_ceil(ratio) as i64, 8]);
                    prop_assert!(state.isfinite().all().int64_value(&[]) == 1);
                }
                let rates = trunk.forward(&x_btd, padding_bt, Mode::Evaluate);
                let mut expected = vec![frames as u64];
                for ratio in network.hierarchy.iter().flat_map(|hierarchy| &hierarchy.ratios) {
                    expected.push(expected[expected.len() - 1].div_ceil(ratio.get().into()));
                }
                let found: Vec<u64> = rates.iter().map(|rate| rate.size()[1] as u64).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    /// Gradients of all parameters and of the input, after those that are asked for.
    fn learnt(store: &VarStore, x_btd: &Tensor, output_nd: &Tensor) -> Vec<Tensor> {
        let direction = (Tensor::arange(8, (Kind::Float, Device::Cpu)) + 1.0).sin();
        let mut parameters: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        parameters.sort_by(|a, b| a.0.cmp(&b.0));
        parameters.iter_mut().for_each(|(_, parameter)| parameter.zero_grad());
        let mut input = x_btd.shallow_clone();
        input.zero_grad();
        (output_nd.square() * &direction).sum(Kind::Float).backward();
        let gradients = parameters.iter().map(|(_, parameter)| parameter.grad()).chain([x_btd.grad()]);
        gradients.filter(Tensor::defined).map(|gradient| gradient.copy()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_that_nobody_asks_for_change_nothing(
            mut network in networks(), rows in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..25), 1..4),
            last_left_out in any::<bool>(), recompute in any::<bool>(),
        ) {
            network.dropout.residual = 0.0.try_into().unwrap();
            network.dropout.attention = 0.0.try_into().unwrap();
            let (store, trunk) = trunk(&network);
            let frames = rows.iter().map(Vec::len).max().unwrap();
            let x_btd = Tensor::randn([rows.len() as i64, frames as i64, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let lengths: Vec<u64> = rows.iter().map(|row| row.len() as u64).collect();
            let padding_bt = crate::encoder::padding(&lengths, frames as i64, Device::Cpu);
            let padding_bt = lengths.iter().any(|&length| length < frames as u64).then_some(padding_bt);
            let mut skipped = vec![false; trunk.depth()];
            *skipped.last_mut().unwrap() = last_left_out;
            let keep = if recompute { crate::encoder::Keep::Inputs { shown: &[] } } else { crate::encoder::Keep::All };
            let mode = Mode::Train { skipped: &skipped, keep };
            let Some(places) = Places::new(&rows, frames, Device::Cpu).map(Rc::new) else {
                prop_assert!(!rows.iter().flatten().any(|&chosen| chosen));
                return Ok(());
            };
            let all_nd = places.of(&trunk.forward(&x_btd, padding_bt.as_ref(), mode)[0]);
            let some_btd = trunk.forward_at(&x_btd, padding_bt.as_ref(), mode, &places);
            prop_assert_eq!(some_btd.size(), x_btd.size());
            let some_nd = places.of(&some_btd);
            prop_assert!((&some_nd - &all_nd).abs().max().double_value(&[]) < 1e-4);
            if let (Trunk::Encoder(_), false) = (&trunk, last_left_out) {
                let others: Tensor = 1.0 - places.spread(&Tensor::ones_like(&some_nd));
                prop_assert!((others * &some_btd).abs().max().double_value(&[]) == 0.0);
            }
            let (all, some) = (learnt(&store, &x_btd, &all_nd), learnt(&store, &x_btd, &some_nd));
            prop_assert_eq!(all.len(), some.len());
            for (all, some) in all.iter().zip(&some) {
                let room = 1e-3 * (1.0 + all.abs().max().double_value(&[]));
                prop_assert!((all - some).abs().max().double_value(&[]) < room);
            }
        }
    }

    #[test]
    fn skipped_layers_are_counted_through_all_blocks() {
        let mut network = Network::default();
        let encoder = &mut network.encoder;
        (encoder.layers, encoder.width, encoder.heads) = (count(4), count(8), count(2));
        (encoder.feed_forward, encoder.positional.groups) = (count(6), count(2));
        let layers = [1, 2, 1].map(count).to_vec();
        network.hierarchy = Some(HierarchySettings { layers, ..HierarchySettings::default() });
        let x_btd = Tensor::ones([1, 9, 8], (Kind::Float, Device::Cpu));
        let names =
            ["encoders.0.layers.0", "middle_encoder.layers.0", "middle_encoder.layers.1", "decoders.0.layers.0"];
        for (left_out, name) in names.into_iter().enumerate() {
            let (store, trunk) = trunk(&network);
            let skipped: Vec<bool> = (0..4).map(|layer| layer == left_out).collect();
            let outputs =
                trunk.forward(&x_btd, None, Mode::Train { skipped: &skipped, keep: crate::encoder::Keep::All });
            outputs[0].square().sum(Kind::Float).backward();
            for (parameter, tensor) in store.variables() {
                assert_eq!(tensor.grad().defined(), !parameter.starts_with(name), "{parameter} without {name}");
            }
        }
    }

    /// The names are fairseq's for what a hierarchy adds, and Hugging Face's inside the blocks.
    #[test]
    fn parameters_of_a_hierarchy_bear_published_names() {
        let mut network = Network::default();
        let encoder = &mut network.encoder;
        (encoder.layers, encoder.width, encoder.heads) = (count(3), count(8), count(2));
        (encoder.feed_forward, encoder.positional.groups) = (count(6), count(2));
        encoder.relative_positions = Some(RelativePositions::default());
        let layers = [1, 1, 1].map(count).to_vec();
        network.hierarchy = Some(HierarchySettings { layers, ..HierarchySettings::default() });
        let (store, _trunk) = trunk(&network);
        let mut names: Vec<_> =
            store.variables().into_iter().map(|(name, tensor)| format!("{name} {:?}", tensor.size())).collect();
        names.sort();
        names.retain(|name| !name.contains("layers.0."));
        insta::assert_snapshot!(names.join("\n"));
    }
}
