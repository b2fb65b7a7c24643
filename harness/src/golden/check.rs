//! The comparison: every golden against what the experiment's runs give now. Pure, and nothing passes that could not be compared.

use reprise_spec::identity::SpecHash;
use reprise_spec::values::Name;
use serde::Serialize;

use super::observed::{ObservedGroup, ObservedRun};
use super::outcome::{Difference, Outcome, Side, TooFewSeeds};
use super::statistical::{self, Question};
use super::{Entry, Golden, Observed, Statistical, Test, Tolerance, Value};
use crate::cohort::LeftOut;
use crate::measures::{Address, Direction, Measure};
use crate::store::RunId;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    pub experiment: Name,
    /// There was something to compare, and every entry passed that isn't bypassed.
    pub passed: bool,
    /// The experiment as it is now.
    pub spec: SpecHash,
    /// When an entry was last accepted.
    pub accepted: SpecHash,
    /// In the order of the file.
    pub rows: Vec<Row>,
    /// Finished runs that were not looked at, because their numbers don't compare with those of the newest.
    pub left_out: Vec<LeftOut>,
}

/// One comparison: a seed's, or that of several seeds by a test.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    pub variant: String,
    pub address: Address,
    /// Absent where several seeds were tested together.
    pub seed: Option<u64>,
    pub direction: Direction,
    pub tolerance: Tolerance,
    /// The accepted value; the mean of several.
    pub golden: f64,
    /// What the run gives; the mean of several. Absent where nothing was compared.
    pub observed: Option<f64>,
    /// The runs that were looked at, ascending in seed.
    pub runs: Vec<RunId>,
    pub outcome: Outcome,
    /// What a test found: interval, p, the smallest difference that it would have seen, the seeds it would need.
    pub evidence: Option<String>,
    /// What a reader should know of the numbers beside it.
    pub notes: Vec<String>,
}

/// A number that can be compared.
struct Found<'a> {
    run: &'a ObservedRun,
    measure: &'a Measure,
    made_with: &'a str,
}

/// Compares goldens with what runs give now.
pub fn check(golden: &Golden, observed: &Observed) -> Checked {
    let (mut rows, mut questions) = (Vec::new(), Vec::new());
    for (variant, address, entry) in golden.entries() {
        let look = Look { golden, observed, group: observed.group(variant), variant, address };
        match entry.tolerance {
            Tolerance::Statistical(wanted) => match look.together(entry, wanted) {
                Ok((row, question)) => {
                    questions.push((rows.len(), question));
                    rows.push(row);
                }
                Err(row) => rows.push(*row),
            },
            tolerance => rows.extend(entry.values.iter().map(|value| look.alone(entry, tolerance, value))),
        }
    }
    let asked: Vec<Question> = questions.iter().map(|(_, question)| question.clone()).collect();
    // What couldn't be asked belongs to the family all the same.
    let family = rows.iter().filter(|row| row.seed.is_none()).count();
    for ((index, _), (outcome, evidence)) in questions.into_iter().zip(statistical::answers(&asked, family)) {
        (rows[index].outcome, rows[index].evidence) = (outcome, Some(evidence));
    }
    for row in &mut rows {
        if let Some(bypass) = golden.entry(&row.variant, &row.address).and_then(|entry| entry.bypass.as_ref()) {
            row.outcome = row.outcome.clone().despite(bypass);
        }
    }
    let fails = |row: &Row| !row.outcome.passed() && !row.outcome.bypassed();
    Checked {
        experiment: golden.experiment.clone(),
        passed: !rows.is_empty() && !rows.iter().any(fails),
        spec: observed.spec,
        accepted: golden.spec,
        rows,
        left_out: observed.left_out.clone(),
    }
}

impl Checked {
    /// The rows that make the check fail.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.outcome.passed() && !row.outcome.bypassed())
    }

    /// The rows whose entries fail nothing because a person decided so.
    pub fn bypassed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.outcome.bypassed())
    }

    /// What became of the experiment since an entry was last accepted; `None` where it is the same.
    pub fn moved(&self) -> Option<String> {
        let moves = |row: &&Row| {
            let outcome = if let Outcome::Bypassed { otherwise, .. } = &row.outcome { otherwise } else { &row.outcome };
            matches!(outcome, Outcome::OtherStage { .. } | Outcome::ChangedSpec { .. })
        };
        let moved = self.rows.iter().filter(moves).count();
        let of = match moved {
            0 => "no stage with a golden has another key".to_owned(),
            1 => "1 golden is of a stage that is another one or has no run now".to_owned(),
            _ => format!("{moved} goldens are of stages that are others or have no run now"),
        };
        let (now, accepted) = (self.spec.short(), self.accepted.short());
        (self.spec != self.accepted)
            .then(|| format!("the experiment is spec:{now} now; its goldens were accepted for spec:{accepted}: {of}"))
    }
}

/// Where one entry is looked for.
struct Look<'a> {
    golden: &'a Golden,
    observed: &'a Observed,
    group: Option<&'a ObservedGroup>,
    variant: &'a str,
    address: &'a Address,
}

