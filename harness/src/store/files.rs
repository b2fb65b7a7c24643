//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// How the names of files and folders begin that are being written.
pub const UNFINISHED: &str = ".new-";

/// Writes a file under a new name, flushes it to disk and renames it to `path`.
///
/// # Errors
/// When the disk refuses; `path` is then what it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fail = |error| StoreError::io("write", path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    readable(file.as_file()).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    sync(folder)
}

/// Temporary files start private; a store is as readable as the folder that it lies in.
fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

/// [`write`] of a value as JSON that people can read.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    // Records hold no maps with keys that JSON can't spell, so this can't fail.
    let mut bytes = serde_json::to_vec_pretty(value).expect("a record that JSON can spell");
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Reads a record with a `format` number, and refuses a newer format before it looks at anything else.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Damaged`], or the reason why the file can't be read.
pub fn read_versioned<T: DeserializeOwned>(path: &Path, newest: u64) -> Result<T, StoreError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        format: u64,
    }
    let damaged = |reason: String| StoreError::Damaged { path: path.to_path_buf(), reason };
    let bytes = fs::read(path).map_err(|error| StoreError::Io { verb: "read", path: path.to_path_buf(), error })?;
    let Versioned { format } = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if format > newest {
        return Err(StoreError::Newer { path: path.to_path_buf(), found: format, newest });
    }
    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
}

/// Removes what killed processes had begun to write into a folder that nobody else writes to now.
///
/// # Errors
/// When the disk refuses.
pub fn remove_unfinished(folder: &Path) -> Result<(), StoreError> {
    let fail = |error| StoreError::io("clear", folder, error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED)) {
            fs::remove_file(entry.path()).map_err(fail)?;
        }
    }
    Ok(())
}

/// Flushes a folder's entries to disk.
pub fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| StoreError::io("flush", folder, error))
}

/// Flushes every file below a folder, and the folders, to disk. A file that goes away meanwhile is one that the owner of a lease renames.
pub fn sync_tree(folder: &Path) -> Result<(), StoreError> {
    let fail = |error| StoreError::io("flush", folder, error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        match entry.file_type().map_err(fail)? {
            kind if kind.is_dir() => sync_tree(&entry.path())?,
            kind if kind.is_file() => match sync(&entry.path()) {
                Err(StoreError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {}
                synced => synced?,
            },
            _ => {}
        }
    }
    sync(folder)
}
