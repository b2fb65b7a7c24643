//! Error rates of the last models, and how they differ from the first group's.

use std::collections::BTreeMap;

use super::CONFIDENCE;
use crate::report::parts::{Cell, Source, Table};
use crate::report::shown::{between, percent, points, probability};
use crate::report::subject::{Group, Rated, Run, Subject};
use crate::statistics::difference::Design;
use crate::statistics::{MeanDifference, Untestable, holm, interval_of_mean};

/// The probability with which the smallest detectable difference is found.
const POWER: f64 = 0.8;

/// A rate of the run of a seed.
type Found = (u64, Rated);

/// Word, character and sentence error rates of the last models, one row a group and split.
pub fn table(subject: &Subject<'_>, splits: &[String]) -> Table {
    let compared = subject.groups.len() > 1;
    let mut columns = vec!["Model", "Split", "#Seeds", "#WER", "#95 % interval", "#CER", "#S.Err"];
    if compared {
        columns.extend(["#Difference in WER", "#its 95 % interval", "#p", "#Detectable"]);
    }
    let first = subject.groups.iter().find(|group| group.runs.iter().any(|run| run.results.last().is_some()));
    let tested = splits.iter().flat_map(|split| subject.groups.iter().map(move |group| (split, group)));
    let differences: Vec<Difference> = tested.map(|(split, group)| Difference::of(first, group, split)).collect();
    let mut differences = adjusted(differences).into_iter();
    let mut rows = Vec::new();
    for split in splits {
        for group in &subject.groups {
            let difference = differences.next();
            let found = |name| of_runs(group, |run| run.rate(split, name));
            let wer = found("wer");
            if wer.is_empty() {
                continue;
            }
            let interval = match wer.as_slice() {
                [(_, (_, interval, _))] => *interval,
                several => {
                    interval_of_mean(&several.iter().map(|(_, (value, ..))| *value).collect::<Vec<_>>(), CONFIDENCE)
                }
            };
            let mut row = vec![Cell::text(&group.name), Cell::text(split), Cell::count(wer.len() as u64)];
            row.push(mean(&wer, percent));
            row.push(interval.map_or_else(Cell::none, |interval| Cell::text(between(interval))));
            row.extend(["cer", "ser"].map(|name| mean(&found(name), percent)));
            if compared {
                row.extend(difference.into_iter().flatten());
            }
            rows.push(row);
        }
    }
    let first = first.map_or("", |group| &group.name);
    let caption = match compared {
        true => format!("Error rates after the last step; differences in points of a percent against {first}"),
        false => "Error rates after the last step".to_owned(),
    };
    Table::new("recognition", caption, &columns, rows)
}

/// A number of each run that has it, by seed.
pub fn of_runs(group: &Group, number: impl Fn(&Run) -> Option<Rated>) -> Vec<Found> {
    group.runs.iter().filter_map(|run| Some((run.record.seed, number(run)?))).collect()
}

fn mean(found: &[Found], how: impl Fn(f64) -> String) -> Cell {
    if found.is_empty() {
        return Cell::none();
    }
    let sum: f64 = found.iter().map(|(_, (value, ..))| value).sum();
    Cell::number(sum / found.len() as f64, how).from(found.iter().map(|(_, (_, _, source))| source.clone()))
}

/// What a group's word error rate is less that of the first: seed by seed where the two share seeds, by Welch's test otherwise.
enum Difference {
    /// It is the first itself.
    Reference,
    /// One of the two has no rate.
    Nothing,
    /// What the means differ by, and why that is not tested.
    Untested(f64, Vec<Source>, &'static str),
    Tested(MeanDifference, Vec<Source>),
}

impl Difference {
    fn of(first: Option<&Group>, group: &Group, split: &str) -> Self {
        let Some(first) = first.filter(|first| !std::ptr::eq(*first, group)) else { return Self::Reference };
        let of = |group| -> BTreeMap<u64, (f64, Source)> {
            let found = of_runs(group, |run| run.rate(split, "wer"));
            found.into_iter().map(|(seed, (value, _, source))| (seed, (value, source))).collect()
        };
        let (mut ours, mut theirs) = (of(group), of(first));
        let design = match ours.keys().any(|seed| theirs.contains_key(seed)) {
            false => Design::Welch,
            true => {
                ours.retain(|seed, _| theirs.contains_key(seed));
                theirs.retain(|seed, _| ours.contains_key(seed));
                Design::Paired
            }
        };
        let values = |of: &BTreeMap<u64, (f64, Source)>| of.values().map(|(value, _)| *value).collect::<Vec<f64>>();
        let sides = [values(&ours), values(&theirs)];
        let [Some(mean), Some(reference)] = sides.each_ref().map(|side| average(side)) else { return Self::Nothing };
        let sources = ours.into_values().chain(theirs.into_values()).map(|(_, source)| source).collect();
        match MeanDifference::of(design, &sides[0], &sides[1]) {
            Ok(tested) => Self::Tested(tested, sources),
            Err(Untestable::TooFew(_)) => Self::Untested(mean - reference, sources, "one seed"),
            Err(_) => Self::Untested(mean - reference, sources, "seeds do not vary"),
        }
    }
}

fn average(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The cells of each difference: it, its interval, p adjusted by Holm over all that were tested, and what so many seeds could have seen.
fn adjusted(differences: Vec<Difference>) -> Vec<[Cell; 4]> {
    let tested = differences.iter().filter_map(|difference| match difference {
        Difference::Tested(tested, _) => Some(tested.p),
        _ => None,
    });
    // Every p is a probability, so that none is refused.
    let mut adjusted = holm(&tested.collect::<Vec<_>>()).unwrap_or_default().into_iter();
    let mut cells = |difference: Difference| {
        let none = || [Cell::none(), Cell::none()];
        let ([difference, interval], [p, smallest]) = match difference {
            Difference::Reference => ([Cell::text("reference"), Cell::none()], none()),
            Difference::Nothing => (none(), none()),
            Difference::Untested(mean, from, why) => ([Cell::number(mean, points).from(from), Cell::text(why)], none()),
            Difference::Tested(tested, from) => {
                let (low, high) = tested.interval(CONFIDENCE);
                let interval = Cell::text(format!("{} to {}", points(low), points(high)));
                let smallest = tested.smallest_detectable(1.0 - CONFIDENCE, POWER);
                let smallest = Cell::number(smallest, |size| format!("{:.1}", 100.0 * size));
                (
                    [Cell::number(tested.difference, points).from(from), interval],
                    [Cell::maybe(adjusted.next(), probability), smallest],
                )
            }
        };
        [difference, interval, p, smallest]
    };
    differences.into_iter().map(&mut cells).collect()
}

pub fn explained(subject: &Subject<'_>) -> String {
    let one = "Intervals of a single run resample its speakers or utterances and say nothing of other seeds.";
    match subject.several() {
        true => format!(
            "Intervals over several seeds are Student’s t intervals of the mean; p is of the t test over pairs of seeds (of Welch’s \
             where two share no seed), adjusted by Holm over this table. Detectable is the true difference that so many seeds would have found in four cases of five: a difference that is not found may still be \
             there. {one} In figures a band reaches from the lowest to the highest seed."
        ),
        false => one.to_owned(),
    }
}
