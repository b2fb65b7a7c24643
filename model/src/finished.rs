//! What a stage has finished of many like things (files, utterances), so that an attempt that was killed loses none of it.
//!
//! One file below `checkpoints/`, appended to: for each thing its size in bytes (`u64`, little-endian), the bytes, and the first eight of the
//! SHA-256 over its place, its size and the bytes. What a kill tore off is cut away; the harness removes the folder when the stage's output is stored,
//! and before an attempt that reads something else.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::failure::StageError;

const SIZE: u64 = 8;
const CHECK: u64 = 8;

/// The finished things of one kind, in the order in which they were finished.
#[derive(Debug)]
pub struct Finished {
    file: File,
    path: PathBuf,
    /// Where the bytes of each begin, and how many they are.
    places: Vec<(u64, u64)>,
    end: u64,
}

impl Finished {
    /// What earlier attempts at the stage in the folder `work` have left under this name.
    ///
    /// # Errors
    /// When the file can't be read or cut.
    pub fn open(work: &Path, name: &str) -> Result<Self, StageError> {
        let folder = work.join("checkpoints");
        fs::create_dir_all(&folder).map_err(|error| StageError::io("cannot create", &folder, &error))?;
        let path = folder.join(format!("{name}.finished"));
        let fail = |error: std::io::Error| StageError::io("cannot open", &path, &error);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        let (mut places, mut end) = (Vec::new(), 0);
        let length = file.metadata().map_err(fail)?.len();
        let mut reader = std::io::BufReader::new(&file);
        while let Some(size) = whole(&mut reader, places.len(), length - end).map_err(fail)? {
            places.push((end + SIZE, size));
            end += SIZE + size + CHECK;
        }
        file.set_len(end).map_err(fail)?;
        let mut finished = Self { file, path, places, end };
        finished.file.seek(SeekFrom::Start(end)).map_err(|error| finished.failed("cannot read", &error))?;
        Ok(finished)
    }

    /// How many are finished.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Adds one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let record = [&(bytes.len() as u64).to_le_bytes(), bytes, &check(self.places.len(), bytes)].concat();
        self.file.write_all(&record).map_err(|error| self.failed("cannot write", &error))?;
        self.places.push((self.end + SIZE, bytes.len() as u64));
        self.end += record.len() as u64;
        Ok(())
    }

    /// The bytes of one of them.
    pub fn read(&self, index: usize) -> Result<Vec<u8>, StageError> {
        let missing = || StageError::Failed(format!("{} has no record {index}", self.path.display()));
        let &(start, size) = self.places.get(index).ok_or_else(missing)?;
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| self.failed("cannot read", &error))?;
        Ok(bytes)
    }

    fn failed(&self, what: &'static str, error: &std::io::Error) -> StageError {
        StageError::io(what, &self.path, error)
    }
}

/// The size of the next thing, if `left` bytes hold all of it and it is what was written.
fn whole(reader: &mut impl Read, index: usize, left: u64) -> std::io::Result<Option<u64>> {
    let mut size = [0; SIZE as usize];
    if left < SIZE + CHECK {
        return Ok(None);
    }
    reader.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > left - SIZE - CHECK {
        return Ok(None);
    }
    let mut bytes = vec![0; (size + CHECK) as usize];
    match reader.read_exact(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (bytes, found) = bytes.split_at(size as usize);
    Ok((found == check(index, bytes)).then_some(size))
}

fn check(index: usize, bytes: &[u8]) -> [u8; CHECK as usize] {
    let mut hasher = Sha256::new();
    hasher.update((index as u64).to_le_bytes());
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
    let mut check = [0; CHECK as usize];
    check.copy_from_slice(&hasher.finalize()[..CHECK as usize]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    const THINGS: [&[u8]; 4] = [b"one", b"", b"three things", b"4"];

    fn contents(finished: &Finished) -> Vec<Vec<u8>> {
        (0..finished.count()).map(|index| finished.read(index).unwrap()).collect()
    }

    #[test]
    fn a_file_that_was_cut_or_damaged_anywhere_keeps_what_lies_whole_before_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut finished = Finished::open(dir.path(), "things").unwrap();
        let mut ends = vec![0];
        for thing in THINGS {
            finished.push(thing).unwrap();
            ends.push(finished.end as usize);
        }
        let path = finished.path.clone();
        let written = fs::read(&path).unwrap();
        let whole = |until: usize| ends.iter().filter(|&&end| end <= until).count() - 1;
        for cut in 0..=written.len() {
            fs::write(&path, &written[..cut]).unwrap();
            let mut finished = Finished::open(dir.path(), "things").unwrap();
            assert_eq!(contents(&finished), THINGS[..whole(cut)], "cut at {cut}");
            for thing in &THINGS[whole(cut)..] {
                finished.push(thing).unwrap();
            }
            assert_eq!(fs::read(&path).unwrap(), written);
        }
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 0x55;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(
                contents(&Finished::open(dir.path(), "things").unwrap()),
                THINGS[..whole(at)],
                "damaged at {at}"
            );
        }
    }
}
