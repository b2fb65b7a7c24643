//! Published values: what papers and repositories printed of the models that experiments here follow, and beside which ours are shown.
//!
//! They lie in `golden/published/` as printed and are part of the program. A published value is never matched by a hash and never decides an
//! exit code: [`beside`] says of each whether ours compares with it, and why not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use reprise_spec::claims::Confidence;
use serde::{Deserialize, Serialize};

mod beside;
mod recipe;
#[cfg(test)]
mod tests;

pub use beside::{Beside, Verdict, beside};
pub use recipe::{Family, Iteration, Labelled, PretrainingCorpus, Recipe, Size};

/// What a published value measures, in the unit that it is printed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Word error rate in percent.
    Wer,
    /// Share of the phones' entropy that units tell.
    Pnmi,
    /// Share of frames.
    PhonePurity,
    /// Share of frames.
    ClusterPurity,
    /// Mean length of a run of one unit, in frames of 10 ms.
    LabelSegment,
    /// Share of masked frames.
    MaskedAccuracy,
    /// Share of the other frames.
    UnmaskedAccuracy,
    /// Cross-entropy at masked frames in bits.
    MaskedLoss,
    /// The whole loss in bits.
    Loss,
}

impl Metric {
    /// As scores are named here.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wer => "wer",
            Self::Pnmi => "pnmi",
            Self::PhonePurity => "phone-purity",
            Self::ClusterPurity => "cluster-purity",
            Self::LabelSegment => "label-segment",
            Self::MaskedAccuracy => "masked-accuracy",
            Self::UnmaskedAccuracy => "unmasked-accuracy",
            Self::MaskedLoss => "masked-loss",
            Self::Loss => "loss",
        }
    }
}

/// What decoding knew of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoding {
    /// Nothing: no language model.
    None,
    FourGram,
    /// Of an order that isn't stated.
    NGram,
    Transformer,
    /// A language model that isn't named.
    LanguageModel,
    /// Whether there was a language model isn't stated.
    Unstated,
}

impl Decoding {
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "no LM",
            Self::FourGram => "4-gram",
            Self::NGram => "n-gram",
            Self::Transformer => "Transformer LM",
            Self::LanguageModel => "some LM",
            Self::Unstated => "LM not stated",
        }
    }
}

/// The units that a value is of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Units {
    pub of: UnitsOf,
    /// The layer that is clustered.
    pub height: Option<u32>,
    /// The iteration whose model the layer is of.
    pub iteration: Option<u32>,
    pub clusters: u32,
    /// Hours of speech that the codebook was fitted on.
    pub fit_hours: Option<f64>,
}

/// What units are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitsOf {
    Mfcc,
    Layer,
    /// States of a supervised recogniser.
    Supervised,
}

/// One published value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The paper or repository.
    pub source: String,
    /// The table or section in it.
    pub place: String,
    pub confidence: Confidence,
    /// What was measured, as the source calls it.
    pub system: String,
    /// How the model was made; absent for systems that the language has no words for, and for units of whichever model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The iterations of its pretraining.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iterations: Vec<Iteration>,
    /// Weight of the loss at masked frames; the rest is that of the others.
    pub masked_weight: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labelled: Option<Labelled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoding: Option<Decoding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Units>,
    /// Classes of the phone inventory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phones: Option<u32>,
    /// The step of the last iteration that the value is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_step: Option<u32>,
    pub metric: Metric,
    /// `a+b` where two are pooled.
    pub split: String,
    /// As printed.
    pub value: f64,
    /// The upper end, where a range was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to: Option<f64>,
    /// Standard deviation over trials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

impl Entry {
    /// The value in the unit of our scores: error rates are shares here.
    pub fn in_our_unit(&self) -> f64 {
        match self.metric {
            Metric::Wer => self.value / 100.0,
            _ => self.value,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.system)?;
        if let Some(labelled) = self.labelled {
            write!(f, ", {}", labelled.word())?;
        }
        if let Some(decoding) = self.decoding {
            write!(f, ", {}", decoding.word())?;
        }
        if let Some(units) = self.units {
            write!(f, ", {} clusters", units.clusters)?;
        }
        if let Some(step) = self.at_step {
            write!(f, ", step {step}")?;
        }
        write!(f, ", {}: {} {}", self.split, self.metric.name(), self.value)?;
        if let Some(up_to) = self.up_to {
            write!(f, " to {up_to}")?;
        }
        if let Some(deviation) = self.deviation {
            write!(f, " ± {deviation}")?;
        }
        if self.metric == Metric::Wer {
            f.write_str(" %")?;
        }
        write!(f, " ({}, {}; {})", self.source, self.place, self.confidence.word())
    }
}

