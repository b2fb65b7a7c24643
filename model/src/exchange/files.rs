//! Files and folders that others made or want: nothing of theirs is believed, and nothing of ours is ever half there.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::failure::StageError;

/// Opens a regular file, through links as a download cache has them, and says how long it is.
///
/// # Errors
/// Refuses what is not there and what is no regular file, such as a folder or a pipe.
pub fn open(path: &Path) -> Result<(File, u64), StageError> {
    let fail = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => StageError::refused(
            format!("there is no {}", path.display()),
            "name a folder or file that was downloaded or saved whole",
        ),
        _ => StageError::io("cannot read", path, &error),
    };
    // Asked before opening, because opening a pipe waits for its other end.
    if !fs::metadata(path).map_err(fail)?.is_file() {
        return Err(StageError::refused(format!("{} is not a regular file", path.display()), "name a file"));
    }
    let file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    Ok((file, length))
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// Beside those of [`open`], refuses a longer file.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, StageError> {
    let (file, length) = open(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| StageError::io("cannot read", path, &error))?;
    if bytes.len() as u64 > most {
        let message = format!("{} is {length} bytes long, but at most {most} are read", path.display());
        return Err(StageError::refused(message, "check that it is the file that its name says"));
    }
    Ok(bytes)
}

/// A folder that appears whole under its name or not at all.
#[derive(Debug)]
pub struct NewFolder {
    partial: PathBuf,
    to: PathBuf,
}

impl NewFolder {
    /// Makes a hidden folder beside `to`, which must not be there yet.
    ///
    /// # Errors
    /// Refuses a name that is taken, by a link too, and one whose folder is not there or can't be written to.
    pub fn create(to: &Path) -> Result<Self, StageError> {
        if fs::symlink_metadata(to).is_ok() {
            let message = format!("{} is there already", to.display());
            return Err(StageError::refused(message, "name a folder that isn't there yet, or remove this one"));
        }
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let partial = to.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        fs::create_dir(&partial).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => StageError::refused(
                format!("{} cannot be made: the folder that would hold it isn't one", to.display()),
                "make that folder first",
            ),
            _ => StageError::io("cannot create", &partial, &error),
        })?;
        Ok(Self { partial, to: to.to_path_buf() })
    }

    /// Where its files go until it is finished.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Writes a whole file of it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StageError> {
        let path = self.partial.join(name);
        fs::write(&path, bytes).map_err(|error| StageError::io("cannot write", &path, &error))
    }

    /// Gives it its name.
    pub fn finish(self) -> Result<(), StageError> {
        let fail = |error: std::io::Error| StageError::io("cannot write", &self.to, &error);
        for entry in fs::read_dir(&self.partial).map_err(fail)? {
            File::open(entry.map_err(fail)?.path()).and_then(|file| file.sync_all()).map_err(fail)?;
        }
        fs::rename(&self.partial, &self.to).map_err(fail)
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.partial); // after `finish` there is none
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("new");
        let names = || fs::read_dir(dir.path()).unwrap().count();
        let dropped = NewFolder::create(&to).unwrap();
        dropped.write("a", b"1").unwrap();
        assert!(!to.exists());
        drop(dropped);
        assert_eq!(names(), 0);
        let kept = NewFolder::create(&to).unwrap();
        kept.write("a", b"1").unwrap();
        kept.finish().unwrap();
        assert_eq!((fs::read(to.join("a")).unwrap(), names()), (b"1".to_vec(), 1));
        assert!(NewFolder::create(&to).unwrap_err().to_string().contains("is there already"));
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        assert!(NewFolder::create(&dir.path().join("link")).is_err(), "a dangling link is never followed");
        assert!(NewFolder::create(&dir.path().join("no/where")).unwrap_err().to_string().contains("cannot be made"));
    }

    #[test]
    fn only_regular_files_of_a_stated_length_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), [0; 11]).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        assert_eq!(read(&dir.path().join("link"), 11).unwrap().len(), 11);
        for (path, most, reason) in
            [("a", 10, "11 bytes long"), (".", 10, "not a regular file"), ("b", 10, "there is no")]
        {
            let error = read(&dir.path().join(path), most).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
