//! The experiment: one question, and all that is needed to answer it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canon::{self, Canon};
use crate::claims::Claim;
use crate::corpus::{Conversion, Corpus};
use crate::decoding::Decoding;
use crate::evaluation::Evaluation;
use crate::finetuning::Finetuning;
use crate::identity::{SpecHash, VariantHash, sha256};
use crate::network::Network;
use crate::probing::{Codebooks, Probing};
use crate::strategy::{Clustering, Iteration, Strategy};
use crate::training::Pretraining;
use crate::values::{Name, SplitName};

/// One variant of an experiment as a person writes it, with every default filled in.
///
/// `extends` and `matrix` are resolved before this type is read, so they are no fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Written {
    /// The version of the language that the file is written in.
    pub version: Version,
    /// For people and listings. Never part of the identity.
    pub name: Name,
    /// What the experiment asks. Never part of the identity.
    pub question: String,
    /// For people. Never part of the identity.
    #[serde(default)]
    pub notes: String,
    /// What was assumed where a study that is followed doesn't say it, shown wherever results are. Never part of the identity.
    #[serde(default)]
    pub reconstruction: Vec<String>,
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
    /// At which points of pretraining the model is judged.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// How a CTC model is made of the pretrained one; done when `corpus.finetune` names a split.
    #[serde(default)]
    pub finetuning: Finetuning,
    /// How the splits of `corpus.test` are decoded and scored.
    #[serde(default)]
    pub decoding: Decoding,
    /// What is measured on trained things without changing them.
    #[serde(default)]
    pub probing: Probing,
    /// What the runs' numbers shall decide, by name: about all variants, and made before they run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<Name, Claim>,
    /// One run a seed and variant; their order says nothing.
    pub seeds: Vec<u64>,
}

/// A resolved experiment: what it is to people, its variants, and the seeds that each is executed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Experiment {
    pub name: Name,
    pub question: String,
    pub notes: String,
    /// By name; none in recipes of a program that knew no claims.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<Name, Claim>,
    pub seeds: Vec<u64>,
    /// At least one, each of another meaning.
    pub variants: Vec<Variant>,
}

/// One concrete setting, and what it is to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Variant {
    /// What tells it from the experiment's other variants; empty where it is alone.
    pub name: String,
    /// Other names in the file that came to mean the same.
    pub aliases: Vec<String>,
    /// The word that the strategy was written with.
    pub strategy: String,
    /// What was assumed: by the strategy, then by the file.
    pub reconstruction: Vec<String>,
    pub setting: Setting,
}

/// What one run executes, whatever its seed. A strategy is its iterations, however it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Setting {
    pub version: Version,
    pub corpus: Corpus,
    pub model: Network,
    pub pretraining: Pretraining,
    pub clustering: Clustering,
    /// First to last; none for `scratch`.
    pub iterations: Vec<Iteration>,
    pub evaluation: Evaluation,
    pub finetuning: Finetuning,
    pub decoding: Decoding,
    pub probing: Probing,
}

impl Written {
    /// The variants that the strategy stands for, named after `name`.
    pub fn variants(&self, name: &str) -> Vec<Variant> {
        let reconstruction: Vec<String> =
            self.strategy.reconstruction().map(String::from).into_iter().chain(self.reconstruction.clone()).collect();
        let variant = |expanded: crate::strategy::Expanded| Variant {
            name: [name, &expanded.name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
            aliases: Vec::new(),
            strategy: self.strategy.word().into(),
            reconstruction: reconstruction.clone(),
            setting: self.setting(expanded.iterations),
        };
        self.strategy.expand().into_iter().map(variant).collect()
    }

    fn setting(&self, iterations: Vec<Iteration>) -> Setting {
        let Self { version, corpus, model, pretraining, clustering, evaluation, finetuning, decoding, probing, .. } =
            self.clone();
        Setting {
            version,
            corpus,
            model,
            pretraining,
            clustering,
            iterations,
            evaluation,
            finetuning,
            decoding,
            probing,
        }
    }
}

impl From<Written> for Experiment {
    /// The experiment whose only variants are those of its strategy.
    fn from(written: Written) -> Self {
        let variants = written.variants("");
        let Written { name, question, notes, claims, seeds, .. } = written;
        Self { name, question, notes, claims, seeds, variants: distinct(variants) }
    }
}

/// The variants without those that mean the same as an earlier one, whose aliases they become.
pub(crate) fn distinct(variants: Vec<Variant>) -> Vec<Variant> {
    let mut kept: Vec<(VariantHash, Variant)> = Vec::new();
    for variant in variants {
        let hash = variant.setting.hash();
        match kept.iter_mut().find(|(known, _)| *known == hash) {
            Some((_, first)) => first.aliases.push(variant.name),
            None => kept.push((hash, variant)),
        }
    }
    kept.into_iter().map(|(_, variant)| variant).collect()
}

/// What a variant is to the identity: a setting, with its corpus as it is used.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Meant<'a> {
    version: Version,
    corpus: Use<'a>,
    model: &'a Network,
    pretraining: &'a Pretraining,
    clustering: &'a Clustering,
    iterations: &'a [Iteration],
    evaluation: &'a Evaluation,
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

impl Variant {
    /// Whether the file calls it so.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

impl Setting {
    /// The tree that [`Setting::hash`] is taken of: everything except the corpus' name and the paths of its lists.
    pub fn meaning(&self) -> Canon {
        canon::of(&self.meant(None))
    }

