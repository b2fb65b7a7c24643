//! How a published model was made, as far as that was read.

use std::collections::BTreeMap;
use std::fmt;

use reprise_spec::experiment::Setting;
use reprise_spec::network::{Encoder, FrontEnd, Subsampling};
use reprise_spec::strategy::{self, Targets, UnitTargets};
use reprise_spec::training::PredictAt;
use reprise_spec::values::SplitName;
use serde::{Deserialize, Serialize};

use reprise_spec::claims::Confidence;

/// How a published model was made. What is absent isn't known, so that nothing of ours compares with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    pub name: String,
    pub source: String,
    pub confidence: Confidence,
    #[serde(default)]
    pub notes: String,
    pub family: Family,
    pub size: Size,
    /// What it was pretrained on.
    pub corpus: Option<PretrainingCorpus>,
    /// First to last.
    pub iterations: Vec<Iteration>,
    /// Share of frames that masks would cover if none overlapped.
    pub mask: Option<f64>,
    /// Seconds of audio a step, over all devices.
    pub batch: Option<f64>,
    /// The highest learning rate of pretraining.
    pub rate: Option<f64>,
    /// By the amount of transcribed speech.
    #[serde(default)]
    pub finetuning: BTreeMap<Labelled, Finetuning>,
}

/// Fine-tuning, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Finetuning {
    pub steps: u32,
    /// The highest learning rate.
    pub rate: f64,
}

/// One iteration of pretraining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Iteration {
    pub targets: Predicted,
    /// The layer that is clustered.
    pub height: Option<u32>,
    pub clusters: Option<u32>,
    pub steps: Option<u32>,
}

/// What an iteration predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Predicted {
    Mfcc,
    MfccSubspace,
    LogMel,
    Layer,
    Ensemble,
    Quantiser,
    /// States of a supervised recogniser, which the language has no word for.
    Supervised,
}

/// An architecture and what it is trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    Hubert,
    Wav2vec2,
    MrHubert,
    IlsHubert,
    DiscreteBert,
    FastHubert,
}

/// Layers, width, heads and feed-forward width of the Transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    Base,
    Large,
    XLarge,
}

/// What a published model was pretrained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PretrainingCorpus {
    /// The 960 h of LibriSpeech.
    #[serde(rename = "ls-960")]
    Ls960,
    /// The 60k h of Libri-light.
    #[serde(rename = "ll-60k")]
    Ll60k,
}

/// How much transcribed speech a model was fine-tuned on: the limited set of Libri-light, train-clean-100, or all of LibriSpeech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Labelled {
    #[serde(rename = "10min")]
    TenMinutes,
    #[serde(rename = "1h")]
    OneHour,
    #[serde(rename = "10h")]
    TenHours,
    #[serde(rename = "100h")]
    HundredHours,
    #[serde(rename = "960h")]
    Everything,
}

impl Family {
    /// That of a setting; `None` where it pretrains nothing.
    pub fn of(setting: &Setting) -> Option<Self> {
        let last = setting.iterations.last()?;
        Some(
            match (&setting.model.front_end, &setting.model.hierarchy, &setting.pretraining.predict_at, &last.targets) {
                (_, _, _, Targets::Quantiser(_)) => Self::Wav2vec2,
                (FrontEnd::Units(_), ..) => Self::DiscreteBert,
                (FrontEnd::LogMel(mel), ..) if matches!(mel.subsampling, Subsampling::Convolution(_)) => {
                    Self::FastHubert
                }
                (_, Some(_), ..) => Self::MrHubert,
                (_, _, PredictAt::Layers(_), _) => Self::IlsHubert,
                _ => Self::Hubert,
            },
        )
    }
}

impl Size {
    const ALL: [Self; 3] = [Self::Base, Self::Large, Self::XLarge];

    /// Layers, width, heads, feed-forward width (HuBERT table I, with the heads of the released code).
    fn numbers(self) -> [u32; 4] {
        match self {
            Self::Base => [12, 768, 12, 3072],
            Self::Large => [24, 1024, 16, 4096],
            Self::XLarge => [48, 1280, 16, 5120],
        }
    }

