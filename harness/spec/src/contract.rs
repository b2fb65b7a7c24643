//! What `reprise` and `reprise-trainer` say to each other.
//!
//! `reprise` starts `reprise-trainer REQUEST` with the path of a [`Request`] as JSON. The trainer answers with [`Event`]s, one JSON
//! line each, on its original standard output, [`Event::Hello`] first; its descriptor 1 then points at standard error, because native
//! libraries print. It ends when its standard input closes; TERM means: write a checkpoint and exit 130.
//!
//! Work that belongs to no stage goes the same way: `reprise-trainer tool REQUEST` with a [`ToolRequest`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use crate::extraction::{Extract, Label};
use crate::identity::{OutputDigest, StageKey};
use crate::language_model::LmTool;
use crate::stage::{Role, Stage};

/// The version of this contract; both sides refuse another.
pub const VERSION: u32 = 1;

/// What to execute, on what, and where to put it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Request {
    pub contract: u32,
    pub key: StageKey,
    pub stage: Stage,
    /// Present exactly when the stage draws.
    pub seed: Option<u64>,
    pub inputs: Vec<Input>,
    /// A stored stage that trained the same for fewer steps, to go on from where there is no newer checkpoint in `work`. It saves time and
    /// changes no bit, so it is no input.
    pub prefix: Option<Prefix>,
    /// Where the files of a corpus lie; present for every stage that reads audio, transcripts or alignments.
    pub data: Option<DataSource>,
    /// The folder of this stage's attempt: `out/` for outputs, `checkpoints/`, `metrics.log`.
    pub work: PathBuf,
    pub device: Device,
    /// Intra-op threads.
    pub threads: u32,
    /// Threads that load audio while the stage computes; they change no bit.
    #[serde(default = "one")]
    pub loader_threads: u32,
    /// Whether a training computes the layers of its encoder again in the backward pass instead of keeping what they computed; changes no bit.
    #[serde(default)]
    pub recompute: bool,
    /// Seconds between checkpoints.
    pub checkpoint_seconds: u32,
    /// 1 for the first life of this stage's work, 2 after one kill, …
    pub attempt: u32,
}

fn one() -> u32 {
    1
}

/// Work that belongs to no stage: nothing of it has a key, and nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToolRequest {
    pub contract: u32,
    pub tool: Tool,
    /// The folder of a tool that continues where it was stopped; none for the others.
    pub work: Option<PathBuf>,
    pub device: Device,
    /// Intra-op threads.
    pub threads: u32,
}

/// What the trainer does beside stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// A folder of Hugging Face `transformers` to a model folder.
    ImportHf(Exchange),
    /// A state dict of torchaudio with its arguments beside it to a model folder.
    ImportTorchaudio(Exchange),
    /// A converted checkpoint of fairseq with its settings beside it to a model folder.
    ImportFairseq(Exchange),
    /// A model folder to a folder of `transformers`.
    ExportHf(Exchange),
    /// Computes hidden states of audio files.
    Extract(Extract),
    /// Labels audio files with a codebook.
    Label(Label),
    /// Makes, converts or asks a language model.
    Lm(LmTool),
}

/// A model and where it goes in another form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exchange {
    pub from: PathBuf,
    /// A folder that isn't there yet.
    pub to: PathBuf,
}

/// The output of an earlier stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Input {
    pub role: Role,
    pub key: StageKey,
    pub digest: OutputDigest,
    /// The folder with the output's files.
    pub path: PathBuf,
}

/// The output of a stage that trained the same for fewer steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Prefix {
    pub key: StageKey,
    pub digest: OutputDigest,
    /// The folder with the output's files.
    pub path: PathBuf,
}

/// The files of a corpus on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataSource {
    /// The folder that relative paths in `utterances.tsv` and in `files` start from.
    pub root: PathBuf,
    /// For stages that take files in: these, as `sha256  size  path` lines sorted by path.
    pub files: Option<PathBuf>,
}

/// Where tensors live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    Cpu,
    Cuda(u32),
}

/// What the trainer says while it works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The first event.
    Hello { contract: u32, build: String, environment: BTreeMap<String, String> },
    /// How far the stage is; `note` is for people, such as the current loss.
    Progress { done: u64, total: u64, unit: String, note: String },
    /// A whole checkpoint was written after this step.
    Checkpoint { step: u64 },
    /// Something for the log that a person may want to know.
    Log { level: Level, message: String },
    /// The outputs are whole. `summary` holds the numbers that listings show.
    Done { summary: Vec<Score> },
    /// The stage ended without a result.
    Failed { class: Failure, message: String, help: Option<String> },
    /// The stage was asked to stop and has written a checkpoint, if it writes any.
    Interrupted { step: Option<u64> },
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Info,
    Warning,
}

/// Who can do something about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The user: data, settings, disk space (exit 2).
    Refused,
    /// The stage could not do its work (exit 3).
    Stage,
}

/// One number of a result, with its interval where it has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Score {
    /// The field's name in kebab case: `wer`, `cer`, `pnmi`, `masked-accuracy`.
    pub name: String,
    /// JSON has no word for what isn't finite and says null, which is read as NaN.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// The ends of the interval.
    #[serde(default, deserialize_with = "interval")]
    pub interval: Option<(f64, f64)>,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(f64, f64)>, D::Error> {
    let ends: Option<(Option<f64>, Option<f64>)> = Option::deserialize(deserializer)?;
    Ok(ends.map(|(low, high)| (low.unwrap_or(f64::NAN), high.unwrap_or(f64::NAN))))
}
