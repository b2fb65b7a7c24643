//! `index/`: what listings show of runs, so that they needn't read every record again. It can be deleted at any time.
//!
//! Plain files stay the truth. An entry is used only while the file that it was read from has the same inode, size and times of modification and
//! change, so a run that was added, changed or removed is seen by the next listing. An entry isn't kept when its file changed shortly before it
//! was read: a further change could leave the same times. Both moments are told by the file system's clock.
//!
//! A file of the index is `magic (8) | crc32 (4) | body`, little-endian. One that is torn, damaged or of another version counts as absent.
//! It is written under a new name and renamed; of two processes that write at the same time, the later one's stays. A store that can't be written
//! is read without an index, and so is a published one: see [`Scan::begin`].

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::NamedTempFile;

use super::{RunId, Store, files};

pub mod numbers;
pub mod summaries;

/// The folder of the index in a store.
const FOLDER: &str = "index";

/// Files that must have been read again before an index is written: fewer are read faster than it is.
pub const WORTH: usize = 64;

/// Seconds for which a file must have been left alone before what was read of it is kept. File systems tell time in steps of up to two.
const SETTLED: i64 = 3;

/// Bytes of a run's id.
const ID: usize = 22;

/// What tells that a file is still the one that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    const BYTES: usize = 48;

    fn new(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Of the file at a path, where there is one.
    fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|meta| Self::new(&meta))
    }
}

/// A file's bytes, with its stamp where it didn't change while it was read.
fn read_stamped(path: &Path) -> std::io::Result<(Vec<u8>, Option<Stamp>)> {
    let mut file = File::open(path)?;
    let before = Stamp::new(&file.metadata()?);
    let mut bytes = Vec::with_capacity(before.size.min(1 << 20) as usize + 1);
    file.read_to_end(&mut bytes)?;
    let after = Stamp::new(&file.metadata()?);
    Ok((bytes, (before == after).then_some(after)))
}

/// A reading of files whose results are to be kept.
struct Scan {
    file: NamedTempFile,
    /// When it began, by the clock of the store's file system.
    began: i64,
}

impl Scan {
    /// Call before the files are read. `None` where an index isn't worth its writing, or has no place: in a store that can't be written, or that no
    /// run was executed in, such as the one of a bundle, which has to stay as it was published.
    fn begin(store: &Store, unread: usize) -> Option<Self> {
        if unread < WORTH || !store.root().join(super::IGNORE).exists() {
            return None;
        }
        let folder = store.root().join(FOLDER);
        fs::create_dir_all(&folder).ok()?;
        let file = tempfile::Builder::new().prefix(files::UNFINISHED).tempfile_in(folder).ok()?;
        let began = file.as_file().metadata().ok()?.mtime();
        Some(Self { file, began })
    }

    /// Whether a file had been left alone for long enough.
    fn settled(&self, stamp: Stamp) -> bool {
        stamp.changed.0.max(stamp.modified.0) + SETTLED <= self.began
    }

    /// Puts a file of the index in place. One that can't be written is missed by nobody.
    fn save(mut self, store: &Store, name: &str, magic: [u8; 8], body: &[u8]) {
        let head = [&magic[..], &crc32fast::hash(body).to_le_bytes()].concat();
        let written = self.file.write_all(&head).and_then(|()| self.file.write_all(body));
        if written.and_then(|()| files::readable(self.file.as_file())).is_ok() {
            let _ = self.file.persist(store.root().join(FOLDER).join(name));
        }
    }
}

/// What a file of the index says, if it is whole.
fn load<T>(store: &Store, name: &str, magic: [u8; 8], read: impl Fn(&mut Reader<'_>) -> Option<T>) -> Option<T> {
    let bytes = fs::read(store.root().join(FOLDER).join(name)).ok()?;
    let (head, body) = bytes.split_at_checked(12)?;
    let whole = head[..8] == magic && head[8..] == crc32fast::hash(body).to_le_bytes();
    if whole { read(&mut Reader(body)) } else { None }
}

/// Reads numbers and names from the body of an index, and nothing beyond its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.bytes().map(f64::from_le_bytes)
    }

    fn stamp(&mut self) -> Option<Stamp> {
        let mut time = || Some((self.u64()? as i64, self.u64()? as i64));
        let (modified, changed) = (time()?, time()?);
        Some(Stamp { inode: self.u64()?, size: self.u64()?, modified, changed })
    }

    /// A count of things of at least `least` bytes each: never more than there is room for.
    fn count(&mut self, least: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count.checked_mul(least)? <= self.0.len()).then_some(count)
    }

    fn names(&mut self) -> Option<Names> {
        let mut names = Names::default();
        for _ in 0..self.count(4)? {
            let length = self.count(1)?;
            let (text, rest) = self.0.split_at(length);
            self.0 = rest;
            names.number(std::str::from_utf8(text).ok()?);
        }
        Some(names)
    }
}

/// Writes what [`Reader`] reads.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn f64(&mut self, value: f64) {
        self.bytes(&value.to_le_bytes());
    }

    fn stamp(&mut self, stamp: Stamp) {
        for (seconds, nanoseconds) in [stamp.modified, stamp.changed] {
            self.u64(seconds as u64);
            self.u64(nanoseconds as u64);
        }
        self.u64(stamp.inode);
        self.u64(stamp.size);
    }

    fn names(&mut self, names: &Names) {
        self.u32(names.all.len() as u32);
        for name in &names.all {
            self.u32(name.len() as u32);
            self.bytes(name.as_bytes());
        }
    }
}

/// Names that stand in many entries, each written once.
#[derive(Default)]
struct Names {
    all: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                let number = self.all.len() as u32;
                self.all.push(name.to_owned());
                self.numbers.insert(name.to_owned(), number);
                number
            }
        }
    }

    /// The number of a name that there is.
    fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn get(&self, number: u32) -> Option<&str> {
        self.all.get(number as usize).map(String::as_str)
    }
}

/// The bytes of an id, if it is one: folders of other names hold no run that could be kept.
fn id_bytes(id: &str) -> Option<[u8; ID]> {
    RunId::try_from(id.to_owned()).ok()?;
    id.as_bytes().try_into().ok()
}

/// Does the same for every item on as many threads as help: most of it waits for the disk.
pub fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    /// Items for which a thread isn't worth its start.
    const FEW: usize = 256;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (items.len() / FEW).clamp(1, (2 * processors).min(8));
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    std::thread::scope(|scope| {
        let work = &work;
        let each = |chunk| scope.spawn(move || Iterator::map(<[T]>::iter(chunk), work).collect::<Vec<R>>());
        let started: Vec<_> = items.chunks(items.len().div_ceil(threads)).map(each).collect();
        started
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests;