    /// The identity of what one run executes.
    pub fn hash(&self) -> VariantHash {
        VariantHash::of(&self.meaning())
    }

    /// The checkpoints from elsewhere whose layers are clustered.
    pub fn checkpoints(&self) -> impl Iterator<Item = &Name> {
        let measured = self.probing.codebooks.iter().filter_map(Codebooks::checkpoint);
        self.iterations.iter().flat_map(|iteration| iteration.targets.checkpoints()).chain(measured)
    }

    fn meant<'a>(&'a self, corpus_name: Option<&'a Name>) -> Meant<'a> {
        let Self {
            version,
            corpus,
            model,
            pretraining,
            clustering,
            iterations,
            evaluation,
            finetuning,
            decoding,
            probing,
        } = self;
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
        let (name, conversion, exclude_at_most) = (corpus_name, *conversion, *exclude_at_most);
        let corpus = Use { name, pretrain, finetune, validate, test, untranscribed, conversion, exclude_at_most };
        let version = *version;
        Meant { version, corpus, model, pretraining, clustering, iterations, evaluation, finetuning, decoding, probing }
    }
}

impl VariantHash {
    /// The hash of a [`Setting::meaning`].
    pub fn of(meaning: &Canon) -> Self {
        Self(sha256(&[b"reprise variant 1", &meaning.to_bytes()]))
    }
}

impl SpecHash {
    /// The hash of the canonical bytes of an [`Experiment::meaning`].
    pub fn of(canonical: &[u8]) -> Self {
        Self(sha256(&[b"reprise experiment 1", canonical]))
    }
}

impl Experiment {
    /// The tree that [`Experiment::spec_hash`] is taken of: the meanings of the variants with the name of their corpus, whatever the variants
    /// are called and in whichever order they stand, the seeds, sorted, and where there are any the claims.
    pub fn meaning(&self) -> Canon {
        #[derive(Serialize)]
        struct Meaning<'a> {
            variants: Vec<Meant<'a>>,
            seeds: Vec<u64>,
        }
        let mut variants: Vec<(VariantHash, Meant<'_>)> = self
            .variants
            .iter()
            .map(|variant| (variant.setting.hash(), variant.setting.meant(Some(&variant.setting.corpus.name))))
            .collect();
        variants.sort_by_key(|(hash, _)| *hash);
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        let mut meaning =
            canon::of(&Meaning { variants: variants.into_iter().map(|(_, meant)| meant).collect(), seeds });
        if let (Canon::Map(fields), false) = (&mut meaning, self.claims.is_empty()) {
            fields.insert("claims".into(), self.meaning_of_claims());
        }
        meaning
    }

    /// What every claim holds, by name. A variant is told by its hash, and not at all where it is alone.
    fn meaning_of_claims(&self) -> Canon {
        let told = |name: Option<&str>| {
            let variant = self.variant(name).filter(|_| self.variants.len() > 1);
            match variant {
                Some(variant) => Some(variant.setting.hash().to_string()),
                None => name.filter(|name| self.variant(Some(name)).is_none()).map(String::from),
            }
        };
        let meanings = self.claims.iter().map(|(name, claim)| (name.to_string(), claim.holds.meaning(&told)));
        Canon::Map(meanings.collect())
    }

    /// The variant that the file calls so; the only one where no name is given.
    pub fn variant(&self, name: Option<&str>) -> Option<&Variant> {
        match (name, self.variants.as_slice()) {
            (None, [alone]) => Some(alone),
            (None, _) => None,
            (Some(name), variants) => variants.iter().find(|variant| variant.is_called(name)),
        }
    }

    /// The identity of the whole experiment.
    pub fn spec_hash(&self) -> SpecHash {
        SpecHash::of(&self.meaning().to_bytes())
    }

    /// The corpus of all variants: its lists are all that any variant names.
    pub fn corpus(&self) -> Option<Corpus> {
        let mut corpora = self.variants.iter().map(|variant| &variant.setting.corpus);
        let mut all = corpora.next()?.clone();
        for corpus in corpora {
            all.lists.extend(corpus.lists.clone());
        }
        Some(all)
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
