//! One experiment over time: how its numbers moved between builds.

use std::collections::BTreeMap;

use super::figure::lines::{self, Unit};
use super::parts::{Cell, Dot, Line, Part, Section, Style, Table};
use super::shown::{percent, slug};
use super::subject::{Kind, Subject};

/// The section; `None` in other reports, and where nothing was decoded.
pub fn section(subject: &Subject<'_>) -> Option<Section> {
    if subject.kind != Kind::History {
        return None;
    }
    let mut order: Vec<&str> = subject.every().map(|(_, run)| run.record.id.as_str()).collect();
    order.sort_unstable();
    let place = |id: &str| order.iter().position(|known| *known == id).map_or(0.0, |place| place as f64 + 1.0);
    let (mut parts, mut rows) = (Vec::new(), Vec::new());
    for split in subject.splits() {
        let mut drawn: Vec<Line> = Vec::new();
        for (style, group) in subject.groups.iter().enumerate() {
            let mut by_seed: BTreeMap<u64, Vec<Dot>> = BTreeMap::new();
            let of_group = subject.every().filter(|(place, _)| *place == style).map(|(_, run)| run);
            for run in of_group {
                let Some((wer, _, source)) = run.rate(&split, "wer") else { continue };
                let id = &run.record.id;
                let dot = Dot { x: place(id.as_str()), y: wer, ..Dot::default() };
                by_seed.entry(run.record.seed).or_default().push(dot);
                let provenance = &run.record.provenance;
                let commit = provenance.experiment.as_ref().and_then(|state| state.commit.as_deref());
                rows.push(vec![
                    Cell::text(id.as_str()),
                    Cell::count(place(id.as_str()) as u64),
                    Cell::text(&group.name),
                    Cell::count(run.record.seed),
                    Cell::text(provenance.build.get(..12).unwrap_or(&provenance.build)),
                    Cell::text(commit.map_or("–", |commit| commit.get(..12).unwrap_or(commit))),
                    Cell::text(&split),
                    Cell::number(wer, percent).from([source]),
                    Cell::maybe(run.rate(&split, "cer").map(|(cer, ..)| cer), percent),
                ]);
            }
            let several = by_seed.len() > 1;
            drawn.extend(by_seed.into_iter().map(|(seed, mut dots)| {
                dots.sort_by(|a, b| a.x.total_cmp(&b.x));
                let name = if several { format!("{}, seed {seed}", group.name) } else { group.name.clone() };
                Line { name, style: Style::Group(style), dots }
            }));
        }
        let title = format!("WER on {split} by run");
        let description = format!("{title}, oldest first; one line a seed.");
        let id = format!("history-{}", slug(&split));
        let figure =
            lines::figure(&id, &title, description, ["run, oldest first", "word error rate"], Unit::Percent, drawn);
        parts.extend(figure.map(|figure| Part::Figures(vec![figure])));
    }
    rows.sort_by(|a, b| a[0].shown.cmp(&b[0].shown));
    let columns = ["Run", "#Number", "Model", "#Seed", "Build", "Commit", "Split", "#WER", "#CER"];
    let caption = "Every finished run, oldest first; a run’s id begins with its date and time (UTC)";
    parts.push(Part::Table(Table::new("history", caption, &columns, rows)));
    Some(Section::new("history", "Over time", parts))
}
