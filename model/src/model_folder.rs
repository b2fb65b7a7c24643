//! Trained models on disk: `model.safetensors` with every parameter under its Hugging Face name, and `model.json` that says what they are.

use std::collections::BTreeMap;
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
use crate::vocabulary::Vocabulary;

/// Every parameter of a model.
pub const WEIGHTS: &str = "model.safetensors";
/// What a model is.
pub const ABOUT: &str = "model.json";

/// The parameter that frames are replaced by when they are masked.
pub const MASK_EMBEDDING: &str = "masked_spec_embed";

/// Before the names of the encoder's parameters in a model with a CTC head.
pub const CTC_PREFIX: &str = "hubert.";

/// Before the names of a CTC head's parameters.
pub const CTC_HEAD: &str = "lm_head.";

/// What a model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct About {
    pub network: Network,
    pub output: Output,
    /// What others call the network; it computes the same.
    #[serde(default, skip_serializing_if = "Family::is_hubert")]
    pub family: Family,
    /// Whether there is an embedding of masked frames: models of others may come without.
    #[serde(default = "yes", skip_serializing_if = "holds")]
    pub mask_embedding: bool,
}

fn yes() -> bool {
    true
}

fn holds(value: &bool) -> bool {
    *value
}

impl About {
    /// A model that was trained here.
    pub fn trained(network: Network, output: Output, family: Family) -> Self {
        Self { network, output, family, mask_embedding: true }
    }
}

/// The published families that share one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    #[default]
    Hubert,
    Wav2vec2,
}

impl Family {
    /// As Hugging Face and fairseq call them.
    pub const NAMES: &[(&str, Self)] = &[("hubert", Self::Hubert), ("wav2vec2", Self::Wav2vec2)];

    /// The family of a network that was pretrained on such targets.
    pub fn of(targets: &PretrainTargets) -> Self {
        match targets {
            PretrainTargets::Units(_) => Self::Hubert,
            PretrainTargets::Quantiser(_) => Self::Wav2vec2,
        }
    }

    fn is_hubert(&self) -> bool {
        *self == Self::Hubert
    }
}

/// What stands above the encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Output {
    /// What pretraining left ([`crate::objective`]).
    Pretrained { targets: PretrainTargets, head: Head, predict_at: PredictAt },
    /// Nothing.
    Backbone,
    /// CTC over as many symbols; `vocabulary.txt` beside it names them.
    Characters { symbols: u32 },
}

impl Output {
    /// A CTC head with these symbols, or nothing.
    pub fn of(vocabulary: Option<&Vocabulary>) -> Self {
        vocabulary.map_or(Self::Backbone, |vocabulary| Self::Characters { symbols: vocabulary.size() as u32 })
    }

    /// What stands above the encoder after this stage.
    pub fn pretrained(settings: &PretrainStage) -> Self {
        let Pretraining { head, predict_at, .. } = settings.pretraining.clone();
        Self::Pretrained { targets: settings.targets.clone(), head, predict_at }
    }
}

/// Writes the parameters of `store` and what they are into `folder`.
pub fn save(folder: &Path, store: &VarStore, about: &About) -> Result<(), StageError> {
    save_tensors(folder, store.variables().into_iter().collect(), about)
}

/// Writes parameters and what they are into `folder`.
pub fn save_tensors(folder: &Path, parameters: Vec<(String, Tensor)>, about: &About) -> Result<(), StageError> {
    tensors::write(&folder.join(WEIGHTS), parameters, String::new())?;
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

/// Loads the encoder of the model in `folder`, without its head, onto `device`. The store owns the parameters, which bear the names that
/// the folder has for them.
pub fn load(folder: &Path, device: Device) -> Result<(VarStore, Hubert, About), StageError> {
    let about = about(folder)?;
    let store = VarStore::new(device);
    let root = match about.output {
        Output::Characters { .. } => store.root() / CTC_PREFIX.trim_end_matches('.'),
        Output::Pretrained { .. } | Output::Backbone => store.root(),
    };
    let hubert = Hubert::new(&root, &about.network);
    load_into(folder, &store)?;
    Ok((store, hubert, about))
}

/// Gives every parameter of `store` its value from the model in `folder`; parameters that only the folder has are left out. Where the
/// model has no embedding of masked frames, the store's is set to NaN, so that no masked frame goes unnoticed.
///
/// # Errors
/// A parameter that the folder lacks or has in another shape, named.
pub fn load_into(folder: &Path, store: &VarStore) -> Result<(), StageError> {
    let path = folder.join(WEIGHTS);
    let stored = tensors::read(&path)?.tensors;
    let mask_embedding = about(folder)?.mask_embedding;
    // Sorted, so that the first that is missing is the same every time.
    for (name, mut parameter) in store.variables().into_iter().collect::<BTreeMap<_, _>>() {
        if !mask_embedding && name.ends_with(MASK_EMBEDDING) {
            let _ = tch::no_grad(|| parameter.fill_(f64::NAN));
            continue;
        }
        let found: Option<&Tensor> = stored.get(&name).filter(|tensor| tensor.size() == parameter.size());
        let found = found.ok_or_else(|| {
            let shape = parameter.size();
            StageError::Failed(format!("{} has no {name} of shape {shape:?}", path.display()))
        })?;
        tch::no_grad(|| parameter.f_copy_(found))?;
    }
    Ok(())
}
