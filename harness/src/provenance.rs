//! What a result was made with, recorded beside it and never part of a key.
//!
//! A run records it of its latest attempt, what the trainer works with excepted, which is in the run's environment. The patch of uncommitted
//! changes is a file of its own beside the record. Secrets are never recorded: see [`secrets`] for what counts as one.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{Repository, StatusOptions};
use serde::{Deserialize, Serialize};

pub mod changes;
pub mod host;
pub mod secrets;

pub use changes::Changes;
pub use host::Host;

/// The build of this program: set by the build, else its version.
pub const BUILD: &str = match option_env!("REPRISE_BUILD_ID") {
    Some(build) => build,
    None => env!("CARGO_PKG_VERSION"),
};

/// Where an experiment and the program that runs it come from, and what it is run on. Programs before this one recorded less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Provenance {
    /// The build of `reprise`.
    pub build: String,
    /// The state of the repository that holds the experiment file; absent outside one.
    pub experiment: Option<GitState>,
    /// What that repository has changed since its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
    /// The command line, without secrets.
    #[serde(default)]
    pub command: Vec<String>,
    /// Variables that may change what is computed or where it is found; see [`host::allowed`].
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The machine.
    #[serde(default)]
    pub host: Option<Host>,
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
    /// For an experiment file, or a folder of them, and this process.
    pub fn of(experiment: &Path) -> Self {
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        Self {
            build: BUILD.into(),
            experiment: GitState::of(experiment),
            changes: Changes::of(experiment),
            command: secrets::redacted_command(arguments),
            variables: host::allowed(std::env::vars_os()),
            host: Some(Host::current()),
        }
    }
}

impl GitState {
    /// The repository that holds a file or folder; `None` outside one, and when it can't be read.
    pub fn of(path: &Path) -> Option<Self> {
        let repository = repository(path)?;
        let head = repository.head().ok();
        let commit = head.as_ref().and_then(|head| head.peel_to_commit().ok()).map(|commit| commit.id().to_string());
        let branch = head.as_ref().filter(|head| head.is_branch()).and_then(|head| head.shorthand().map(String::from));
        let mut options = StatusOptions::new();
        options.include_untracked(true).include_ignored(false).exclude_submodules(true);
        let dirty = repository.statuses(Some(&mut options)).ok()?.iter().next().is_some();
        Some(Self { commit, branch, dirty })
    }
}

/// The repository that holds a file or folder.
fn repository(path: &Path) -> Option<Repository> {
    let path = path.canonicalize().ok()?;
    let folder = if path.is_dir() { &path } else { path.parent()? };
    Repository::discover(folder).ok()
}

#[cfg(test)]
mod tests;
