//! The verdict: what was checked, and what came of it.

use serde::Serialize;

use super::parts::Mark;
use super::shown::counted;
use super::subject::{Kind, Subject};

/// What all checks together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Every check that was made came out well, and one was made at least.
    Confirmed,
    /// A golden is missed, or a claim contradicted.
    Refuted,
    /// Checks were made that decide nothing.
    Undecided,
    /// There are numbers, and nothing says what they should be.
    Unchecked,
    /// There are no numbers.
    NotExecuted,
}

/// The outcomes of one kind of check.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// `claims`, `golden metrics`, `reruns`.
    pub of: String,
    /// Words and numbers, in the order in which they are told.
    pub counts: Vec<Outcome>,
}

/// How often something came out in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    pub word: String,
    pub count: usize,
    pub mark: Mark,
}

/// The verdict of a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    pub level: Level,
    /// One sentence.
    pub headline: String,
    pub tallies: Vec<Tally>,
    /// Kinds of checks that were not made.
    #[serde(skip)]
    pub unchecked: Vec<String>,
}

impl Verdict {
    /// Of what was checked: kinds with no outcome were not checked, and say so.
    pub fn of(subject: &Subject<'_>, tallies: Vec<Tally>) -> Self {
        let (tallies, empty): (Vec<Tally>, Vec<Tally>) = tallies.into_iter().partition(|tally| tally.total() > 0);
        let unchecked = empty.into_iter().map(|tally| format!("There are no {} to check", tally.of)).collect();
        let count = |mark| tallies.iter().map(|tally| tally.marked(mark)).sum::<usize>();
        let (runs, bad, unsure, good) =
            (subject.all().count(), count(Mark::Bad), count(Mark::Unsure), count(Mark::Good));
        let checks = counted(bad + unsure + good, "check");
        let (level, headline) = match (runs, bad, unsure, good) {
            (0, ..) => (Level::NotExecuted, "Not executed: there is a plan, and no result.".to_owned()),
            (_, 1.., ..) => (Level::Refuted, format!("Not confirmed: {bad} of {checks} came out against it.")),
            (_, 0, 1.., _) => (Level::Undecided, format!("Undecided: {unsure} of {checks} decide nothing.")),
            (_, 0, 0, 1..) => (Level::Confirmed, format!("Confirmed: {checks}, and all came out well.")),
            (..) => (
                Level::Unchecked,
                "Not checked: these are results, and nothing says yet what they should be.".to_owned(),
            ),
        };
        let headline = match subject.kind {
            Kind::Experiment | Kind::Run => headline,
            Kind::Comparison if runs > 0 && level == Level::Unchecked => {
                "A comparison: no check says which of these numbers should be.".to_owned()
            }
            Kind::History if runs > 0 && level == Level::Unchecked => {
                "A history: how the numbers moved, not which of them is right.".to_owned()
            }
            Kind::Comparison | Kind::History => headline,
        };
        Self { level, headline, tallies, unchecked }
    }
}

impl Tally {
    /// Outcomes in the order in which they are told.
    pub fn new(of: &str, counts: &[(&str, usize, Mark)]) -> Self {
        let outcome = |(word, count, mark): &(&str, usize, Mark)| Outcome {
            word: (*word).to_owned(),
            count: *count,
            mark: *mark,
        };
        Self { of: of.to_owned(), counts: counts.iter().map(outcome).collect() }
    }

    fn total(&self) -> usize {
        self.counts.iter().map(|outcome| outcome.count).sum()
    }

    fn marked(&self, mark: Mark) -> usize {
        self.counts.iter().filter(|outcome| outcome.mark == mark).map(|outcome| outcome.count).sum()
    }
}
