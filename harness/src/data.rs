//! Corpora on disk: where a corpus lies, and which files each of its splits consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use reprise_spec::corpus::Corpus;
use reprise_spec::identity::ContentDigest;
use reprise_spec::values::{Name, SplitName};
use thiserror::Error;

use crate::plan::{self, Contents, Needed, Part};
use crate::project::Project;

pub mod hashing;
pub mod list;
pub mod walk;

pub use hashing::{Hasher, Hashing};
pub use list::{FileEntry, FileList};

/// The data roots, in the order in which they are asked: command line, `REPRISE_DATA`, `reprise.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots(pub Vec<PathBuf>);

impl Roots {
    /// `flags` are the folders of `--data`, `variable` the value of `REPRISE_DATA`, a list like `PATH`.
    pub fn new(flags: &[PathBuf], variable: Option<&OsStr>, project: Option<&Project>) -> Self {
        let mut roots = flags.to_vec();
        roots.extend(variable.into_iter().flat_map(std::env::split_paths).filter(|path| !path.as_os_str().is_empty()));
        roots.extend(project.into_iter().flat_map(|project| project.data.clone()));
        Self(roots)
    }

    /// The folder of a corpus, in the first root that has one.
    pub fn find(&self, corpus: &Name) -> Option<PathBuf> {
        self.0.iter().map(|root| root.join(corpus.as_str())).find(|folder| folder.is_dir())
    }

    /// The first root that has a file of this name.
    fn with_file(&self, name: &Name) -> Option<&Path> {
        self.0.iter().map(PathBuf::as_path).find(|root| root.join(name.as_str()).is_file())
    }
}

/// An experiment's corpus: where it lies, if it is on this machine, and what is known about its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusFiles {
    pub name: Name,
    /// The folder with the splits; `None` when no data root has it.
    pub root: Option<PathBuf>,
    /// Where it was looked for.
    pub roots: Roots,
    /// The files of each split that the experiment needs; absent where neither a list nor the folder says them.
    pub lists: BTreeMap<(SplitName, Part), FileList>,
    /// The splits whose files come from a committed list.
    committed: BTreeSet<(SplitName, Part)>,
    /// Models from elsewhere that the experiment needs, those that some data root has.
    pub checkpoints: BTreeMap<Name, NamedFiles>,
    /// Language models and lexicons that it needs, those that some data root has.
    pub files: BTreeMap<Name, NamedFiles>,
    /// What the experiment needs by name.
    needed: Needed,
}

/// A model folder from elsewhere, or a single file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFiles {
    /// The folder that holds the files.
    pub root: PathBuf,
    pub list: FileList,
}

/// The files of a model folder.
const MODEL_FILES: [&str; 2] = ["model.json", "model.safetensors"];

/// Why a corpus can't be used.
#[derive(Debug, Error, Diagnostic)]
pub enum DataError {
    #[error("corpus {name} not found: looked in {}", shown(.roots))]
    #[diagnostic(help(
        "pass --data DIR with the folder that holds {name}/, or name it in REPRISE_DATA or reprise.toml"
    ))]
    NotFound { name: Name, roots: Roots },
    #[error("checkpoint {name} not found: looked in {}", shown(.roots))]
    #[diagnostic(help(
        "pass --data DIR with the folder that holds {name}/, or name it in REPRISE_DATA or reprise.toml; `reprise import` makes one"
    ))]
    NoCheckpoint { name: Name, roots: Roots },
    #[error("file {name} not found: looked in {}", shown(.roots))]
    #[diagnostic(help(
        "the experiment decodes with it: pass --data DIR with the folder that holds {name}, or name it in REPRISE_DATA or reprise.toml"
    ))]
    NoFile { name: Name, roots: Roots },
    #[error("{} is not a model folder: it has no {missing}", .folder.display())]
    #[diagnostic(help("the experiment names it as the checkpoint {name}; `reprise import` makes model folders"))]
    NotAModel { name: Name, folder: PathBuf, missing: &'static str },
    #[error("corpus {name} has no split {split}: there is no folder {}", .folder.display())]
    #[diagnostic(help("{help}"))]
    NoSplit { name: Name, split: SplitName, folder: PathBuf, help: String },
    #[error("split {split} of corpus {name} is empty: no *.flac and no *.wav below {}", .folder.display())]
    #[diagnostic(help("check that the corpus was unpacked whole"))]
    Empty { name: Name, split: SplitName, folder: PathBuf },
    #[error("corpus {name} has no alignments of split {split} in {}", .folder.display())]
    #[diagnostic(help("expected {split}.phones.tsv and {split}.words.tsv, or textgrid/{split}/*.TextGrid, there"))]
    NoAlignments { name: Name, split: SplitName, folder: PathBuf },
    #[error("cannot read {}: {error}", .path.display())]
    #[diagnostic(help("check that it is there and that you may read it"))]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("the file name {} cannot be used: {reason}", .path.display())]
    #[diagnostic(help("rename the file"))]
    Name { path: PathBuf, reason: &'static str },
    #[error("the folder {} contains itself through a symbolic link", .path.display())]
    #[diagnostic(help("remove the link"))]
    Loop { path: PathBuf },
    #[error("{}:{line}: {message}", .path.display())]
    #[diagnostic(help(
        "a list has one file a line: SHA-256, size in bytes and relative path, two spaces between them"
    ))]
    List { path: PathBuf, line: usize, message: String },
    #[error("corpus {name} differs from the committed lists in {count} of its files:\n{differences}")]
    #[diagnostic(help("restore these files, or look for the corpus elsewhere with --data DIR"))]
    Differs { name: Name, count: usize, differences: String },
}

