//! Learning curves: what trainings logged, over cumulative steps, with the seeds of a variant as a band.

use std::collections::BTreeMap;

use reprise_spec::evaluation::Rate;
use reprise_spec::finetuning::Top;
use reprise_spec::stage::Stage;

use super::figure::lines::{self, Unit};
use super::parts::{Dot, Figure, Folded, Line, Part, Section, Style};
use super::shown::slug;
use super::subject::{Group, Run, Subject, logged};
use crate::store::Store;

/// Dots that all figures of curves draw together, and the fewest and most pieces that a line is cut into for drawing.
const DOTS: usize = 24_000;
const PIECES: std::ops::RangeInclusive<usize> = 16..=120;

/// Curves that are shown at first, with what they are called; the others on request.
const SHOWN: [(&str, &str, Unit); 5] = [
    ("pretraining/loss", "Training loss", Unit::Plain),
    ("pretraining/validation-loss", "Validation loss", Unit::Plain),
    ("pretraining/validation-masked-accuracy", "Masked accuracy on validation", Unit::Percent),
    ("fine-tuning/loss", "Fine-tuning loss", Unit::Plain),
    ("fine-tuning/validation-wer", "WER on validation while fine-tuning", Unit::Percent),
];

/// Whole numbers that say how far a training is, and no more.
const PROGRESS: [&str; 2] = ["epoch", "audio-seconds"];

/// The values of one metric of one run by cumulative step, with the iteration that each is of.
type Series = BTreeMap<u64, (usize, f64)>;

/// The logged metrics of a run: of pretraining, and of fine-tuning the whole network after the last step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logged(pub BTreeMap<String, Series>);

impl Logged {
    pub fn of(run: &Run, store: &Store) -> Self {
        let mut all: BTreeMap<String, Series> = BTreeMap::new();
        let last = run.results.last().and_then(|last| last.point);
        for (stage, output) in run.stored() {
            let (phase, iteration, before) = match (&output.manifest.settings, stage.point) {
                (Stage::Pretrain(_), Some(point)) if point.ends_iteration && point.rate != Rate::CooledDown => {
                    ("pretraining", point.iteration, point.cumulative - point.step)
                }
                (Stage::Finetune(settings), point) if settings.top == Top::Kept && point == last => {
                    ("fine-tuning", 1, 0)
                }
                _ => continue,
            };
            for (name, points) in logged(output, store) {
                let series = all.entry(format!("{phase}/{name}")).or_default();
                series.extend(points.into_iter().map(|(step, value)| (before + step, (iteration, value))));
            }
        }
        Self(all)
    }
}

/// The logs of all runs, by group.
pub fn logs(subject: &Subject<'_>) -> Vec<Vec<Logged>> {
    let store = subject.store;
    let runs: Vec<&Run> = subject.all().map(|(_, run)| run).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = runs.len().div_ceil(threads).max(1);
    let mut read: Vec<Logged> = std::thread::scope(|scope| {
        let read = |chunk: &[&Run]| chunk.iter().map(|run| Logged::of(run, store)).collect::<Vec<_>>();
        let started: Vec<_> = runs.chunks(share).map(|chunk| scope.spawn(move || read(chunk))).collect();
        let finished =
            started.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        finished.flatten().collect()
    });
    let rest = subject.groups.iter().map(|group| read.drain(..group.runs.len()).collect());
    rest.collect()
}

/// The section; `None` where nothing was logged.
pub fn section(subject: &Subject<'_>, logs: &[Vec<Logged>]) -> Option<Section> {
    let mut names: Vec<&str> = logs.iter().flatten().flat_map(|log| log.0.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !PROGRESS.iter().any(|progress| name.ends_with(progress)));
    if names.is_empty() {
        return None;
    }
    let pieces = (DOTS / (2 * names.len() * subject.groups.len().max(1))).clamp(*PIECES.start(), *PIECES.end());
    let figure = |name: &str, title: &str, unit| curve(subject, logs, name, title, unit, pieces);
    let shown = SHOWN.iter().filter(|(name, ..)| names.contains(name));
    let shown: Vec<Figure> = shown.filter_map(|(name, title, unit)| figure(name, title, *unit)).collect();
    let others = names.iter().filter(|name| !SHOWN.iter().any(|(known, ..)| known == *name));
    let others: Vec<Figure> = others
        .filter_map(|name| {
            let unit = if name.ends_with("accuracy") || name.ends_with("er") { Unit::Percent } else { Unit::Plain };
            figure(name, &name.replace('/', ": "), unit)
        })
        .collect();
    let mut parts = vec![Part::Text(
        "Curves of pretraining break where an iteration begins: it predicts other units, so its losses are of another scale. With several seeds a line is their mean, and a band reaches from the lowest to the highest. All logged values, unthinned, are in data/curves.csv."
            .into(),
    )];
    parts.push(Part::Figures(shown));
    if !others.is_empty() {
        let summary = format!("{} further logged curves", others.len());
        parts.push(Part::Folded(Folded { summary, open: false, parts: vec![Part::Figures(others)] }));
    }
    Some(Section::new("curves", "Learning curves", parts))
}

