use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use super::{Places, load, print};
use crate::exit::{Exit, Failure};
use crate::inert::csv;
use crate::measures::{Address, Direction};
use crate::store::{Belief, Numbers, RunRecord, Store, Summarised, Summary};

/// List the runs of the store, newest first
///
/// What a listing shows of runs that have ended is kept in the store's `index` folder, which can be deleted at any time.
#[derive(clap::Args)]
pub struct Args {
    /// Show no more than the first N runs
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
    /// Best first by this number, such as `decode test/wer`; runs that haven't got it are left out
    #[arg(long, value_name = "STAGE/METRIC")]
    sort: Option<Address>,
    /// Print a table as CSV, with every score of every run
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

/// A run with the number that it is sorted by.
struct Row {
    run: Summarised,
    number: Option<f64>,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let store = load::store(places, None)?;
    let rows = match &args.sort {
        None => store.summaries(args.limit)?.into_iter().map(|run| Row { run, number: None }).collect(),
        Some(address) => sorted(&store, address, args.limit)?,
    };
    if args.json {
        print::json(&rows.iter().map(|row| entry(row, &store)).collect::<Vec<_>>());
        return Ok(Exit::Fine);
    }
    if args.csv {
        let runs: Vec<Summarised> = rows.iter().map(|row| row.run.clone()).collect();
        print::line(table(&rows, &store.numbers(&runs, None, Belief::Checked)?).trim_end());
        return Ok(Exit::Fine);
    }
    if rows.is_empty() {
        print::message("no runs yet: `reprise run EXPERIMENT` makes one");
        return Ok(Exit::Fine);
    }
    let address = args.sort.as_ref().map(Address::to_string);
    let mut header = vec!["run", "experiment", "variant", "seed", "status", "stages", "took", "identity"];
    header.extend(address.as_deref());
    print::line(print::table(&header, &[3, 5, 6, 8], rows.iter().map(shown).collect()));
    Ok(Exit::Fine)
}

/// The runs that have a number, best first, and of equal ones the newest first.
fn sorted(store: &Store, address: &Address, limit: Option<usize>) -> Result<Vec<Row>, Failure> {
    let runs = store.summaries(None)?;
    if let Some(limit) = limit {
        let rows = best(store, address, &runs, limit, Belief::Unchecked)?;
        let shown: Vec<Summarised> = rows.iter().map(|row| row.run.clone()).collect();
        let checked = store.numbers(&shown, Some(address), Belief::Checked)?;
        if !rows.is_empty() && rows.iter().enumerate().all(|(at, row)| checked.get(at, address) == row.number) {
            return Ok(rows);
        }
    }
    let rows = best(store, address, &runs, limit.unwrap_or(runs.len()), Belief::Checked)?;
    if rows.is_empty() && !runs.is_empty() && limit != Some(0) {
        return Err(nowhere(store, address, &runs)?);
    }
    Ok(rows)
}

fn best(
    store: &Store,
    address: &Address,
    runs: &[Summarised],
    limit: usize,
    belief: Belief,
) -> Result<Vec<Row>, Failure> {
    let numbers = store.numbers(runs, Some(address), belief)?;
    let direction = Direction::of(&address.metric);
    let key = |number: f64| match direction {
        _ if number.is_nan() => f64::INFINITY,
        Direction::Lower => number,
        Direction::Higher | Direction::Neither => -number,
    };
    let mut numbered: Vec<(f64, usize)> =
        (0..runs.len()).filter_map(|row| numbers.get(row, address).map(|number| (number, row))).collect();
    numbered.sort_by(|(a, _), (b, _)| key(*a).total_cmp(&key(*b)));
    numbered.truncate(limit);
    Ok(numbered.into_iter().map(|(number, row)| Row { run: runs[row].clone(), number: Some(number) }).collect())
}

/// No run has the number: what there is instead.
fn nowhere(store: &Store, address: &Address, runs: &[Summarised]) -> Result<Failure, Failure> {
    let numbers = store.numbers(runs, None, Belief::Checked)?;
    let mut counts: BTreeMap<&Address, usize> = numbers.addresses.iter().map(|address| (address, 0)).collect();
    for (column, _) in numbers.rows.iter().flatten() {
        *counts.entry(&numbers.addresses[*column]).or_default() += 1;
    }
    let mut known: Vec<(&Address, usize)> = counts.into_iter().collect();
    let close = |of: &Address| (of.metric != address.metric, of.stage != address.stage);
    known.sort_by_key(|(of, count)| (close(of), std::cmp::Reverse(*count)));
    let known: Vec<String> = known.into_iter().take(8).map(|(address, _)| format!("`{address}`")).collect();
    let help = match known.as_slice() {
        [] => "no run of this store has a number yet".to_owned(),
        known => format!("numbers of this store: {}", known.join(", ")),
    };
    Ok(Failure::user(format!("no run has the number {address}"), help))
}

/// The whole record, which a summary isn't.
fn entry(row: &Row, store: &Store) -> serde_json::Value {
    let id = &row.run.id;
    let mut entry = match store.record_of(id) {
        Ok(record) => json!({ "id": id, "status": RunRecord::seen(&record), "record": record }),
        Err(damage) => json!({ "id": id, "status": "damaged", "damage": damage }),
    };
    if let Some(number) = row.number {
        entry["number"] = json!(number);
    }
    entry
}

fn shown(row: &Row) -> Vec<String> {
    let (id, status) = (row.run.id.clone(), print::word(&row.run.seen()));
    match &row.run.summary {
        Ok(Summary { experiment, variant, variant_name, seed, done, stages, seconds, .. }) => [
            id,
            experiment.clone(),
            variant_name.clone(),
            seed.to_string(),
            status,
            format!("{done}/{stages}"),
            seconds.map_or("-".into(), print::duration),
            variant.short(),
        ]
        .into_iter()
        .chain(row.number.map(|number| number.to_string()))
        .collect(),
        Err(damage) => vec![id, format!("({damage})"), String::new(), String::new(), status],
    }
}

/// One row a run and one column a number, as CSV.
fn table(rows: &[Row], numbers: &Numbers) -> String {
    let mut text = "run,experiment,variant,seed,status,stages-done,stages,seconds,spec,identity".to_owned();
    for address in &numbers.addresses {
        text.push(',');
        text.push_str(&csv(&address.to_string()));
    }
    text.push('\n');
    // Writing to a `String` cannot fail.
    for (row, cells) in rows.iter().zip(&numbers.rows) {
        let _ = write!(text, "{}", csv(&row.run.id));
        let status = print::word(&row.run.seen());
        match &row.run.summary {
            Ok(Summary { experiment, spec, variant, variant_name, seed, done, stages, seconds, .. }) => {
                let (experiment, variant_name) = (csv(experiment), csv(variant_name));
                let seconds = seconds.map_or(String::new(), |seconds| seconds.to_string());
                let _ = write!(
                    text,
                    ",{experiment},{variant_name},{seed},{status},{done},{stages},{seconds},{spec},{variant}"
                );
            }
            Err(_) => {
                let _ = write!(text, ",,,,{status},,,,,");
            }
        }
        let mut cells = cells.iter().peekable();
        for column in 0..numbers.addresses.len() {
            text.push(',');
            if let Some((_, value)) = cells.next_if(|(of, _)| *of == column) {
                let _ = write!(text, "{value}");
            }
        }
        text.push('\n');
    }
    text
}
