//! Models and codebooks as people name them: by a run, by what a stage made, or by a folder.

use std::fs;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::extraction::Made;
use reprise_spec::stage::{Role, UnitSource};
use thiserror::Error;

use crate::digest::{self, DigestError};
use crate::store::{Manifest, ManifestInput, RunRecord, StageRecord, Store, StoreError, StoredOutput, manifest};

/// The file that makes a folder a model.
const MODEL: &str = "model.json";
/// The file that makes a folder units.
const UNITS: &str = "units.json";
/// Hex digits of a stage or an output that are enough to look for one.
const SHORTEST: usize = 4;

/// Why a name leads to nothing that can be used.
#[derive(Debug, Error, Diagnostic)]
pub enum NameError {
    #[error("{name:?} is neither a run nor a stage's output of the store {}, nor a folder", .store.display())]
    #[diagnostic(help("`reprise list` shows runs, `reprise show RUN` the keys and outputs of their stages"))]
    Nothing { name: String, store: PathBuf },
    #[error("{name:?} is not a run of the store {}, so it has no iterations to choose from", .store.display())]
    #[diagnostic(help("name a run, or leave --iteration, --fine-tuned and --set out"))]
    NotARun { name: String, store: PathBuf },
    #[error("{name:?} is the beginning of several outputs: {}", .matches.join(", "))]
    #[diagnostic(help("give more of the digest of one of them"))]
    Ambiguous { name: String, matches: Vec<String> },
    #[error("{what} is not {wanted}")]
    #[diagnostic(help("{help}"))]
    Other { what: String, wanted: &'static str, help: &'static str },
    #[error("run {run} has no {what}")]
    #[diagnostic(help("`reprise show {run}` shows what it has; `reprise run` continues it"))]
    NotInRun { run: String, what: String },
    #[error("run {run} is damaged: {damage}")]
    #[diagnostic(help("name the output of one of its stages, or run the experiment again"))]
    DamagedRun { run: String, damage: String },
    #[error("nothing beside {folder} says which model's layer its codebook clusters", folder = .folder.display())]
    #[diagnostic(help(
        "name the run that it came from, or the stage's output in its store: the manifest there says it"
    ))]
    NoModel { folder: PathBuf },
    #[error("{what} is no longer stored")]
    #[diagnostic(help("run the experiment again: what is missing is executed anew"))]
    Gone { what: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Digest(#[from] DigestError),
}

/// Something on disk, and what is known of how it was made.
#[derive(Debug)]
struct Found {
    made: Made,
    manifest: Option<Manifest>,
}

/// Which of a run's models is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that the last iteration left, or the fine-tuned one where nothing was pretrained.
    Last,
    /// The one that this iteration left, counted from 1.
    Iteration(u32),
    /// The one that was fine-tuned.
    FineTuned,
}

/// The model that `name` means.
///
/// # Errors
/// When there is no such thing, or not one alone.
pub fn model(name: &str, which: Which, store: &Store) -> Result<Made, NameError> {
    let found = match run(name, store)? {
        Some(run) => {
            let trained = |what| trained(&run, what);
            let (pretrained, finetuned) = (trained("pretrain"), trained("finetune").last().copied());
            let (stage, what) = match which {
                Which::Iteration(number) => {
                    (pretrained.get((number as usize).wrapping_sub(1)).copied(), format!("model of iteration {number}"))
                }
                Which::FineTuned => (finetuned, "fine-tuned model".into()),
                Which::Last => (pretrained.last().copied().or(finetuned), "model".into()),
            };
            of_run(&run, stage, &what, store)?
        }
        None => stored(name, which != Which::Last, store)?,
    };
    match found.made.path.join(MODEL).is_file() {
        true => Ok(found.made),
        false => {
            let what = found.made.path.display().to_string();
            let help = "a model folder holds model.json and model.safetensors; `reprise import hf` makes one";
            Err(NameError::Other { what, wanted: "a model", help })
        }
    }
}

/// The codebook that `name` means, and the model whose layer it clusters where it clusters one: of a run the units that `iteration`
/// predicted, the last if none is given, and of these the set of this number.
///
/// # Errors
/// When there is no such thing, not one alone, or the model is gone.
pub fn codebook(
    name: &str,
    iteration: Option<u32>,
    set: Option<u32>,
    store: &Store,
) -> Result<(Made, Option<Made>), NameError> {
    let found = match run(name, store)? {
        Some(run) => {
            let pretrained = trained(&run, "pretrain");
            let at = iteration.map_or(pretrained.len(), |number| number as usize).wrapping_sub(1);
            let what = format!("iteration {}", at.wrapping_add(1));
            let pretrained = of_run(&run, pretrained.get(at).copied(), &what, store)?;
            let set = set.unwrap_or(0);
            let role = Role::Targets(set);
            let input = pretrained.manifest.as_ref().and_then(|manifest| input(manifest, &role));
            let missing = NameError::NotInRun { run: run.id.to_string(), what: format!("units {set} of {what}") };
            output(input.ok_or(missing)?, "a codebook", store)?
        }
        None => stored(name, iteration.or(set).is_some(), store)?,
    };
    let what = found.made.path.display().to_string();
    let source = fs::read(found.made.path.join(UNITS)).ok().and_then(|bytes| {
        let about: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        serde_json::from_value::<UnitSource>(about.get("source")?.clone()).ok()
    });
    let Some(source) = source else {
        let help = "name a run, or the output of one of its `units` stages";
        return Err(NameError::Other { what, wanted: "a folder of units", help });
    };
    if !matches!(source, UnitSource::Layer { .. }) {
        return Ok((found.made, None));
    }
    let model = found.manifest.as_ref().and_then(|manifest| input(manifest, &Role::Pretrained));
    let model = model.ok_or_else(|| NameError::NoModel { folder: found.made.path.clone() })?;
    let model = output(model, "the model whose layer the codebook clusters", store)?;
    Ok((found.made, Some(model.made)))
}

