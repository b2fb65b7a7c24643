//! The runs of a report.

use super::parts::{Cell, Folded, Part, Section, Table};
use super::shown::duration;
use super::subject::Subject;

/// Runs above which their table is folded.
const MANY: usize = 12;

/// The section; `None` without runs.
pub fn section(subject: &Subject<'_>) -> Option<Section> {
    let rows: Vec<Vec<Cell>> = subject
        .every()
        .map(|(place, run)| {
            let record = &run.record;
            let commit = record.provenance.experiment.as_ref().and_then(|state| state.commit.as_deref());
            let started =
                record.attempts.first().map(|attempt| attempt.started.strftime("%Y-%m-%d %H:%M UTC").to_string());
            vec![
                Cell::text(record.id.as_str()),
                Cell::text(&subject.groups[place].name),
                Cell::count(record.seed),
                Cell::text(crate::cmd::print::word(&record.status)),
                Cell::text(started.unwrap_or_else(|| "–".into())),
                Cell::maybe(record.seconds(), duration),
                Cell::count(record.attempts.len() as u64),
                Cell::text(commit.map_or("–", |commit| commit.get(..12).unwrap_or(commit))),
            ]
        })
        .collect();
    let count = rows.len();
    let columns = ["Run", "Model", "#Seed", "Status", "Started", "#Took", "#Attempts", "Commit"];
    let table = Part::Table(Table::new("runs", "The runs of this report", &columns, rows));
    let text = Part::Text(
        "Every number of these runs, with the key of its stage and the digest of the output that it was read from, is in data/numbers.csv; \
         report.json has the numbers of this page, unrounded, each with what it is made of."
            .into(),
    );
    let parts = match count {
        0 => return None,
        1..=MANY => vec![table, text],
        _ => vec![Part::Folded(Folded { summary: format!("All {count} runs"), open: false, parts: vec![table] }), text],
    };
    Some(Section::new("runs", "Runs", parts))
}
