//! SHA-256 of files, remembered across runs in a cache that may be deleted at any time.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::{DataError, FileEntry};

/// Threads that hash: reading is the slow part, and two keep a disk busy.
const THREADS: usize = 2;

/// A file that changed this recently isn't remembered: it could change again without its time showing it.
const SETTLED: Duration = Duration::from_secs(2);

/// How far hashing is, in bytes; files that the cache knows count as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashing {
    pub done: u64,
    pub total: u64,
}

/// Hashes files, asking the cache first.
pub struct Hasher<'a> {
    cache: Option<PathBuf>,
    known: HashMap<PathBuf, Known>,
    /// Whether what the cache says is believed.
    believe: bool,
    progress: &'a mut dyn FnMut(Hashing),
}

/// What the cache knows of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    state: State,
    sha256: [u8; 32],
}

/// What changes when a file is written, replaced or swapped.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    size: u64,
    modified: i128,
    changed: i128,
    inode: u64,
}

impl State {
    fn of(meta: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            size: meta.len(),
            modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }

    fn settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
        now - self.modified.max(self.changed) > SETTLED.as_nanos() as i128
    }
}

/// The user's cache folder for Reprise: `XDG_CACHE_HOME/reprise`, else `~/.cache/reprise`.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("reprise"))
}

impl<'a> Hasher<'a> {
    /// A hasher with the cache in `folder`, if there is one. With `verify` every file is read again, whatever the cache says.
    pub fn new(folder: Option<PathBuf>, verify: bool, progress: &'a mut dyn FnMut(Hashing)) -> Self {
        let cache = folder.map(|folder| folder.join("content.tsv"));
        let known = cache.as_deref().and_then(|path| fs::read(path).ok()).map_or_else(HashMap::new, |b| decode(&b));
        Self { cache, known, believe: !verify, progress }
    }

    /// Size and SHA-256 of files below `root`, in the order of `paths`.
    ///
    /// # Errors
    /// Names the first file that can't be read or isn't a regular file.
    pub fn entries(&mut self, root: &Path, paths: &[&String]) -> Result<Vec<FileEntry>, DataError> {
        let files: Vec<PathBuf> = paths.iter().map(|path| root.join(path)).collect();
        let digests = self.digests(&files)?;
        let entry = |(path, (size, sha256)): (&&String, _)| FileEntry { path: (*path).clone(), size, sha256 };
        Ok(paths.iter().zip(digests).map(entry).collect())
    }

    /// Size and SHA-256 of one file.
    pub fn digest(&mut self, path: &Path) -> Result<[u8; 32], DataError> {
        Ok(self.digests(&[path.to_path_buf()])?[0].1)
    }

    fn digests(&mut self, files: &[PathBuf]) -> Result<Vec<(u64, [u8; 32])>, DataError> {
        let unreadable = |path: &Path, error| DataError::Unreadable { path: path.to_path_buf(), error };
        let mut results: Vec<Option<(u64, [u8; 32])>> = vec![None; files.len()];
        let mut open: Vec<(usize, PathBuf, State)> = Vec::new();
        let (mut total, mut cached) = (0, 0);
        for (index, file) in files.iter().enumerate() {
            let path = fs::canonicalize(file).map_err(|error| unreadable(file, error))?;
            let meta = fs::metadata(&path).map_err(|error| unreadable(file, error))?;
            if !meta.is_file() {
                return Err(unreadable(file, std::io::Error::other("not a regular file")));
            }
            let state = State::of(&meta);
            total += state.size;
            match self.known.get(&path) {
                Some(known) if self.believe && known.state == state => {
                    cached += state.size;
                    results[index] = Some((state.size, known.sha256));
                }
                _ => open.push((index, path, state)),
            }
        }
        if open.is_empty() {
            return Ok(results.into_iter().flatten().collect());
        }
        let hashed = self.hash(&open, Hashing { done: cached, total })?;
        let mut fresh = Vec::new();
        for ((index, path, before), (read, sha256)) in open.into_iter().zip(hashed) {
            results[index] = Some((read, sha256));
            let unchanged = fs::metadata(&path).is_ok_and(|meta| State::of(&meta) == before) && read == before.size;
            if unchanged && before.settled() {
                let known = Known { state: before, sha256 };
                fresh.extend(encode(&path, &known));
                self.known.insert(path, known);
            }
        }
        self.remember(&fresh);
        Ok(results.into_iter().flatten().collect())
    }

