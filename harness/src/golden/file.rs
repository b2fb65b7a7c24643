//! Golden files on disk: read with the place of everything that is wrong, written whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path as FilePath, PathBuf};

use miette::Diagnostic;
use reprise_spec::document::{self, Document};
use reprise_spec::node::{Path, Segment};
use reprise_spec::problem::{Problem, SpecErrors};
use reprise_spec::source::Kind;
use reprise_spec::values::Name;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{Change, Entry, Golden, Proposal};
use crate::store::{StoreError, files};

/// What golden files are called in messages.
const KIND: Kind = Kind {
    noun: "a golden file",
    begin: "`reprise golden propose EXPERIMENT` proposes goldens, `reprise golden review EXPERIMENT` accepts them",
};

/// The first line of what is written.
const HEADER: &str = "# Written by `reprise golden`; golden/README.md says what the words mean.\n";

/// The golden file of an experiment, and the proposal beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    golden: PathBuf,
    experiment: Name,
}

/// Why goldens can't be read or written.
#[derive(Debug, Error, Diagnostic)]
pub enum GoldenError {
    #[error("`{experiment}` has no goldens: there is no {}", .path.display())]
    #[diagnostic(help(
        "`reprise golden propose EXPERIMENT` proposes them from its finished runs, `reprise golden review EXPERIMENT` accepts them"
    ))]
    NoGoldens { experiment: Name, path: PathBuf },
    #[error("nothing is proposed for `{experiment}`: there is no {}", .path.display())]
    #[diagnostic(help("`reprise golden propose EXPERIMENT` proposes what its finished runs give now"))]
    NoProposal { experiment: Name, path: PathBuf },
    #[error("cannot read {}: {error}", .path.display())]
    #[diagnostic(help("check the permissions of the file"))]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{} is of the experiment `{found}`, not of `{wanted}`", .path.display())]
    #[diagnostic(help("name another file with --golden FILE"))]
    OfAnother { path: PathBuf, found: Name, wanted: Name },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(#[from] SpecErrors),
    #[error("cannot write {}", .path.display())]
    #[diagnostic(help("nothing was changed: check the permissions of its folder and the space on its disk"))]
    Unwritten { path: PathBuf, source: StoreError },
    #[error("cannot write {}: YAML would not give back a text in it as it is", .path.display())]
    #[diagnostic(help("nothing was changed: say it without characters that end a line (U+0085, U+2028, U+2029)"))]
    Lossy { path: PathBuf },
}

impl Files {
    /// In a folder of golden files.
    pub fn of(folder: &FilePath, experiment: Name) -> Self {
        Self { golden: folder.join(format!("{experiment}.yaml")), experiment }
    }

    /// With another name.
    pub fn at(golden: PathBuf, experiment: Name) -> Self {
        Self { golden, experiment }
    }

    /// Where the goldens are.
    pub fn golden_path(&self) -> &FilePath {
        &self.golden
    }

    /// Where changes to them wait: beside, with `.new` after the name.
    pub fn proposal_path(&self) -> PathBuf {
        let mut name = self.golden.clone().into_os_string();
        name.push(".new");
        name.into()
    }

    /// The goldens; `None` where there is no file.
    ///
    /// # Errors
    /// When the file can't be read, something in it is wrong, or it is of another experiment.
    pub fn golden(&self) -> Result<Option<Golden>, GoldenError> {
        let Some(golden) = golden_at(&self.golden)? else { return Ok(None) };
        self.is_own(&self.golden, &golden.experiment)?;
        Ok(Some(golden))
    }

    /// The goldens, which must be there.
    ///
    /// # Errors
    /// As [`Files::golden`], and when there is no file.
    pub fn existing(&self) -> Result<Golden, GoldenError> {
        let missing = || GoldenError::NoGoldens { experiment: self.experiment.clone(), path: self.golden.clone() };
        self.golden()?.ok_or_else(missing)
    }

    /// The changes that wait; `None` where there is no file.
    ///
    /// # Errors
    /// As [`Files::golden`].
    pub fn proposal(&self) -> Result<Option<Proposal>, GoldenError> {
        let path = self.proposal_path();
        let Some(document) = read::<Proposal>(&path)? else { return Ok(None) };
        let set = document.value.changes().filter_map(|(variant, address, change)| match change {
            Change::Set(entry) => Some((place(variant, address, Some("set")), entry)),
            Change::Remove(_) => None,
        });
        check(&document, &path, set.collect())?;
        self.is_own(&path, &document.value.experiment)?;
        Ok(Some(document.value))
    }

