//! The network and what is trained with it.

use std::collections::BTreeSet;

use reprise_spec::network::{FrontEnd, Hierarchy, Network};
use reprise_spec::stage::PretrainStage;
use tch::Device;
use tch::nn::VarStore;

use crate::batch::Crop;
use crate::failure::StageError;
use crate::hubert::Hubert;
use crate::objective::Objective;
use crate::random::Draws;
use crate::selection::{Labelled, Selection};

/// The network and what is trained with it.
pub struct Model {
    pub store: VarStore,
    pub hubert: Hubert,
    pub objective: Objective,
    /// Names of the network's parameters; the others are the objective's.
    pub network: BTreeSet<String>,
}

impl Model {
    /// Initial weights, drawn from `draws`.
    pub fn new(settings: &PretrainStage, mut draws: Draws, device: Device) -> Result<Self, StageError> {
        tch::manual_seed(draws.torch_seed());
        let store = VarStore::new(device);
        let hubert = Hubert::new(&store.root(), &settings.network);
        let network = store.variables().into_keys().collect();
        let objective = Objective::new(&store.root(), &settings.network, &settings.pretraining, &settings.targets)?;
        if gradient_scale(&settings.network) == 0.0 {
            hubert.freeze_front_end();
        }
        Ok(Self { store, hubert, objective, network })
    }

    /// Which frames of a batch are hidden and scored.
    pub fn select(
        &self,
        settings: &PretrainStage,
        data: &Labelled,
        crops: &[Crop],
        hidden: Vec<Vec<bool>>,
    ) -> Selection {
        let network = &settings.network;
        let lowest = network.hierarchy.as_ref().map_or(1, Hierarchy::lowest);
        let (taps, device) = (self.objective.views(), self.store.device());
        Selection::new(data, crops, hidden, &taps, lowest, device)
    }
}

/// What the front-end's gradients are multiplied by.
pub fn gradient_scale(network: &Network) -> f64 {
    match &network.front_end {
        FrontEnd::Wave(wave) => wave.gradient_scale.get(),
        FrontEnd::LogMel(_) | FrontEnd::Units(_) => 1.0,
    }
}

/// What the mean square of the front-end's output counts in the loss.
pub fn penalty_weight(network: &Network) -> f64 {
    match &network.front_end {
        FrontEnd::Wave(wave) => wave.penalty.get(),
        FrontEnd::LogMel(_) | FrontEnd::Units(_) => 0.0,
    }
}

/// Whether utterances are standardised before they are cropped.
pub fn normalises(network: &Network) -> bool {
    matches!(&network.front_end, FrontEnd::Wave(wave) if wave.normalise_waveform)
}
