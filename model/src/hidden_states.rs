//! A trained network that is only looked at: hidden states of waves of any length.

use std::path::Path;

use reprise_spec::arithmetic;
use reprise_spec::extraction::State;
use reprise_spec::network::{FrontEnd, Network};
use tch::{Device, Tensor};

use crate::analysis::similarity::Attention;
use crate::encoder::{Glances, Mode};
use crate::failure::StageError;
use crate::hubert::Hubert;
use crate::loader::standardise;
use crate::model_folder::{self, About};
use crate::pieces::pieces;

/// Some hidden states of a trained network, computed without masks and dropout.
#[derive(Debug)]
pub struct HiddenStates {
    pub settings: Network,
    network: Hubert,
    states: Vec<State>,
    device: Device,
}

impl HiddenStates {
    /// Loads the model in `folder`; `choose` says which of its states are wanted.
    ///
    /// # Errors
    /// A folder without a whole model; whatever `choose` refuses.
    pub fn load(
        folder: &Path,
        device: Device,
        choose: impl FnOnce(&Network) -> Result<Vec<State>, StageError>,
    ) -> Result<Self, StageError> {
        let (_, network, About { network: settings, .. }) = model_folder::load(folder, device)?;
        let states = choose(&settings)?;
        Ok(Self { settings, network, states, device })
    }

    /// Every layer of a network that is in memory.
    pub fn of_network(network: Hubert, settings: Network, device: Device) -> Self {
        let states = every_layer(&settings);
        Self { settings, network, states, device }
    }

    /// Which states, in the order that they are given in.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// Numbers a frame.
    pub fn width(&self) -> u64 {
        self.settings.encoder.width.get().into()
    }

    /// Samples from one frame of a state to the next.
    pub fn stride(&self, state: &State) -> u64 {
        self.settings.layer_stride(state.layer)
    }

    /// Frames that a state has of a wave.
    pub fn frames(&self, state: &State, samples: u64) -> u64 {
        arithmetic::frames_at(samples, self.stride(state))
    }

    /// The states of a wave, T × D each, piece by piece: long waves pass through the network in [`pieces`] of 100 s without context of each
    /// other, as in the reference (hubert.md section 4.2); but a piece reads up to the end of its last frame's window, so that no frame is
    /// lost between pieces.
    pub fn of(&self, wave: Vec<f32>) -> impl Iterator<Item = Result<Vec<Tensor>, StageError>> + use<'_> {
        self.pass(wave, Mode::Evaluate)
    }

    /// The states of a whole wave, T × D each.
    pub fn whole(&self, wave: Vec<f32>) -> Result<Vec<Tensor>, StageError> {
        self.joined(self.pass(wave, Mode::Evaluate))
    }

    /// The states of a whole wave, T × D each, and where heads look: layer by layer, again for each piece.
    pub fn look(&self, wave: Vec<f32>) -> Result<(Vec<Tensor>, Vec<Vec<Attention>>), StageError> {
        let glances = Glances::default();
        let states = self.joined(self.pass(wave, Mode::Look(&glances)))?;
        Ok((states, glances.into_inner()))
    }

    fn pass<'a>(
        &'a self,
        mut wave: Vec<f32>,
        mode: Mode<'a>,
    ) -> impl Iterator<Item = Result<Vec<Tensor>, StageError>> + use<'a> {
        if matches!(&self.settings.front_end, FrontEnd::Wave(front_end) if front_end.normalise_waveform) {
            standardise(&mut wave);
        }
        pieces(wave.len() as u64, &self.settings).map(move |piece| {
            let _no_grad = tch::no_grad_guard();
            let wave_bs = Tensor::f_from_slice(&wave[piece])?.f_to_device(self.device)?.unsqueeze(0);
            Ok(self
                .network
                .states_in(&wave_bs, &self.states, mode)
                .into_iter()
                .map(|state_btd| state_btd.squeeze_dim(0))
                .collect())
        })
    }

    fn joined(&self, pieces: impl Iterator<Item = Result<Vec<Tensor>, StageError>>) -> Result<Vec<Tensor>, StageError> {
        let pieces = pieces.collect::<Result<Vec<Vec<Tensor>>, _>>()?;
        let of_state = |state| pieces.iter().map(|piece| &piece[state]).collect::<Vec<&Tensor>>();
        (0..self.states.len()).map(|state| Ok(Tensor::f_cat(&of_state(state), 0)?)).collect()
    }
}

