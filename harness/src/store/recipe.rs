//! `recipe.json.gz`: what a run was asked for, enough to ask for it again.
//!
//! It has two forms. Spelled out, as bundles have it, it is `recipe.json` with the experiment's canonical bytes beside it (`spec.canon`). Short, as
//! stores have it, it is packed and says the canonical bytes in the JSON that has them ([`Canon::to_json`]): beside the experiment, of which it
//! repeats most, that takes little.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use reprise_spec::canon::Canon;
use reprise_spec::experiment::Experiment;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RunId, RunRecord, Store, StoreError, files, packed};

/// The name of a recipe in the folder of a run; see [`packed`].
pub const FILE: &str = "recipe.json";

/// History of the format: 1, the first; 2, an experiment has variants; 3, and claims.
pub const FORMAT: u64 = 3;

/// The format of a short one. History: 4, the first.
const SHORT: u64 = 4;

/// A recipe as a store has it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Short<'a> {
    format: u64,
    meaning: Value,
    experiment: &'a Experiment,
    file: &'a Path,
    corpus: Option<&'a Path>,
}

/// The part of a short recipe that has the experiment's canonical bytes.
#[derive(Deserialize)]
struct Meaning {
    meaning: Value,
}

/// What a run was asked for. Its places say where things were on the machine that made the run; they are no part of an identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recipe {
    pub format: u64,
    /// The experiment with everything that it extends, and every default.
    pub experiment: Experiment,
    /// The file that said so; paths of committed lists start from its folder.
    pub file: PathBuf,
    /// The folder of the corpus, where it was found.
    pub corpus: Option<PathBuf>,
}

impl Recipe {
    pub fn new(experiment: Experiment, file: &Path, corpus: Option<&Path>) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        Self { format: FORMAT, experiment, file: absolute(file), corpus: corpus.map(absolute) }
    }

    /// The short recipe of an experiment with these canonical bytes; `None` where they have no JSON.
    pub(super) fn shortened(&self, canonical: &[u8]) -> Option<Vec<u8>> {
        let meaning = Canon::from_bytes(canonical).ok()?.to_json()?;
        let Self { experiment, file, corpus, .. } = self;
        Some(files::to_line(&Short { format: SHORT, meaning, experiment, file, corpus: corpus.as_deref() }))
    }
}

impl Store {
    /// The recipe of a run; `None` for a run of a program that recorded none.
    ///
    /// # Errors
    /// When it is damaged, of a newer format, or not what the run's identity was taken of.
    pub fn recipe(&self, run: &RunRecord) -> Result<Option<Recipe>, StoreError> {
        let Some((path, bytes)) = self.recipe_bytes(&run.id)? else { return Ok(None) };
        let mut recipe: Recipe = files::parse_versioned(&path, &bytes, SHORT)?;
        recipe.format = recipe.format.min(FORMAT);
        match recipe.experiment.spec_hash() == run.spec {
            true => Ok(Some(recipe)),
            false => Err(StoreError::Damaged { path, reason: format!("it is not of spec:{}", run.spec.short()) }),
        }
    }

    /// The canonical bytes that a run's short recipe tells of; `None` where it has no such recipe.
    ///
    /// # Errors
    /// When the recipe is damaged.
    pub(super) fn meaning(&self, id: &RunId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((path, bytes)) = self.recipe_bytes(id)? else { return Ok(None) };
        if files::format_of(&path, &bytes)? < SHORT {
            return Ok(None);
        }
        let Meaning { meaning } = files::parse_versioned(&path, &bytes, SHORT)?;
        let tree = Canon::from_json(meaning);
        tree.map(|tree| Some(tree.to_bytes())).map_err(|error| StoreError::Damaged { path, reason: error.to_string() })
    }

    fn recipe_bytes(&self, id: &RunId) -> Result<Option<(PathBuf, Vec<u8>)>, StoreError> {
        match packed::read(&self.run_folder(id).join(FILE)) {
            Err(StoreError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }
}
