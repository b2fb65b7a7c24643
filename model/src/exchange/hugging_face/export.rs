//! A model folder to one that `transformers` loads without a warning and computes the same with.

use std::collections::BTreeMap;
use std::path::Path;

use reprise_spec::contract::{Level, Score};
use reprise_spec::network::{FrontEndNorm, LinearProjection, WaveFrontEnd};
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::{CONFIG, PREPROCESSOR, WEIGHTS, config};
use crate::ctc::CtcModel;
use crate::exchange::files::NewFolder;
use crate::exchange::{WEIGHT_NORM, symbols};
use crate::failure::StageError;
use crate::hubert::Hubert;
use crate::model_folder::{self, About, CTC_HEAD, CTC_PREFIX, MASK_EMBEDDING, Output};
use crate::recogniser::VOCABULARY;
use crate::report::Reporter;
use crate::tensors;
use crate::vocabulary::Vocabulary;

/// Writes the model in `from` as a folder for `transformers`. Returns the number of parameters.
///
/// Where the network has no linear map below the encoder, an identity is written, which changes no bit of what is computed.
///
/// # Errors
/// Refuses networks that `transformers` doesn't have, and says why; then nothing is left behind.
pub fn export(from: &Path, to: &Path, report: &mut Reporter) -> Result<Vec<Score>, StageError> {
    let about = model_folder::about(from)?;
    let wave = config::representable(&about)?;
    let vocabulary = match about.output {
        Output::Characters { .. } => Some(Vocabulary::read(&from.join(VOCABULARY))?),
        Output::Pretrained { .. } => {
            report.say(Level::Info, "left out: the head of pretraining, which transformers has no place for");
            None
        }
        Output::Backbone => None,
    };
    let folder = NewFolder::create(to)?;
    report.check_stop()?;
    let parameters = parameters(from, &about, vocabulary.as_ref())?;
    let numbers: usize = parameters.values().map(Tensor::numel).sum();
    report.check_stop()?;
    let metadata = ("format", "pt".to_owned());
    tensors::write_for(&folder.path().join(WEIGHTS), parameters.into_iter().collect(), metadata.0, metadata.1)?;
    let mut files =
        vec![(CONFIG, config::write(&about, wave, vocabulary.as_ref())), (PREPROCESSOR, preprocessor(wave))];
    files.extend(vocabulary.iter().flat_map(symbols::files));
    for (name, value) in files {
        let text = serde_json::to_string_pretty(&value)
            .map_err(|error| StageError::Failed(format!("cannot write {name}: {error}")))?;
        folder.write(name, (text + "\n").as_bytes())?;
    }
    folder.finish()?;
    Ok(vec![Score { name: "parameters".into(), value: numbers as f64, interval: None }])
}

/// Every parameter under its name there.
fn parameters(
    from: &Path,
    about: &About,
    vocabulary: Option<&Vocabulary>,
) -> Result<BTreeMap<String, Tensor>, StageError> {
    let store = VarStore::new(Device::Cpu);
    let prefix = match vocabulary {
        Some(vocabulary) => {
            drop(CtcModel::new(&store.root(), &about.network, vocabulary.size(), 0.0));
            CTC_PREFIX
        }
        None => {
            drop(Hubert::new(&store.root(), &about.network));
            ""
        }
    };
    model_folder::load_into(from, &store)?;
    let outer = if vocabulary.is_some() { format!("{}.", config::family(about)) } else { String::new() };
    let mut parameters = BTreeMap::new();
    for (ours, tensor) in store.variables() {
        let encoder = ours.strip_prefix(prefix).filter(|_| !ours.starts_with(CTC_HEAD));
        if encoder == Some(MASK_EMBEDDING) && !about.mask_embedding {
            continue;
        }
        parameters.insert(encoder.map_or(ours.clone(), |name| format!("{outer}{}", newer(name))), tensor);
    }
    let projection = format!("{outer}feature_projection.projection");
    if about.network.projection.linear == LinearProjection::WhereWidthsDiffer {
        let width = i64::from(about.network.encoder.width.get());
        let single = (Kind::Float, Device::Cpu);
        parameters.entry(format!("{projection}.weight")).or_insert_with(|| Tensor::eye(width, single));
        parameters.entry(format!("{projection}.bias")).or_insert_with(|| Tensor::zeros([width], single));
    }
    Ok(parameters)
}

/// The newer spelling of weight norm.
fn newer(name: &str) -> String {
    let spelt = WEIGHT_NORM.iter().find_map(|(theirs, ours)| Some(format!("{}{theirs}", name.strip_suffix(ours)?)));
    spelt.unwrap_or_else(|| name.to_owned())
}

/// `preprocessor_config.json`. Padding changes frames below group norm, so its models are given no mask of it, as published.
fn preprocessor(wave: &WaveFrontEnd) -> Value {
    json!({
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 16_000,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": wave.normalise_waveform,
        "return_attention_mask": wave.norm == FrontEndNorm::Layer,
    })
}