fn shown(roots: &Roots) -> String {
    match roots.0.as_slice() {
        [] => "no folder at all".into(),
        roots => roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", "),
    }
}

impl CorpusFiles {
    /// Looks up the corpus and says what each needed split consists of: what the committed list says where there is one, else what is
    /// on disk. `folder` is the folder of the experiment file, which paths of committed lists start from.
    ///
    /// # Errors
    /// For a list that can't be read, and for a corpus that is there but lacks a split, or holds files that can't be used. A corpus
    /// that isn't there is no error here: see [`CorpusFiles::located`].
    pub fn survey(
        corpus: &Corpus,
        needed: &Needed,
        folder: &Path,
        roots: &Roots,
        hasher: &mut Hasher,
    ) -> Result<Self, DataError> {
        let root = roots.find(&corpus.name);
        let mut files = Self {
            name: corpus.name.clone(),
            root: root.clone(),
            roots: roots.clone(),
            lists: BTreeMap::new(),
            committed: BTreeSet::new(),
            checkpoints: BTreeMap::new(),
            files: BTreeMap::new(),
            needed: needed.clone(),
        };
        let mut found: Vec<((SplitName, Part), Vec<String>)> = Vec::new();
        for (split, part) in &needed.splits {
            let what = (split.clone(), *part);
            let transcribed = plan::transcribed(corpus, split);
            let committed = match corpus.lists.get(split) {
                Some(path) => FileList::read(&folder.join(path.as_str()))?.part(*part, transcribed),
                None => FileList::default(),
            };
            if !committed.entries().is_empty() {
                files.committed.insert(what.clone());
                files.lists.insert(what, committed);
            } else if let Some(root) = &root {
                let paths = match part {
                    Part::Utterances => walk::utterances(&corpus.name, root, split, transcribed)?,
                    Part::Alignments => walk::alignments(&corpus.name, root, split)?,
                };
                found.push((what, paths));
            }
        }
        if let Some(root) = &root {
            let all: Vec<&String> = found.iter().flat_map(|(_, paths)| paths).collect();
            let mut entries = hasher.entries(root, &all)?.into_iter();
            for (what, paths) in found {
                let list = FileList::new(entries.by_ref().take(paths.len()).collect());
                files.lists.insert(what, list);
            }
        }
        for name in &needed.checkpoints {
            let Some(root) = roots.find(name) else { continue };
            if let Some(missing) = MODEL_FILES.iter().find(|file| !root.join(file).is_file()) {
                return Err(DataError::NotAModel { name: name.clone(), folder: root, missing });
            }
            let list = FileList::new(hasher.entries(&root, &MODEL_FILES.map(String::from).iter().collect::<Vec<_>>())?);
            files.checkpoints.insert(name.clone(), NamedFiles { root, list });
        }
        for name in &needed.files {
            let Some(root) = roots.with_file(name) else { continue };
            let list = FileList::new(hasher.entries(root, &[&name.to_string()])?);
            files.files.insert(name.clone(), NamedFiles { root: root.to_path_buf(), list });
        }
        Ok(files)
    }

