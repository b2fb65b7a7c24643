//! What became of comparing one golden, each outcome with its own message.

use std::fmt;

use jiff::civil::Date;
use reprise_spec::identity::{SpecHash, StageKey};
use serde::Serialize;

use super::Bypass;
use crate::measures::Direction;

/// What became of comparing one golden with what runs give now. Nothing but [`Outcome::Passed`] passes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Passed,
    /// The number is another one.
    Differs(Difference),
    /// The run has no such number.
    MissingMetric {
        because: String,
    },
    /// There is no run to compare with.
    NoRun {
        because: String,
    },
    /// There is no run of the experiment as it is now, and it was another one when the golden was accepted.
    ChangedSpec {
        accepted: SpecHash,
        now: SpecHash,
    },
    /// A test would have to do with fewer seeds than it needs.
    TooFewSeeds(TooFewSeeds),
    /// The run's number is NaN or infinite, or the golden's is.
    NotANumber {
        observed: String,
    },
    /// The run has its number from a stage with another key: other settings, other files, or another version.
    OtherStage {
        golden: StageKey,
        observed: StageKey,
    },
    /// The output that held the number is gone, or can't be read.
    NotStored {
        stage: String,
    },
    /// The seeds allow both.
    Undecided {
        because: String,
    },
    /// A person decided that the entry fails nothing.
    Bypassed {
        because: String,
        since: Date,
        by: Option<String>,
        /// What it would be without that.
        otherwise: Box<Outcome>,
    },
}

/// How far a number lies from its golden.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// Observed less golden.
    pub by: f64,
    /// The greatest difference that would have passed.
    pub allowed: f64,
    pub side: Side,
}

/// Which way a number lies from its golden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Better,
    Worse,
    /// The metric has no direction.
    Other,
}

/// How many seeds there are where more are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TooFewSeeds {
    pub needed: usize,
    /// Accepted in the golden.
    pub golden: usize,
    /// Of those, the seeds without a run.
    pub without_run: Vec<u64>,
}

impl Side {
    /// Of a difference `observed less golden`.
    pub fn of(by: f64, direction: Direction) -> Self {
        match direction {
            Direction::Neither => Self::Other,
            Direction::Lower if by < 0.0 => Self::Better,
            Direction::Higher if by > 0.0 => Self::Better,
            Direction::Lower | Direction::Higher => Self::Worse,
        }
    }
}

impl Outcome {
    /// Whether the number was compared and is the golden's.
    pub fn passed(&self) -> bool {
        *self == Self::Passed
    }

    /// Whether a person decided that it fails nothing.
    pub fn bypassed(&self) -> bool {
        matches!(self, Self::Bypassed { .. })
    }

    /// The outcome of an entry with a bypass.
    pub fn despite(self, bypass: &Bypass) -> Self {
        let Bypass { because, since, by } = bypass.clone();
        Self::Bypassed { because, since, by, otherwise: Box::new(self) }
    }

    /// One or two words.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Differs(Difference { side: Side::Better, .. }) => "better",
            Self::Differs(Difference { side: Side::Worse, .. }) => "worse",
            Self::Differs(Difference { side: Side::Other, .. }) => "differs",
            Self::MissingMetric { .. } => "missing metric",
            Self::NoRun { .. } => "no run",
            Self::ChangedSpec { .. } => "changed spec",
            Self::TooFewSeeds(_) => "too few seeds",
            Self::NotANumber { .. } => "not a number",
            Self::OtherStage { .. } => "other stage",
            Self::NotStored { .. } => "not stored",
            Self::Undecided { .. } => "undecided",
            Self::Bypassed { .. } => "BYPASSED",
        }
    }
}

impl fmt::Display for Outcome {
    /// What was found, and what to do next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("as accepted"),
            Self::Differs(Difference { by, allowed, side }) => {
                let side = match side {
                    Side::Better => "better",
                    Side::Worse => "worse",
                    Side::Other => "another value",
                };
                write!(f, "{side}: {by:+} from the golden, {allowed} allowed; find out why, or propose the new value")
            }
            Self::MissingMetric { because } => write!(f, "not checked: {because}"),
            Self::NoRun { because } => write!(f, "not checked: {because}"),
            Self::ChangedSpec { accepted, now } => write!(
                f,
                "not checked: accepted for spec:{}, the experiment is spec:{} now and has no finished run of this seed; `reprise run` makes one",
                accepted.short(),
                now.short()
            ),
            Self::TooFewSeeds(TooFewSeeds { needed, golden, without_run }) => {
                write!(f, "not checked: {needed} seeds are needed, ")?;
                match golden < needed {
                    true => write!(f, "the golden has {golden}; propose it again when more runs have finished"),
                    false => {
                        let seeds: Vec<String> = without_run.iter().map(u64::to_string).collect();
                        let found = golden - without_run.len();
                        write!(f, "{found} have finished runs; missing: {}", seeds.join(", "))
                    }
                }
            }
            Self::NotANumber { observed } => write!(f, "not checked: the value is {observed}, which is no number"),
            Self::OtherStage { golden, observed } => write!(
                f,
                "not checked: accepted of stage:{0}, the run has stage:{1}; where both are stored, `reprise explain stage:{0} stage:{1}` says \
                 what changed",
                golden.short(),
                observed.short()
            ),
            Self::NotStored { stage } => {
                write!(
                    f,
                    "not checked: the output of `{stage}` is gone from the store, or can't be read; run the experiment again"
                )
            }
            Self::Undecided { because } => write!(f, "undecided: {because}"),
            Self::Bypassed { because, since, by, otherwise } => {
                let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                write!(f, "bypassed{by} since {since} because: {because}; otherwise {}", otherwise.word())?;
                match otherwise.passed() {
                    true => f.write_str(", so that the bypass can end"),
                    false => Ok(()),
                }
            }
        }
    }
}
