//! Goldens of several seeds: the tests of one file, judged as one family.

use super::Test;
use super::outcome::{Difference, Outcome, Side};
use crate::measures::Direction;
use crate::statistics::equivalence::{Better, Outcome as Found, Standing};
use crate::statistics::power::POWER;
use crate::statistics::{Equivalence, MeanDifference, NonInferiority, Untestable, holm, prediction_interval};

/// The probability of an error of the whole family.
const ALPHA: f64 = 0.05;

/// What one entry asks.
#[derive(Clone, Debug)]
pub struct Question {
    /// All accepted values.
    pub golden: Vec<f64>,
    /// Accepted and observed value of each seed that has a run.
    pub pairs: Vec<(f64, f64)>,
    pub test: Test,
    pub direction: Direction,
}

/// The outcome of each question and what it rests on, where `family` questions were to be asked.
pub fn answers(questions: &[Question], family: usize) -> Vec<(Outcome, String)> {
    let tests: Vec<Result<Tested, Untestable>> = questions.iter().map(Question::test).collect();
    let p_values = tests.iter().map(|test| test.as_ref().map_or(1.0, |tested| tested.p));
    let unasked = std::iter::repeat_n(1.0, family.saturating_sub(questions.len()));
    // Each p is a probability, so that Holm refuses none.
    let adjusted = holm(&p_values.chain(unasked).collect::<Vec<f64>>()).unwrap_or_default();
    let answer = |(question, (test, p)): (&Question, (Result<Tested, Untestable>, f64))| match &question.test {
        Test::PredictionInterval => question.predicted(family),
        _ if question.pairs.iter().all(|(golden, now)| golden.to_bits() == now.to_bits()) => {
            (Outcome::Passed, "every seed gives its golden to the bit".into())
        }
        _ => match test {
            Err(untestable) => (Outcome::Undecided { because: untestable.to_string() }, untestable.to_string()),
            Ok(tested) => tested.judged(p, family, question),
        },
    };
    questions.iter().zip(tests.into_iter().zip(adjusted)).map(answer).collect()
}

/// A test of a difference of means against a margin.
struct Tested {
    difference: MeanDifference,
    margin: f64,
    /// Small where the seeds show what is asked for.
    p: f64,
    /// Of confidence 1 − 2α.
    interval: (f64, f64),
    /// Whether the seeds show the opposite.
    beyond: bool,
}

impl Question {
    /// The paired test: runs of one seed belong together.
    fn test(&self) -> Result<Tested, Untestable> {
        let (golden, now): (Vec<f64>, Vec<f64>) = self.pairs.iter().copied().unzip();
        let difference = MeanDifference::paired(&now, &golden)?;
        let interval = difference.interval(1.0 - 2.0 * ALPHA);
        let (margin, p, beyond) = match (&self.test, self.direction) {
            (Test::NonInferiority(within), Direction::Lower | Direction::Higher) => {
                let better = if self.direction == Direction::Lower { Better::Lower } else { Better::Higher };
                let found = NonInferiority::of(&difference, better, within.margin.get(), ALPHA)?;
                (within.margin.get(), found.p, found.outcome == Standing::Worse)
            }
            (Test::NonInferiority(within) | Test::Equivalence(within), _) => {
                let found = Equivalence::of(&difference, within.margin.get(), ALPHA)?;
                (within.margin.get(), found.p, found.outcome == Found::Different)
            }
            (Test::PredictionInterval, _) => (0.0, 1.0, false),
        };
        Ok(Tested { difference, margin, p, interval, beyond })
    }

    /// Whether every run lies where the golden's seeds expect one more. The interval widens with the number of runs that are held against one.
    fn predicted(&self, family: usize) -> (Outcome, String) {
        let share = ALPHA / (family.max(1) * self.pairs.len().max(1)) as f64;
        let Some((low, high)) = prediction_interval(&self.golden, 1.0 - share) else {
            let because = "the golden's seeds give no interval".to_owned();
            return (Outcome::Undecided { because: because.clone() }, because);
        };
        let evidence = format!("{} seeds expect one more run from {low:.4} to {high:.4}", self.golden.len());
        let beyond = |now: f64| if now < low { now - low } else { now - high };
        let outside = |(_, now): &&(f64, f64)| !(low..=high).contains(now);
        match self.pairs.iter().find(outside) {
            None => (Outcome::Passed, evidence),
            Some((_, now)) => {
                let middle = f64::midpoint(low, high);
                let side = Side::of(beyond(*now), self.direction);
                (Outcome::Differs(Difference { by: now - middle, allowed: high - middle, side }), evidence)
            }
        }
    }
}

impl Tested {
    /// `p` is adjusted for the family.
    fn judged(&self, p: f64, family: usize, question: &Question) -> (Outcome, String) {
        let Self { difference, margin, interval: (low, high), .. } = self;
        let by = difference.difference;
        let seeds = question.pairs.len();
        let smallest = difference.smallest_detectable(ALPHA, POWER);
        let needed = match difference.seeds_for_equivalence(*margin, ALPHA, POWER) {
            Some(needed) => format!("{needed} seeds would show equal means to be within the margin"),
            None => "no number of seeds in reach would show equal means to be within the margin".to_owned(),
        };
        let together = if family > 1 { format!(", adjusted for {family} tests") } else { String::new() };
        let evidence = format!(
            "mean difference {by:+.4} ({low:+.4} to {high:+.4}), p = {p:.3}{together}; {seeds} seeds see a difference of {smallest:.4} four \
             times of five, {needed}"
        );
        let outcome = match () {
            () if p <= ALPHA => Outcome::Passed,
            () if self.beyond => {
                Outcome::Differs(Difference { by, allowed: *margin, side: Side::of(by, question.direction) })
            }
            () => {
                Outcome::Undecided { because: format!("{seeds} seeds allow a difference within and beyond {margin}") }
            }
        };
        (outcome, evidence)
    }
}
