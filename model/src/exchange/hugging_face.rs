//! Folders of Hugging Face `transformers`: `HubertModel`, `HubertForCTC`, `Wav2Vec2Model`, `Wav2Vec2ForCTC`, `Wav2Vec2ForPreTraining`.
//!
//! The parameters here bear the names there, so that little is left to translate: the `hubert.` or `wav2vec2.` before the encoder's, and the
//! spelling of weight norm, of which both are read and the newer (`parametrizations.weight.original0`) is written, as `transformers`
//! itself does. Tensors of single precision pass in and out again bit by bit.
//!
//! **Whether the wave is normalised** is what `do_normalize` of `preprocessor_config.json` says, because that is what everybody else who
//! uses the folder computes; in a folder without that file, what fairseq did: yes with layer norm, no with group norm. The converter of the
//! published folders always wrote `true`, also for group norm, whose models were pretrained on waves as they are; group norm takes out the
//! gain, so little changes. (`transformers` adds 1e-7 to the variance and fairseq and Reprise 1e-5, so that quiet files differ a little
//! where the feature extractor of `transformers` did the normalising.)

use std::path::Path;

use reprise_spec::network::{FrontEnd, FrontEndNorm};

use super::keys::Keys;
use super::tensor_file::TensorFile;
use super::{Foreign, Place, symbols};
use crate::failure::StageError;
use crate::model_folder::{Family, Output};

mod config;
mod export;

pub use export::export;

const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const WEIGHTS: &str = "model.safetensors";

/// What a folder holds beside the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Backbone,
    Ctc,
    Pretraining,
}

/// The classes of `transformers` that are read.
const CLASSES: [(&str, Family, Class); 5] = [
    ("HubertModel", Family::Hubert, Class::Backbone),
    ("HubertForCTC", Family::Hubert, Class::Ctc),
    ("Wav2Vec2Model", Family::Wav2vec2, Class::Backbone),
    ("Wav2Vec2ForCTC", Family::Wav2vec2, Class::Ctc),
    ("Wav2Vec2ForPreTraining", Family::Wav2vec2, Class::Pretraining),
];

/// Understands a folder.
pub fn open(folder: &Path) -> Result<Foreign, StageError> {
    let config = Keys::read(&folder.join(CONFIG))?;
    let family = config.one_of("model_type", "", Family::NAMES)?;
    let class = class(&config, family)?;
    let mut network = config::read(&config, family)?;
    let mut notes = Vec::new();
    if let FrontEnd::Wave(wave) = &mut network.front_end {
        let path = folder.join(PREPROCESSOR);
        let (layer, named) = (wave.norm == FrontEndNorm::Layer, path.exists());
        let says = if named { preprocessor(&Keys::read(&path)?)? } else { layer };
        wave.normalise_waveform = says;
        let how = if says { "normalised" } else { "taken as they are" };
        let why = if named { "as preprocessor_config.json says" } else { "as fairseq does below such norms" };
        notes.push(format!("waves are {how}, {why}"));
    }
    let path = folder.join(WEIGHTS);
    if !path.exists() {
        return Err(absent(folder));
    }
    let tensors = TensorFile::open(&path)?;
    let headed = class == Some(Class::Ctc) || class.is_none() && tensors.shape("lm_head.weight").is_some();
    let mut vocabulary = None;
    if headed {
        let rows = config.count("vocab_size", Some(32))?.get() as usize;
        let (found, told) = symbols::read(folder, &config, rows)?;
        notes.extend(told);
        vocabulary = Some(found);
    }
    let output = match class {
        Some(Class::Pretraining) => config::pretraining(&config)?,
        _ => Output::of(vocabulary.as_ref()),
    };
    Ok(Foreign { network, family, output, vocabulary, tensors, place, notes })
}

/// What `architectures` names; nothing where the folder doesn't say.
fn class(config: &Keys, family: Family) -> Result<Option<Class>, StageError> {
    let Some(names) = config.texts("architectures")? else { return Ok(None) };
    match names[..] {
        [] => Ok(None),
        [name] => CLASSES
            .iter()
            .find(|(known, of, _)| *known == name && *of == family)
            .map(|(.., class)| Some(*class))
            .ok_or_else(|| {
                let known = CLASSES.iter().filter(|(_, of, _)| *of == family).map(|(known, ..)| *known);
                config.wrong("architectures", known.collect::<Vec<_>>().join(" or "))
            }),
        _ => Err(config.wrong("architectures", "the name of one class")),
    }
}

/// Whether `preprocessor_config.json` normalises.
fn preprocessor(keys: &Keys) -> Result<bool, StageError> {
    keys.only("sampling_rate", &16_000.into())?;
    keys.only("feature_size", &1.into())?;
    keys.flag("do_normalize", true)
}

/// A refusal that says what there is instead of the weights.
fn absent(folder: &Path) -> StageError {
    let there = |name: &str| folder.join(name).exists();
    let (why, help) = match () {
        () if there("model.safetensors.index.json") => (
            "its weights are in several files",
            "load it in transformers and save it with `save_pretrained(..., max_shard_size=\"100GB\")`",
        ),
        () if there("pytorch_model.bin") => (
            "pytorch_model.bin is a pickle, which may run code when it is read, so it never is",
            "load it in transformers, on a machine and for a model that you trust, and save it with `save_pretrained`",
        ),
        () => ("no weights are in it", "download the folder whole"),
    };
    StageError::refused(format!("there is no {WEIGHTS} in {}: {why}", folder.display()), help)
}

fn place(theirs: &str) -> Place {
    let name = theirs.strip_prefix("hubert.").or_else(|| theirs.strip_prefix("wav2vec2."));
    Place::encoder(name.unwrap_or(theirs))
}