/// What a paper states as an order or a direction: nothing golden, but something that an experiment may claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Statement {
    pub says: String,
    pub source: String,
    pub confidence: Confidence,
}

/// Every published value.
pub fn entries() -> &'static [Entry] {
    &PUBLISHED.entries
}

/// What papers state without numbers.
pub fn statements() -> &'static [Statement] {
    &PUBLISHED.statements
}

/// How a published model was made.
pub fn recipe(name: &str) -> Option<&'static Recipe> {
    PUBLISHED.recipes.get(name)
}

/// The files of `golden/published/` that hold tables.
const TABLES: [(&str, &str); 8] = [
    ("hubert-wer.yaml", include_str!("../../golden/published/hubert-wer.yaml")),
    ("hubert-ablations.yaml", include_str!("../../golden/published/hubert-ablations.yaml")),
    ("wav2vec2.yaml", include_str!("../../golden/published/wav2vec2.yaml")),
    ("ils-hubert.yaml", include_str!("../../golden/published/ils-hubert.yaml")),
    ("mr-hubert.yaml", include_str!("../../golden/published/mr-hubert.yaml")),
    ("reproductions.yaml", include_str!("../../golden/published/reproductions.yaml")),
    ("unit-quality.yaml", include_str!("../../golden/published/unit-quality.yaml")),
    ("training-curves.yaml", include_str!("../../golden/published/training-curves.yaml")),
];
const RECIPES: (&str, &str) = ("recipes.yaml", include_str!("../../golden/published/recipes.yaml"));
const STATEMENTS: (&str, &str) = ("statements.yaml", include_str!("../../golden/published/statements.yaml"));

// The files are part of the program, and a test reads them all.
static PUBLISHED: LazyLock<Published> = LazyLock::new(|| Published::read().expect("published values"));

struct Published {
    recipes: BTreeMap<String, Recipe>,
    entries: Vec<Entry>,
    statements: Vec<Statement>,
}

/// A table as a file holds it: rows that share a source and a metric.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    source: String,
    place: String,
    confidence: Confidence,
    metric: Metric,
    #[serde(default)]
    notes: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Row {
    system: String,
    recipe: Option<String>,
    /// In place of the recipe's.
    iterations: Option<Vec<Iteration>>,
    masked_weight: Option<f64>,
    labelled: Option<Labelled>,
    decoding: Option<Decoding>,
    units: Option<Units>,
    phones: Option<u32>,
    at_step: Option<u32>,
    /// By split.
    values: BTreeMap<String, f64>,
    up_to: Option<f64>,
    deviation: Option<f64>,
    #[serde(default)]
    notes: String,
}

impl Published {
    fn read() -> Result<Self, String> {
        fn parsed<T: serde::de::DeserializeOwned>((name, text): (&str, &str)) -> Result<Vec<T>, String> {
            serde_yaml::from_str(text).map_err(|error| format!("{name}: {error}"))
        }
        let recipes = parsed::<Recipe>(RECIPES)?.into_iter().map(|recipe| (recipe.name.clone(), recipe)).collect();
        let mut entries = Vec::new();
        for file in TABLES {
            for table in parsed::<Table>(file)? {
                entries.extend(table.entries(&recipes).map_err(|why| format!("{}: {why}", file.0))?);
            }
        }
        Ok(Self { recipes, entries, statements: parsed(STATEMENTS)? })
    }
}

impl Table {
    fn entries(&self, recipes: &BTreeMap<String, Recipe>) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::new();
        for row in &self.rows {
            let recipe = row.recipe.as_ref().map(|name| recipes.get(name).ok_or_else(|| format!("no recipe {name}")));
            let iterations = match (&row.iterations, recipe.transpose()?) {
                (Some(iterations), _) => iterations.clone(),
                (None, Some(recipe)) => recipe.iterations.clone(),
                (None, None) => Vec::new(),
            };
            let notes: Vec<&str> = [&self.notes, &row.notes]
                .into_iter()
                .map(|notes| notes.trim())
                .filter(|notes| !notes.is_empty())
                .collect();
            for (split, &value) in &row.values {
                entries.push(Entry {
                    source: self.source.clone(),
                    place: self.place.clone(),
                    confidence: self.confidence,
                    system: row.system.clone(),
                    recipe: row.recipe.clone(),
                    iterations: iterations.clone(),
                    masked_weight: row.masked_weight.unwrap_or(1.0),
                    labelled: row.labelled,
                    decoding: row.decoding,
                    units: row.units,
                    phones: row.phones,
                    at_step: row.at_step,
                    metric: self.metric,
                    split: split.clone(),
                    value,
                    up_to: row.up_to,
                    deviation: row.deviation,
                    notes: notes.join(" "),
                });
            }
        }
        Ok(entries)
    }
}
