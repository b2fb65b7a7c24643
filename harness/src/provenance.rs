//! What a result was made with, recorded beside it and never part of a key.

use std::path::Path;

use git2::{Repository, StatusOptions};
use serde::{Deserialize, Serialize};

/// The build of this program: set by the build, else its version.
pub const BUILD: &str = match option_env!("REPRISE_BUILD_ID") {
    Some(build) => build,
    None => env!("CARGO_PKG_VERSION"),
};

/// Where an experiment and the program that runs it come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Provenance {
    /// The build of `reprise`.
    pub build: String,
    /// The state of the repository that holds the experiment file; absent outside one.
    pub experiment: Option<GitState>,
}

/// The state of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GitState {
    /// The checked-out commit; absent before the first.
    pub commit: Option<String>,
    /// The checked-out branch; absent on a detached head.
    pub branch: Option<String>,
    /// Whether tracked files differ from the commit, or new ones lie beside them.
    pub dirty: bool,
}

impl Provenance {
    /// For an experiment file, or a folder of them.
    pub fn of(experiment: &Path) -> Self {
        Self { build: BUILD.into(), experiment: GitState::of(experiment) }
    }
}

impl GitState {
    /// The repository that holds a file or folder; `None` outside one, and when it can't be read.
    pub fn of(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let folder = if path.is_dir() { &path } else { path.parent()? };
        let repository = Repository::discover(folder).ok()?;
        let head = repository.head().ok();
        let commit = head.as_ref().and_then(|head| head.peel_to_commit().ok()).map(|commit| commit.id().to_string());
        let branch = head.as_ref().filter(|head| head.is_branch()).and_then(|head| head.shorthand().map(String::from));
        let mut options = StatusOptions::new();
        options.include_untracked(true).include_ignored(false).exclude_submodules(true);
        let dirty = repository.statuses(Some(&mut options)).ok()?.iter().next().is_some();
        Some(Self { commit, branch, dirty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_makes_a_repository_dirty() {
        let temp = tempfile::tempdir().unwrap();
        let repository = Repository::init(temp.path()).unwrap();
        let state = GitState::of(temp.path()).unwrap();
        assert_eq!((state.commit, state.dirty), (None, false));
        std::fs::write(temp.path().join("a"), "a").unwrap();
        let mut index = repository.index().unwrap();
        index.add_path(Path::new("a")).unwrap();
        index.write().unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        let author = git2::Signature::new("A", "a@example.org", &git2::Time::new(0, 0)).unwrap();
        let commit = repository.commit(Some("HEAD"), &author, &author, "first", &tree, &[]).unwrap();
        let state = GitState::of(temp.path()).unwrap();
        assert_eq!((state.commit, state.dirty), (Some(commit.to_string()), false));
        assert!(state.branch.is_some());
        std::fs::write(temp.path().join("a"), "b").unwrap();
        assert!(GitState::of(&temp.path().join("a")).unwrap().dirty);
    }
}
