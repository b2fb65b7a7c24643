//! Stages: the units of work, their settings, and the key that says what each should produce.

use serde::{Deserialize, Serialize};

use crate::canon;
use crate::corpus::Conversion;
use crate::decoding::{Beam, Bootstrap, Estimation, Search, Tuning, Weights};
use crate::finetuning::{Finetuning, Top};
use crate::identity::{ContentDigest, StageKey, sha256};
use crate::network::{FeatureKind, Network};
use crate::probing::{Analysis, Layers, UnitQuality};
use crate::strategy::{Carry, Clustering, Quantiser};
use crate::training::Pretraining;
use crate::values::{Clusters, Count, Fraction, Height, Log10, Order, SplitName, Steps};

/// One unit of work with everything that decides its result except its inputs and its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Corpus(CorpusStage),
    Checkpoint(CheckpointStage),
    Features(FeaturesStage),
    Units(UnitsStage),
    Pretrain(PretrainStage),
    Finetune(FinetuneStage),
    LanguageModel(LanguageModelStage),
    Lexicon(LexiconStage),
    Tune(TuneStage),
    Decode(DecodeStage),
    Probe(ProbeStage),
    WordVectors(WordVectorsStage),
    WordPairs(WordPairsStage),
}

/// Reads and checks one split of a corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CorpusStage {
    pub split: SplitName,
    /// The files that `part` reads.
    pub content: ContentDigest,
    pub part: CorpusPart,
}

/// Which files of a split are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CorpusPart {
    /// Audio, and transcripts where the split has them. Gives `utterances.tsv` and `excluded.tsv`.
    Utterances { transcribed: bool, conversion: Conversion, exclude_at_most: u32 },
    /// Word and phone times of utterances that an `Utterances` stage of the same split listed. Gives `phones.tsv` and `words.tsv`.
    Alignments,
}

/// Takes in a model folder that was made elsewhere. Gives its `model.safetensors` and `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckpointStage {
    /// Of the folder's files.
    pub content: ContentDigest,
}

/// Computes acoustic features of one split at 100 Hz. Gives `features.npy` (frames × dimensions, `f32`) and `utterances.tsv`
/// (id, frames), in the order of the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FeaturesStage {
    pub kind: FeatureKind,
}

/// Fits a codebook and labels splits with it. Gives `codebook.safetensors` (`centroids`, K × D), `labels.npy` (`u16`, all frames
/// of all labelled splits one after the other), `utterances.tsv` (split, id, frames).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnitsStage {
    pub source: UnitSource,
    pub clusters: Clusters,
    pub clustering: Clustering,
    /// Share of the utterances of `fit_on` that fit the codebook.
    pub fit: Fraction,
    pub fit_on: Vec<SplitName>,
    /// Splits to label beside `fit_on`.
    pub label: Vec<SplitName>,
}

/// What is clustered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum UnitSource {
    /// Acoustic features at 100 Hz.
    Features(FeatureKind),
    /// The MFCC features' columns of one order, `splice` neighbouring frames side by side, at 100 Hz.
    MfccSubspace { order: Order, splice: Count },
    /// A layer of the pretrained model among the inputs, at that layer's rate; layer 0 is the input of the Transformer stack.
    Layer { height: Height, after_final_norm: bool },
}

impl std::fmt::Display for UnitSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnitSource::Features(FeatureKind::Mfcc) => f.write_str("mfcc"),
            UnitSource::Features(FeatureKind::LogMel) => f.write_str("log-mel"),
            UnitSource::MfccSubspace { order, splice } => write!(f, "mfcc order {} × {}", order.get(), splice.get()),
            UnitSource::Layer { height, after_final_norm: false } => write!(f, "layer {}", height.get()),
            UnitSource::Layer { height, after_final_norm: true } => write!(f, "layer {} normalised", height.get()),
        }
    }
}

/// Trains one iteration, or the beginning of one. Gives `model.safetensors`, `model.json`, `validation.tsv` and `state.safetensors`, from which
/// a stage that trains the same for longer can go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PretrainStage {
    pub network: Network,
    /// With the peak and the warm-up of this iteration.
    pub pretraining: Pretraining,
    pub targets: PretrainTargets,
    /// Steps from the iteration's start to the end of this stage.
    pub steps: Steps,
    pub start: Start,
    pub span: Span,
    pub train_on: Vec<SplitName>,
    pub validate_on: Vec<SplitName>,
}

/// What an iteration starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Start {
    /// Random weights.
    Random,
    /// What `carry` takes over of the `Role::Start` among the inputs; what it leaves is new. `trained` counts the steps that led there since
    /// weights were last drawn at random: draws by step and by epoch go on from there, so that a warm start doesn't see the same batches again.
    Warm { carry: Carry, trained: u64 },
}

