//! `checkpoint`: a model folder that was made elsewhere, held to its checksums and to what its description promises.

use std::fs;
use std::path::Path;

use reprise_spec::contract::Score;
use reprise_spec::stage::CheckpointStage;

use super::Work;
use super::corpus::files::{Listed, listed, read_all};
use crate::failure::StageError;
use crate::model_folder::{self, ABOUT, WEIGHTS};

/// Writes `model.safetensors` and `model.json`, bytes as they were; the identity of the files is in the stage's settings.
///
/// # Errors
/// Refuses files that changed since they were listed, and a folder whose model cannot be loaded.
pub fn run(_: &CheckpointStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let (from, out) = (work.data_root()?.to_owned(), work.output(""));
    let files = listed(work)?;
    for name in [ABOUT, WEIGHTS] {
        if !files.iter().any(|file| file.path == name) {
            return Err(no_model(&from, format!("there is no {name}")));
        }
    }
    let files: Vec<Listed> = files.into_iter().filter(|file| [ABOUT, WEIGHTS].contains(&file.path.as_str())).collect();
    let copy = |file: &Listed, bytes: Vec<u8>| {
        let path = out.join(file.name());
        fs::write(&path, bytes).map_err(|error| StageError::io("cannot write", &path, &error))
    };
    read_all(&files, work, copy)?.into_iter().collect::<Result<(), _>>()?;
    let (store, hubert, _) = model_folder::load(&out, work.device).map_err(|error| no_model(&from, error))?;
    let parameters: usize = store.variables().values().map(tch::Tensor::numel).sum();
    let score = |name: &str, value: f64| Score { name: name.into(), value, interval: None };
    Ok(vec![score("layers", hubert.depth() as f64), score("parameters", parameters as f64)])
}

fn no_model(folder: &Path, reason: impl std::fmt::Display) -> StageError {
    StageError::refused(
        format!("{} holds no model that can be taken in: {reason}", folder.display()),
        "name a folder that a pretraining or `reprise import` has written",
    )
}
