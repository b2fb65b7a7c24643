//! Published values beside ours: shown, never matched, and no part of the verdict.

use std::collections::BTreeSet;

use super::super::parts::{Cell, Folded, Mark, Part, Section, Table};
use super::super::subject::Subject;
use super::Checks;
use crate::published::{Verdict, beside};

/// Values that are shown; the other files are under `golden/published/`.
const SHOWN: usize = 24;

/// Reasons that are told of a value that doesn't compare.
const REASONS: usize = 3;

impl Checks {
    /// The published values nearest to each variant's setting.
    pub fn published(&mut self, subject: &Subject<'_>) {
        let (mut rows, mut seen, mut more, mut compare) = (Vec::new(), BTreeSet::new(), 0, 0);
        for group in &subject.groups {
            let Some(variant) = &group.variant else { continue };
            for found in beside(&variant.setting, !group.runs.is_empty()) {
                let entry = found.entry;
                let what = format!("{} on {}", entry.metric.name(), entry.split);
                let place = format!("{}, {}", entry.source, entry.place);
                // A value that compares is told for every variant; one that doesn't, once.
                let of = if found.verdict == Verdict::Comparable { group.name.as_str() } else { "any" };
                if !seen.insert((of, &entry.system, what.clone(), place.clone(), entry.value.to_bits())) {
                    continue;
                }
                if rows.len() >= SHOWN {
                    more += 1;
                    continue;
                }
                let ours: Vec<f64> = found
                    .address
                    .iter()
                    .flat_map(|address| {
                        let score = |run: &super::super::subject::Run| {
                            let (_, output) = run.stored().find(|(stage, _)| stage.name == address.stage)?;
                            Some(crate::results::find(&output.manifest.summary, &address.metric)?.value)
                        };
                        group.runs.iter().filter_map(score).collect::<Vec<_>>()
                    })
                    .collect();
                let mean = (!ours.is_empty()).then(|| ours.iter().sum::<f64>() / ours.len() as f64);
                let comparable = found.verdict == Verdict::Comparable;
                compare += usize::from(comparable);
                let mark = if comparable { Mark::Good } else { Mark::Void };
                let more_reasons = found.because.len().saturating_sub(REASONS);
                let mut because = found.because[..found.because.len() - more_reasons].join("; ");
                if more_reasons > 0 {
                    because += &format!("; and {more_reasons} more");
                }
                rows.push(vec![
                    Cell::text(&entry.system),
                    Cell::text(what),
                    Cell::number(entry.in_our_unit(), |value| format!("{value:.3}")),
                    Cell::maybe(mean.filter(|_| comparable), |value| format!("{value:.3}")),
                    Cell::text(found.verdict.to_string()).marked(mark),
                    Cell::text(because),
                    Cell::text(place),
                    Cell::text(entry.confidence.word()),
                ]);
            }
        }
        if rows.is_empty() {
            return;
        }
        let columns = ["System", "Metric", "#Published", "#Ours", "Compares", "Because", "Source", "Confidence"];
        let caption = "Published values of the same kind. They decide nothing here, and ours stand beside them only where corpus, model and recipe are the published ones";
        let mut folded = vec![Part::Table(Table::new("published", caption, &columns, rows))];
        if more > 0 {
            folded.push(Part::Text(format!("{more} further values of the same kind are in golden/published/.")));
        }
        let told = match compare {
            0 => "None of the published values of the same kind compares with a run of this report; why not stands beside each.".to_owned(),
            count => format!("{count} of the published values of the same kind compare with runs of this report."),
        };
        let summary = "Published values of the same kind".to_owned();
        let parts = vec![Part::Text(told), Part::Folded(Folded { summary, open: compare > 0, parts: folded })];
        self.beside.push(Section::new("published", "Published values", parts));
    }
}
