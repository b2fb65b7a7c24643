//! `reprise.toml`: where a project keeps its corpora and its store.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde::Deserialize;
use thiserror::Error;

/// The name of the file that makes a folder a project.
pub const FILE: &str = "reprise.toml";

/// A folder with a `reprise.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The folder that holds `reprise.toml`.
    pub root: PathBuf,
    /// Data roots that the file names, made relative to it.
    pub data: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    data: Vec<PathBuf>,
}

/// Why a project file can't be used.
#[derive(Debug, Error, Diagnostic)]
pub enum ProjectError {
    #[error("cannot read {path}: {error}")]
    #[diagnostic(help("check the permissions of the file"))]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{path} is not a project file: {message}")]
    #[diagnostic(help("a project file may hold `data = [\"folder\", …]` and nothing else"))]
    Invalid { path: PathBuf, message: String },
}

impl Project {
    /// The nearest ancestor of `folder` that holds a project file, else the nearest of `experiment`.
    ///
    /// # Errors
    /// When the nearest project file can't be read or says something unknown.
    pub fn find(folder: &Path, experiment: Option<&Path>) -> Result<Option<Self>, ProjectError> {
        let experiment = experiment.and_then(Path::parent).map(|parent| folder.join(parent));
        let starts = [Some(folder.to_path_buf()), experiment];
        let Some(root) = starts.iter().flatten().flat_map(|start| start.ancestors()).find(|f| f.join(FILE).is_file())
        else {
            return Ok(None);
        };
        Self::read(root).map(Some)
    }

    fn read(root: &Path) -> Result<Self, ProjectError> {
        let path = root.join(FILE);
        let text =
            std::fs::read_to_string(&path).map_err(|error| ProjectError::Unreadable { path: path.clone(), error })?;
        let settings: Settings =
            toml::from_str(&text).map_err(|error| ProjectError::Invalid { path, message: error.to_string() })?;
        Ok(Self { root: root.to_path_buf(), data: settings.data.iter().map(|data| root.join(data)).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_wins_over_the_experiment_and_paths_start_at_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let (here, there) = (temp.path().join("here/deep"), temp.path().join("there/experiments"));
        std::fs::create_dir_all(&here).unwrap();
        std::fs::create_dir_all(&there).unwrap();
        std::fs::write(temp.path().join("there/reprise.toml"), "data = [\"corpora\"]").unwrap();
        let experiment = there.join("a.yaml");
        let found = Project::find(&here, Some(&experiment)).unwrap().unwrap();
        assert_eq!(found.data, [temp.path().join("there/corpora")]);
        std::fs::write(temp.path().join("here/reprise.toml"), "").unwrap();
        let found = Project::find(&here, Some(&experiment)).unwrap().unwrap();
        assert_eq!(found.root, temp.path().join("here"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join(FILE), "dataa = []").unwrap();
        let error = Project::find(temp.path(), None).unwrap_err().to_string();
        assert!(error.contains("dataa"), "{error}");
    }
}