    /// The published size that an encoder has.
    pub fn of(encoder: &Encoder) -> Option<Self> {
        let numbers = [&encoder.layers, &encoder.width, &encoder.heads, &encoder.feed_forward].map(|count| count.get());
        Self::ALL.into_iter().find(|size| size.numbers() == numbers)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [layers, width, ..] = self.numbers();
        write!(f, "{layers} layers of width {width}")
    }
}

impl PretrainingCorpus {
    /// How experiments name the corpus, and the splits that are pretrained on.
    pub fn splits(self) -> (&'static str, [&'static str; 3]) {
        match self {
            Self::Ls960 => ("LibriSpeech", ["train-clean-100", "train-clean-360", "train-other-500"]),
            Self::Ll60k => ("LibriLight", ["small", "medium", "large"]),
        }
    }
}

impl Labelled {
    const ALL: [Self; 5] = [Self::TenMinutes, Self::OneHour, Self::TenHours, Self::HundredHours, Self::Everything];

    /// The splits of LibriSpeech and of its limited set that make this amount.
    fn splits(self) -> &'static [&'static str] {
        match self {
            Self::TenMinutes => &["librispeech_finetuning/1h/0"],
            Self::OneHour => &["librispeech_finetuning/1h"],
            Self::TenHours => &["librispeech_finetuning/1h", "librispeech_finetuning/9h"],
            Self::HundredHours => &["train-clean-100"],
            Self::Everything => &["train-clean-100", "train-clean-360", "train-other-500"],
        }
    }

    /// The published amount that these splits are.
    pub fn of(splits: &[SplitName]) -> Option<Self> {
        Self::ALL.into_iter().find(|amount| same_set(splits, amount.splits()))
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::TenMinutes => "10 min",
            Self::OneHour => "1 h",
            Self::TenHours => "10 h",
            Self::HundredHours => "100 h",
            Self::Everything => "960 h",
        }
    }
}

/// Whether these splits are those, in whichever order.
pub fn same_set(splits: &[SplitName], names: &[&str]) -> bool {
    splits.len() == names.len() && splits.iter().all(|split| names.contains(&split.as_str()))
}

impl Iteration {
    /// An iteration of ours in the same words.
    pub fn of(iteration: &strategy::Iteration) -> Self {
        let (targets, height, clusters) = match &iteration.targets {
            Targets::Mfcc(of) => (Predicted::Mfcc, None, Some(of.clusters.get())),
            Targets::MfccSubspace(of) => (Predicted::MfccSubspace, None, Some(of.clusters.get())),
            Targets::LogMel(of) => (Predicted::LogMel, None, Some(of.clusters.get())),
            Targets::Layer(of) => (Predicted::Layer, Some(of.height.get()), Some(of.clusters.get())),
            Targets::Ensemble(sets) => {
                let subspaces = sets.iter().all(|set| matches!(set, UnitTargets::MfccSubspace(_)));
                (Predicted::Ensemble, None, sets.first().filter(|_| subspaces).map(|set| set.clusters().get()))
            }
            Targets::Quantiser(_) => (Predicted::Quantiser, None, None),
        };
        Self { targets, height, clusters, steps: Some(iteration.steps.get()) }
    }

    /// Whether all of it is known.
    pub fn is_whole(&self) -> bool {
        let units = match self.targets {
            Predicted::Quantiser => true,
            Predicted::Layer => self.height.is_some() && self.clusters.is_some(),
            // Which sets an ensemble has isn't said here.
            Predicted::Ensemble => false,
            Predicted::Mfcc | Predicted::MfccSubspace | Predicted::LogMel | Predicted::Supervised => {
                self.clusters.is_some()
            }
        };
        units && self.steps.is_some()
    }
}

impl fmt::Display for Iteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.steps {
            Some(steps) => write!(f, "{steps} steps on ")?,
            None => f.write_str("steps on ")?,
        }
        if let Some(clusters) = self.clusters {
            write!(f, "{clusters} clusters of ")?;
        }
        f.write_str(match self.targets {
            Predicted::Mfcc => "MFCC",
            Predicted::MfccSubspace => "a subspace of MFCC",
            Predicted::LogMel => "log-mel",
            Predicted::Layer if self.height.is_none() => "a layer",
            Predicted::Layer => "layer",
            Predicted::Ensemble => "an ensemble",
            Predicted::Quantiser => "a quantiser",
            Predicted::Supervised => "a supervised teacher",
        })?;
        self.height.map_or(Ok(()), |height| write!(f, " {height}"))
    }
}
