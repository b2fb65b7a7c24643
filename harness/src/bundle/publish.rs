//! Makes a bundle of runs of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use reprise_spec::identity::{BundleId, OutputDigest, StageKey};
use sha2::{Digest, Sha256};

use super::about::{self, About, Licences};
use super::derived::json;
use super::part::{self, Part};
use super::sums::{self, Sums};
use super::{BundleError, STORE, archive, clean, derived, experiment, ro_crate};
use crate::provenance::{BUILD, secrets};
use crate::store::{LeftOut, ManifestFile, RunRecord, Store, StoredOutput, left_out, manifest, recipe, run};

/// What stands in every bundle's README.
const README: &str = include_str!("readme.md");

/// What is to be published.
#[derive(Debug)]
pub struct Publication<'a> {
    pub store: &'a Store,
    pub experiment: experiment::Files,
    /// Finished runs of the experiment.
    pub runs: Vec<RunRecord>,
    pub missing: Vec<about::Missing>,
    /// The large files that go in.
    pub parts: BTreeSet<Part>,
    pub licences: Licences,
    /// Further files by name: licences, goldens.
    pub beside: BTreeMap<String, Vec<u8>>,
}

/// Where a bundle goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Folder(PathBuf),
    Archive(PathBuf),
}

/// The files of a bundle before they are written.
#[derive(Debug)]
pub struct Draft {
    pub about: About,
    files: BTreeMap<String, Source>,
}

/// Where the bytes of a file come from.
#[derive(Debug)]
enum Source {
    Bytes(Vec<u8>),
    /// A file that has to be what a manifest says of it.
    Output {
        path: PathBuf,
        expected: ManifestFile,
    },
    /// Any other file of the store.
    Copy(PathBuf),
}

impl Target {
    /// An archive where the name says so.
    pub fn of(path: PathBuf) -> Self {
        match path.extension().is_some_and(|extension| extension == "tar") {
            true => Self::Archive(path),
            false => Self::Folder(path),
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Archive(path) => path,
        }
    }
}

impl Draft {
    /// What a publication comes to, without the files that are made of its store.
    ///
    /// # Errors
    /// When an output of a run is no longer stored whole.
    pub fn new(publication: Publication<'_>) -> Result<Self, BundleError> {
        let Publication { store, experiment, runs, missing, parts, licences, beside } = publication;
        let newest = runs.iter().flat_map(|run| &run.attempts).filter_map(|attempt| attempt.ended).max();
        let of_run = |run: &RunRecord| about::Run {
            id: run.id.clone(),
            spec: run.spec,
            variant: run.variant,
            variant_name: run.variant_name.clone(),
            seed: run.seed,
        };
        let about = About {
            format: about::FORMAT,
            experiment: about::Experiment {
                name: experiment.experiment.name.to_string(),
                question: experiment.experiment.question.clone(),
                spec: experiment.experiment.spec_hash(),
                file: experiment.entry.clone(),
            },
            runs: runs.iter().map(of_run).collect(),
            missing,
            holds: parts,
            left_out: about::LeftOut::default(),
            withheld: Vec::new(),
            licences,
            newest: newest.unwrap_or(Timestamp::UNIX_EPOCH),
            build: BUILD.into(),
        };
        let mut draft = Self { about, files: BTreeMap::new() };
        let recognisers = runs.iter().filter_map(|run| part::recogniser(run, store)).collect();
        for run in &runs {
            draft.add_run(run, store, &experiment.entry)?;
            for stage in &run.stages {
                let stored = stage.state.digest().and_then(|digest| store.output(&stage.key, &digest));
                let output = stored.filter(StoredOutput::is_whole).ok_or_else(|| {
                    BundleError::unpublishable(
                        format!("`{}` of run {} is not stored whole", stage.name, run.id),
                        "run the experiment again: what is missing is executed anew",
                    )
                })?;
                draft.add_output(output, &recognisers)?;
            }
        }
        for (name, bytes) in experiment.files {
            if secrets::holds_secret(&String::from_utf8_lossy(&bytes)) {
                return Err(BundleError::unpublishable(
                    format!("{name} looks as if it held a secret"),
                    "take the token, key or password out of the experiment",
                ));
            }
            draft.put(format!("experiment/{name}"), bytes);
        }
        draft.files.extend(beside.into_iter().map(|(name, bytes)| (name, Source::Bytes(bytes))));
        draft.put("README.md".into(), README.into());
        Ok(draft)
    }

