//! What was checked of a subject's numbers, and what came of it.

use std::fs;

use serde::Deserialize;

use super::parts::{Cell, Mark, Part, Section, Table};
use super::subject::Subject;
use super::verdict::Tally;
use crate::rerun::grade::{Grade, Verdict};

mod claims;
mod golden;
mod published;

/// Outcomes, and the sections that show them.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Outcomes of every kind of check; one without outcomes was not made.
    pub tallies: Vec<Tally>,
    /// Shown first.
    pub sections: Vec<Section>,
    /// Shown near the end.
    pub beside: Vec<Section>,
}

impl Checks {
    /// The reruns that the store holds of the subject's runs.
    pub fn reruns(&mut self, subject: &Subject<'_>) {
        /// What a rerun left, as far as it is told here.
        #[derive(Deserialize)]
        struct Left {
            verdict: Verdict,
        }
        let (mut rows, mut counts) = (Vec::new(), [0; 3]);
        for (place, run) in subject.all() {
            let folder = subject.store.root().join("reruns").join(run.record.id.as_str());
            let names = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut numbers: Vec<u32> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
            numbers.sort_unstable();
            for number in numbers {
                let text = fs::read(folder.join(number.to_string()).join("verdict.json"));
                let Some(Left { verdict }) = text.ok().and_then(|text| serde_json::from_slice(&text).ok()) else {
                    continue;
                };
                let (index, mark) = match verdict.grade {
                    Grade::Undecided => (2, Mark::Unsure),
                    Grade::Different => (1, Mark::Bad),
                    _ => (0, Mark::Good),
                };
                counts[index] += 1;
                rows.push(vec![
                    Cell::text(run.record.id.as_str()),
                    Cell::text(&subject.groups[place].name),
                    Cell::count(run.record.seed),
                    Cell::text(verdict.grade.to_string()).marked(mark),
                    Cell::text(verdict.because),
                ]);
            }
        }
        let [good, bad, unsure] = counts;
        let outcomes =
            [("reproduced", good, Mark::Good), ("different", bad, Mark::Bad), ("undecided", unsure, Mark::Unsure)];
        self.tallies.push(Tally::new("reruns", &outcomes));
        if !rows.is_empty() {
            let columns = ["Run", "Model", "#Seed", "Came out", "Because"];
            let caption = "Runs that were executed again with nothing reused";
            let table = Part::Table(Table::new("reruns", caption, &columns, rows));
            self.sections.push(Section::new("reruns", "Reruns", vec![table]));
        }
    }
}
