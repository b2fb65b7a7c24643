//! Executes one stage under its lease: the request, the trainer, and the output that becomes whole by one rename.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use reprise_spec::contract::{self, DataSource, Device, Event, Failure, Input, Prefix, Request, Score};
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::stage::{
    CorpusPart, LanguageModelStage, LexiconStage, ProbeStage, Stage, UnitSource, WordPairsStage, WordVectorsStage,
};

use super::chosen::Inputs;
use super::trainer::{self, Ended, Launch};
use super::{ExecuteError, Happening, Interrupt, Job};
use crate::data::{DataError, FileList, Hasher, NamedFiles};
use crate::digest;
use crate::lease::{self, Lease};
use crate::plan::{Node, Part};
use crate::store::{FILES, Manifest, ManifestInput, StoreError, files, manifest};

/// The name of the request, below `work/`.
const REQUEST: &str = "request.json";

/// A stage that is to be executed: its node, with all that a plan can leave open settled.
pub struct Ready<'a> {
    pub node: &'a Node,
    pub stage: &'a Stage,
    pub key: StageKey,
    pub inputs: Inputs,
}

/// What the execution of a stage gave.
pub struct Made {
    pub digest: OutputDigest,
    pub seconds: f64,
    pub summary: Vec<Score>,
    pub environment: BTreeMap<String, String>,
}

impl From<Manifest> for Made {
    fn from(manifest: Manifest) -> Self {
        let Manifest { digest, seconds, summary, environment, .. } = manifest;
        Self { digest, seconds, summary, environment }
    }
}

/// What an earlier attempt had finished.
pub enum Recovered {
    Stored(Made),
    /// Nothing: the lease is still needed.
    Nothing(Lease),
}

/// How a stage ended without an output; the run gives it its name.
pub enum Unmade {
    Failed { class: Failure, message: String, help: Option<String>, log: Option<String> },
    Interrupted,
    Error(Box<ExecuteError>),
}

impl<E: Into<ExecuteError>> From<E> for Unmade {
    fn from(error: E) -> Self {
        Self::Error(Box::new(error.into()))
    }
}

/// Stores what an earlier attempt had finished when it was killed: the manifest is written when all else is on disk.
pub fn recover(job: &Job<'_>, ready: &Ready<'_>, lease: Lease) -> Result<Recovered, ExecuteError> {
    let work = lease.work();
    let path = work.join(manifest::FILE);
    if !path.exists() {
        return Ok(Recovered::Nothing(lease));
    }
    let (read, prefix) = ready.inputs.recorded();
    let whole = |manifest: &Manifest| {
        manifest.key == ready.key
            && manifest.serves(&read, prefix)
            && digest::output(&work.join("out")).is_ok_and(|found| found == (manifest.digest, manifest.files.clone()))
    };
    match Manifest::read(&path).ok().filter(whole) {
        Some(manifest) => publish(job, &manifest, lease).map(|()| Recovered::Stored(Made::from(manifest))),
        None => Ok(Recovered::Nothing(lease)),
    }
}

/// Which attempt at this stage it is, once `work/` is ready for it: what an earlier attempt with the same inputs, device and threads left
/// is continued, anything else is cleared away. `out/` starts empty.
pub fn prepare(job: &Job<'_>, ready: &Ready<'_>, lease: &Lease) -> Result<Request, ExecuteError> {
    let work = absolute(&lease.work());
    let inputs: Vec<Input> = ready.inputs.read.iter().map(|(input, path)| as_input(input, path)).collect();
    let means = job.machine.means;
    let mut request = Request {
        contract: contract::VERSION,
        key: ready.key,
        stage: ready.stage.clone(),
        seed: ready.node.seed,
        inputs,
        prefix: ready.inputs.prefix.as_ref().map(|(of, path)| Prefix {
            key: of.key,
            digest: of.digest,
            path: absolute(path),
        }),
        data: data_source(job, ready.stage, &work)?,
        work: work.clone(),
        device: means.device,
        threads: means.threads,
        loader_threads: means.loader_threads,
        recompute: means.recompute,
        checkpoint_seconds: means.checkpoint_seconds,
        attempt: 1,
    };
    let before = fs::read(work.join(REQUEST)).ok().and_then(|bytes| serde_json::from_slice::<Request>(&bytes).ok());
    match before {
        Some(before) if continues(&before, &request) => request.attempt = before.attempt.saturating_add(1),
        _ => clear(&work, |name| name == "lease")?,
    }
    clear(&work, |name| !["out", manifest::FILE].contains(&name))?;
    let out = work.join("out");
    fs::create_dir_all(&out).map_err(|error| StoreError::io("create", &out, error))?;
    if let Some(list) = file_list(job, ready.stage) {
        files::write(&work.join(FILES), list.to_string().as_bytes())?;
    }
    files::write_json(&work.join(REQUEST), &request)?;
    Ok(request)
}

