//! `recipe.json`: what a run was asked for, enough to ask for it again.

use std::path::{Path, PathBuf};

use reprise_spec::experiment::Experiment;
use serde::{Deserialize, Serialize};

use super::{RunRecord, Store, StoreError, files};

/// The name of a recipe in the folder of a run.
pub const FILE: &str = "recipe.json";

/// History of the format: 1, the first; 2, an experiment has variants; 3, and claims.
pub const FORMAT: u64 = 3;

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
}

impl Store {
    /// The recipe of a run; `None` for a run of a program that recorded none.
    ///
    /// # Errors
    /// When it is damaged, of a newer format, or not what the run's identity was taken of.
    pub fn recipe(&self, run: &RunRecord) -> Result<Option<Recipe>, StoreError> {
        let path = self.run_folder(&run.id).join(FILE);
        let recipe: Recipe = match files::read_versioned(&path, FORMAT) {
            Err(StoreError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        match recipe.experiment.spec_hash() == run.spec {
            true => Ok(Some(recipe)),
            false => Err(StoreError::Damaged { path, reason: format!("it is not of spec:{}", run.spec.short()) }),
        }
    }
}