    /// Bytes of all files so far.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn size(&self) -> Result<u64, BundleError> {
        let size = |source: &Source| match source {
            Source::Bytes(bytes) => Ok(bytes.len() as u64),
            Source::Output { expected, .. } => Ok(expected.size),
            Source::Copy(path) => {
                fs::metadata(path).map(|meta| meta.len()).map_err(|error| BundleError::io("read", path, error))
            }
        };
        self.files.values().map(size).sum()
    }

    /// How many files there are so far.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    fn put(&mut self, name: String, bytes: Vec<u8>) {
        self.files.insert(name, Source::Bytes(bytes));
    }

    fn add_run(&mut self, record: &RunRecord, store: &Store, entry: &str) -> Result<(), BundleError> {
        let folder = format!("{STORE}/runs/{}", record.id);
        let recipe = store.recipe(record)?.ok_or_else(|| {
            BundleError::unpublishable(
                format!("run {} has no recipe: it was made by a program that recorded none", record.id),
                "run the experiment again with this program",
            )
        })?;
        let lists = |experiment: &reprise_spec::experiment::Experiment| experiment.corpus().map(|corpus| corpus.lists);
        let known = lists(&recipe.experiment).unwrap_or_default();
        for list in known.values() {
            let name = format!("experiment/{}", reprise_spec::read::beside(entry, list.as_str()));
            self.files.entry(name).or_insert_with(|| Source::Copy(recipe.file.with_file_name("").join(list.as_str())));
        }
        let patch = store.changes(&record.id);
        if let Ok(bytes) = fs::read(&patch) {
            let name = format!("{folder}/{}", run::CHANGES);
            match secrets::holds_secret(&String::from_utf8_lossy(&bytes)) {
                true => self.about.withheld.push(name),
                false => self.put(name, bytes),
            }
        }
        let text = experiment::without_folder(&store.experiment_text(&record.id)?);
        self.put(format!("{folder}/{}", run::TEXT), text.into_bytes());
        self.put(format!("{folder}/{}", run::CANONICAL), store.canonical(&record.id)?);
        self.put(format!("{folder}/{}", recipe::FILE), json(&clean::recipe(recipe, entry)));
        self.put(format!("{folder}/{}", run::FILE), json(&clean::record(record.clone())));
        Ok(())
    }

    fn add_output(
        &mut self,
        output: StoredOutput,
        recognisers: &BTreeSet<(StageKey, OutputDigest)>,
    ) -> Result<(), BundleError> {
        let StoredOutput { path, manifest } = &output;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = format!("{STORE}/stages/{}/{name}", manifest.key.hex());
        let record = format!("{folder}/{}", manifest::FILE);
        if self.files.contains_key(&record) {
            return Ok(());
        }
        let mut omitted = Vec::new();
        for file in &manifest.files {
            match part::of(manifest, &file.name, recognisers) {
                Some(part) if !self.about.holds.contains(&part) => {
                    self.about.left_out.files += 1;
                    self.about.left_out.bytes += file.size;
                    omitted.push(file.clone());
                }
                _ => {
                    let source = Source::Output { path: output.out().join(&file.name), expected: file.clone() };
                    self.files.insert(format!("{folder}/out/{}", file.name), source);
                }
            }
        }
        if !omitted.is_empty() {
            self.put(format!("{folder}/{}", left_out::FILE), json(&LeftOut::new(omitted)));
        }
        // What the stage logged, and which files of the corpus it read.
        for name in ["metrics.log", "files.txt"] {
            let path = path.join(name);
            if path.is_file() {
                self.files.insert(format!("{folder}/{name}"), Source::Copy(path));
            }
        }
        self.put(record, json(&clean::manifest(manifest.clone())));
        Ok(())
    }

    /// Writes the bundle. `report` renders what stands in `report/` from the bundle's store.
    ///
    /// # Errors
    /// When the target is there already, the disk refuses, or a file of the store isn't what its manifest says.
    pub fn write(self, target: &Target, report: Renderer<'_>) -> Result<BundleId, BundleError> {
        let path = target.path();
        if fs::symlink_metadata(path).is_ok() {
            let message = format!("{} is there already", path.display());
            return Err(BundleError::unpublishable(message, "name another place with --to, or move it away"));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fail = |error| BundleError::io("write", path, error);
        let folder = tempfile::Builder::new().prefix(".new-").tempdir_in(parent).map_err(fail)?;
        let (root, id) = (folder.path().join("bundle"), self.write_folder(&folder.path().join("bundle"), report)?);
        match target {
            Target::Folder(path) => fs::rename(&root, path).map_err(fail)?,
            Target::Archive(path) => {
                let mut names = Vec::new();
                super::walk(&root, "", &mut names)?;
                names.sort();
                let file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent).map_err(fail)?;
                archive::write(&root, names.iter().map(|(name, _)| name), file.as_file().try_clone().map_err(fail)?)?;
                readable(file.as_file()).map_err(fail)?;
                file.persist_noclobber(path).map_err(|error| fail(error.error))?;
            }
        }
        Ok(id)
    }

    fn write_folder(self, root: &Path, report: Renderer<'_>) -> Result<BundleId, BundleError> {
        let mut writer = Writer { root, written: BTreeMap::new() };
        for (name, source) in &self.files {
            writer.write(name, source)?;
        }
        let store = Store::at(root.join(STORE));
        let runs = self.about.runs.iter().map(|run| Ok(store.run(run.id.as_str())?.record));
        let runs: Vec<RunRecord> = runs.collect::<Result<Vec<_>, BundleError>>()?.into_iter().flatten().collect();
        let metrics = derived::metrics(&runs, &store);
        writer.write(derived::PLAN, &Source::Bytes(derived::plan(&runs, &store)))?;
        writer.write(derived::METRICS, &Source::Bytes(json(&metrics)))?;
        writer.write(derived::METRICS_TABLE, &Source::Bytes(derived::table(&metrics).into_bytes()))?;
        writer.write(about::FILE, &Source::Bytes(json(&self.about)))?;
        for (name, bytes) in report(root, &self.about)? {
            writer.write(&format!("report/{name}"), &Source::Bytes(bytes))?;
        }
        let described = ro_crate::describe(&self.about, &runs, &store, &writer.written);
        writer.write(ro_crate::FILE, &Source::Bytes(json(&described)))?;
        let sums = Sums(writer.written.iter().map(|(name, file)| (name.clone(), file.sha256.clone())).collect());
        writer.write(sums::FILE, &Source::Bytes(sums.to_string().into_bytes()))?;
        Ok(sums.id())
    }
}

