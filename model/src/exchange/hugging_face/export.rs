//! A model folder to one that `transformers` loads without a warning and computes the same with.

use std::collections::BTreeMap;
use std::path::Path;

use reprise_spec::contract::{Level, Score};
use reprise_spec::network::{FrontEndNorm, LinearProjection, WaveFrontEnd};
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::{CONFIG, PREPROCESSOR, WEIGHTS, config};
use crate::exchange::files::NewFolder;
use crate::exchange::{WEIGHT_NORM, contrastive, register, symbols};
use crate::failure::StageError;
use crate::model_folder::{self, About, CTC_HEAD, CTC_PREFIX, MASK_EMBEDDING, Output};
use crate::recogniser::VOCABULARY;
use crate::report::Reporter;
use crate::tensors;
use crate::vocabulary::Vocabulary;

/// Before the names of parameters that stand beside the encoder's.
const HEADS: [&str; 4] = [CTC_HEAD, "quantizer.", "project_hid.", "project_q."];

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
        Output::Pretrained { .. } if contrastive(&about.network, &about.output).is_none() => {
            report.say(Level::Info, "left out: the head of pretraining, which transformers has no place for");
            None
        }
        Output::Pretrained { .. } | Output::Backbone => None,
    };
    let folder = NewFolder::create(to)?;
    report.check_stop()?;
    let parameters = parameters(from, &about)?;
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
fn parameters(from: &Path, about: &About) -> Result<BTreeMap<String, Tensor>, StageError> {
    let store = VarStore::new(Device::Cpu);
    register(&store, &about.network, &about.output);
    model_folder::load_into(from, &store)?;
    let headless = matches!(config::class(about), "HubertModel" | "Wav2Vec2Model");
    let outer = if headless { String::new() } else { format!("{}.", config::family(about)) };
    let mut parameters = BTreeMap::new();
    for (ours, tensor) in store.variables() {
        let head = HEADS.iter().any(|head| ours.starts_with(head));
        let encoder = (!head).then(|| ours.strip_prefix(CTC_PREFIX).unwrap_or(&ours));
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
