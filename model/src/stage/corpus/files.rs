//! The files of a stage that takes data in: listed by the request, read once, and held to their checksums.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::failure::StageError;
use crate::stage::Work;

/// A file as the request lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    sha256: [u8; 32],
    size: u64,
    /// Below the data root, with `/` between folders.
    pub path: String,
}

impl Listed {
    /// The path's last part.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(3, "  ");
        let mut sha256 = [0; 32];
        hex::decode_to_slice(fields.next()?, &mut sha256).ok()?;
        let size = fields.next()?.parse().ok()?;
        let path = fields.next()?.to_owned();
        let below = Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
        (below && !path.is_empty() && !path.contains(char::is_control)).then_some(Self { sha256, size, path })
    }

    /// Reads the file and refuses it when it is not the one that was listed.
    pub fn read(&self, root: &Path) -> Result<Vec<u8>, StageError> {
        let path = root.join(&self.path);
        let fail = |error: std::io::Error| StageError::io("cannot read", &path, &error);
        let mut bytes = Vec::new();
        File::open(&path).map_err(fail)?.take(self.size.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
        self.same(&path, bytes.len() as u64, &Sha256::digest(&bytes))?;
        Ok(bytes)
    }

    /// Passes over the file without holding it, and refuses it when it is not the one that was listed.
    pub fn check(&self, root: &Path) -> Result<PathBuf, StageError> {
        let path = root.join(&self.path);
        let mut hasher = Sha256::new();
        let read = File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
        let size = read.map_err(|error| StageError::io("cannot read", &path, &error))?;
        self.same(&path, size, &hasher.finalize())?;
        Ok(path)
    }

    fn same(&self, path: &Path, size: u64, sha256: &[u8]) -> Result<(), StageError> {
        if size == self.size && sha256 == self.sha256 {
            return Ok(());
        }
        Err(StageError::refused(
            format!("{} changed since its checksum was taken", path.display()),
            "run again: the changed file gives the data another identity",
        ))
    }
}

/// The files that the request lists.
pub fn listed(work: &Work) -> Result<Vec<Listed>, StageError> {
    let path = work.request.data.as_ref().and_then(|data| data.files.as_ref());
    let path = path.ok_or_else(|| StageError::Failed("the request lists no files".into()))?;
    let text = std::fs::read_to_string(path).map_err(|error| StageError::io("cannot read", path, &error))?;
    let parse = |line| Listed::parse(line).ok_or_else(|| StageError::Failed(format!("the file list has {line:?}")));
    text.lines().map(parse).collect()
}

/// Like [`read_all`], without the files that an earlier attempt has read.
pub fn read_what_is_left<T: Send + Serialize + DeserializeOwned>(
    files: &[Listed],
    work: &mut Work,
    examine: impl Fn(&Listed, Vec<u8>) -> T + Sync,
) -> Result<Vec<T>, StageError> {
    let damaged = |error: serde_json::Error| StageError::Failed(format!("what was read before can't be used: {error}"));
    let mut finished = work.finished("files")?;
    let mut found: BTreeMap<usize, T> = BTreeMap::new();
    for record in 0..finished.count() {
        let (index, thing) = serde_json::from_slice(&finished.read(record)?).map_err(damaged)?;
        found.insert(index, thing);
    }
    let left: Vec<usize> = (0..files.len()).filter(|index| !found.contains_key(index)).collect();
    let rest: Vec<Listed> = left.iter().map(|&index| files[index].clone()).collect();
    let keep = |place: usize, thing: &T| finished.push(&serde_json::to_vec(&(left[place], thing)).map_err(damaged)?);
    found.extend(left.iter().copied().zip(read_and_keep(&rest, work, examine, keep)?));
    Ok(found.into_values().collect())
}

/// Reads all `files`, applies `examine` to each on as many threads as the request allows, and returns what it found in the order
/// of the files.
pub fn read_all<T: Send>(
    files: &[Listed],
    work: &mut Work,
    examine: impl Fn(&Listed, Vec<u8>) -> T + Sync,
) -> Result<Vec<T>, StageError> {
    read_and_keep(files, work, examine, |_, _| Ok(()))
}

/// [`read_all`], with `keep` told of everything as it is found.
fn read_and_keep<T: Send>(
    files: &[Listed],
    work: &mut Work,
    examine: impl Fn(&Listed, Vec<u8>) -> T + Sync,
    mut keep: impl FnMut(usize, &T) -> Result<(), StageError>,
) -> Result<Vec<T>, StageError> {
    let root = work.data_root()?.to_owned();
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut found: Vec<Option<T>> = files.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..work.request.threads.max(1) {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                while !over.load(Ordering::Relaxed)
                    && let Some((index, file)) = take(files, &next)
                    && sender.send((index, file.read(&root).map(|bytes| examine(file, bytes)))).is_ok()
                {
                }
            });
        }
        drop(sender);
        let mut receive = || {
            for (done, (index, result)) in receiver.iter().enumerate() {
                work.report.check_stop()?;
                work.report.progress(done as u64 + 1, files.len() as u64, "files", &files[index].path);
                let thing = result?;
                keep(index, &thing)?;
                found[index] = Some(thing);
            }
            Ok(())
        };
        let result: Result<(), StageError> = receive();
        over.store(true, Ordering::Relaxed);
        result
    })?;
    found.into_iter().collect::<Option<_>>().ok_or_else(|| StageError::Failed("a reading thread ended early".into()))
}

fn take<'a>(files: &'a [Listed], next: &AtomicUsize) -> Option<(usize, &'a Listed)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    files.get(index).map(|file| (index, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_is_held_to_its_checksum_and_size() {
        let dir = tempfile::tempdir().unwrap();
        let file = Listed::parse(&format!("{ABC}  3  a b/c.wav")).unwrap();
        assert_eq!((file.name(), file.path.as_str()), ("c.wav", "a b/c.wav"));
        assert!(file.read(dir.path()).unwrap_err().to_string().contains("c.wav"));
        std::fs::create_dir(dir.path().join("a b")).unwrap();
        for (content, same) in [("abc", true), ("abd", false), ("ab", false), ("abcd", false)] {
            std::fs::write(dir.path().join("a b/c.wav"), content).unwrap();
            assert_eq!(file.read(dir.path()).is_ok(), same, "{content}");
            assert_eq!(file.check(dir.path()).is_ok(), same, "{content}");
        }
    }

    #[test]
    fn no_line_leads_out_of_the_data_root() {
        for path in ["../x", "/etc/x", "a/../../x", "", "a\tb"] {
            assert_eq!(Listed::parse(&format!("{ABC}  3  {path}")), None, "{path}");
        }
        assert_eq!(Listed::parse("abc  3  x"), None);
        assert_eq!(Listed::parse(&format!("{ABC}  -3  x")), None);
    }
}
