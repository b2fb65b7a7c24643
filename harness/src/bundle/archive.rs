//! A bundle as one file: an uncompressed tar archive with regular files alone, in ascending order of their names.
//!
//! An archive is read by writing it again: a header must have the bytes that the writer gives a file of this name and size, padding and end
//! must be zeros, and nothing may follow. So links, devices, sparse files, extensions and every flipped bit are found without a rule of their own,
//! and there is exactly one archive of a folder. Nothing is compressed, so nothing can unfold to more than it is.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::BundleError;
use super::names::Names;

/// Bytes of a header; files are padded to a multiple of it.
const BLOCK: usize = 512;

/// The largest file that the format has a place for, in bytes.
const LARGEST: u64 = (1 << 33) - 1;

/// The header of a file; `None` for a name or a size that has no place in one.
fn header(name: &str, size: u64) -> Option<[u8; BLOCK]> {
    let (prefix, name) = split(name)?;
    if size > LARGEST {
        return None;
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    put(345, prefix.as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}

/// A name in the two fields that it has: at most 155 bytes of folders, and 100 of what follows.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= 100 {
        return Some(("", name));
    }
    name.match_indices('/')
        .map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find(|(prefix, rest)| prefix.len() <= 155 && rest.len() <= 100)
}

/// Writes the files of a folder, whose names ascend, as an archive.
///
/// # Errors
/// When the disk refuses, and for a file that has no place in an archive.
pub fn write<'a>(folder: &Path, names: impl Iterator<Item = &'a String>, to: File) -> Result<(), BundleError> {
    let mut out = BufWriter::new(to);
    let fail = |error| BundleError::io("write the archive of", folder, error);
    for name in names {
        let path = folder.join(name);
        let mut file = File::open(&path).map_err(|error| BundleError::io("read", &path, error))?;
        let size = file.metadata().map_err(|error| BundleError::io("read", &path, error))?.len();
        let header = header(name, size).ok_or_else(|| BundleError::NoPlace { name: name.clone() })?;
        out.write_all(&header).map_err(fail)?;
        let copied = io::copy(&mut file, &mut out).map_err(fail)?;
        if copied != size {
            return Err(fail(io::Error::other("a file changed while it was read")));
        }
        out.write_all(&[0; BLOCK][..padding(size)]).map_err(fail)?;
    }
    out.write_all(&[0; 2 * BLOCK]).map_err(fail)?;
    out.into_inner().map_err(|error| fail(error.into_error()))?.sync_all().map_err(fail)
}

/// Zeros behind a file of this size.
fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// Writes the files of an archive below an empty folder. Takes no more disk than the archive, and memory for the names alone.
///
/// # Errors
/// For everything that [`write()`] doesn't write, and when the disk refuses.
pub fn unpack(archive: &Path, into: &Path) -> Result<(), BundleError> {
    let fail = |error| BundleError::io("read", archive, error);
    let file = File::open(archive).map_err(fail)?;
    let mut left = file.metadata().map_err(fail)?.len();
    let mut reader = BufReader::new(file);
    let mut names = Names::default();
    let mut block = [0; BLOCK];
    loop {
        take(&mut reader, &mut block, &mut left).map_err(fail)??;
        if block == [0; BLOCK] {
            break;
        }
        let (name, size) = entry(&block)?;
        names.add(&name).map_err(BundleError::refused)?;
        if size > left {
            return Err(BundleError::refused(format!(
                "{name:?} is said to have {size} bytes, the archive has {left} left"
            )));
        }
        if header(&name, size) != Some(block) {
            return Err(BundleError::refused(format!("the header of {name:?} isn't what reprise writes")));
        }
        let path = into.join(&name);
        let folder = path.parent().unwrap_or(into);
        fs::create_dir_all(folder).map_err(|error| BundleError::io("create", folder, error))?;
        let mut out = File::create_new(&path).map_err(|error| BundleError::io("write", &path, error))?;
        let copied = io::copy(&mut (&mut reader).take(size), &mut out).map_err(fail)?;
        if copied != size {
            return Err(BundleError::refused(format!("the archive ends within {name:?}")));
        }
        left -= size;
        let padding = &mut block[..padding(size)];
        take(&mut reader, padding, &mut left).map_err(fail)??;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(BundleError::refused(format!("there are bytes between {name:?} and what follows")));
        }
    }
    take(&mut reader, &mut block, &mut left).map_err(fail)??;
    match block == [0; BLOCK] && left == 0 {
        true => Ok(()),
        false => Err(BundleError::refused("there are bytes after the end of the archive")),
    }
}

/// The next bytes; the inner error is that the archive ends before.
fn take(reader: &mut impl Read, bytes: &mut [u8], left: &mut u64) -> io::Result<Result<(), BundleError>> {
    if *left < bytes.len() as u64 {
        return Ok(Err(BundleError::refused("the archive ends too early")));
    }
    reader.read_exact(bytes)?;
    *left -= bytes.len() as u64;
    Ok(Ok(()))
}

/// Name and size of the file that a header tells of.
fn entry(header: &[u8; BLOCK]) -> Result<(String, u64), BundleError> {
    if &header[257..263] != b"ustar\0" {
        return Err(BundleError::refused("it has a header that isn't one of a tar archive"));
    }
    let field = |from: usize, length: usize| {
        let field = &header[from..from + length];
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(length);
        String::from_utf8_lossy(&field[..end]).into_owned()
    };
    let (prefix, rest) = (field(345, 155), field(0, 100));
    let name = if prefix.is_empty() { rest } else { format!("{prefix}/{rest}") };
    let kind = match header[156] {
        b'0' => None,
        b'1' | b'2' => Some("a link"),
        b'3' | b'4' | b'6' => Some("a device or a pipe"),
        b'5' => Some("a folder of its own"),
        b'S' => Some("a sparse file"),
        b'x' | b'g' | b'L' | b'K' => Some("an extension of the format"),
        _ => Some("of an unknown kind"),
    };
    if let Some(kind) = kind {
        return Err(BundleError::refused(format!("{name:?} is {kind}; a bundle holds regular files alone")));
    }
    let size = u64::from_str_radix(&field(124, 12), 8)
        .map_err(|_| BundleError::refused(format!("the size of {name:?} is not a number")))?;
    Ok((name, size))
}
