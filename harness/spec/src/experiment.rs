//! The experiment: one question, and all that is needed to answer it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canon;
use crate::corpus::{Conversion, Corpus};
use crate::evaluation::{Decoding, Probing};
use crate::identity::{SpecHash, VariantHash, sha256};
use crate::network::Network;
use crate::strategy::{Clustering, Strategy};
use crate::training::{Finetuning, Pretraining};
use crate::values::{Name, SplitName};

/// One experiment, with every default filled in.
///
/// `extends` is resolved before this type is read, so it is not a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Experiment {
    /// The version of the language that the file is written in.
    pub version: Version,
    /// For people and listings. Never part of the identity.
    pub name: Name,
    /// What the experiment asks. Never part of the identity.
    pub question: String,
    /// For people. Never part of the identity.
    #[serde(default)]
    pub notes: String,
    /// Which speech is used, and for what.
    pub corpus: Corpus,
    /// The network.
    #[serde(default)]
    pub model: Network,
    /// How every iteration is pretrained.
    #[serde(default)]
    pub pretraining: Pretraining,
    /// How codebooks are fitted.
    #[serde(default)]
    pub clustering: Clustering,
    /// The iterations, and what each predicts.
    pub strategy: Strategy,
    /// How a CTC model is made of the pretrained one; done when `corpus.finetune` names a split.
    #[serde(default)]
    pub finetuning: Finetuning,
    /// How the splits of `corpus.test` are decoded and scored.
    #[serde(default)]
    pub decoding: Decoding,
    /// What is measured on trained things without changing them.
    #[serde(default)]
    pub probing: Probing,
    /// One run a seed; their order says nothing.
    pub seeds: Vec<u64>,
}

/// What an experiment is, once what is said to people is left out.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Meaning<'a> {
    version: Version,
    corpus: Use<'a>,
    model: &'a Network,
    pretraining: &'a Pretraining,
    clustering: &'a Clustering,
    strategy: &'a Strategy,
    finetuning: &'a Finetuning,
    decoding: &'a Decoding,
    probing: &'a Probing,
    seeds: Vec<u64>,
}

/// What a variant is: the setting that one run executes with one seed.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Setting<'a> {
    version: Version,
    corpus: Use<'a>,
    model: &'a Network,
    pretraining: &'a Pretraining,
    clustering: &'a Clustering,
    strategy: &'a Strategy,
    finetuning: &'a Finetuning,
    decoding: &'a Decoding,
    probing: &'a Probing,
}

/// How a corpus is used. Its name is how it is found; what it is, the keys of the `corpus` stages say, whichever files list it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Use<'a> {
    /// Of the whole experiment alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a Name>,
    pretrain: &'a [SplitName],
    finetune: &'a [SplitName],
    validate: &'a [SplitName],
    test: &'a [SplitName],
    untranscribed: &'a [SplitName],
    conversion: Conversion,
    exclude_at_most: u32,
}

impl<'a> From<&'a Corpus> for Use<'a> {
    fn from(corpus: &'a Corpus) -> Self {
        let Corpus {
            name: _,
            pretrain,
            finetune,
            validate,
            test,
            untranscribed,
            lists: _,
            conversion,
            exclude_at_most,
        } = corpus;
        let (conversion, exclude_at_most) = (*conversion, *exclude_at_most);
        Self { name: None, pretrain, finetune, validate, test, untranscribed, conversion, exclude_at_most }
    }
}

impl Experiment {
    /// The tree that [`Experiment::spec_hash`] is taken of: everything except `name`, `question`, `notes` and the paths of
    /// `corpus.lists`, seeds sorted.
    pub fn meaning(&self) -> canon::Canon {
        let Experiment {
            version,
            name: _,
            question: _,
            notes: _,
            corpus,
            model,
            pretraining,
            clustering,
            strategy,
            finetuning,
            decoding,
            probing,
            seeds,
        } = self;
        let mut seeds = seeds.clone();
        seeds.sort_unstable();
        let version = *version;
        let corpus = Use { name: Some(&corpus.name), ..Use::from(corpus) };
        canon::of(&Meaning {
            version,
            corpus,
            model,
            pretraining,
            clustering,
            strategy,
            finetuning,
            decoding,
            probing,
            seeds,
        })
    }

    /// The tree that [`Experiment::variant_hash`] is taken of: [`Experiment::meaning`] without `seeds` and without the corpus' name.
    pub fn setting(&self) -> canon::Canon {
        let Experiment {
            version,
            name: _,
            question: _,
            notes: _,
            corpus,
            model,
            pretraining,
            clustering,
            strategy,
            finetuning,
            decoding,
            probing,
            seeds: _,
        } = self;
        let (version, corpus) = (*version, Use::from(corpus));
        canon::of(&Setting { version, corpus, model, pretraining, clustering, strategy, finetuning, decoding, probing })
    }

    /// The identity of the whole experiment.
    pub fn spec_hash(&self) -> SpecHash {
        SpecHash(sha256(&[b"reprise experiment 1", &self.meaning().to_bytes()]))
    }

    /// The identity of what one run executes, whatever its seed.
    pub fn variant_hash(&self) -> VariantHash {
        VariantHash(sha256(&[b"reprise variant 1", &self.setting().to_bytes()]))
    }
}

/// The version of the language that a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u64", into = "u64")]
#[schemars(extend("const" = 1))]
pub struct Version(u64);

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(value: u64) -> Result<Self, String> {
        match value {
            1 => Ok(Self(1)),
            other => Err(format!(
                "version {other} of the experiment language is not known to this program, which reads version 1"
            )),
        }
    }
}

impl From<Version> for u64 {
    fn from(value: Version) -> u64 {
        value.0
    }
}
