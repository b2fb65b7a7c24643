//! Golden metrics in a report: every entry with what became of it, and every bypass in plain sight.

use super::super::parts::{Cell, Mark, Part, Section, Source, Table};
use super::super::subject::Subject;
use super::super::verdict::Tally;
use super::Checks;
use crate::golden::{self, ALONE, Golden, Observed, Outcome, Row};

impl Checks {
    /// Holds the subject's experiment against its goldens; without any it says that there are none.
    pub fn goldens(&mut self, subject: &Subject<'_>, goldens: Option<&Golden>) {
        let checked = goldens.zip(subject.experiment.as_ref());
        let checked = checked.map(|(golden, experiment)| {
            golden::check(golden, &Observed::of(experiment, &subject.cohort, subject.store))
        });
        let rows = checked.map(|checked| checked.rows).unwrap_or_default();
        let mut counts = [0; 4];
        for row in &rows {
            counts[place(row)] += 1;
        }
        let words = [
            ("passed", Mark::Good),
            ("failed", Mark::Bad),
            ("undecided or not comparable", Mark::Unsure),
            ("bypassed", Mark::Unsure),
        ];
        let outcomes: Vec<_> = words.into_iter().zip(counts).map(|((word, mark), count)| (word, count, mark)).collect();
        self.tallies.push(Tally::new("golden metrics", &outcomes));
        if rows.is_empty() {
            return;
        }
        let bypassed = rows.iter().filter(|row| row.outcome.bypassed());
        let mut parts: Vec<Part> = bypassed
            .map(|row| Part::Note(format!("BYPASSED: {} of {}: {}", row.address, row.variant, row.outcome)))
            .collect();
        let columns =
            ["Metric", "Model", "#Seed", "#Golden", "#Observed", "#Difference", "Allowed", "Verdict", "What was found"];
        let caption = "Accepted values of this experiment’s numbers, and what its runs give now";
        parts.push(Part::Table(Table::new("golden", caption, &columns, rows.iter().map(shown).collect())));
        self.sections.push(Section::new("golden", "Golden metrics", parts));
    }
}

/// Passed, failed, undecided, bypassed.
fn place(row: &Row) -> usize {
    match &row.outcome {
        Outcome::Passed => 0,
        Outcome::Differs(_) => 1,
        Outcome::Bypassed { .. } => 3,
        _ => 2,
    }
}

fn shown(row: &Row) -> Vec<Cell> {
    let number = |value: f64| format!("{value:.6}");
    let sources = row.runs.iter().map(|run| Source { run: run.clone(), number: row.address.clone() });
    let mark = [Mark::Good, Mark::Bad, Mark::Unsure, Mark::Unsure][place(row)];
    let mut found = vec![row.outcome.to_string()];
    found.extend(row.evidence.clone());
    found.extend(row.notes.clone());
    vec![
        Cell::text(row.address.to_string()),
        Cell::text(if row.variant == ALONE { "–" } else { &row.variant }),
        row.seed.map_or_else(|| Cell::text("all"), Cell::count),
        Cell::number(row.golden, number),
        Cell::maybe(row.observed, number).from(sources),
        Cell::maybe(row.observed.map(|observed| observed - row.golden), |by| super::super::shown::signed(by, 6)),
        Cell::text(row.tolerance.to_string()),
        Cell::text(row.outcome.word()).marked(mark),
        Cell::text(found.join("; ")),
    ]
}