    /// Reads files on [`THREADS`] threads; the calling thread shows progress. Bytes read and digest, in the order of `files`.
    fn hash(&mut self, files: &[(usize, PathBuf, State)], start: Hashing) -> Result<Vec<(u64, [u8; 32])>, DataError> {
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(start.done));
        let results = Mutex::new(vec![None; files.len()]);
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            let work = || {
                while let Some((index, (_, path, _))) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| files.get(i).map(|file| (i, file)))
                {
                    match sha256_of(path, &done) {
                        // Neither lock is poisoned: nothing that holds one can panic.
                        Ok(result) => results.lock().unwrap()[index] = Some(result),
                        Err(error) => {
                            *failure.lock().unwrap() = Some(DataError::Unreadable { path: path.clone(), error });
                            next.store(files.len(), Ordering::Relaxed);
                        }
                    }
                }
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                (self.progress)(Hashing { done: done.load(Ordering::Relaxed), total: start.total });
                std::thread::sleep(Duration::from_millis(if files.len() < 8 { 2 } else { 50 }));
            }
        });
        (self.progress)(Hashing { done: done.load(Ordering::Relaxed), total: start.total });
        match failure.into_inner().unwrap() {
            Some(error) => Err(error),
            None => Ok(results.into_inner().unwrap().into_iter().flatten().collect()),
        }
    }

    /// Adds lines to the cache in one write. The cache is a convenience, so a failure costs time and nothing else.
    fn remember(&self, lines: &[u8]) {
        let Some(path) = &self.cache else { return };
        let Some(folder) = path.parent() else { return };
        let _ = fs::create_dir_all(folder);
        let stale = fs::metadata(path).is_ok_and(|meta| meta.len() > 4096 + 512 * self.known.len() as u64);
        if stale {
            let all: Vec<u8> = self.known.iter().flat_map(|(path, known)| encode(path, known)).collect();
            let _ = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
                file.write_all(&all)?;
                file.persist(path).map_err(|error| error.error)
            });
        } else if let Ok(mut file) = File::options().append(true).create(true).open(path) {
            let _ = file.write_all(lines);
        }
    }
}

fn sha256_of(path: &Path, done: &AtomicU64) -> std::io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size, hasher.finalize().into())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
                done.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// One line of the cache: checksum of the rest, digest, size, times, inode, path. Nothing for a path that doesn't fit in a line.
fn encode(path: &Path, known: &Known) -> Vec<u8> {
    let Some(path) = path.to_str().filter(|path| !path.contains(['\n', '\r'])) else { return Vec::new() };
    let State { size, modified, changed, inode } = known.state;
    let rest = format!("{}\t{size}\t{modified}\t{changed}\t{inode}\t{path}", hex::encode(known.sha256));
    format!("{:08x}\t{rest}\n", crc32fast::hash(rest.as_bytes())).into_bytes()
}

/// What a cache file says; lines that are torn or damaged are passed over, and later lines win.
fn decode(bytes: &[u8]) -> HashMap<PathBuf, Known> {
    bytes.split(|&byte| byte == b'\n').filter_map(|line| decode_line(std::str::from_utf8(line).ok()?)).collect()
}

fn decode_line(line: &str) -> Option<(PathBuf, Known)> {
    let (crc, rest) = line.split_once('\t')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(rest.as_bytes()) {
        return None;
    }
    let mut fields = rest.splitn(6, '\t');
    let mut sha256 = [0; 32];
    hex::decode_to_slice(fields.next()?, &mut sha256).ok()?;
    let state = State {
        size: fields.next()?.parse().ok()?,
        modified: fields.next()?.parse().ok()?,
        changed: fields.next()?.parse().ok()?,
        inode: fields.next()?.parse().ok()?,
    };
    Some((PathBuf::from(fields.next()?), Known { state, sha256 }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(size: u64) -> Known {
        Known { state: State { size, modified: 5, changed: -6, inode: 7 }, sha256: [size as u8; 32] }
    }

    proptest! {
        #[test]
        fn damage_loses_lines_and_never_changes_one(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let lines: Vec<(PathBuf, Known)> = (0..3).map(|i| (PathBuf::from(format!("/a/{i}\tb")), known(i))).collect();
            let mut bytes: Vec<u8> = lines.iter().flat_map(|(path, known)| encode(path, known)).collect();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            for (path, read) in decode(&bytes) {
                prop_assert!(lines.iter().any(|(p, known)| *p == path && *known == read));
            }
        }
    }

    #[test]
    fn a_file_that_was_swapped_is_read_again() {
        let temp = tempfile::tempdir().unwrap();
        let (cache, file) = (temp.path().join("cache"), temp.path().join("a.flac"));
        let old = SystemTime::now() - Duration::from_secs(100);
        let write = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        };
        write(b"one");
        let mut none = |_| {};
        let first = Hasher::new(Some(cache.clone()), false, &mut none).digest(&file).unwrap();
        write(b"two"); // the same size, the same modification time
        let second = Hasher::new(Some(cache), false, &mut none).digest(&file).unwrap();
        assert_eq!(first, <[u8; 32]>::from(Sha256::digest(b"one")));
        assert_eq!(second, <[u8; 32]>::from(Sha256::digest(b"two")));
    }

    #[test]
    fn progress_ends_at_the_total() {
        let temp = tempfile::tempdir().unwrap();
        for i in 0..20 {
            fs::write(temp.path().join(format!("{i}")), vec![i; 1000]).unwrap();
        }
        let names: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        let mut last = Hashing { done: 0, total: 0 };
        let mut progress = |hashing| last = hashing;
        Hasher::new(None, false, &mut progress).entries(temp.path(), &names.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(last, Hashing { done: 20_000, total: 20_000 });
    }
}