/// The run whose id starts with `name`, if it looks like one and there is any.
fn run(name: &str, store: &Store) -> Result<Option<RunRecord>, NameError> {
    let looks_like = !name.is_empty() && name.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    if !looks_like || Path::new(name).is_dir() {
        return Ok(None);
    }
    match store.run(name) {
        Ok(listed) => match listed.record {
            Ok(record) => Ok(Some(record)),
            Err(damage) => Err(NameError::DamagedRun { run: listed.id, damage }),
        },
        Err(StoreError::NoRun { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Places of the stages of a kind in a run: of those that train a model the ends of iterations, for branches and points on the way are no
/// iteration's model.
fn trained(run: &RunRecord, kind: &str) -> Vec<usize> {
    let of_kind = |stage: &StageRecord| stage.kind.split('/').next() == Some(kind);
    let ends = |point: Point| point.ends_iteration && (kind != "pretrain" || point.rate != Rate::CooledDown);
    let wanted = |stage: &StageRecord| of_kind(stage) && stage.point.is_none_or(ends);
    (0..run.stages.len()).filter(|&at| wanted(&run.stages[at])).collect()
}

/// The output of one stage of a run.
fn of_run(run: &RunRecord, stage: Option<usize>, what: &str, store: &Store) -> Result<Found, NameError> {
    let missing = || NameError::NotInRun { run: run.id.to_string(), what: what.into() };
    let stage = &run.stages[stage.ok_or_else(missing)?];
    let digest = stage.state.digest().ok_or_else(missing)?;
    let gone = || NameError::Gone { what: format!("the output of {} in run {}", stage.name, run.id) };
    Ok(store.output(&stage.key, &digest).ok_or_else(gone)?.into())
}

fn input<'a>(manifest: &'a Manifest, role: &Role) -> Option<&'a ManifestInput> {
    manifest.inputs.iter().find(|input| input.role == *role)
}

fn output(input: &ManifestInput, what: &str, store: &Store) -> Result<Found, NameError> {
    let gone = || NameError::Gone { what: format!("{what}, output:{}", input.digest.short()) };
    Ok(store.output(&input.key, &input.digest).ok_or_else(gone)?.into())
}

/// A folder, or the one output of the store whose digest or key starts with `name`. `chosen` says that something was chosen among what a
/// run has, which this is not.
fn stored(name: &str, chosen: bool, store: &Store) -> Result<Found, NameError> {
    if chosen {
        return Err(NameError::NotARun { name: name.into(), store: store.root().to_path_buf() });
    }
    let folder = Path::new(name);
    if folder.is_dir() {
        return of_folder(folder);
    }
    let digits = name.strip_prefix("output:").or_else(|| name.strip_prefix("stage:")).unwrap_or(name);
    let hex = digits.len() >= SHORTEST && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let mut outputs = if hex { store.outputs_named(&digits.to_ascii_lowercase()) } else { Vec::new() };
    match outputs.len() {
        0 => Err(NameError::Nothing { name: name.into(), store: store.root().to_path_buf() }),
        1 => Ok(outputs.remove(0).into()),
        _ => {
            let matches = outputs.iter().map(|output| format!("output:{}", output.manifest.digest.short())).collect();
            Err(NameError::Ambiguous { name: name.into(), matches })
        }
    }
}

/// A folder of files, or one of a store with its manifest.
fn of_folder(folder: &Path) -> Result<Found, NameError> {
    for (root, files) in [(Some(folder), folder.join("out")), (folder.parent(), folder.to_path_buf())] {
        let manifest = root.and_then(|root| Manifest::read(&root.join(manifest::FILE)).ok());
        if let Some(manifest) = manifest.filter(|_| files.ends_with("out") && files.is_dir()) {
            let path = std::path::absolute(&files).unwrap_or(files);
            return Ok(Found { made: Made { path, digest: manifest.digest }, manifest: Some(manifest) });
        }
    }
    let (digest, _) = digest::output(folder)?;
    let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    Ok(Found { made: Made { path, digest }, manifest: None })
}

impl From<StoredOutput> for Found {
    fn from(output: StoredOutput) -> Self {
        let path = output.out();
        let made = Made { path: std::path::absolute(&path).unwrap_or(path), digest: output.manifest.digest };
        Self { made, manifest: Some(output.manifest) }
    }
}
