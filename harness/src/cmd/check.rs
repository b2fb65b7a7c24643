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
    let mut parts = Vec::new();
    if checked.rows.is_empty() {
        parts.push(
            "the golden file has no entry: nothing was checked\n`reprise golden propose EXPERIMENT` proposes some"
                .to_owned(),
        );
    } else {
        parts.push(table(checked, several));
    }
    let told = |row: &Row| {
        let name = name(row, several);
        let evidence = row.evidence.iter().map(|evidence| format!("\n  {evidence}"));
        let notes = row.notes.iter().map(|note| format!("\n  {}", inert::terminal(note)));
        let outcome = row.outcome.to_string();
        format!("{name}: {}{}", inert::terminal(&outcome), evidence.chain(notes).collect::<String>())
    };
    let failures: Vec<String> = checked.failures().map(told).collect();
    if !failures.is_empty() {
        parts.push(failures.join("\n"));
    }
    parts.extend(checked.moved());
    let left_out = checked.left_out.iter().map(|left| format!("run {} was not looked at: {}", left.run, left.because));
    let left_out: Vec<String> = left_out.collect();
    if !left_out.is_empty() {
        parts.push(left_out.join("\n"));
    }
    let mut noted: BTreeMap<&str, usize> = BTreeMap::new();
    for note in checked.rows.iter().filter(|row| row.outcome.passed()).flat_map(|row| &row.notes) {
        *noted.entry(note).or_default() += 1;
    }
    if !noted.is_empty() {
        let lines = noted.iter().map(|(note, count)| format!("of {count} that passed: {}", inert::terminal(note)));
        parts.push(lines.collect::<Vec<_>>().join("\n"));
    }
    let passed = checked.rows.iter().filter(|row| row.outcome.passed()).count();
    parts.push(format!("{passed} of {} passed", checked.rows.len()));
    let bypassed: Vec<String> = checked.bypassed().map(told).collect();
    if !bypassed.is_empty() {
        parts.push(format!("NOT CHECKED, because a bypass says so:\n{}", bypassed.join("\n")));
    }
    parts.join("\n\n")
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
