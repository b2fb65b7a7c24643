//! Where a bundle is executed again, and whether its corpus is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use reprise_spec::identity::BundleId;
use reprise_spec::stage::{CorpusPart, Stage};
use serde::{Deserialize, Serialize};

use super::{BundleError, text};
use crate::data::{CorpusFiles, FileEntry, FileList};
use crate::plan::Part;
use crate::provenance::BUILD;
use crate::store::{RunRecord, Store, files};

/// The record that makes a folder the place of a replay.
const FILE: &str = "replay.json";

/// The file with the latest verdict.
const VERDICT: &str = "verdict.json";

/// History of the format: 1, the first.
const FORMAT: u64 = 1;

/// The most files that a message names.
const NAMED: usize = 20;

/// What a folder replays, and which build does: going on with another would mix results.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Begun {
    format: u64,
    bundle: BundleId,
    build: String,
}

/// The folder of a replay. Nothing in it comes from the bundle, so nothing published is ever reused.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// A new folder, an empty one, or one in which this build began to replay the same bundle.
    ///
    /// # Errors
    /// For every other folder, and when the disk refuses.
    pub fn open(root: &Path, bundle: BundleId) -> Result<Self, BundleError> {
        let begun = Begun { format: FORMAT, bundle, build: BUILD.into() };
        let record = root.join(FILE);
        let place = Self { root: root.to_path_buf() };
        if record.exists() {
            let before: Begun = files::read_versioned(&record, FORMAT)?;
            if before == begun {
                return Ok(place);
            }
            let what = if before.bundle == begun.bundle { "by another build" } else { "of another bundle" };
            let message = format!("{} is a replay {what}", root.display());
            return Err(BundleError::unpublishable(message, "name another folder with --into"));
        }
        fs::create_dir_all(root).map_err(|error| BundleError::io("create", root, error))?;
        let mut entries = fs::read_dir(root).map_err(|error| BundleError::io("list", root, error))?;
        if entries.next().is_some() {
            let message = format!("{} holds something else than a replay", root.display());
            return Err(BundleError::unpublishable(message, "name a new folder with --into"));
        }
        files::write_json(&record, &begun)?;
        Ok(place)
    }

    /// Where the runs are executed.
    pub fn store(&self) -> Store {
        Store::at(self.root.join("store"))
    }

    /// Writes down how equal the results are.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn close<V: Serialize>(&self, verdict: &V) -> Result<(), BundleError> {
        Ok(files::write_json(&self.root.join(VERDICT), verdict)?)
    }
}

/// In which files a corpus here differs from the one that a run of a bundle read; empty where they are the same.
///
/// # Errors
/// When a list of the bundle is damaged.
pub fn other_files(run: &RunRecord, store: &Store, here: &CorpusFiles) -> Result<Vec<String>, BundleError> {
    let mut differences = Vec::new();
    for stage in &run.stages {
        let output = stage.state.digest().and_then(|digest| store.output(&stage.key, &digest));
        let Some(output) = output else { continue };
        let Stage::Corpus(settings) = &output.manifest.settings else { continue };
        let part = match settings.part {
            CorpusPart::Utterances { .. } => Part::Utterances,
            CorpusPart::Alignments => Part::Alignments,
        };
        let Some(found) = here.lists.get(&(settings.split.clone(), part)) else { continue };
        if found.digest() == settings.content {
            continue;
        }
        let list = text(&output.path.join("files.txt"), "files.txt")?;
        let read = FileList::parse(&list)
            .map_err(|(line, why)| BundleError::refused(format!("line {line} of a list of files: {why}")))?;
        differences.extend(between(&read, found));
    }
    differences.sort();
    differences.dedup();
    let count = differences.len();
    differences.truncate(NAMED);
    if count > NAMED {
        differences.push(format!("and {} more", count - NAMED));
    }
    Ok(differences)
}

fn between(read: &FileList, found: &FileList) -> Vec<String> {
    let by_path = |list: &FileList| -> BTreeMap<String, FileEntry> {
        list.entries().iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
    };
    let (read, found) = (by_path(read), by_path(found));
    let gone = read.iter().filter_map(|(path, entry)| match found.get(path) {
        None => Some(format!("{path}: missing")),
        Some(other) if other != entry => Some(format!("{path}: other content")),
        Some(_) => None,
    });
    let more = found.keys().filter(|path| !read.contains_key(*path)).map(|path| format!("{path}: not read then"));
    gone.chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_goes_on_only_where_it_began() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (BundleId([1; 32]), BundleId([2; 32]));
        let folder = temp.path().join("replay");
        assert!(Place::open(&folder, one).is_ok());
        assert!(Place::open(&folder, one).is_ok());
        assert!(Place::open(&folder, two).unwrap_err().to_string().contains("of another bundle"));
        let text = fs::read_to_string(folder.join(FILE)).unwrap().replace(BUILD, "another");
        fs::write(folder.join(FILE), text).unwrap();
        assert!(Place::open(&folder, one).unwrap_err().to_string().contains("by another build"));
        assert!(Place::open(temp.path(), one).unwrap_err().to_string().contains("something else"));
    }

    #[test]
    fn files_that_differ_are_named() {
        let list = |lines: &[(&str, u64)]| {
            let entry = |(path, size): &(&str, u64)| FileEntry { path: (*path).into(), size: *size, sha256: [0; 32] };
            FileList::new(lines.iter().map(entry).collect())
        };
        let found = between(&list(&[("a", 1), ("b", 1), ("c", 1)]), &list(&[("a", 1), ("b", 2), ("d", 1)]));
        assert_eq!(found, ["b: other content", "c: missing", "d: not read then"]);
    }
}
