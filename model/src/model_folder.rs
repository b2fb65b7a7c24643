//! Trained models on disk: `model.safetensors` with every parameter under its Hugging Face name, and `model.json` that says what they are.

use std::fs;
use std::path::Path;

use reprise_spec::network::Network;
use reprise_spec::stage::{PretrainStage, PretrainTargets};
use reprise_spec::training::{Head, PredictAt, Pretraining};
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::failure::StageError;
use crate::hubert::Hubert;
use crate::tensors;

const WEIGHTS: &str = "model.safetensors";
const ABOUT: &str = "model.json";

/// What a model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct About {
    pub network: Network,
    pub output: Output,
}

/// What stands above the encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Output {
    /// What pretraining left ([`crate::objective`]).
    Pretrained { targets: PretrainTargets, head: Head, predict_at: PredictAt },
    /// CTC over as many symbols; `vocabulary.txt` beside it names them.
    Characters { symbols: u32 },
}

impl Output {
    /// What stands above the encoder after this stage.
    pub fn pretrained(settings: &PretrainStage) -> Self {
        let Pretraining { head, predict_at, .. } = settings.pretraining.clone();
        Self::Pretrained { targets: settings.targets.clone(), head, predict_at }
    }
}

/// Writes the parameters of `store` and what they are into `folder`.
pub fn save(folder: &Path, store: &VarStore, about: &About) -> Result<(), StageError> {
    tensors::write(&folder.join(WEIGHTS), store.variables().into_iter().collect(), String::new())?;
    let path = folder.join(ABOUT);
    let text = serde_json::to_string_pretty(about)
        .map_err(|error| StageError::Failed(format!("cannot describe the model: {error}")))?;
    fs::write(&path, text + "\n").map_err(|error| StageError::io("cannot write", &path, &error))
}

/// Reads what the model in `folder` is.
pub fn about(folder: &Path) -> Result<About, StageError> {
    let path = folder.join(ABOUT);
    let bytes = fs::read(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| StageError::Failed(format!("{} does not describe a model: {error}", path.display())))
}

/// Loads the encoder of the model in `folder`, without its head, onto `device`. The store owns the parameters.
pub fn load(folder: &Path, device: Device) -> Result<(VarStore, Hubert, About), StageError> {
    let about = about(folder)?;
    let store = VarStore::new(device);
    let hubert = Hubert::new(&store.root(), &about.network);
    load_into(folder, &store)?;
    Ok((store, hubert, about))
}

/// Gives every parameter of `store` its value from the model in `folder`; parameters that only the folder has are left out.
///
/// # Errors
/// A parameter that the folder lacks or has in another shape, named.
pub fn load_into(folder: &Path, store: &VarStore) -> Result<(), StageError> {
    let path = folder.join(WEIGHTS);
    let stored = tensors::read(&path)?.tensors;
    for (name, mut parameter) in store.variables() {
        let found: Option<&Tensor> = stored.get(&name).filter(|tensor| tensor.size() == parameter.size());
        let found = found.ok_or_else(|| {
            let shape = parameter.size();
            StageError::Failed(format!("{} has no {name} of shape {shape:?}", path.display()))
        })?;
        tch::no_grad(|| parameter.f_copy_(found))?;
    }
    Ok(())
}