/// Layers 0 to the last before any final norm.
pub fn every_layer(network: &Network) -> Vec<State> {
    (0..=network.encoder.layers.get()).map(|layer| State { layer, after_final_norm: false }).collect()
}

#[cfg(test)]
mod tests {
    use reprise_spec::network::{Hierarchy, LogMelFrontEnd};
    use reprise_spec::values::Count;
    use tch::nn::VarStore;

    use super::*;

    fn count(value: u64) -> Count {
        Count::try_from(value).unwrap()
    }

    /// Narrow, on log-mel frames, with as many layers; in three blocks where there is a hierarchy.
    fn small(layers: u64, hierarchy: bool) -> Network {
        let mut settings = Network { front_end: FrontEnd::LogMel(LogMelFrontEnd::default()), ..Network::default() };
        settings.encoder.width = count(16);
        settings.encoder.heads = count(2);
        settings.encoder.feed_forward = count(16);
        settings.encoder.positional.groups = count(4);
        settings.encoder.layers = count(layers);
        settings.hierarchy =
            hierarchy.then(|| Hierarchy { layers: vec![count(layers / 3); 3], ..Hierarchy::default() });
        settings
    }

    #[test]
    fn heads_that_ask_nothing_look_everywhere_alike_and_looking_changes_no_state() {
        for hierarchy in [false, true] {
            let (store, settings) = (VarStore::new(Device::Cpu), small(3, hierarchy));
            let hidden = HiddenStates::of_network(Hubert::new(&store.root(), &settings), settings.clone(), Device::Cpu);
            let wave: Vec<f32> = (0..20_000).map(|n| (n as f32 * 0.1).sin()).collect();
            let (_, glances) = hidden.look(wave.clone()).unwrap();
            assert!(glances.iter().flatten().all(|head| head.distance > 0. && head.diagonality < 0.), "{glances:?}");
            for (_, mut parameter) in store.variables().into_iter().filter(|(name, _)| name.contains("q_proj")) {
                let _ = tch::no_grad(|| parameter.zero_());
            }
            let (states, glances) = hidden.look(wave.clone()).unwrap();
            assert_eq!(states, hidden.whole(wave).unwrap());
            assert_eq!(glances.len(), 3);
            for (state_td, heads) in states[1..].iter().zip(&glances) {
                let expected = Attention::uniform(state_td.size()[0] as u64);
                assert_eq!(heads.len(), 2);
                assert!(heads.iter().all(|head| (head.distance - expected.distance).abs() < 1e-3), "{heads:?}");
            }
        }
    }

    #[test]
    fn pieces_have_as_many_frames_as_the_whole() {
        for settings in [small(1, false), small(3, true)] {
            let store = VarStore::new(Device::Cpu);
            let network = Hubert::new(&store.root(), &settings);
            let hidden = HiddenStates::of_network(network, settings.clone(), Device::Cpu);
            for samples in [0, 399, 400, 719, 720, 1_040, 1_600_079, 1_600_080, 1_650_000] {
                let wave = (0..samples).map(|n| (n as f32 * 0.1).sin()).collect();
                let mut found = vec![0; hidden.states().len()];
                for piece in hidden.of(wave) {
                    for (frames, state_td) in found.iter_mut().zip(piece.unwrap()) {
                        *frames += state_td.size()[0] as u64;
                    }
                }
                let expected: Vec<u64> = hidden.states().iter().map(|state| hidden.frames(state, samples)).collect();
                assert_eq!(found, expected, "{samples} samples");
            }
        }
    }
}
