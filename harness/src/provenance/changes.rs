//! What the files of a repository hold that its commit doesn't: a patch that `git apply` takes.

use std::path::Path;

use git2::{Delta, Diff, DiffDelta, DiffOptions, Patch, Repository};
use serde::{Deserialize, Serialize};

use super::secrets;

/// The most bytes of a patch. A file whose part doesn't fit is left out whole, so that the rest still applies.
pub const PATCH_BYTES: usize = 1 << 20;

/// The most files that are looked at.
pub const FILES: usize = 500;

/// Uncommitted changes: staged, unstaged, and new text files. What git ignores, and what looks like a secret, is never read into them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changes {
    /// Files whose changes the patch has.
    pub files: u64,
    /// Bytes of the patch.
    pub bytes: u64,
    /// Changed files that the patch doesn't have.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// Changed files beyond those that were looked at.
    #[serde(default)]
    pub not_looked_at: u64,
    /// The patch, which is a file of its own beside the record.
    #[serde(skip)]
    pub patch: Vec<u8>,
}

/// A changed file that a patch doesn't have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeftOut {
    /// From the root of the repository.
    pub path: String,
    pub because: Because,
}

/// Why a patch doesn't have a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    Binary,
    /// It would have taken the patch above [`PATCH_BYTES`].
    Large,
    /// By its name or by what it holds.
    Secret,
    /// A repository of its own.
    Repository,
    /// It can't be read.
    Unreadable,
}

impl Changes {
    /// The changes in the repository that holds a file or folder; `None` outside one, without changes, and when it can't be read.
    pub fn of(path: &Path) -> Option<Self> {
        let repository = super::repository(path)?;
        let tree = repository.head().ok().and_then(|head| head.peel_to_tree().ok());
        let mut options = DiffOptions::new();
        options
            .include_untracked(true)
            .recurse_untracked_dirs(true)
            .show_untracked_content(true)
            .include_typechange(true)
            .ignore_submodules(true)
            .max_size(PATCH_BYTES as i64)
            .id_abbrev(40);
        // The run saw the files, whatever is staged of them.
        let diff = repository.diff_tree_to_workdir(tree.as_ref(), Some(&mut options)).ok()?;
        let changes = Self::collect(&repository, &diff);
        (changes != Self::default()).then_some(changes)
    }

    fn collect(repository: &Repository, diff: &Diff<'_>) -> Self {
        let mut changes = Self::default();
        for (index, delta) in diff.deltas().enumerate() {
            if index >= FILES {
                changes.not_looked_at += 1;
                continue;
            }
            match part(repository, diff, index, &delta) {
                Ok(part) if changes.patch.len() + part.len() <= PATCH_BYTES => {
                    changes.files += u64::from(!part.is_empty());
                    changes.patch.extend(part);
                }
                Ok(_) => changes.left_out.push(LeftOut { path: name(&delta), because: Because::Large }),
                Err(because) => changes.left_out.push(LeftOut { path: name(&delta), because }),
            }
        }
        changes.bytes = changes.patch.len() as u64;
        changes
    }
}

/// A file's part of the patch.
fn part(repository: &Repository, diff: &Diff<'_>, index: usize, delta: &DiffDelta<'_>) -> Result<Vec<u8>, Because> {
    let paths = [delta.old_file().path(), delta.new_file().path()];
    if paths.into_iter().flatten().any(secrets::is_secret_file) {
        return Err(Because::Secret);
    }
    if name(delta).ends_with('/') {
        return Err(Because::Repository);
    }
    if delta.status() == Delta::Unreadable {
        return Err(Because::Unreadable);
    }
    let patch = Patch::from_diff(diff, index).map_err(|_| Because::Unreadable)?;
    let Some(mut patch) = patch else { return Err(Because::Binary) };
    if patch.delta().flags().is_binary() {
        let size =
            paths[1].and_then(|path| repository.workdir()?.join(path).symlink_metadata().ok()).map(|file| file.len());
        let large = size.is_some_and(|size| size > PATCH_BYTES as u64);
        return Err(if large { Because::Large } else { Because::Binary });
    }
    let bytes = patch.to_buf().map_err(|_| Because::Unreadable)?.to_vec();
    match secrets::holds_secret(&String::from_utf8_lossy(&bytes)) {
        true => Err(Because::Secret),
        false => Ok(bytes),
    }
}

fn name(delta: &DiffDelta<'_>) -> String {
    let path = delta.new_file().path_bytes().or(delta.old_file().path_bytes());
    path.map(|path| String::from_utf8_lossy(path).into_owned()).unwrap_or_default()
}
