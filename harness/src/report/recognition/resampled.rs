//! Word error rates of several seeds, resampled over seeds and the speakers or utterances that all of them were measured on.

use std::collections::BTreeMap;

use reprise_spec::decoding::{Bootstrap, ResamplingUnit};
use reprise_spec::finetuning::Top;
use reprise_spec::random::Draws;

use super::Read;
use crate::report::parts::{Cell, Part, Source, Table};
use crate::report::shown::{between, percent, points};
use crate::report::subject::{Decoded, Run, Subject};
use crate::statistics::Group;
use crate::statistics::bootstrap::{Counts, word_errors};

/// What a group's last models got wrong of one split, and where that is stored, by seed.
type BySeed = BTreeMap<u64, (BTreeMap<String, Counts>, Source)>;

/// The table with what it says; nothing where no group has two seeds.
pub fn parts(subject: &Subject<'_>, splits: &[String], read: &Read<'_>) -> Vec<Part> {
    let mut rows = Vec::new();
    for split in splits {
        let counted = counted(split, read);
        let first = counted.iter().find(|of| !of.0.is_empty());
        for (group, (of, unit)) in subject.groups.iter().zip(&counted) {
            let Some(whole) = resampling(of, |_| true).filter(|whole| whole.seeds() > 1) else { continue };
            let draws = || Draws::new(0, "report/recognition", &[], split);
            let settings = Bootstrap { unit: *unit, ..Bootstrap::default() };
            let rate = whole.mean_rate(&settings, draws());
            let mut row = vec![Cell::text(&group.name), Cell::text(split), Cell::text(resampled(*unit))];
            row.push(Cell::count(whole.seeds() as u64));
            row.push(Cell::number(rate.value, percent).from(of.values().map(|(_, source)| source.clone())));
            row.push(Cell::text(between(rate.interval)));
            let less = first.filter(|(first, _)| !std::ptr::eq(first, of)).and_then(|(first, _)| {
                let ours = resampling(of, |seed| first.contains_key(&seed))?;
                let theirs = resampling(first, |seed| of.contains_key(&seed))?;
                ours.less(&theirs, &settings, draws()).ok().filter(|_| ours.seeds() > 1)
            });
            row.push(Cell::maybe(less.map(|less| less.value), points));
            row.push(less.map_or_else(Cell::none, |less| {
                Cell::text(format!("{} to {}", points(less.interval.0), points(less.interval.1)))
            }));
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let columns =
        ["Model", "Split", "Resampled", "#Seeds", "#WER", "#95 % interval", "#Difference in WER", "#its 95 % interval"];
    let caption =
        "Word error rates of the last models, resampled; differences in points of a percent against the first model";
    let says = "A draw takes seeds and, the same for all seeds and models, speakers or utterances, with replacement. With few seeds its intervals are \
                too narrow: the t intervals above are those to decide by.";
    vec![Part::Table(Table::new("resampled", caption, &columns, rows)), Part::Text(says.into())]
}

/// Of every group what its runs got wrong of a split, and what is resampled of it.
fn counted(split: &str, read: &Read<'_>) -> Vec<(BySeed, ResamplingUnit)> {
    let of_group = |runs: &Vec<(&Run, Vec<Decoded<'_>>)>| {
        let mut of = BySeed::new();
        let mut unit = ResamplingUnit::Speaker;
        for (run, decoded) in runs {
            let point = run.results.last().and_then(|last| last.point);
            let Some(name) = run.decoding(split, point, Top::Kept) else { continue };
            let Some(last) = decoded.iter().find(|decoded| decoded.stage.name == name) else { continue };
            unit = last.scores.resampled;
            let source = run.source(&last.stage.name, "wer");
            of.insert(run.record.seed, (word_errors(&last.rows, unit), source));
        }
        (of, unit)
    };
    read.iter().map(of_group).collect()
}

/// The seeds that are wanted, if all of them were measured on the same.
fn resampling(of: &BySeed, wanted: impl Fn(u64) -> bool) -> Option<Group> {
    let seeds: Vec<_> = of.iter().filter(|(seed, _)| wanted(**seed)).map(|(_, (counts, _))| counts.clone()).collect();
    Group::new(&seeds).ok()
}

fn resampled(unit: ResamplingUnit) -> &'static str {
    match unit {
        ResamplingUnit::Speaker => "seeds and speakers",
        ResamplingUnit::Utterance => "seeds and utterances",
    }
}