/// Renders the files of `report/`, by name, for a bundle that lies in a folder.
pub type Renderer<'a> = &'a dyn Fn(&Path, &About) -> Result<BTreeMap<String, Vec<u8>>, BundleError>;

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub size: u64,
    /// In hex.
    pub sha256: String,
}

struct Writer<'a> {
    root: &'a Path,
    written: BTreeMap<String, Written>,
}

impl Writer<'_> {
    fn write(&mut self, name: &str, source: &Source) -> Result<(), BundleError> {
        super::names::portable(name).map_err(|why| {
            BundleError::unpublishable(format!("the name of a file {why}"), "publish a run whose files have such names")
        })?;
        let path = self.root.join(name);
        let fail = |error| BundleError::io("write", &path, error);
        fs::create_dir_all(path.parent().unwrap_or(self.root)).map_err(fail)?;
        let mut to = Hashed { file: File::create_new(&path).map_err(fail)?, sha256: Sha256::new() };
        let from = |path: &Path| File::open(path).map_err(|error| BundleError::io("read", path, error));
        let size = match source {
            Source::Bytes(bytes) => io::copy(&mut bytes.as_slice(), &mut to),
            Source::Output { path, .. } | Source::Copy(path) => io::copy(&mut from(path)?, &mut to),
        };
        let (size, sha256) = (size.map_err(fail)?, hex::encode(to.sha256.finalize()));
        match source {
            Source::Output { path, expected } if (size, &sha256) != (expected.size, &expected.sha256) => {
                return Err(BundleError::unpublishable(
                    format!("{} is damaged: its manifest has another checksum", path.display()),
                    "move the folder of that output out of the store and run the experiment again",
                ));
            }
            _ => {}
        }
        self.written.insert(name.to_owned(), Written { size, sha256 });
        Ok(())
    }
}

/// A file whose checksum is taken while it is written.
struct Hashed {
    file: File,
    sha256: Sha256,
}

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Temporary files start private; a bundle is as readable as the folder that it lies in.
fn readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}
