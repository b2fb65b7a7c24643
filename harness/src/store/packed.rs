//! Files that are stored packed: gzip, under their name with `.gz`, so that `zcat` shows what they hold.
//!
//! Bundles, and stores of earlier programs, have them as they are. Whoever wrote them, no more than [`MOST`] bytes are read or unpacked.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::StoreError;

/// How the names of packed files end.
const ENDING: &str = ".gz";

/// The most bytes of such a file, packed and unpacked.
pub const MOST: u64 = 16 << 20;

/// The name and the bytes of a file that is to be stored packed. No clock is read: equal bytes give equal files.
pub fn pack(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory can't fail.
    encoder.write_all(bytes).expect("room");
    (format!("{name}{ENDING}"), encoder.finish().expect("room"))
}

/// What the file of this path holds, packed or not, and the path that it was read from.
///
/// # Errors
/// When neither is there or can be read, and when it is damaged or larger than [`MOST`].
pub fn read(path: &Path) -> Result<(PathBuf, Vec<u8>), StoreError> {
    let mut packed = path.as_os_str().to_owned();
    packed.push(ENDING);
    let packed = PathBuf::from(packed);
    match open(&packed) {
        Ok(file) => unpack(&packed, file).map(|bytes| (packed, bytes)),
        Err(StoreError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
            let bytes = bounded(path, open(path)?, "it")?;
            Ok((path.to_path_buf(), bytes))
        }
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    File::open(path).map_err(|error| StoreError::Io { verb: "read", path: path.to_path_buf(), error })
}

fn unpack(path: &Path, file: File) -> Result<Vec<u8>, StoreError> {
    let packed = bounded(path, file, "it")?;
    let mut decoder = GzDecoder::new(packed.as_slice());
    let bytes = bounded(path, &mut decoder, "what it holds")?;
    match decoder.into_inner().is_empty() {
        true => Ok(bytes),
        false => Err(damaged(path, "something follows what it holds".into())),
    }
}

/// All bytes of a source, at most [`MOST`].
fn bounded(path: &Path, source: impl Read, what: &str) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let read = source.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| match error.kind() {
        // What the decoder says of bytes that nobody packed.
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => damaged(path, error.to_string()),
        _ => StoreError::Io { verb: "read", path: path.to_path_buf(), error },
    })?;
    match bytes.len() as u64 > MOST {
        true => Err(damaged(path, format!("{what} is larger than {} MiB", MOST >> 20))),
        false => Ok(bytes),
    }
}

fn damaged(path: &Path, reason: String) -> StoreError {
    StoreError::Damaged { path: path.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// What is read of a file with these bytes, the folder's name left out of errors.
    fn of(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(name), bytes).unwrap();
        let read = read(&temp.path().join("record")).map(|(_, bytes)| bytes);
        read.map_err(|error| error.to_string().replace(&temp.path().display().to_string(), "FOLDER"))
    }

    #[test]
    fn a_small_file_that_holds_too_much_is_refused_by_name() {
        let zeros = vec![0; MOST as usize + 1];
        let (name, packed) = pack("record", &zeros);
        assert!(packed.len() < 20_000);
        let refused = |what| Err(format!("FOLDER/{what} is larger than 16 MiB"));
        assert_eq!(of(&name, &packed), refused("record.gz is damaged: what it holds"));
        assert_eq!(of("record", &zeros), refused("record is damaged: it"));
        assert_eq!(of("record.gz", &zeros), refused("record.gz is damaged: it"));
        assert_eq!(of("record", &zeros[1..]).map(|bytes| bytes.len() as u64), Ok(MOST));
    }

    #[test]
    fn what_is_not_packed_is_named() {
        let (name, packed) = pack("record", b"{}");
        assert!(of("record.gz", b"{\"format\": 1}").unwrap_err().starts_with("FOLDER/record.gz is damaged: "));
        assert!(of(&name, &packed[..packed.len() - 1]).unwrap_err().starts_with("FOLDER/record.gz is damaged: "));
        let twice = [packed.clone(), packed].concat();
        assert_eq!(of(&name, &twice), Err("FOLDER/record.gz is damaged: something follows what it holds".into()));
        assert!(of("another", b"").unwrap_err().starts_with("cannot read FOLDER/record: "));
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read_back_and_the_same_again_gives_the_same(bytes: Vec<u8>) {
            let (name, packed) = pack("record", &bytes);
            prop_assert_eq!(&pack("record", &bytes).1, &packed);
            prop_assert_eq!(of(&name, &packed), Ok(bytes.clone()));
            prop_assert_eq!(of("record", &bytes), Ok(bytes));
        }

        #[test]
        fn a_flipped_bit_never_gives_other_bytes(bytes: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let (name, mut packed) = pack("record", &bytes);
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
            prop_assert!(of(&name, &packed).map_or(true, |read| read == bytes));
        }
    }
}
