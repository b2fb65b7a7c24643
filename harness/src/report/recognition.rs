//! Error rates: of last models, of every point of pretraining, without their top layers, and what was recognised.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::finetuning::Top;
use reprise_spec::recognition::{Edits, Recognised};

use super::figure::lines::{self, Unit};
use super::parts::{Cell, Dot, Figure, Folded, Line, Part, Section, Source, Style, Table, Utterance, Word};
use super::shown::{between, counted, duration, hours, percent, points, probability, slug};
use super::subject::{Decoded, Group, Kind, Rated, Run, Subject, compares};
use crate::results::{Judgement, find};
use crate::significance::MatchedPairs;
use crate::statistics::difference::MeanDifference;
use crate::statistics::{holm, interval_of_mean};

/// The confidence of intervals.
const CONFIDENCE: f64 = 0.95;

/// The probability with which the smallest detectable difference is found.
const POWER: f64 = 0.8;

/// Utterances that are shown with their words.
const UTTERANCES: usize = 6;

/// Rows of counts above which a table is folded.
const MANY: usize = 16;

/// The section; `None` where nothing was decoded.
pub fn section(subject: &Subject<'_>) -> Option<Section> {
    let splits = subject.splits();
    if splits.is_empty() {
        return None;
    }
    let decoded: Vec<Vec<(&Run, Vec<Decoded<'_>>)>> =
        subject.groups.iter().map(|group| group.runs.iter().map(|run| (run, run.decoded())).collect()).collect();
    let mut parts = vec![Part::Table(rates(subject, &splits))];
    parts.push(Part::Text(explained(subject)));
    parts.extend(matched(subject, &decoded).map(Part::Table));
    parts.extend(counts(&decoded));
    let mut figures = Vec::new();
    for split in &splits {
        figures.extend(by_point(subject, split));
    }
    if !figures.is_empty() {
        parts.push(Part::Figures(figures));
        let table = Part::Table(point_table(subject, &splits));
        let summary = "Error rates at every judged point".to_owned();
        parts.push(Part::Folded(Folded { summary, open: false, parts: vec![table] }));
    }
    parts.extend(tops(subject, &splits).map(Part::Table));
    parts.extend(sample(&decoded));
    Some(Section::new("recognition", "Recognition", parts))
}

/// Word, character and sentence error rates of the last models, one row a group and split.
fn rates(subject: &Subject<'_>, splits: &[String]) -> Table {
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

/// A rate of the run of a seed.
type Found = (u64, Rated);

/// The name of an axis, what it is of, and where a point lies on it.
type Across = (&'static str, &'static str, fn(&AtPoint<'_>) -> f64);

/// Rates by point and what became of the top layers.
type OfTops = BTreeMap<(Option<Point>, Top), Vec<(f64, Source)>>;

/// A number of each run that has it, by seed.
fn of_runs(group: &Group, number: impl Fn(&Run) -> Option<Rated>) -> Vec<Found> {
    group.runs.iter().filter_map(|run| Some((run.record.seed, number(run)?))).collect()
}

fn mean(found: &[Found], how: impl Fn(f64) -> String) -> Cell {
    if found.is_empty() {
        return Cell::none();
    }
    let sum: f64 = found.iter().map(|(_, (value, ..))| value).sum();
    Cell::number(sum / found.len() as f64, how).from(found.iter().map(|(_, (_, _, source))| source.clone()))
}

/// What a group's word error rate is less that of the first, seed by seed.
enum Difference {
    /// It is the first itself.
    Reference,
    NoCommonSeed,
    /// What one seed differs by, or why several are not tested.
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
        let theirs = of(first);
        let (mut ours, mut against, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        for (seed, (value, source)) in of(group) {
            if let Some((reference, other)) = theirs.get(&seed) {
                ours.push(value);
                against.push(*reference);
                sources.extend([source, other.clone()]);
            }
        }
        let mean = ours.iter().zip(&against).map(|(a, b)| a - b).sum::<f64>() / ours.len().max(1) as f64;
        match (ours.len(), MeanDifference::paired(&ours, &against)) {
            (0, _) => Self::NoCommonSeed,
            (1, _) => Self::Untested(mean, sources, "one seed"),
            (_, Ok(tested)) => Self::Tested(tested, sources),
            (_, Err(_)) => Self::Untested(mean, sources, "seeds do not vary"),
        }
    }
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
            Difference::NoCommonSeed => ([Cell::text("no common seed"), Cell::none()], none()),
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

fn explained(subject: &Subject<'_>) -> String {
    let one = "Intervals of a single run resample its speakers or utterances and say nothing of other seeds.";
    match subject.several() {
        true => format!(
            "Intervals over several seeds are Student’s t intervals of the mean; p is of the paired t test over seeds, adjusted by Holm over this table. \
             Detectable is the true difference that so many seeds would have found in four cases of five: a difference that is not found may still be \
             there. {one} In figures a band reaches from the lowest to the highest seed."
        ),
        false => one.to_owned(),
    }
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
                    Cell::maybe(w, |w| super::shown::signed(w, 2)),
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

/// The judgements of a group at one point, over its seeds.
struct AtPoint<'a> {
    point: Point,
    judged: Vec<(&'a Run, &'a Judgement)>,
}

fn at_points(group: &Group) -> Vec<AtPoint<'_>> {
    let mut points: BTreeMap<Point, Vec<(&Run, &Judgement)>> = BTreeMap::new();
    for run in &group.runs {
        for judgement in run.results.whole() {
            if let Some(point) = judgement.point {
                points.entry(point).or_default().push((run, judgement));
            }
        }
    }
    points.into_iter().map(|(point, judged)| AtPoint { point, judged }).collect()
}

impl AtPoint<'_> {
    fn wer(&self, split: &str) -> Vec<(f64, Source)> {
        let of = |(run, judgement): &(&Run, &Judgement)| {
            let recognition = judgement.recognition.iter().find(|recognition| recognition.split == split)?;
            let stage = run.decoding(split, judgement.point, Top::Kept)?;
            Some((find(&recognition.scores, "wer")?.value, run.source(stage, "wer")))
        };
        self.judged.iter().filter_map(of).collect()
    }

    fn mean(&self, number: impl Fn(&Judgement) -> f64) -> f64 {
        self.judged.iter().map(|(_, judgement)| number(judgement)).sum::<f64>() / self.judged.len().max(1) as f64
    }
}

/// Error rates over pretraining, by steps, audio and time; none where every model was judged once.
fn by_point(subject: &Subject<'_>, split: &str) -> Vec<Figure> {
    let groups: Vec<(usize, &Group, Vec<AtPoint<'_>>)> =
        subject.groups.iter().enumerate().map(|(place, group)| (place, group, at_points(group))).collect();
    if groups.iter().all(|(_, _, points)| points.len() < 2) {
        return Vec::new();
    }
    let axes: [Across; 3] = [
        ("steps", "steps of pretraining, cumulative", |at| at.point.cumulative as f64),
        ("audio seen", "hours of audio seen in pretraining", |at| {
            at.mean(|judgement| judgement.cost.audio_seconds) / 3600.0
        }),
        ("device time", "device hours of pretraining, clustering included", |at| {
            at.mean(|judgement| judgement.cost.device_seconds) / 3600.0
        }),
    ];
    let figure = |(axis, name, x): Across| {
        let line = |(place, group, points): &(usize, &Group, Vec<AtPoint<'_>>)| Line {
            name: group.name.clone(),
            style: Style::Group(*place),
            dots: points
                .iter()
                .filter_map(|at| {
                    let values: Vec<f64> = at.wer(split).into_iter().map(|(value, _)| value).collect();
                    let dot = super::curves::dot(x(at), &values)?;
                    Some(Dot { hollow: !compares(Some(at.point)), ..dot })
                })
                .collect(),
        };
        let mut lines: Vec<Line> = groups.iter().map(line).collect();
        lines.extend(levels(subject, split, &lines));
        let hollow = lines.iter().any(|line| line.dots.iter().any(|dot| dot.hollow));
        let levels = lines.iter().any(|line| matches!(line.style, Style::Level(_)));
        let marks = [
            (hollow, " Hollow points are of models in mid-schedule and support no comparison."),
            (levels, " A dashed level is of a model without pretraining."),
        ];
        let marks: String = marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| *mark).collect();
        let title = format!("WER on {split} by {axis}");
        let description =
            format!("Word error rate on {split} after fine-tuning, by {name}.{marks}{}", super::curves::bands(&lines));
        lines::figure(
            &format!("wer-{}-{}", slug(split), slug(axis)),
            &title,
            description,
            [name, "word error rate"],
            Unit::Percent,
            lines,
        )
    };
    axes.into_iter().filter_map(figure).collect()
}

/// Of groups that pretrain nothing: their error rate, across the axis of the others.
fn levels(subject: &Subject<'_>, split: &str, lines: &[Line]) -> Vec<Line> {
    let xs = || lines.iter().flat_map(|line| &line.dots).map(|dot| dot.x);
    let ends = [xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max)];
    let level = |(place, group): (usize, &Group)| {
        let without = |run: &Run| run.last(split).is_some_and(|(judgement, _)| judgement.point.is_none());
        let found = of_runs(group, |run| run.rate(split, "wer").filter(|_| without(run)));
        let values: Vec<f64> = found.into_iter().map(|(_, (value, ..))| value).collect();
        let dots: Vec<Dot> = ends.iter().filter_map(|x| super::curves::dot(*x, &values)).collect();
        Line { name: group.name.clone(), style: Style::Level(place), dots }
    };
    subject.groups.iter().enumerate().map(level).filter(|line| !line.dots.is_empty()).collect()
}

fn point_table(subject: &Subject<'_>, splits: &[String]) -> Table {
    let mut rows = Vec::new();
    for split in splits {
        for group in &subject.groups {
            for at in at_points(group) {
                let wer = at.wer(split);
                if wer.is_empty() {
                    continue;
                }
                let values: Vec<f64> = wer.iter().map(|(value, _)| *value).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let interval = interval_of_mean(&values, CONFIDENCE);
                rows.push(vec![
                    Cell::text(&group.name),
                    Cell::text(split),
                    Cell::count(at.point.cumulative),
                    Cell::text(format!("{}, step {}", at.point.iteration, at.point.step)),
                    Cell::number(at.mean(|judgement| judgement.cost.audio_seconds), hours),
                    Cell::number(at.mean(|judgement| judgement.cost.device_seconds), duration),
                    Cell::text(match at.point.rate {
                        Rate::Annealed => "annealed",
                        Rate::CooledDown => "cooled down",
                        Rate::Running => "in mid-schedule: supports no claim",
                    }),
                    Cell::count(values.len() as u64),
                    Cell::number(mean, percent).from(wer.into_iter().map(|(_, source)| source)),
                    interval.map_or_else(Cell::none, |interval| Cell::text(between(interval))),
                ]);
            }
        }
    }
    let columns = [
        "Model",
        "Split",
        "#Steps",
        "Iteration",
        "#Audio hours",
        "#Device time",
        "Learning rate",
        "#Seeds",
        "#WER",
        "#95 % interval",
    ];
    Table::new("recognition-by-point", "Word error rates at every judged point of pretraining", &columns, rows)
}

/// What became of error rates where top layers were drawn anew or taken away.
fn tops(subject: &Subject<'_>, splits: &[String]) -> Option<Table> {
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
