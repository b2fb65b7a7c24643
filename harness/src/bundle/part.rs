//! The large files of outputs: which of them a bundle holds.

use std::collections::BTreeSet;

use clap::ValueEnum;
use reprise_spec::finetuning::Top;
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::stage::Stage;
use serde::{Deserialize, Serialize};

use crate::store::{Manifest, RunRecord, Store};

/// A kind of large file. Everything else, records, tables and scores, is always in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Centroids of units
    Codebooks,
    /// Of each run the model that was fine-tuned last
    Recogniser,
    /// The other fine-tuned models
    Finetuned,
    /// Pretrained models, and models from elsewhere
    Pretrained,
    /// States from which a pretraining can go on
    States,
    /// The units of every frame
    Labels,
    /// Acoustic features
    Features,
    /// Language models and lexicons
    LanguageModels,
}

/// What goes in where nothing is said.
pub const DEFAULT: [Part; 2] = [Part::Codebooks, Part::Recogniser];

/// The kind of a file of an output; `None` for one that is always in. `recognisers` are the outputs that are some run's last fine-tuned model.
pub fn of(manifest: &Manifest, name: &str, recognisers: &BTreeSet<(StageKey, OutputDigest)>) -> Option<Part> {
    match (&manifest.settings, name) {
        (Stage::Units(_), "codebook.safetensors") => Some(Part::Codebooks),
        (Stage::Units(_), "labels.npy") => Some(Part::Labels),
        (Stage::Features(_), "features.npy") => Some(Part::Features),
        (Stage::Pretrain(_), "state.safetensors") => Some(Part::States),
        (Stage::Pretrain(_) | Stage::Checkpoint(_), "model.safetensors") => Some(Part::Pretrained),
        (Stage::Finetune(_), "model.safetensors") => {
            Some(match recognisers.contains(&(manifest.key, manifest.digest)) {
                true => Part::Recogniser,
                false => Part::Finetuned,
            })
        }
        (Stage::LanguageModel(_), name) => (name != "lm.json").then_some(Part::LanguageModels),
        (Stage::Lexicon(_), _) => Some(Part::LanguageModels),
        _ => None,
    }
}

/// The whole network that was fine-tuned at the last point of a run, whichever stage that is.
pub fn recogniser(run: &RunRecord, store: &Store) -> Option<(StageKey, OutputDigest)> {
    let finetuned = run.stages.iter().filter(|stage| stage.kind.starts_with("finetune/")).filter_map(|stage| {
        let digest = stage.state.digest()?;
        let manifest = store.output(&stage.key, &digest)?.manifest;
        matches!(&manifest.settings, Stage::Finetune(settings) if settings.top == Top::Kept).then_some((
            stage.point,
            stage.key,
            digest,
        ))
    });
    finetuned.max_by_key(|(point, ..)| *point).map(|(_, key, digest)| (key, digest))
}
