//! In what two sides differ: experiments, runs, or the runs of a setting over seeds.
//!
//! From cause to effect: settings, data, code and environment; then stages, the numbers that they gave, their curves, and what was
//! recognised. Settings, data and numbers decide the [`Answer`]; code, environment and digests explain it.

use std::collections::BTreeSet;

use reprise_spec::identity::VariantHash;
use serde::Serialize;

use crate::explain::{self, ExplainError, Field};
use crate::store::{RunId, RunRecord, StageRecord, Store, StoredOutput};

pub mod curves;
pub mod hypotheses;
pub mod metrics;
pub mod origin;
pub mod patches;
pub mod side;
pub mod stages;

use curves::CurvePair;
use hypotheses::Decoded;
use metrics::{MetricPair, Standing};
use origin::{Code, DataPair};
pub use side::Side;
use stages::StagePair;

/// The same of either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sides<T> {
    pub a: T,
    pub b: T,
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    A,
    B,
}

/// A line or a word of one side, or of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// The side that has it alone; absent where both have it.
    pub of: Option<Which>,
    pub text: String,
}

/// A number as a stage stored it. JSON has no word for NaN and infinities: they are written as text.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

/// Everything in which two sides differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diff {
    pub of: Sides<Head>,
    pub answer: Answer,
    /// One sentence for people.
    pub because: String,
    /// The runs that were compared, ascending in seed.
    pub pairs: Vec<Sides<RunOfSeed>>,
    pub settings: Vec<Field>,
    pub data: Vec<DataPair>,
    pub code: Code,
    pub environment: Vec<Field>,
    /// In the order of the plan.
    pub stages: Vec<StagePair>,
    /// In the order of the plan, those that are equal among them.
    pub metrics: Vec<MetricPair>,
    /// Logged values that part.
    pub curves: Vec<CurvePair>,
    /// Decoded splits in which something else was recognised.
    pub hypotheses: Vec<Decoded>,
}

/// What a side is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Head {
    /// As it was named.
    pub given: String,
    /// `run 20260101-…`, `spec:…`, `variant:…`.
    pub is: String,
    /// The experiment, variant and seed of a run; empty otherwise.
    pub title: String,
    /// The hash of what one run executes; absent for an experiment of several variants.
    pub variant: Option<VariantHash>,
    /// What couldn't be compared, and why.
    pub notes: Vec<String>,
}

/// One compared run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunOfSeed {
    pub run: RunId,
    pub seed: u64,
}

/// Whether the two gave the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Settings and data are equal, and so is every output to the bit.
    Same,
    /// Settings and data are equal, and every number is within its tolerance.
    WithinTolerance,
    /// Seeds are too few to tell.
    Undecided,
    Different,
}

impl Answer {
    /// Whether the answer is yes.
    pub fn holds(self) -> bool {
        matches!(self, Self::Same | Self::WithinTolerance)
    }
}

impl<T> Sides<T> {
    pub fn new(a: T, b: T) -> Self {
        Self { a, b }
    }

    pub fn as_ref(&self) -> Sides<&T> {
        Sides { a: &self.a, b: &self.b }
    }

    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Sides<U> {
        Sides { a: f(self.a), b: f(self.b) }
    }

    pub fn into_array(self) -> [T; 2] {
        [self.a, self.b]
    }
}

impl<T> Sides<Option<T>> {
    /// Both, where both are there.
    pub fn both(self) -> Option<Sides<T>> {
        Some(Sides { a: self.a?, b: self.b? })
    }
}

impl PartialEq for Number {
    /// The same bits, so that a NaN is itself.
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.is_finite() {
            true => serializer.serialize_f64(self.0),
            false => serializer.collect_str(&self.0),
        }
    }
}

/// Two runs with the stored outputs of their stages, read once.
pub struct Pair<'a> {
    pub runs: Sides<&'a RunRecord>,
    /// By name of stage, in the order of the plan, the first side's before those that the second has alone.
    pub stages: Vec<(&'a str, Sides<Option<Done<'a>>>)>,
}

/// One stage of a run, with its output as far as it is stored.
pub struct Done<'a> {
    pub record: &'a StageRecord,
    pub output: Option<StoredOutput>,
}

