//! Error rates at every judged point of pretraining.

use std::collections::BTreeMap;

use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::finetuning::Top;

use super::CONFIDENCE;
use super::rates::of_runs;
use crate::report::curves;
use crate::report::figure::lines::{self, Unit};
use crate::report::parts::{Cell, Dot, Figure, Line, Source, Style, Table};
use crate::report::shown::{between, duration, hours, percent, slug};
use crate::report::subject::{Group, Run, Subject, compares};
use crate::results::{Judgement, find};
use crate::statistics::interval_of_mean;

/// The name of an axis, what it is of, and where a point lies on it.
type Across = (&'static str, &'static str, fn(&AtPoint<'_>) -> f64);

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
pub fn figures(subject: &Subject<'_>, split: &str) -> Vec<Figure> {
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
                    let dot = curves::dot(x(at), &values)?;
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
            format!("Word error rate on {split} after fine-tuning, by {name}.{marks}{}", curves::bands(&lines));
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
        let dots: Vec<Dot> = ends.iter().filter_map(|x| curves::dot(*x, &values)).collect();
        Line { name: group.name.clone(), style: Style::Level(place), dots }
    };
    subject.groups.iter().enumerate().map(level).filter(|line| !line.dots.is_empty()).collect()
}

/// Every point with its models' error rates.
pub fn table(subject: &Subject<'_>, splits: &[String]) -> Table {
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
