//! Golden metrics: the accepted values of an experiment's numbers, and whether its runs still give them.
//!
//! `golden/<experiment>.yaml` is under git. Each entry is one metric: its value for every accepted seed, the key of the stage that gave it, how far
//! another run may lie from it, and where it came from. [`check()`] compares and passes only what it could compare. A changed value is never
//! written over: [`proposal`] puts it beside the file, where it is accepted or rejected.

use std::collections::BTreeMap;

use jiff::civil::Date;
use reprise_spec::identity::{SpecHash, StageKey};
use reprise_spec::node::{Path, Segment};
use reprise_spec::values::{Count, Name, Positive};
use serde::{Deserialize, Serialize};

use crate::measures::{Address, Direction};
use crate::rerun::margin::Margin;
use crate::store::RunId;

pub mod check;
pub mod file;
pub mod observed;
pub mod outcome;
pub mod pattern;
pub mod proposal;
mod statistical;

pub use check::{Checked, Row, check};
pub use file::{Files, GoldenError};
pub use observed::Observed;
pub use outcome::Outcome;
pub use pattern::Pattern;
pub use proposal::{Change, Proposal};

/// What the only variant of an experiment is called in a golden file: elsewhere it has no name.
pub const ALONE: &str = "(only)";

/// The goldens of one experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Golden {
    pub version: Version,
    pub experiment: Name,
    /// The experiment when an entry was last accepted. What an entry is bound to are the keys of its stages.
    pub spec: SpecHash,
    /// By name of the variant, [`ALONE`] for one without a name.
    pub variants: BTreeMap<String, Entries>,
}

/// The goldens of one variant.
pub type Entries = BTreeMap<Address, Entry>;

/// The golden of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// Which way the metric is better.
    pub direction: Direction,
    pub tolerance: Tolerance,
    /// At least one, ascending in seed.
    pub values: Vec<Value>,
    /// The day on which a person accepted it (UTC).
    pub accepted: Date,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Why the entry fails nothing for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass: Option<Bypass>,
}

/// What one run gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Value {
    pub seed: u64,
    pub value: f64,
    /// The stage that gave it.
    pub stage: StageKey,
    pub run: RunId,
    /// What decides bits of it: processor, instruction set, libtorch, threads.
    pub made_with: String,
}

/// How far a number may lie from its golden.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tolerance {
    /// The same bits.
    Exact,
    Absolute(Positive),
    /// As a share of the golden's magnitude.
    Relative(Positive),
    /// The seeds together, by a test.
    Statistical(Statistical),
}

/// A comparison of several seeds with their goldens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Statistical {
    /// So many seeds are needed, 2 or more.
    pub seeds: Count,
    pub test: Test,
}

/// What several seeds are asked. The probability that one of a file's entries passes although it shouldn't (for the interval: fails) is 5 % at
/// most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// Whether the means are within a margin of each other: two one-sided tests, seed by seed.
    Equivalence(Within),
    /// Whether the mean is no worse than the golden's by a margin; better passes.
    NonInferiority(Within),
    /// Whether each run lies where the golden's seeds expect one more run.
    PredictionInterval,
}

/// The margin of a test, in the unit of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Within {
    pub margin: Positive,
}

/// A recorded decision that an entry fails nothing. Every check and report shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bypass {
    pub because: String,
    pub since: Date,
    /// Who decided it, where they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The version that a golden file is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Version;

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(value: u64) -> Result<Self, String> {
        match value {
            1 => Ok(Self),
            other => {
                Err(format!("version {other} of golden files is not known to this program, which reads version 1"))
            }
        }
    }
}

impl From<Version> for u64 {
    fn from(Version: Version) -> u64 {
        1
    }
}

impl Golden {
    /// The goldens of an experiment that has none yet.
    pub fn new(experiment: Name, spec: SpecHash) -> Self {
        Self { version: Version, experiment, spec, variants: BTreeMap::new() }
    }

    /// The entry of a variant's metric.
    pub fn entry(&self, variant: &str, address: &Address) -> Option<&Entry> {
        self.variants.get(variant)?.get(address)
    }

    /// Every entry with the name of its variant, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Address, &Entry)> {
        self.variants.iter().flat_map(|(variant, entries)| {
            entries.iter().map(move |(address, entry)| (variant.as_str(), address, entry))
        })
    }
}

impl Entry {
    /// The accepted seeds.
    pub fn seeds(&self) -> impl Iterator<Item = u64> {
        self.values.iter().map(|value| value.seed)
    }

    /// Rules about several values of an entry: what breaks one, and where below the entry.
    fn problems(&self) -> Vec<(Path, String)> {
        let at = |keys: &[&str]| Path(keys.iter().map(|key| Segment::Key((*key).into())).collect());
        let mut problems = Vec::new();
        if self.values.is_empty() {
            problems.push((at(&["values"]), "a golden needs the value of at least one seed".into()));
        }
        for (index, pair) in self.values.windows(2).enumerate() {
            let message = match pair[0].seed.cmp(&pair[1].seed) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => format!("seed {} has two values", pair[0].seed),
                std::cmp::Ordering::Greater => "seeds ascend".into(),
            };
            let index = Segment::Index(index + 1);
            problems.push((Path(vec![Segment::Key("values".into()), index, Segment::Key("seed".into())]), message));
        }
        match self.tolerance {
            Tolerance::Relative(share) if share.get() > 1.0 => {
                problems.push((at(&["tolerance", "relative"]), "a share of the golden is at most 1".into()));
            }
            Tolerance::Statistical(Statistical { seeds, .. }) if seeds.get() < 2 => {
                problems.push((at(&["tolerance", "statistical", "seeds"]), "a test needs at least 2 seeds".into()));
            }
            Tolerance::Statistical(Statistical { test: Test::NonInferiority(_), .. })
                if self.direction == Direction::Neither =>
            {
                let message = "nothing is worse in a metric without a direction: ask for `equivalence`".into();
                problems.push((at(&["tolerance", "statistical", "test"]), message));
            }
            _ => {}
        }
        if self.bypass.as_ref().is_some_and(|bypass| bypass.because.trim().is_empty()) {
            problems.push((at(&["bypass", "because"]), "a bypass says why".into()));
        }
        problems
    }
}

impl std::fmt::Display for Tolerance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Absolute(margin) => write!(f, "± {}", margin.get()),
            Self::Relative(share) => write!(f, "± {} %", share.get() * 100.0),
            Self::Statistical(Statistical { seeds, test }) => {
                let seeds = seeds.get();
                match test {
                    Test::Equivalence(within) => write!(f, "equivalence within {}, {seeds} seeds", within.margin.get()),
                    Test::NonInferiority(within) => {
                        write!(f, "no worse by {}, {seeds} seeds", within.margin.get())
                    }
                    Test::PredictionInterval => write!(f, "prediction interval, {seeds} seeds"),
                }
            }
        }
    }
}

impl Tolerance {
    /// What reruns are judged by; `None` for a margin that is none.
    pub fn of(margin: Margin) -> Option<Self> {
        match margin {
            Margin::Exact => Some(Self::Exact),
            Margin::Absolute(margin) => Positive::try_from(margin).ok().map(Self::Absolute),
            Margin::Relative(share) => Positive::try_from(share).ok().map(Self::Relative),
        }
    }

    /// The greatest difference from a golden that is allowed run by run; `None` where the seeds are tested together.
    fn around(&self, golden: f64) -> Option<f64> {
        Some(match self {
            Self::Exact => 0.0,
            Self::Absolute(margin) => margin.get(),
            Self::Relative(share) => share.get() * golden.abs(),
            Self::Statistical(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests;
