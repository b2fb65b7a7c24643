//! What is finished of a long piece of work on files, so that it can be stopped at any moment and continued.
//!
//! Two files: a description of the settings that everything in it was made with, written once and before anything else; and a row of JSON
//! for every finished audio file, appended when its result is on disk. A row that a kill cut short is cut off.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reprise_spec::extraction::AudioName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::StageError;

/// The audio file that a result was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Source {
    /// Its name in the output.
    pub audio: AudioName,
    /// In bytes.
    pub size: u64,
    /// Of its bytes, in hex.
    pub sha256: String,
}

/// A finished audio file and what was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row<T> {
    pub source: Source,
    /// At 16 kHz.
    pub samples: u64,
    pub made: T,
}

/// The rows so far. Locked, so that no two processes write one output.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    /// Where the row of each audio file is.
    rows: BTreeMap<AudioName, (u64, usize)>,
    end: u64,
}

impl Ledger {
    /// Opens the ledger at `path` of an output that `about` describes, and begins both where there is none.
    ///
    /// # Errors
    /// Settings that are not `about`'s, named; another process that writes; a disk that refuses.
    pub fn open(path: &Path, about: &Path, settings: &Value) -> Result<Self, StageError> {
        let fail = |error: std::io::Error| StageError::io("cannot open", path, &error);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process is writing what {} describes", about.display());
                return Err(StageError::refused(message, "wait until it has ended, or give another --out"));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        settle(about, settings)?;
        let mut ledger = Self { file, path: path.to_owned(), rows: BTreeMap::new(), end: 0 };
        ledger.read_all().map_err(fail)?;
        Ok(ledger)
    }

    /// Finds every whole row and cuts off what is behind them.
    fn read_all(&mut self) -> std::io::Result<()> {
        let mut lines = BufReader::new(&self.file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            let Some(text) = line.strip_suffix(b"\n") else { break };
            let Ok(row) = serde_json::from_slice::<Row<serde::de::IgnoredAny>>(text) else { break };
            self.rows.insert(row.source.audio, (self.end, length));
            self.end += length as u64;
        }
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        Ok(())
    }

    /// What was made of the audio file of this name.
    pub fn find<T: DeserializeOwned>(&self, audio: &AudioName) -> Result<Option<Row<T>>, StageError> {
        let Some(&(start, length)) = self.rows.get(audio) else { return Ok(None) };
        let mut line = vec![0; length];
        let read = self.file.read_exact_at(&mut line, start);
        read.map_err(|error| StageError::io("cannot read", &self.path, &error))?;
        let row = serde_json::from_slice(&line);
        row.map(Some).map_err(|error| StageError::Failed(format!("{} is damaged: {error}", self.path.display())))
    }

    /// Every row, sorted by the name of the audio file.
    pub fn rows<T: DeserializeOwned>(&self) -> impl Iterator<Item = Result<Row<T>, StageError>> {
        self.rows.keys().filter_map(|audio| self.find(audio).transpose())
    }