fn curve(
    subject: &Subject<'_>,
    logs: &[Vec<Logged>],
    name: &str,
    title: &str,
    unit: Unit,
    pieces: usize,
) -> Option<Figure> {
    let line = |(place, (group, logs)): (usize, (&Group, &Vec<Logged>))| {
        let series: Vec<&Series> = logs.iter().filter_map(|log| log.0.get(name)).collect();
        Line { name: group.name.clone(), style: Style::Group(place), dots: thinned(over_seeds(&series), pieces) }
    };
    let lines: Vec<Line> = subject.groups.iter().zip(logs).enumerate().map(line).collect();
    let what =
        if name.starts_with("pretraining") { "steps of pretraining, cumulative" } else { "steps of fine-tuning" };
    let description = format!("{title}, by {what}.{}", bands(&lines));
    let y = name.rsplit('/').next().unwrap_or(name).replace('-', " ");
    lines::figure(&format!("curve-{}", slug(name)), title, description, [what, &y], unit, lines)
}

/// Says what the bands of these lines are.
pub fn bands(lines: &[Line]) -> String {
    match lines.iter().any(|line| line.dots.iter().any(|dot| dot.band.is_some())) {
        true => " Lines are means over seeds, bands reach from the lowest to the highest.".into(),
        false => String::new(),
    }
}

/// The mean of the finite values with their lowest and highest; `None` where there is none.
pub fn dot(x: f64, values: &[f64]) -> Option<Dot> {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let y = finite.iter().sum::<f64>() / finite.len() as f64;
    let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let band = (finite.len() > 1).then_some((low, high));
    (!finite.is_empty()).then_some(Dot { x, y, band, ..Dot::default() })
}

/// One dot a step that any seed logged; a piece of the line begins with each iteration.
fn over_seeds(series: &[&Series]) -> Vec<Dot> {
    let mut values: BTreeMap<u64, (usize, Vec<f64>)> = BTreeMap::new();
    for (step, (iteration, value)) in series.iter().copied().flatten() {
        values.entry(*step).or_insert((*iteration, Vec::new())).1.push(*value);
    }
    let mut before = None;
    let dots = values.into_iter().filter_map(|(step, (iteration, values))| {
        let starts = before.is_some_and(|before| before != iteration);
        let dot = dot(step as f64, &values)?;
        before = Some(iteration);
        Some(Dot { starts, ..dot })
    });
    dots.collect()
}

/// At most two dots for each of `pieces` stretches of a line: its lowest and its highest, in order, with the widest band of the stretch. What a
/// stretch peaks at stays.
fn thinned(dots: Vec<Dot>, pieces: usize) -> Vec<Dot> {
    let (Some(first), Some(last)) = (dots.first(), dots.last()) else { return dots };
    if dots.len() <= 2 * pieces {
        return dots;
    }
    let (start, range) = (first.x, (last.x - first.x).max(f64::MIN_POSITIVE));
    let stretch = |dot: &Dot| (((dot.x - start) / range * pieces as f64) as usize).min(pieces - 1);
    let mut kept = Vec::with_capacity(2 * pieces);
    for chunk in dots.chunk_by(|a, b| stretch(a) == stretch(b) && !b.starts) {
        let extreme = |better: fn(f64, f64) -> bool| {
            (1..chunk.len()).fold(0, |best, index| if better(chunk[index].y, chunk[best].y) { index } else { best })
        };
        let (lowest, highest) = (extreme(|a, b| a < b), extreme(|a, b| a > b));
        let bands = chunk.iter().filter_map(|dot| dot.band);
        let band = bands.reduce(|(low, high), (l, h)| (low.min(l), high.max(h)));
        let mut ends = vec![lowest.min(highest), lowest.max(highest)];
        ends.dedup();
        for (index, end) in ends.into_iter().enumerate() {
            kept.push(Dot { band, starts: index == 0 && chunk[0].starts, ..chunk[end] });
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn thinning_keeps_extremes_order_and_pieces(values in prop::collection::vec(-5f64..5.0, 1..600), pieces in 2usize..40) {
            let dots: Vec<Dot> = values.iter().enumerate().map(|(x, y)| Dot { x: x as f64, y: *y, starts: x == 77, ..Dot::default() }).collect();
            let kept = thinned(dots.clone(), pieces);
            let extremes = |dots: &[Dot]| {
                let ys = || dots.iter().map(|dot| dot.y);
                (ys().fold(f64::INFINITY, f64::min), ys().fold(f64::NEG_INFINITY, f64::max))
            };
            prop_assert_eq!(extremes(&kept), extremes(&dots));
            prop_assert!(kept.windows(2).all(|pair| pair[0].x < pair[1].x));
            prop_assert!(kept.len() <= dots.len().min(2 * pieces + 2).max(1));
            prop_assert_eq!(kept.iter().filter(|dot| dot.starts).count(), usize::from(values.len() > 77));
        }
    }

    #[test]
    fn a_seed_that_diverged_is_left_out_of_the_mean() {
        assert_eq!(dot(1.0, &[f64::NAN]), None);
        assert_eq!(dot(1.0, &[2.0, f64::NAN, 4.0]).map(|dot| (dot.y, dot.band)), Some((3.0, Some((2.0, 4.0)))));
        assert_eq!(dot(1.0, &[2.0]).and_then(|dot| dot.band), None);
    }
}
