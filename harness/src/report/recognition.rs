//! Error rates: of last models, of every point of pretraining, without their top layers, and what was recognised.

use reprise_spec::finetuning::Top;
use reprise_spec::recognition::{Edits, Recognised};

use super::parts::{Cell, Folded, Part, Section, Table, Utterance, Word};
use super::shown::{counted, points, probability, signed};
use super::subject::{Decoded, Kind, Run, Subject};
use crate::significance::MatchedPairs;

mod by_point;
mod rates;
mod resampled;
mod tops;

/// The confidence of intervals.
const CONFIDENCE: f64 = 0.95;

/// Utterances that are shown with their words.
const UTTERANCES: usize = 6;

/// Rows of counts above which a table is folded.
const MANY: usize = 16;

/// What the runs of every group recognised.
type Read<'a> = Vec<Vec<(&'a Run, Vec<Decoded<'a>>)>>;

/// The section; `None` where nothing was decoded.
pub fn section(subject: &Subject<'_>) -> Option<Section> {
    let splits = subject.splits();
    if splits.is_empty() {
        return None;
    }
    let decoded: Read<'_> =
        subject.groups.iter().map(|group| group.runs.iter().map(|run| (run, run.decoded())).collect()).collect();
    let mut parts = vec![Part::Table(rates::table(subject, &splits))];
    parts.push(Part::Text(rates::explained(subject)));
    parts.extend(resampled::parts(subject, &splits, &decoded));
    parts.extend(matched(subject, &decoded).map(Part::Table));
    parts.extend(counts(&decoded));
    let mut figures = Vec::new();
    for split in &splits {
        figures.extend(by_point::figures(subject, split));
    }
    if !figures.is_empty() {
        parts.push(Part::Figures(figures));
        let table = Part::Table(by_point::table(subject, &splits));
        let summary = "Error rates at every judged point".to_owned();
        parts.push(Part::Folded(Folded { summary, open: false, parts: vec![table] }));
    }
    parts.extend(tops::table(subject, &splits).map(Part::Table));
    parts.extend(sample(&decoded));
    Some(Section::new("recognition", "Recognition", parts))
}

/// The matched-pair test of every pair of runs with the same seed against the first group's.
fn matched(subject: &Subject<'_>, decoded: &[Vec<(&Run, Vec<Decoded<'_>>)>]) -> Option<Table> {
    let (first, others) = decoded.split_first()?;
    let mut rows = Vec::new();
    for (group, runs) in subject.groups[1..].iter().zip(others) {
        for (run, decoded) in runs {
            let same_seed = |(other, _): &&(&Run, _)| other.record.seed == run.record.seed;
            let alone = (subject.kind == Kind::Comparison).then(|| first.first()).flatten();
            let Some((_, theirs)) = first.iter().find(same_seed).or(alone) else { continue };
            for ours in decoded.iter().filter(|decoded| is_last(run, decoded)) {
                let Some(theirs) = theirs.iter().find(|theirs| theirs.stage.name == ours.stage.name) else { continue };
                let Ok(MatchedPairs { segments, w, p, .. }) = MatchedPairs::of(&ours.rows, &theirs.rows) else {
                    continue;
                };
                let wer = |rows: &[Recognised]| rows.iter().map(|row| row.alignment.edits()).sum::<Edits>().rate();
                rows.push(vec![
                    Cell::text(&group.name),
                    Cell::count(run.record.seed),
                    Cell::text(&ours.stage.name),
                    Cell::number(wer(&ours.rows) - wer(&theirs.rows), points),
                    Cell::count(segments as u64),
                    Cell::maybe(w, |w| signed(w, 2)),
                    Cell::maybe(p, probability),
                ]);
            }
        }
    }
    let caption = format!(
        "Matched-pair test on segments (MAPSSWE) against {}, run by run. It takes segments for independent, so with few speakers it says less than it seems",
        subject.groups.first().map_or("", |group| &group.name)
    );
    let columns = ["Model", "#Seed", "Decoded", "#Difference in WER", "#Segments", "#W", "#p (two-sided)"];
    (!rows.is_empty()).then(|| Table::new("matched-pairs", caption, &columns, rows))
}