fn as_input(input: &ManifestInput, path: &Path) -> Input {
    Input { role: input.role.clone(), key: input.key, digest: input.digest, path: absolute(path) }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Whether checkpoints of an earlier attempt lead to the output that is asked for now.
fn continues(before: &Request, now: &Request) -> bool {
    let read = |request: &Request| -> Vec<_> {
        request.inputs.iter().map(|input| (input.role.clone(), input.key, input.digest)).collect()
    };
    before.contract == now.contract
        && before.key == now.key
        && before.seed == now.seed
        && before.device == now.device
        && before.threads == now.threads
        && read(before) == read(now)
        && before.prefix.as_ref().map(|prefix| prefix.digest) == now.prefix.as_ref().map(|prefix| prefix.digest)
}

/// Removes everything in a folder but what is kept. Links are removed, never followed.
fn clear(folder: &Path, keep: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    let fail = |error| StoreError::io("clear", folder, error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.file_name().to_str().is_some_and(&keep) {
            continue;
        }
        match entry.file_type().map_err(fail)?.is_dir() {
            true => fs::remove_dir_all(entry.path()).map_err(fail)?,
            false => fs::remove_file(entry.path()).map_err(fail)?,
        }
    }
    Ok(())
}

fn file_list<'a>(job: &'a Job<'_>, stage: &Stage) -> Option<&'a FileList> {
    let Stage::Corpus(corpus) = stage else { return named_files(job, stage).map(|files| &files.list) };
    let part = match corpus.part {
        CorpusPart::Utterances { .. } => Part::Utterances,
        CorpusPart::Alignments => Part::Alignments,
    };
    job.corpus.lists.get(&(corpus.split.clone(), part))
}

/// What a stage takes in that is not of the corpus.
fn named_files<'a>(job: &'a Job<'_>, stage: &Stage) -> Option<&'a NamedFiles> {
    match stage {
        Stage::Checkpoint(checkpoint) => job.corpus.checkpoint(checkpoint.content),
        Stage::LanguageModel(LanguageModelStage::File { content, .. })
        | Stage::Lexicon(LexiconStage { content })
        | Stage::WordVectors(WordVectorsStage { content })
        | Stage::WordPairs(WordPairsStage { content }) => job.corpus.file(*content),
        _ => None,
    }
}

/// Where the trainer finds the files of the corpus, for stages that read any.
fn data_source(job: &Job<'_>, stage: &Stage, work: &Path) -> Result<Option<DataSource>, DataError> {
    let reads = match stage {
        Stage::Units(units) => matches!(units.source, UnitSource::Layer { .. }),
        Stage::Corpus(_) | Stage::Features(_) | Stage::Pretrain(_) | Stage::Finetune(_) | Stage::Decode(_) => true,
        Stage::Probe(ProbeStage::UnitQuality(_) | ProbeStage::Layers(_)) | Stage::Checkpoint(_) => true,
        Stage::LanguageModel(_) | Stage::Lexicon(_) | Stage::Tune(_) => true,
        Stage::WordVectors(_) | Stage::WordPairs(_) => true,
    };
    if !reads {
        return Ok(None);
    }
    let root = named_files(job, stage).map(|files| files.root.as_path());
    let root = absolute(root.map_or_else(|| job.corpus.located(), Ok)?);
    Ok(Some(DataSource { root, files: file_list(job, stage).map(|_| work.join(FILES)) }))
}

/// Runs the trainer and stores what it gave.
pub fn execute(
    job: &Job<'_>,
    ready: &Ready<'_>,
    request: &Request,
    lease: Lease,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Happening<'_>),
) -> Result<Made, Unmade> {
    let (started, clock) = (Timestamp::now(), Instant::now());
    let path = request.work.join(REQUEST);
    let launch = Launch { arguments: &[path.as_os_str()], log: lease.work().join(lease::LOG), lease: Some(&lease) };
    let ended = trainer::run(&job.machine, &launch, interrupt, observe)?;
    let summary = verdict(&ended)?;
    let seconds = clock.elapsed().as_secs_f64();

    let work = request.work.clone();
    let out = work.join("out");
    let (digest, files) = digest::output(&out).map_err(|error| Unmade::Failed {
        class: Failure::Stage,
        message: error.to_string(),
        help: None,
        log: ended.log.clone(),
    })?;
    let environment = environment(job, &ended);
    let (read, continued) = ready.inputs.recorded();
    let manifest = Manifest {
        format: manifest::FORMAT,
        key: ready.key,
        kind: ready.stage.kind().into(),
        settings: ready.stage.clone(),
        canonical: hex::encode(ready.stage.canonical()),
        seed: ready.node.seed,
        inputs: read,
        continued,
        digest,
        files,
        summary,
        environment,
        build: ended.build,
        started,
        finished: Timestamp::now(),
        seconds,
        attempts: request.attempt,
    };
    files::sync_tree(&work)?;
    manifest.write(&work)?;
    publish(job, &manifest, lease)?;
    Ok(Made::from(manifest))
}

/// Makes a stored output of `work/`, whose manifest is written. Checkpoints stay until then, so that nothing trained is lost to a kill.
fn publish(job: &Job<'_>, manifest: &Manifest, lease: Lease) -> Result<(), ExecuteError> {
    let work = lease.work();
    clear(&work, |name| name != "checkpoints")?;
    let name = free_name(&job.store.stage_folder(&manifest.key), &manifest.digest);
    match lease.commit(&name)? {
        true => Ok(()),
        false => Err(StoreError::Lost { path: work }.into()),
    }
}

/// `<digest12>`, with a number behind it where the same output was made from other inputs, or a damaged folder is in the way.
fn free_name(folder: &Path, digest: &OutputDigest) -> String {
    let short = digest.short();
    let free = |name: &String| fs::symlink_metadata(folder.join(name)).is_err();
    let mut names = std::iter::once(short.clone()).chain((2u32..).map(|count| format!("{short}-{count}")));
    names.find(free).unwrap_or(short)
}

/// The scores of a trainer that did its work, or how it ended otherwise.
pub fn verdict(ended: &Ended) -> Result<Vec<Score>, Unmade> {
    let failed = |class, message, help| Unmade::Failed { class, message, help, log: ended.log.clone() };
    match &ended.verdict {
        Some(Event::Done { summary }) if ended.status.success() => Ok(summary.clone()),
        Some(Event::Interrupted { .. }) => Err(Unmade::Interrupted),
        _ if ended.asked => Err(Unmade::Interrupted),
        Some(Event::Failed { class, message, help }) => Err(failed(*class, message.clone(), help.clone())),
        _ => {
            let meaning = trainer::signal_meaning(ended.status);
            let message = meaning.unwrap_or_else(|| format!("the trainer ended without a result ({})", ended.status));
            Err(failed(Failure::Stage, message, Some("run again: what earlier stages made is kept".into())))
        }
    }
}

/// What the stage was executed with: what the trainer says, the digest of its libtorch, and what was set for it.
fn environment(job: &Job<'_>, ended: &Ended) -> BTreeMap<String, String> {
    let mut environment = ended.environment.clone();
    let means = job.machine.means;
    let device = match means.device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
    };
    environment.insert("device".into(), device);
    environment.insert("threads".into(), means.threads.to_string());
    environment.extend(trainer::determinism(means.threads).map(|(name, value)| (name.to_owned(), value)));
    for name in ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"] {
        if let Ok(value) = std::env::var(name) {
            environment.insert(name.into(), value);
        }
    }
    let hash = |path: &PathBuf| Hasher::new(job.machine.cache.clone(), false, &mut |_| {}).digest(path).ok();
    if let Some(digest) = ended.libtorch.as_ref().and_then(hash) {
        environment.insert("libtorch-cpu-sha256".into(), hex::encode(digest));
    }
    environment
}
