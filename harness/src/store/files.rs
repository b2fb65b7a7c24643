//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

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

/// Writes files into a new folder that has no name that counts yet, and flushes them and the folder to disk. All are written before any is flushed,
/// and they are flushed at the same time: what takes long is waiting for the disk, and it is waited for once.
///
/// # Errors
/// When the disk refuses.
pub fn write_new(folder: &Path, parts: &[(&str, &[u8])]) -> Result<(), StoreError> {
    let mut written = Vec::with_capacity(parts.len());
    for (name, bytes) in parts {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|error| StoreError::io("write", &path, error))?;
        written.push(path);
    }
    written.push(folder.to_path_buf());
    sync_all(&written)
}

/// [`write`] of what means nothing once the machine has lost its power: whole or not there for every process, but not flushed to disk.
///
/// # Errors
/// When the disk refuses; `path` is then what it was.
pub fn write_fleeting<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let fail = |error| StoreError::io("write", path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder).map_err(fail)?;
    file.write_all(&to_json(value)).map_err(fail)?;
    readable(file.as_file()).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error)).map(drop)
}

/// Temporary files start private; a store is as readable as the folder that it lies in.
pub(super) fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

/// [`write`] of a value as JSON that people can read.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    write(path, &to_json(value))
}

/// A value as JSON that people can read, with a line's end.
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Records hold no maps with keys that JSON can't spell, so this can't fail.
    let mut bytes = serde_json::to_vec_pretty(value).expect("a record that JSON can spell");
    bytes.push(b'\n');
    bytes
}

/// A value as JSON on one line: for programs, and for people who have one that lays it out.
pub fn to_line<T: Serialize>(value: &T) -> Vec<u8> {
    // As there.
    let mut bytes = serde_json::to_vec(value).expect("a record that JSON can spell");
    bytes.push(b'\n');
    bytes
}

/// Reads a record with a `format` number, and refuses a newer format before it looks at anything else.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Damaged`], or the reason why the file can't be read.
pub fn read_versioned<T: DeserializeOwned>(path: &Path, newest: u64) -> Result<T, StoreError> {
    let bytes = fs::read(path).map_err(|error| StoreError::Io { verb: "read", path: path.to_path_buf(), error })?;
    parse_versioned(path, &bytes, newest)
}

/// [`read_versioned`] of bytes that were read from `path`.
///
/// # Errors
/// As there.
pub fn parse_versioned<T: DeserializeOwned>(path: &Path, bytes: &[u8], newest: u64) -> Result<T, StoreError> {
    let format = format_of(path, bytes)?;
    if format > newest {
        return Err(StoreError::Newer { path: path.to_path_buf(), found: format, newest });
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(path, &error))
}

/// The format of a record whose bytes were read from `path`.
///
/// # Errors
/// When it says none.
pub(super) fn format_of(path: &Path, bytes: &[u8]) -> Result<u64, StoreError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        format: u64,
    }
    match leading_format(bytes) {
        Some(format) => Ok(format),
        None => serde_json::from_slice::<Versioned>(bytes).map(|it| it.format).map_err(|error| damaged(path, &error)),
    }
}

fn damaged(path: &Path, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged { path: path.to_path_buf(), reason: error.to_string() }
}

/// The format of a record that begins with it, as all do that were written here: it is then read once instead of twice.
fn leading_format(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"format\"")?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ends = matches!(rest[digits..].trim_ascii_start().first(), Some(b',' | b'}'));
    std::str::from_utf8(&rest[..digits]).ok().filter(|_| ends)?.parse().ok()
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

/// Flushes files and folders to disk, several at a time: the disk writes them together. One that went away meanwhile is none that counts.
fn sync_all(paths: &[PathBuf]) -> Result<(), StoreError> {
    /// At a time; each waits for the disk and does nothing else.
    const FLUSHES: usize = 16;
    let gone_is_fine = |path: &PathBuf| match sync(path) {
        Err(StoreError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => Ok(()),
        synced => synced,
    };
    let gone_is_fine = &gone_is_fine;
    for some in paths.chunks(FLUSHES) {
        std::thread::scope(|scope| {
            let started: Vec<_> = some.iter().map(|path| scope.spawn(move || gone_is_fine(path))).collect();
            let mut joined = started.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.try_for_each(|synced| synced.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
    }
    Ok(())
}

/// Flushes every file below a folder, and the folders, to disk. A file that goes away meanwhile is one that the owner of a lease renames.
pub fn sync_tree(folder: &Path) -> Result<(), StoreError> {
    let mut found = Vec::new();
    collect(folder, &mut found)?;
    sync_all(&found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), StoreError> {
    let fail = |error| StoreError::io("flush", folder, error);
    found.push(folder.to_path_buf());
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        match entry.file_type().map_err(fail)? {
            kind if kind.is_dir() => collect(&entry.path(), found)?,
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    Ok(())
}