    /// Adds a row, in place of one for the same audio file.
    pub fn append<T: Serialize>(&mut self, row: &Row<T>) -> Result<(), StageError> {
        let mut line = serde_json::to_vec(row).map_err(|error| StageError::Failed(error.to_string()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| StageError::io("cannot write", &self.path, &error))?;
        self.rows.insert(row.source.audio.clone(), (self.end, line.len()));
        self.end += line.len() as u64;
        Ok(())
    }
}

/// The ledger for a moment. A thread that panicked while it held it has left whole rows.
pub fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the settings where there are none, and compares them with those that are there.
fn settle(about: &Path, settings: &Value) -> Result<(), StageError> {
    let fail = |error: std::io::Error| StageError::io("cannot read", about, &error);
    match fs::read(about) {
        Ok(bytes) => {
            let before: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let names: Vec<String> = differences(&before, settings);
            if names.is_empty() {
                return Ok(());
            }
            let message = format!("{} says other settings: {}", about.display(), names.join("; "));
            Err(StageError::refused(message, "give the settings that it was begun with, or another --out"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = serde_json::to_string_pretty(settings).map_err(|error| StageError::Failed(error.to_string()))?;
            write(about, |file| file.put(text))
        }
        Err(error) => Err(fail(error)),
    }
}

/// The settings that differ, with both values where there are two.
fn differences(before: &Value, now: &Value) -> Vec<String> {
    fn compare(name: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
        let (Some(old), Some(new)) = (before.as_object(), now.as_object()) else {
            if before != now {
                found.push(format!("{name} was {before} and is {now} now"));
            }
            return;
        };
        let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
        for (key, now) in new {
            match old.get(key) {
                Some(before) => compare(&below(key), before, now, found),
                None => found.push(format!("{} is new", below(key))),
            }
        }
        found.extend(old.keys().filter(|key| !new.contains_key(*key)).map(|key| format!("{} is gone", below(key))));
    }
    let mut found = Vec::new();
    match before.is_object() {
        true => compare("", before, now, &mut found),
        false => found.push("it is damaged".into()),
    }
    found
}

/// Where what becomes `path` is written: one name a folder, because only one process writes there, that no result bears.
pub fn partial(path: &Path) -> PathBuf {
    path.with_file_name(".partial")
}

/// Makes a file that wasn't there; what an earlier process left under the name goes, and a link is not followed.
pub fn new_file(path: &Path) -> std::io::Result<File> {
    let _ = fs::remove_file(path);
    File::options().write(true).create_new(true).open(path)
}

/// Writes a file under a new name, flushes it and renames it to `path`.
pub fn write(path: &Path, fill: impl FnOnce(&mut Lines) -> Result<(), StageError>) -> Result<(), StageError> {
    let fail = |error: std::io::Error| StageError::io("cannot write", path, &error);
    let partial = partial(path);
    let mut lines = Lines { file: BufWriter::new(new_file(&partial).map_err(fail)?), path };
    fill(&mut lines)?;
    let mut file = lines.file;
    file.flush().and_then(|()| file.get_ref().sync_all()).and_then(|()| fs::rename(&partial, path)).map_err(fail)
}

/// A text file under way.
#[derive(Debug)]
pub struct Lines<'a> {
    file: BufWriter<File>,
    path: &'a Path,
}

impl Lines<'_> {
    /// Appends one line.
    pub fn put(&mut self, line: impl Display) -> Result<(), StageError> {
        writeln!(self.file, "{line}").map_err(|error| StageError::io("cannot write", self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(audio: &str) -> AudioName {
        AudioName::try_from(audio.to_owned()).unwrap()
    }

    fn row(audio: &str, made: &[u16]) -> Row<Vec<u16>> {
        let source = Source { audio: name(audio), size: 3, sha256: "ab".into() };
        Row { source, samples: 400, made: made.to_vec() }
    }

    struct Place(tempfile::TempDir);

    impl Place {
        fn open(&self, settings: Value) -> Result<Ledger, StageError> {
            Ledger::open(&self.0.path().join("rows"), &self.0.path().join("about.json"), &settings)
        }
    }

    #[test]
    fn whole_rows_survive_whatever_is_behind_them() {
        let place = Place(tempfile::tempdir().unwrap());
        for torn in [&b""[..], b"{\"source\": {\"audio\"", b"\0\0\0\0\0\n", b"{}\n"] {
            let path = place.0.path().join("rows");
            let _ = fs::remove_file(&path);
            let mut ledger = place.open(json!({ "layers": [1] })).unwrap();
            ledger.append(&row("a", &[1, 2])).unwrap();
            ledger.append(&row("b", &[3])).unwrap();
            drop(ledger);
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend_from_slice(torn);
            fs::write(&path, bytes).unwrap();
            let mut ledger = place.open(json!({ "layers": [1] })).unwrap();
            assert_eq!(ledger.find(&name("b")).unwrap(), Some(row("b", &[3])));
            ledger.append(&row("b", &[4])).unwrap();
            ledger.append(&row("c", &[])).unwrap();
            drop(ledger);
            let ledger = place.open(json!({ "layers": [1] })).unwrap();
            let found =
                ["a", "b", "c", "d"].map(|audio| ledger.find::<Vec<u16>>(&name(audio)).unwrap().map(|row| row.made));
            assert_eq!(found, [Some(vec![1, 2]), Some(vec![4]), Some(vec![]), None]);
        }
    }

    #[test]
    fn other_settings_are_refused_and_named() {
        let place = Place(tempfile::tempdir().unwrap());
        drop(place.open(json!({ "layers": [1], "threads": 2 })).unwrap());
        let error = place.open(json!({ "layers": [2], "threads": 2, "new": null })).unwrap_err().to_string();
        assert!(error.contains("layers was [1] and is [2] now; new is new"), "{error}");
        assert!(!error.contains("threads"), "{error}");
        fs::write(place.0.path().join("about.json"), "{").unwrap();
        assert!(place.open(json!({})).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_second_writer_is_refused() {
        let place = Place(tempfile::tempdir().unwrap());
        let first = place.open(json!({})).unwrap();
        assert!(place.open(json!({})).unwrap_err().to_string().contains("another process"));
        drop(first);
        place.open(json!({})).unwrap();
    }
}