/// Where a stage lies in its learning-rate schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Span {
    /// Steps of the schedule before the iteration's first.
    pub before: u64,
    /// All steps of the schedule.
    pub total: u64,
    /// After this many steps of the iteration the rate leaves the schedule and falls in a line to zero at the stage's last step.
    pub cool_down_after: Option<u64>,
}

/// What an iteration predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PretrainTargets {
    /// The units among the inputs, `Role::Targets(0)` first: how many clusters each set has.
    Units(Vec<Clusters>),
    /// Entries of a quantiser that is trained along.
    Quantiser(Quantiser),
}

/// Trains a CTC model. Gives `model.safetensors`, `model.json`, `vocabulary.txt` and `validation.tsv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FinetuneStage {
    /// The network; equal to the pretrained one where there is one among the inputs, else drawn at random.
    pub network: Network,
    /// Without the fine-tunings beside this one.
    pub finetuning: Finetuning,
    pub top: Top,
    pub train_on: Vec<SplitName>,
    pub validate_on: Vec<SplitName>,
}

impl FinetuneStage {
    /// The network that is fine-tuned: without the layers that are taken away.
    pub fn tuned(&self) -> Network {
        let mut network = self.network.clone();
        if let Top::Removed(removed) = self.top {
            let left = network.encoder.layers.get().saturating_sub(removed.get());
            // No network is left without a layer: the language refuses to take all of them away.
            network.encoder.layers = Count::try_from(u64::from(left)).unwrap_or(network.encoder.layers);
        }
        network
    }
}

/// Makes an n-gram language model ready to be asked. Gives `lm.table`, which is memory-mapped, its words in `words.txt`, and `lm.json`; an estimated
/// one also as `lm.arpa`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum LanguageModelStage {
    /// Estimates one from the transcripts among the inputs.
    Estimate(Estimation),
    /// Takes in an ARPA file that was made elsewhere.
    File { content: ContentDigest, missing_unknown: Option<Log10> },
}

/// Takes in a lexicon that was made elsewhere. Gives `words.txt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LexiconStage {
    pub content: ContentDigest,
}

/// Decodes splits with every setting of a grid. Gives the best as `weights.json`, and all of them in `grid.tsv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TuneStage {
    pub beam: Beam,
    /// Those that the grid doesn't list.
    pub weights: Weights,
    pub tuning: Tuning,
}

/// Decodes and scores one split. Gives `hypotheses.tsv`, `alignments.txt`, `words.tsv`, `scores.json`, and `nbest.tsv` where more than the best are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecodeStage {
    pub split: SplitName,
    pub search: Search,
    /// Absent where no lexicon is among the inputs, and where tuned ones are.
    pub weights: Option<Weights>,
    pub bootstrap: Bootstrap,
}

/// Measures something on trained things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeStage {
    /// Agreement of units with aligned phones. Gives `quality.json`.
    UnitQuality(UnitQuality),
    /// What layers of a network say about words, phones and the input. Gives `layers.json` ([`crate::layers::Findings`]) and `layers.tsv`.
    Layers(Box<LayersStage>),
}

/// Analyses every layer of the pretrained model among the inputs, or of a network with random weights. Without names of files ([`Layers::nameless`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayersStage {
    /// Sorted.
    pub analyses: Vec<Analysis>,
    pub layers: Layers,
    /// The splits among those analysed that the model was pretrained on.
    pub seen: Vec<SplitName>,
    /// The network to draw as a first iteration draws it; none where a model is among the inputs.
    pub control: Option<Network>,
}

/// Takes in vectors of words that were made elsewhere. Gives those of words that the alignments among the inputs have (`words.txt`, `vectors.npy`),
/// and the words that have none with their tokens (`lacking.tsv`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WordVectorsStage {
    pub content: ContentDigest,
}

/// Takes in pairs of words with how alike people find them. Gives `pairs.tsv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WordPairsStage {
    pub content: ContentDigest,
}

