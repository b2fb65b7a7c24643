//! Error rates of networks whose top layers were drawn anew or taken away.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::evaluation::Point;
use reprise_spec::finetuning::Top;

use crate::report::parts::{Cell, Source, Table};
use crate::report::shown::{percent, points};
use crate::report::subject::Subject;
use crate::results::find;

/// Rates by point and what became of the top layers.
type OfTops = BTreeMap<(Option<Point>, Top), Vec<(f64, Source)>>;

/// What became of error rates where top layers were drawn anew or taken away.
pub fn table(subject: &Subject<'_>, splits: &[String]) -> Option<Table> {
    let mut rows = Vec::new();
    for split in splits {
        for group in &subject.groups {
            let mut found = OfTops::new();
            for run in &group.runs {
                for judgement in &run.results.judgements {
                    let recognition = judgement.recognition.iter().find(|recognition| recognition.split == *split);
                    let wer = recognition.and_then(|recognition| find(&recognition.scores, "wer"));
                    let stage = run.decoding(split, judgement.point, judgement.top);
                    if let (Some(wer), Some(stage)) = (wer, stage) {
                        let entry = found.entry((judgement.point, judgement.top)).or_default();
                        entry.push((wer.value, run.source(stage, "wer")));
                    }
                }
            }
            let changed: BTreeSet<Option<Point>> =
                found.keys().filter(|(_, top)| *top != Top::Kept).map(|(point, _)| *point).collect();
            let mean =
                |values: &[(f64, Source)]| values.iter().map(|(v, _)| v).sum::<f64>() / values.len().max(1) as f64;
            for ((point, top), values) in &found {
                if !changed.contains(point) {
                    continue;
                }
                let kept = found.get(&(*point, Top::Kept)).filter(|_| *top != Top::Kept);
                let sources = values.iter().map(|(_, source)| source.clone());
                rows.push(vec![
                    Cell::text(&group.name),
                    Cell::text(split),
                    Cell::maybe(point.map(|point| point.cumulative as f64), |steps| format!("{steps}")),
                    Cell::text(top.to_string()),
                    Cell::count(values.len() as u64),
                    Cell::number(mean(values), percent).from(sources),
                    Cell::maybe(kept.map(|kept| mean(values) - mean(kept)), points),
                ]);
            }
        }
    }
    let columns = ["Model", "Split", "#Steps", "Top layers", "#Seeds", "#WER", "#Difference to all kept"];
    let caption = "Fine-tuning with the top layers drawn anew or taken away; differences in points of a percent";
    (!rows.is_empty()).then(|| Table::new("top-layers", caption, &columns, rows))
}