impl<'a> Pair<'a> {
    pub fn of(a: &'a RunRecord, b: &'a RunRecord, store: &Store) -> Self {
        let done = |run: &'a RunRecord, name: &str| {
            let record = run.stages.iter().find(|stage| stage.name == name)?;
            let output = record.state.digest().and_then(|digest| store.output(&record.key, &digest));
            Some(Done { record, output })
        };
        let mut names = BTreeSet::new();
        let every = a.stages.iter().chain(&b.stages).map(|stage| stage.name.as_str());
        let stages = every
            .filter(|name| names.insert(*name))
            .map(|name| (name, Sides::new(done(a, name), done(b, name))))
            .collect();
        Self { runs: Sides::new(a, b), stages }
    }

    /// The stages that are stored on both sides.
    pub fn stored(&self) -> impl Iterator<Item = (&'a str, Sides<&StoredOutput>)> {
        let output = |done: &'_ Option<Done<'a>>| done.as_ref().and_then(|done| done.output.as_ref()).is_some();
        let both = self.stages.iter().filter(move |(_, sides)| output(&sides.a) && output(&sides.b));
        both.filter_map(|(name, sides)| {
            let output = sides.as_ref().map(|done| done.as_ref().and_then(|done| done.output.as_ref()));
            Some((*name, output.both()?))
        })
    }

    /// Those whose outputs are not the same.
    pub fn parted(&self) -> impl Iterator<Item = (&'a str, Sides<&StoredOutput>)> {
        self.stored().filter(|(_, of)| of.a.manifest.digest != of.b.manifest.digest)
    }
}

/// Compares two sides, as far as the store has what they consist of.
///
/// # Errors
/// When they are no two of a kind: an experiment of several variants beside a run; runs without a seed in common; or what is needed of a
/// stored run can't be read.
pub fn compare(a: &Side, b: &Side, store: &Store) -> Result<Diff, ExplainError> {
    let settings = explain::settings(&a.subject, &b.subject)?;
    let paired = side::paired(a, b)?;
    let pairs: Vec<Pair> = paired.iter().map(|runs| Pair::of(runs.a, runs.b, store)).collect();
    let mut diff = Diff {
        of: Sides::new(a.head(), b.head()),
        answer: Answer::Same,
        because: String::new(),
        pairs: paired.iter().map(|runs| runs.map(|run| RunOfSeed { run: run.id.clone(), seed: run.seed })).collect(),
        settings,
        data: origin::data(&pairs),
        code: origin::code(&pairs, store),
        environment: origin::environment(&pairs),
        stages: stages::compare(&pairs, store),
        metrics: metrics::compare(&pairs, store),
        curves: curves::compare(&pairs),
        hypotheses: hypotheses::compare(&pairs),
    };
    (diff.answer, diff.because) = diff.judged();
    Ok(diff)
}

impl Diff {
    fn judged(&self) -> (Answer, String) {
        let count = |wanted: &[Standing]| self.metrics.iter().filter(|pair| wanted.contains(&pair.standing)).count();
        let some = |count: usize, one: &str, several: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {several}")),
        };
        let unfinished = self.stages.iter().filter(|stage| !stage.is_compared()).count();
        let reasons: Vec<String> = [
            some(self.settings.len(), "setting differs", "settings differ"),
            some(self.data.len(), "stage reads other data", "stages read other data"),
            some(unfinished, "stage has no output on one side", "stages have no output on one side"),
            some(count(&[Standing::Beyond]), "number lies beyond its tolerance", "numbers lie beyond their tolerance"),
            some(
                count(&[Standing::OnlyA, Standing::OnlyB]),
                "number is on one side alone",
                "numbers are on one side alone",
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        let differing = self.stages.iter().filter(|stage| !stage.is_same()).count();
        let undecided = count(&[Standing::Undecided]);
        match () {
            () if !reasons.is_empty() => (Answer::Different, reasons.join(", ")),
            () if self.pairs.is_empty() => {
                (Answer::Same, "the settings are equal; nothing else was compared, because no run was".into())
            }
            () if undecided > 0 => {
                let numbers = if undecided == 1 { "number is" } else { "numbers are" };
                let because = format!("{undecided} {numbers} neither shown to be within tolerance nor beyond it");
                (Answer::Undecided, because)
            }
            () if differing == 0 => (
                Answer::Same,
                format!("settings and data are equal, and so are the outputs of {} stages", self.stages.len()),
            ),
            () => {
                let numbers = self.metrics.len();
                let because = format!(
                    "{} an output that differs, and {} within tolerance",
                    if differing == 1 { "1 stage has".into() } else { format!("{differing} stages have") },
                    if numbers == 1 { "its 1 number is".into() } else { format!("all {numbers} numbers are") },
                );
                (Answer::WithinTolerance, because)
            }
        }
    }
}
