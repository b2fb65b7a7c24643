use std::path::PathBuf;

use reprise_spec::values::Name;
use serde::Serialize;

use super::folder;
use crate::cmd::{Places, load, print};
use crate::cohort::Cohort;
use crate::exit::{Exit, Failure};
use crate::golden::{Checked, Files, GoldenError, Observed, Outcome, check, file};

/// Say of golden files what they hold, what waits for a review and what is bypassed
///
/// With experiments it also compares, and says how many goldens are of stages that the experiment doesn't have any more.
#[derive(clap::Args)]
pub struct Args {
    /// Experiment files; every golden file of the folder if left out
    #[arg(value_name = "EXPERIMENT")]
    experiments: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is to be said of one golden file.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    experiment: Name,
    entries: usize,
    bypassed: usize,
    /// Changes that wait.
    pending: usize,
    /// Absent where no experiment was given.
    comparisons: Option<Comparisons>,
}

/// The rows of a check.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Comparisons {
    passed: usize,
    /// Of stages that have another key, or no run, now.
    stale: usize,
    /// All others.
    failed: usize,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let mut all = Vec::new();
    if args.experiments.is_empty() {
        let folder = folder(None)?;
        for name in file::experiments_in(&folder) {
            match Status::of(name.clone(), &Files::of(&folder, name), |_| None) {
                Ok(status) => all.push(status),
                // A damaged file hides no other.
                Err(error) => print::failure(&error.into()),
            }
        }
        if all.is_empty() {
            print::message(format!(
                "no goldens in {}; `reprise golden propose EXPERIMENT` proposes some",
                folder.display()
            ));
        }
    }
    for path in &args.experiments {
        let experiment = load::read(path)?.experiment;
        let store = load::store(places, Some(path))?;
        let observed = Observed::of(&experiment, &Cohort::of(&experiment, &store)?, &store);
        let files = Files::of(&folder(Some(path))?, experiment.name.clone());
        all.push(Status::of(experiment.name.clone(), &files, |golden| {
            Some(Comparisons::of(&check(golden, &observed)))
        })?);
    }
    match args.json {
        true => print::json(&all),
        false if all.is_empty() => {}
        false => print::line(table(&all)),
    }
    Ok(Exit::Fine)
}

impl Status {
    fn of(
        experiment: Name,
        files: &Files,
        compare: impl Fn(&crate::golden::Golden) -> Option<Comparisons>,
    ) -> Result<Self, GoldenError> {
        let (golden, proposal) = (files.golden()?, files.proposal()?);
        let entries = || golden.iter().flat_map(|golden| golden.entries());
        Ok(Self {
            experiment,
            entries: entries().count(),
            bypassed: entries().filter(|(_, _, entry)| entry.bypass.is_some()).count(),
            pending: proposal.iter().flat_map(|proposal| proposal.changes()).count(),
            comparisons: golden.as_ref().and_then(compare),
        })
    }
}

impl Comparisons {
    fn of(checked: &Checked) -> Self {
        let mut found = Self { passed: 0, stale: 0, failed: 0 };
        for row in &checked.rows {
            match &row.outcome {
                Outcome::Passed => found.passed += 1,
                Outcome::OtherStage { .. } | Outcome::ChangedSpec { .. } => found.stale += 1,
                Outcome::Bypassed { .. } => {}
                _ => found.failed += 1,
            }
        }
        found
    }
}

fn table(all: &[Status]) -> String {
    let rows = all.iter().map(|status| {
        let count = |of: fn(&Comparisons) -> usize| {
            status.comparisons.as_ref().map_or_else(|| "-".to_owned(), |found| of(found).to_string())
        };
        vec![
            status.experiment.to_string(),
            status.entries.to_string(),
            status.bypassed.to_string(),
            status.pending.to_string(),
            count(|found| found.passed),
            count(|found| found.failed),
            count(|found| found.stale),
        ]
    });
    let header = ["experiment", "goldens", "bypassed", "proposed", "passed", "failed", "stale"];
    print::table(&header, &[1, 2, 3, 4, 5, 6], rows.collect())
}
