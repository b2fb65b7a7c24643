use std::collections::BTreeMap;

use reprise_spec::experiment::Experiment;

use super::golden::Of;
use super::{Places, load, print};
use crate::cohort::Cohort;
use crate::exit::{Exit, Failure};
use crate::golden::{self, Checked, GoldenError, Observed, Row};
use crate::inert;
use crate::store::{Seen, Store};

/// Compare an experiment's runs with its golden metrics
///
/// Of every variant and seed the newest finished run is held against `golden/<experiment>.yaml`: value by value within each entry's tolerance,
/// or all seeds together by a test. What can't be compared doesn't pass: a missing metric, a value that is no number, too few seeds, a stage
/// with another key. An entry with a bypass fails nothing and is told last. Needs no corpus and executes nothing.
///
/// Exits 1 when a golden isn't met or couldn't be compared, or says something that is no golden.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// Look at this run instead of the newest of its seed, and at no seed without a named run; may be given several times
    #[arg(long, value_name = "RUN")]
    run: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let (experiment, files) = args.of.read()?;
    let goldens = files.existing().map_err(|error| {
        let exit = if matches!(error, GoldenError::Invalid(_)) { Exit::No } else { Exit::User };
        Failure { exit, ..error.into() }
    })?;
    let store = load::store(places, Some(&args.of.file))?;
    let cohort = match args.run.as_slice() {
        [] => Cohort::of(&experiment, &store)?,
        named => named_runs(&experiment, &store, named)?,
    };
    let checked = golden::check(&goldens, &Observed::of(&experiment, &cohort, &store));
    match args.json {
        true => print::json(&checked),
        false => print::line(shown(&checked)),
    }
    Ok(if checked.passed { Exit::Fine } else { Exit::No })
}

/// The cohort of these runs alone.
fn named_runs(experiment: &Experiment, store: &Store, named: &[String]) -> Result<Cohort, Failure> {
    let mut cohort = Cohort::of(experiment, store)?;
    cohort.left_out.clear();
    for group in &mut cohort.groups {
        group.runs = BTreeMap::new();
    }
    for name in named {
        let listed = store.run(name)?;
        let seen = listed.seen();
        let record = super::recorded::Recorded::record(listed)?;
        if seen != Seen::Finished {
            let message = format!("run {} is {}: it has no whole result", record.id, print::word(&seen));
            return Err(Failure::user(message, "name a finished run"));
        }
        let Some(group) = cohort.groups.iter_mut().find(|group| group.variant == record.variant) else {
            let message = format!("run {} is of another setting than any variant of the experiment", record.id);
            return Err(Failure::user(message, "`reprise explain EXPERIMENT RUN` says in what they differ"));
        };
        if let Some(other) = group.runs.insert(record.seed, record) {
            let message = format!("run {} and {name} are of the same variant and seed", other.id);
            return Err(Failure::user(message, "name one of them"));
        }
    }
    Ok(cohort)
}

/// The table of all comparisons, then what is to be said of them; a bypass comes last.
pub fn shown(checked: &Checked) -> String {
    let several = checked.rows.iter().any(|row| row.variant != golden::ALONE);
    let table = match checked.rows.is_empty() {
        true => "the golden file has no entry: nothing was checked; `reprise golden propose EXPERIMENT` proposes some"
            .into(),
        false => table(checked, several),
    };
    let left_out = checked.left_out.iter().map(|left| format!("run {} was not looked at: {}", left.run, left.because));
    let passed = checked.rows.iter().filter(|row| row.outcome.passed()).count();
    let bypassed = told(checked.bypassed(), several);
    let parts = [
        Some(table),
        told(checked.failures(), several),
        of_passed(checked, several),
        checked.moved(),
        joined(left_out.collect()),
        Some(format!("{passed} of {} passed", checked.rows.len())),
        bypassed.map(|told| format!("NOT CHECKED, because a bypass says so:\n{told}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

fn joined(lines: Vec<String>) -> Option<String> {
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What tests of rows that passed found, and once what else is to be known of such rows.
fn of_passed(checked: &Checked, several: bool) -> Option<String> {
    let passed = || checked.rows.iter().filter(|row| row.outcome.passed());
    let evidence = passed().filter_map(|row| Some(format!("{}: {}", name(row, several), row.evidence.as_ref()?)));
    let mut noted: BTreeMap<&str, usize> = BTreeMap::new();
    for note in passed().flat_map(|row| &row.notes) {
        *noted.entry(note).or_default() += 1;
    }
    let noted = noted.iter().map(|(note, count)| format!("of {count} that passed: {}", inert::terminal(note)));
    joined(evidence.chain(noted).collect())
}

/// Why rows did not pass: a message once, with every row that it is of.
fn told<'a>(rows: impl Iterator<Item = &'a Row>, several: bool) -> Option<String> {
    let mut messages: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in rows {
        let message = inert::terminal(&row.outcome.to_string()).into_owned();
        match messages.iter_mut().find(|(known, _)| *known == message) {
            Some((_, rows)) => rows.push(row),
            None => messages.push((message, vec![row])),
        }
    }
    let details = |row: &Row| {
        let lines = row.evidence.iter().chain(&row.notes).map(|line| format!("\n    {}", inert::terminal(line)));
        lines.collect::<String>()
    };
    let lines = messages.iter().map(|(message, rows)| match rows.as_slice() {
        [row] => format!("{}: {message}{}", name(row, several), details(row)),
        rows => {
            let rows = rows.iter().map(|row| format!("\n  {}{}", name(row, several), details(row)));
            format!("{message}{}", rows.collect::<String>())
        }
    });
    joined(lines.collect())
}

fn name(row: &Row, several: bool) -> String {
    let variant = if several { format!("{}: ", row.variant) } else { String::new() };
    let seed = row.seed.map(|seed| format!(" of seed {seed}")).unwrap_or_default();
    inert::terminal(&format!("{variant}{}{seed}", row.address)).into_owned()
}

fn table(checked: &Checked, several: bool) -> String {
    let rows = checked.rows.iter().map(|row| {
        let number = |value: f64| format!("{value:.6}");
        let difference = row.observed.map(|observed| format!("{:+.6}", observed - row.golden));
        let cells = [
            row.address.to_string(),
            row.seed.map_or_else(|| "all".into(), |seed| seed.to_string()),
            number(row.golden),
            row.observed.map_or_else(|| "-".into(), number),
            difference.unwrap_or_else(|| "-".into()),
            row.tolerance.to_string(),
            row.outcome.word().to_owned(),
        ];
        let variant = several.then(|| row.variant.clone());
        variant.into_iter().chain(cells).collect()
    });
    let variant = several.then_some("variant").into_iter();
    let columns = ["metric", "seed", "golden", "observed", "difference", "allowed", "verdict"];
    let header: Vec<&str> = variant.chain(columns).collect();
    let first = usize::from(several);
    print::table(&header, &[first + 1, first + 2, first + 3, first + 4], rows.collect())
}