    /// The changes that wait, which must be there.
    ///
    /// # Errors
    /// As [`Files::proposal`], and when there is no file.
    pub fn pending(&self) -> Result<Proposal, GoldenError> {
        let missing = || GoldenError::NoProposal { experiment: self.experiment.clone(), path: self.proposal_path() };
        self.proposal()?.ok_or_else(missing)
    }

    /// Writes the goldens in place of what they were.
    ///
    /// # Errors
    /// When the disk refuses; the file is then what it was.
    pub fn write_golden(&self, golden: &Golden) -> Result<(), GoldenError> {
        write(&self.golden, golden)
    }

    /// Writes the changes that wait; without any, removes the file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_proposal(&self, proposal: &Proposal) -> Result<(), GoldenError> {
        let path = self.proposal_path();
        if proposal.changes().next().is_some() {
            return write(&path, proposal);
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let source = StoreError::Io { verb: "remove", path: path.clone(), error };
                Err(GoldenError::Unwritten { path, source })
            }
            _ => Ok(()),
        }
    }

    fn is_own(&self, path: &FilePath, found: &Name) -> Result<(), GoldenError> {
        match *found == self.experiment {
            true => Ok(()),
            false => Err(GoldenError::OfAnother {
                path: path.to_path_buf(),
                found: found.clone(),
                wanted: self.experiment.clone(),
            }),
        }
    }
}

/// The goldens of a file, whichever experiment it is of; `None` where there is none.
fn golden_at(path: &FilePath) -> Result<Option<Golden>, GoldenError> {
    let Some(document) = read::<Golden>(path)? else { return Ok(None) };
    let entries = document.value.entries().map(|(variant, address, entry)| (place(variant, address, None), entry));
    check(&document, path, entries.collect())?;
    Ok(Some(document.value))
}

/// The experiments that have goldens in a folder, or changes that wait, sorted. A folder that isn't there has none.
pub fn experiments_in(folder: &FilePath) -> Vec<Name> {
    let files =
        fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let name = |file: String| {
        let name = file.strip_suffix(".new").unwrap_or(&file).strip_suffix(".yaml")?;
        Name::try_from(name.to_owned()).ok()
    };
    files.filter_map(name).collect::<BTreeSet<_>>().into_iter().collect()
}

fn read<T: DeserializeOwned>(path: &FilePath) -> Result<Option<Document<T>>, GoldenError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(document::read(&path.display().to_string(), bytes, KIND)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(GoldenError::Unreadable { path: path.to_path_buf(), error }),
    }
}

fn place(variant: &str, address: &super::Address, below: Option<&str>) -> Path {
    let address = address.to_string();
    let keys = ["variants", variant, &address].into_iter().chain(below);
    Path(keys.map(|key| Segment::Key(key.into())).collect())
}

/// The rules about several values, entry by entry.
fn check<T>(document: &Document<T>, path: &FilePath, entries: Vec<(Path, &Entry)>) -> Result<(), GoldenError> {
    let problem = |(place, (below, message)): (&Path, (Path, String))| {
        let place = Path(place.0.iter().chain(&below.0).cloned().collect());
        Problem::new(document.locate(&place), format!("`{place}`: {message}"))
    };
    let found = entries.iter().flat_map(|(place, entry)| entry.problems().into_iter().map(move |found| (place, found)));
    let problems: Vec<Problem> = found.map(problem).collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(SpecErrors { file: path.display().to_string(), problems }.into()),
    }
}

/// A value as YAML: maps sorted, numbers exact.
fn yaml<T: Serialize>(value: &T) -> String {
    let mut bytes = HEADER.as_bytes().to_vec();
    // Goldens are maps with text keys, lists, texts and finite numbers, all of which YAML can spell.
    serde_yaml::with::singleton_map_recursive::serialize(value, &mut serde_yaml::Serializer::new(&mut bytes))
        .expect("a value that YAML can spell");
    String::from_utf8(bytes).expect("YAML is written as UTF-8")
}

/// Writes what reads back equal. The emitter loses blanks behind some characters that YAML takes for the end of a line.
fn write<T: Serialize + DeserializeOwned + PartialEq>(path: &FilePath, value: &T) -> Result<(), GoldenError> {
    let text = yaml(value);
    let again = document::read::<T>(&path.display().to_string(), text.clone().into_bytes(), KIND);
    if !again.is_ok_and(|again| again.value == *value) {
        return Err(GoldenError::Lossy { path: path.to_path_buf() });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(FilePath::new("."));
    let created = fs::create_dir_all(folder).map_err(|error| StoreError::io("create", folder, error));
    let path = folder.join(path.file_name().unwrap_or_default());
    created
        .and_then(|()| files::write(&path, text.as_bytes()))
        .map_err(|source| GoldenError::Unwritten { path, source })
}