    /// What is known about the files, for [`crate::plan::Plan::new`].
    pub fn contents(&self) -> Contents {
        Contents {
            splits: self.lists.iter().map(|(what, list)| (what.clone(), list.digest())).collect(),
            checkpoints: self.checkpoints.iter().map(|(name, files)| (name.clone(), files.list.digest())).collect(),
            files: self.files.iter().map(|(name, files)| (name.clone(), files.list.nameless_digest())).collect(),
        }
    }

    /// The model folder from elsewhere with this content.
    pub fn checkpoint(&self, content: ContentDigest) -> Option<&NamedFiles> {
        self.checkpoints.values().find(|files| files.list.digest() == content)
    }

    /// The language model or lexicon with this content.
    pub fn file(&self, content: ContentDigest) -> Option<&NamedFiles> {
        self.files.values().find(|files| files.list.nameless_digest() == content)
    }

    /// The folder of the corpus, when everything that the experiment reads is there.
    ///
    /// # Errors
    /// When no data root has the corpus, or one of the checkpoints, language models and lexicons.
    pub fn complete(&self) -> Result<&Path, DataError> {
        let absent = |names: &BTreeSet<Name>, found: &BTreeMap<Name, NamedFiles>| {
            names.iter().find(|name| !found.contains_key(name)).cloned()
        };
        let roots = || self.roots.clone();
        if let Some(name) = absent(&self.needed.checkpoints, &self.checkpoints) {
            return Err(DataError::NoCheckpoint { name, roots: roots() });
        }
        if let Some(name) = absent(&self.needed.files, &self.files) {
            return Err(DataError::NoFile { name, roots: roots() });
        }
        self.located()
    }

    /// The digest of one split's files.
    pub fn content(&self, split: &SplitName, part: Part) -> Option<ContentDigest> {
        self.lists.get(&(split.clone(), part)).map(FileList::digest)
    }

    /// The folder of the corpus.
    ///
    /// # Errors
    /// When no data root has it.
    pub fn located(&self) -> Result<&Path, DataError> {
        self.root.as_deref().ok_or_else(|| DataError::NotFound { name: self.name.clone(), roots: self.roots.clone() })
    }

    /// Compares the files on disk with the committed lists; files that no list names are ignored.
    ///
    /// # Errors
    /// Names every file that is missing or another, at most 20 of them in words.
    pub fn check(&self, hasher: &mut Hasher) -> Result<(), DataError> {
        let lists: Vec<&FileList> =
            self.lists.iter().filter(|(what, _)| self.committed.contains(what)).map(|(_, list)| list).collect();
        if lists.is_empty() {
            return Ok(());
        }
        let root = self.located()?;
        let expected: BTreeMap<&str, &FileEntry> =
            lists.iter().flat_map(|list| list.entries()).map(|entry| (entry.path.as_str(), entry)).collect();
        let mut differences = Vec::new();
        let mut candidates = Vec::new();
        for (path, entry) in &expected {
            match std::fs::metadata(root.join(path)) {
                Err(error) => differences.push(format!("  {path}: {}", missing(&error))),
                Ok(meta) if !meta.is_file() => differences.push(format!("  {path}: not a file")),
                Ok(meta) if meta.len() != entry.size => {
                    differences.push(format!("  {path}: {} bytes, {} in the list", meta.len(), entry.size));
                }
                Ok(_) => candidates.push(entry.path.clone()),
            }
        }
        for actual in hasher.entries(root, &candidates.iter().collect::<Vec<_>>())? {
            if expected[actual.path.as_str()].sha256 != actual.sha256 {
                differences.push(format!("  {}: other content under the same name and size", actual.path));
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        differences.sort();
        let count = differences.len();
        differences.truncate(20);
        if count > 20 {
            differences.push(format!("  and {} more", count - 20));
        }
        Err(DataError::Differs { name: self.name.clone(), count, differences: differences.join("\n") })
    }
}

fn missing(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "missing".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