/// What an input is to the stage that reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The utterances of a split.
    Corpus(SplitName),
    /// The word and phone times of a split.
    Alignments(SplitName),
    /// The acoustic features of a split.
    Features(SplitName),
    /// A codebook and labels.
    Units,
    /// The units that a pretraining predicts: set 0, 1, …
    Targets(u32),
    /// The units whose codebook a front-end reads.
    InputUnits,
    /// A pretrained model.
    Pretrained,
    /// The model, with its training state, that an iteration starts from.
    Start,
    /// A fine-tuned model.
    Finetuned,
    /// A language model.
    LanguageModel,
    /// The words that can be recognised: those of a lexicon or of a language model.
    Lexicon,
    /// Weights of a decoding that were tuned.
    Weights,
    /// The pretrained model that another one's layers are compared with.
    Reference,
    /// What words mean.
    WordVectors,
    /// How alike words are to people.
    WordPairs,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Role::Corpus(split) => write!(f, "corpus {split}"),
            Role::Alignments(split) => write!(f, "alignments {split}"),
            Role::Features(split) => write!(f, "features {split}"),
            Role::Units => f.write_str("units"),
            Role::Targets(set) => write!(f, "targets {set}"),
            Role::InputUnits => f.write_str("input units"),
            Role::Pretrained => f.write_str("pretrained model"),
            Role::Start => f.write_str("start"),
            Role::Finetuned => f.write_str("fine-tuned model"),
            Role::LanguageModel => f.write_str("language model"),
            Role::Lexicon => f.write_str("lexicon"),
            Role::Weights => f.write_str("decoding weights"),
            Role::Reference => f.write_str("model compared with"),
            Role::WordVectors => f.write_str("word vectors"),
            Role::WordPairs => f.write_str("word pairs"),
        }
    }
}

impl Stage {
    /// Kind and version; the version grows when the same settings come to mean another result.
    pub fn kind(&self) -> &'static str {
        match self {
            Stage::Corpus(_) => "corpus/1",
            Stage::Checkpoint(_) => "checkpoint/1",
            Stage::Features(_) => "features/1",
            Stage::Units(_) => "units/3",
            Stage::Pretrain(_) => "pretrain/6",
            Stage::Finetune(_) => "finetune/6",
            Stage::LanguageModel(_) => "language-model/1",
            Stage::Lexicon(_) => "lexicon/1",
            Stage::Tune(_) => "tune/2",
            Stage::Decode(_) => "decode/4",
            Stage::Probe(_) => "probe/4",
            Stage::WordVectors(_) => "word-vectors/1",
            Stage::WordPairs(_) => "word-pairs/1",
        }
    }

    /// The kind without its version, as people name the stage.
    pub fn word(&self) -> &'static str {
        self.kind().split('/').next().unwrap_or_default()
    }

    /// Whether the result depends on a seed.
    pub fn draws(&self) -> bool {
        match self {
            Stage::Units(_) | Stage::Pretrain(_) | Stage::Finetune(_) | Stage::Probe(ProbeStage::Layers(_)) => true,
            Stage::Corpus(_) | Stage::Checkpoint(_) | Stage::Features(_) => false,
            Stage::LanguageModel(_) | Stage::Lexicon(_) | Stage::Tune(_) | Stage::Decode(_) => false,
            Stage::Probe(ProbeStage::UnitQuality(_)) | Stage::WordVectors(_) | Stage::WordPairs(_) => false,
        }
    }

    /// The canonical bytes of the settings, as they enter the key.
    pub fn canonical(&self) -> Vec<u8> {
        match self {
            Stage::Corpus(settings) => canon::bytes(settings),
            Stage::Checkpoint(settings) => canon::bytes(settings),
            Stage::Features(settings) => canon::bytes(settings),
            Stage::Units(settings) => canon::bytes(settings),
            Stage::Pretrain(settings) => canon::bytes(settings),
            Stage::Finetune(settings) => canon::bytes(settings),
            Stage::LanguageModel(settings) => canon::bytes(settings),
            Stage::Lexicon(settings) => canon::bytes(settings),
            Stage::Tune(settings) => canon::bytes(settings),
            Stage::Decode(settings) => canon::bytes(settings),
            Stage::Probe(settings) => canon::bytes(settings),
            Stage::WordVectors(settings) => canon::bytes(settings),
            Stage::WordPairs(settings) => canon::bytes(settings),
        }
    }

    /// SHA-256 over kind and version, canonical settings, roles and keys of the inputs sorted by role, and the seed where one is drawn.
    ///
    /// `seed` is `None` for stages that draw nothing ([`Stage::draws`]).
    pub fn key(&self, inputs: &[(Role, StageKey)], seed: Option<u64>) -> StageKey {
        key_of(self.kind(), &self.canonical(), inputs, seed)
    }
}

/// [`Stage::key`] of settings that are known by their canonical bytes alone, whichever program wrote them.
pub fn key_of(kind: &str, canonical: &[u8], inputs: &[(Role, StageKey)], seed: Option<u64>) -> StageKey {
    let mut inputs = inputs.to_vec();
    inputs.sort();
    let seed = seed.map_or(Vec::new(), |seed| seed.to_le_bytes().to_vec());
    let mut parts: Vec<Vec<u8>> = vec![b"reprise stage 1".to_vec(), kind.into(), canonical.into(), seed];
    for (role, key) in &inputs {
        parts.push(canon::bytes(role));
        parts.push(key.0.to_vec());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    StageKey(sha256(&parts))
}