impl<'a> Look<'a> {
    /// One seed by its own tolerance.
    fn alone(&self, entry: &Entry, tolerance: Tolerance, value: &Value) -> Row {
        let mut row = self.row(entry, Some(value.seed), value.value);
        match self.find(value) {
            Err(outcome) => row.outcome = outcome,
            Ok(found) => {
                let (now, by) = (found.measure.value, found.measure.value - value.value);
                let allowed = tolerance.around(value.value).unwrap_or(0.0);
                let same = now.to_bits() == value.value.to_bits();
                row.observed = Some(now);
                row.notes = notes(&found, value);
                row.runs.push(found.run.id.clone());
                row.outcome = match same || (tolerance != Tolerance::Exact && by.abs() <= allowed) {
                    true => Outcome::Passed,
                    false => Outcome::Differs(Difference { by, allowed, side: Side::of(by, entry.direction) }),
                };
            }
        }
        row
    }

    /// All seeds by a test: a row that waits for its answer, and the question; a row with its outcome where nothing can be asked.
    fn together(&self, entry: &Entry, wanted: Statistical) -> Result<(Row, Question), Box<Row>> {
        let needed = wanted.seeds.get() as usize;
        let mut row = self.row(entry, None, mean(entry.values.iter().map(|value| value.value)).unwrap_or(f64::NAN));
        let refuse = |mut row: Row, outcome| {
            row.outcome = outcome;
            Err(Box::new(row))
        };
        let (mut pairs, mut without_run, mut first) = (Vec::new(), Vec::new(), None);
        for value in &entry.values {
            match self.find(value) {
                Ok(found) => {
                    row.runs.push(found.run.id.clone());
                    let noted = notes(&found, value).into_iter().map(|note| format!("seed {}: {note}", value.seed));
                    row.notes.extend(noted);
                    pairs.push((value.value, found.measure.value));
                }
                Err(outcome @ (Outcome::NoRun { .. } | Outcome::ChangedSpec { .. })) => {
                    without_run.push(value.seed);
                    first = first.or(Some(outcome));
                }
                Err(outcome) => {
                    row.notes.push(format!("so it is of seed {}", value.seed));
                    return refuse(row, outcome);
                }
            }
        }
        row.observed = mean(pairs.iter().map(|pair| pair.1));
        if let (true, Some(outcome)) = (pairs.is_empty(), first) {
            return refuse(row, outcome);
        }
        // The interval is of the golden's seeds; one run can be held against it.
        let enough = if wanted.test == Test::PredictionInterval { 1 } else { needed };
        if entry.values.len() < needed || pairs.len() < enough {
            let golden = entry.values.len();
            return refuse(row, Outcome::TooFewSeeds(TooFewSeeds { needed, golden, without_run }));
        }
        let golden = entry.values.iter().map(|value| value.value).collect();
        Ok((row, Question { golden, pairs, test: wanted.test, direction: entry.direction }))
    }

    fn row(&self, entry: &Entry, seed: Option<u64>, golden: f64) -> Row {
        Row {
            variant: self.variant.to_owned(),
            address: self.address.clone(),
            seed,
            direction: entry.direction,
            tolerance: entry.tolerance,
            golden,
            observed: None,
            runs: Vec::new(),
            outcome: Outcome::Undecided { because: "the test could not be made".into() },
            evidence: None,
            notes: Vec::new(),
        }
    }

    /// The number that a golden value is to be compared with, or why it can't be.
    fn find(&self, value: &Value) -> Result<Found<'a>, Outcome> {
        let run = self.run(value.seed)?;
        let Address { stage, metric } = self.address;
        let Some(now) = run.stages.get(stage) else {
            let renamed = run.stages.iter().find(|(_, stage)| stage.key == value.stage);
            let because = match renamed {
                Some((name, _)) => format!("run {} calls the stage `{name}`; propose the entry again", run.id),
                None => format!("run {} has no stage `{stage}`", run.id),
            };
            return Err(Outcome::MissingMetric { because });
        };
        if now.key != value.stage {
            return Err(Outcome::OtherStage { golden: value.stage, observed: now.key });
        }
        let Some(made_with) = now.made_with.as_deref() else { return Err(Outcome::NotStored { stage: stage.clone() }) };
        let Some(measure) = run.measures.get(self.address) else {
            return Err(Outcome::MissingMetric { because: format!("`{stage}` of run {} gives no `{metric}`", run.id) });
        };
        match [measure.value, value.value].iter().find(|value| !value.is_finite()) {
            Some(odd) => Err(Outcome::NotANumber { observed: odd.to_string() }),
            None => Ok(Found { run, measure, made_with }),
        }
    }

    fn run(&self, seed: u64) -> Result<&'a ObservedRun, Outcome> {
        let no_run = |because: String| Err(Outcome::NoRun { because });
        let Some(group) = self.group else {
            return no_run(format!("the experiment has no variant `{}`", self.variant));
        };
        match group.runs.get(&seed) {
            Some(run) => Ok(run),
            None if !self.observed.seeds.contains(&seed) => {
                no_run(format!("seed {seed} is no seed of the experiment any more"))
            }
            None if self.golden.spec != self.observed.spec => {
                Err(Outcome::ChangedSpec { accepted: self.golden.spec, now: self.observed.spec })
            }
            None => no_run(format!("no finished run of seed {seed}; `reprise run` makes one")),
        }
    }
}

/// What a reader should know of a number beside it.
fn notes(found: &Found, value: &Value) -> Vec<String> {
    let elsewhere = found.made_with != value.made_with;
    let elsewhere = elsewhere.then(|| {
        format!(
            "the golden was made with {}, this with {}; bits needn't repeat there",
            value.made_with, found.made_with
        )
    });
    let running = (!found.measure.compares()).then(|| "of a model in mid-schedule".to_owned());
    let refused = found.measure.refused.as_ref().map(|why| format!("supports nothing: {why}"));
    elsewhere.into_iter().chain(running).chain(refused).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
