//! Stages: the units of work, their settings, and the key that says what each should produce.

use serde::{Deserialize, Serialize};

use crate::canon;
use crate::corpus::Conversion;
use crate::evaluation::{Decoding, UnitQuality};
use crate::identity::{ContentDigest, StageKey, sha256};
use crate::network::Network;
use crate::strategy::Clustering;
use crate::training::{Finetuning, Pretraining};
use crate::values::{Clusters, Fraction, Height, SplitName, Steps};

/// One unit of work with everything that decides its result except its inputs and its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Corpus(CorpusStage),
    Features(FeaturesStage),
    Units(UnitsStage),
    Pretrain(PretrainStage),
    Finetune(FinetuneStage),
    Decode(DecodeStage),
    Probe(ProbeStage),
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

/// Computes acoustic features of one split at 100 Hz. Gives `features.npy` (frames × dimensions, `f32`) and `utterances.tsv`
/// (id, frames), in the order of the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FeaturesStage {
    pub kind: FeatureKind,
}

/// Which acoustic features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureKind {
    /// 13 Kaldi MFCC without energy, with first and second differences: 39 dimensions (hubert.md section 4.1).
    Mfcc,
    /// 80 Kaldi log-mel bins.
    LogMel,
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
#[serde(rename_all = "kebab-case")]
pub enum UnitSource {
    /// Acoustic features at 100 Hz.
    Features(FeatureKind),
    /// A layer of the pretrained model among the inputs, at 50 Hz; layer 0 is the input of the Transformer stack, outputs are
    /// taken before any final norm.
    Layer(Height),
}

impl UnitSource {
    /// Labels a second.
    pub fn label_rate(self) -> u32 {
        match self {
            UnitSource::Features(_) => 100,
            UnitSource::Layer(_) => 50,
        }
    }
}

/// Trains one iteration from random weights. Gives `model.safetensors`, `model.json` and `validation.tsv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PretrainStage {
    pub network: Network,
    pub pretraining: Pretraining,
    pub clusters: Clusters,
    pub steps: Steps,
    pub train_on: Vec<SplitName>,
    pub validate_on: Vec<SplitName>,
}

/// Trains a CTC model on characters. Gives `model.safetensors`, `model.json`, `vocabulary.txt` and `validation.tsv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FinetuneStage {
    /// The network; equal to the pretrained one where there is one among the inputs, else drawn at random.
    pub network: Network,
    pub finetuning: Finetuning,
    pub train_on: Vec<SplitName>,
    pub validate_on: Vec<SplitName>,
}

/// Decodes and scores one split. Gives `hypotheses.tsv`, `scores.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DecodeStage {
    pub split: SplitName,
    pub decoding: Decoding,
}

/// Measures something on trained things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeStage {
    /// Agreement of units with aligned phones. Gives `quality.json`.
    UnitQuality(UnitQuality),
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
    /// A pretrained model.
    Pretrained,
    /// A fine-tuned model.
    Finetuned,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Role::Corpus(split) => write!(f, "corpus {split}"),
            Role::Alignments(split) => write!(f, "alignments {split}"),
            Role::Features(split) => write!(f, "features {split}"),
            Role::Units => f.write_str("units"),
            Role::Pretrained => f.write_str("pretrained model"),
            Role::Finetuned => f.write_str("fine-tuned model"),
        }
    }
}

impl Stage {
    /// Kind and version; the version grows when the same settings come to mean another result.
    pub fn kind(&self) -> &'static str {
        match self {
            Stage::Corpus(_) => "corpus/1",
            Stage::Features(_) => "features/1",
            Stage::Units(_) => "units/1",
            Stage::Pretrain(_) => "pretrain/1",
            Stage::Finetune(_) => "finetune/1",
            Stage::Decode(_) => "decode/1",
            Stage::Probe(_) => "probe/1",
        }
    }

    /// The kind without its version, as people name the stage.
    pub fn word(&self) -> &'static str {
        self.kind().split('/').next().unwrap_or_default()
    }

    /// Whether the result depends on a seed.
    pub fn draws(&self) -> bool {
        match self {
            Stage::Units(_) | Stage::Pretrain(_) | Stage::Finetune(_) => true,
            Stage::Corpus(_) | Stage::Features(_) | Stage::Decode(_) | Stage::Probe(_) => false,
        }
    }

    /// SHA-256 over kind and version, canonical settings, roles and keys of the inputs sorted by role, and the seed where one is drawn.
    ///
    /// `seed` is `None` for stages that draw nothing ([`Stage::draws`]).
    pub fn key(&self, inputs: &[(Role, StageKey)], seed: Option<u64>) -> StageKey {
        let mut inputs = inputs.to_vec();
        inputs.sort();
        let settings = match self {
            Stage::Corpus(s) => canon::bytes(s),
            Stage::Features(s) => canon::bytes(s),
            Stage::Units(s) => canon::bytes(s),
            Stage::Pretrain(s) => canon::bytes(s),
            Stage::Finetune(s) => canon::bytes(s),
            Stage::Decode(s) => canon::bytes(s),
            Stage::Probe(s) => canon::bytes(s),
        };
        let seed = seed.map_or(Vec::new(), |seed| seed.to_le_bytes().to_vec());
        let mut parts: Vec<Vec<u8>> = vec![b"reprise stage 1".to_vec(), self.kind().into(), settings, seed];
        for (role, key) in &inputs {
            parts.push(canon::bytes(role));
            parts.push(key.0.to_vec());
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        StageKey(sha256(&parts))
    }
}