/// Whether it is of the whole network after the last step.
fn is_last(run: &Run, decoded: &Decoded<'_>) -> bool {
    decoded.top == Top::Kept && run.results.last().is_some_and(|last| last.point == decoded.stage.point)
}

/// Counts of words and characters in the manner of ESPnet's tables.
fn counts(decoded: &[Vec<(&Run, Vec<Decoded<'_>>)>]) -> Option<Part> {
    let mut rows = Vec::new();
    for (run, decoded) in decoded.iter().flatten() {
        for of in decoded.iter().filter(|decoded| is_last(run, decoded)) {
            for (unit, metric, rate) in [("words", "wer", &of.scores.wer), ("characters", "cer", &of.scores.cer)] {
                let edits = rate.edits;
                let Edits { substitutions, deletions, insertions, reference } = edits;
                let share = |count: u64| {
                    Cell::number(count as f64 / reference.max(1) as f64, |share| format!("{:.1}", 100.0 * share))
                };
                let title = [run.record.variant_name.as_str(), &format!("seed {}", run.record.seed)].join(" ");
                let mut row = vec![Cell::text(format!("{}: {}", title.trim(), of.stage.name)), Cell::text(unit)];
                row.push(Cell::count(of.scores.utterances as u64));
                row.push(Cell::count(reference));
                row.extend([edits.correct(), substitutions, deletions, insertions].map(share));
                row.push(share(edits.total()).from([run.source(&of.stage.name, metric)]));
                row.push(
                    Cell::number(of.scores.ser, |share| format!("{:.1}", 100.0 * share))
                        .from([run.source(&of.stage.name, "ser")]),
                );
                rows.push(row);
            }
        }
    }
    let many = rows.len() > MANY;
    let columns = ["Set", "Unit", "#Snt", "#Wrd / Chr", "#Corr", "#Sub", "#Del", "#Ins", "#Err", "#S.Err"];
    let caption = "Alignment counts in percent of the reference, as ESPnet’s tables have them";
    let table = Part::Table(Table::new("counts", caption, &columns, rows));
    Some(match many {
        true => {
            Part::Folded(Folded { summary: "Alignment counts of every run".into(), open: false, parts: vec![table] })
        }
        false => table,
    })
}

/// The first utterances with an error, as the last models of the first runs recognised them.
fn sample(decoded: &[Vec<(&Run, Vec<Decoded<'_>>)>]) -> Option<Part> {
    let mut utterances = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for (run, decoded) in decoded.iter().filter_map(|runs| runs.first()) {
        let Some(last) = decoded.iter().find(|decoded| is_last(run, decoded)) else { continue };
        if ids.is_empty() {
            let wrong = last.rows.iter().filter(|row| row.alignment.edits().total() > 0);
            ids = wrong.map(|row| row.id.clone()).take(UTTERANCES).collect();
        }
        for row in ids.iter().filter_map(|id| last.rows.iter().find(|row| row.id == *id)) {
            let Recognised { id, speaker, reference, hypothesis, alignment } = row;
            let words = Word::aligned(&alignment.0, reference, hypothesis);
            let by = [run.record.variant_name.clone(), format!("seed {}", run.record.seed)];
            let by = by.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
            utterances.push(Utterance { id: id.clone(), speaker: speaker.clone(), by, words });
        }
    }
    utterances.sort_by(|a, b| a.id.cmp(&b.id));
    let summary = format!("The first {} with an error, word by word", counted(ids.len(), "utterance"));
    (!utterances.is_empty())
        .then(|| Part::Folded(Folded { summary, open: false, parts: vec![Part::Utterances(utterances)] }))
}
