//! What layers say: curves over layers after the last step, and layers by steps.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::layers::{Findings, LayerScore};
use reprise_spec::stage::{ProbeStage, Stage};

use super::figure::lines::{self, Unit};
use super::parts::{Cell, Dot, Figure, Folded, Line, Mark, Part, Section, Style, Table};
use super::shown::{score, slug};
use super::subject::{Group, Run, Subject};
use crate::store::StoredOutput;

/// The section; `None` where no layers were analysed.
pub fn section(subject: &Subject<'_>) -> Option<Section> {
    let metrics = metrics(subject);
    if metrics.is_empty() {
        return None;
    }
    let mut parts: Vec<Part> = limits(subject).into_iter().map(Part::Note).collect();
    let figures: Vec<Figure> = metrics.iter().filter_map(|metric| curve(subject, metric)).collect();
    parts.push(Part::Text(
        "Layer 0 is the input of the Transformer stack. Dashed grey is what shuffled labels give, dotted grey what random weights give, each the \
         mean over all models shown. In the tables below, mid marks a model in mid-schedule, and brackets a number that supports nothing."
            .into(),
    ));
    parts.push(Part::Figures(figures));
    parts.push(Part::Table(summaries(subject, &metrics)));
    for (index, metric) in metrics.iter().enumerate() {
        let maps: Vec<Part> = heat_maps(subject, metric).into_iter().map(Part::Table).collect();
        let summary = format!("{metric} by layer and step");
        parts.push(Part::Folded(Folded { summary, open: index == 0, parts: maps }));
    }
    parts.extend(correlations(subject).map(Part::Table));
    Some(Section::new("layers", "What layers say", parts))
}

fn metrics(subject: &Subject<'_>) -> Vec<String> {
    let mut metrics: Vec<String> = Vec::new();
    let findings = subject.all().filter_map(|(_, run)| run.results.layers.points.last());
    for curve in findings.flat_map(|last| &last.findings.curves) {
        if !metrics.contains(&curve.metric) {
            metrics.push(curve.metric.clone());
        }
    }
    metrics
}

/// The score of each layer that a metric has one of, where layers are compared that with layer 0.
fn column<'a>(findings: &'a Findings, metric: &str) -> BTreeMap<u32, &'a LayerScore> {
    let scores = findings.curve(metric).into_iter().flat_map(|curve| curve.by_layer());
    scores.map(|score| (score.layer, score)).collect()
}

/// The findings of a group after the last step of each of its runs.
fn last(group: &Group) -> impl Iterator<Item = (&Run, &Findings)> {
    group.runs.iter().filter_map(|run| Some((run, &run.results.layers.points.last()?.findings)))
}

fn curve(subject: &Subject<'_>, metric: &str) -> Option<Figure> {
    let over = |all: Vec<&Findings>, number: fn(&LayerScore) -> Option<f64>| -> Vec<Dot> {
        let mut layers: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for findings in all {
            for (layer, score) in column(findings, metric) {
                layers.entry(layer).or_default().extend(number(score));
            }
        }
        layers.into_iter().filter_map(|(layer, values)| super::curves::dot(layer.into(), &values)).collect()
    };
    let mut lines: Vec<Line> = Vec::new();
    for (place, group) in subject.groups.iter().enumerate() {
        let findings: Vec<&Findings> = last(group).map(|(_, findings)| findings).collect();
        let refused =
            findings.iter().any(|findings| column(findings, metric).values().any(|score| score.refused.is_some()));
        let mut dots = over(findings, |score| score.mean);
        dots.iter_mut().for_each(|dot| dot.hollow = refused);
        lines.push(Line { name: group.name.clone(), style: Style::Group(place), dots });
    }
    let refused = lines.iter().any(|line| line.dots.iter().any(|dot| dot.hollow));
    let all = || subject.groups.iter().flat_map(last).map(|(_, findings)| findings).collect::<Vec<_>>();
    let plain = |dots: Vec<Dot>| dots.into_iter().map(|dot| Dot { band: None, ..dot }).collect::<Vec<_>>();
    let bands = super::curves::bands(&lines);
    let mut null = plain(over(all(), |score| score.null));
    let controls = subject.all().filter_map(|(_, run)| run.results.layers.control.as_ref()).collect();
    let control = plain(over(controls, |score| score.mean));
    let mut note = None;
    let ends = |dots: &mut dyn Iterator<Item = f64>| {
        dots.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)))
    };
    let (low, high) = ends(&mut lines.iter().flat_map(|line| &line.dots).chain(&control).map(|dot| dot.y));
    let (null_low, null_high) = ends(&mut null.iter().map(|dot| dot.y));
    // A null far below would press the curves into a flat line.
    if !null.is_empty() && null_high < low - (high - low) {
        note = Some(format!("Shuffled labels give {} to {}, below the axis.", score(null_low), score(null_high)));
        null.clear();
    }
    lines.push(Line { name: "shuffled labels".into(), style: Style::Null, dots: null });
    lines.push(Line { name: "random weights".into(), style: Style::Control, dots: control });
    let marks = if refused { " Hollow points rest on too small a sample and support nothing." } else { "" };
    let below = note.as_deref().map_or(String::new(), |note| format!(" {note}"));
    let description = format!("{metric} of every layer after the last step.{bands}{marks}{below}");
    let title = format!("{metric} by layer");
    let figure =
        lines::figure(&format!("layers-{}", slug(metric)), &title, description, ["layer", metric], Unit::Plain, lines);
    figure.map(|figure| Figure { note, ..figure })
}

/// One table a group: layers from the top down, steps from left to right, then null and control. All of a metric share their shades.
fn heat_maps(subject: &Subject<'_>, metric: &str) -> Vec<Table> {
    let range = {
        let points = subject.all().flat_map(|(_, run)| &run.results.layers.points);
        let means = points.flat_map(|analysed| {
            column(&analysed.findings, metric).into_values().filter_map(|score| score.mean).collect::<Vec<_>>()
        });
        let finite: Vec<f64> = means.filter(|mean| mean.is_finite()).collect();
        let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
        (low, finite.into_iter().fold(f64::NEG_INFINITY, f64::max))
    };
    let map = |(place, group): (usize, &Group)| {
        let mut points: BTreeMap<Point, Vec<(&Run, &Findings)>> = BTreeMap::new();
        for run in &group.runs {
            for analysed in &run.results.layers.points {
                points.entry(analysed.point).or_default().push((run, &analysed.findings));
            }
        }
        let layers: BTreeSet<u32> =
            points.values().flatten().flat_map(|(_, findings)| column(findings, metric).into_keys()).collect();
        let controls: Vec<&Findings> =
            group.runs.iter().filter_map(|run| run.results.layers.control.as_ref()).collect();
        let rows = layers.iter().rev().map(|layer| {
            let mut row = vec![Cell::text(format!("layer {layer}"))];
            row.extend(points.iter().map(|(point, found)| cell(*point, found, metric, *layer, range)));
            let nulls = points.values().last().into_iter().flatten();
            let nulls = nulls.filter_map(|(_, findings)| column(findings, metric).get(layer)?.null);
            row.push(Cell::maybe(mean(nulls), score));
            let control = controls.iter().filter_map(|findings| column(findings, metric).get(layer)?.mean);
            row.push(Cell::maybe(mean(control), score));
            row
        });
        let rows: Vec<Vec<Cell>> = rows.collect();
        let steps: Vec<String> = points
            .keys()
            .map(|point| match point.rate {
                Rate::Running => format!("#{} (mid)", point.cumulative),
                Rate::Annealed | Rate::CooledDown => format!("#{}", point.cumulative),
            })
            .collect();
        let mut columns = vec!["Steps"];
        columns.extend(steps.iter().map(String::as_str));
        columns.extend(["#Null", "#Random weights"]);
        let seeds =
            if group.runs.len() > 1 { format!(", mean over {} seeds", group.runs.len()) } else { String::new() };
        let id = format!("heat-{}-{place}", slug(metric));
        let table = Table::new(id, format!("{metric} of {}{seeds}", group.name), &columns, rows);
        (!layers.is_empty()).then_some(Table { heat: true, ..table })
    };
    subject.groups.iter().enumerate().filter_map(map).collect()
}

fn cell(point: Point, found: &[(&Run, &Findings)], metric: &str, layer: u32, (low, high): (f64, f64)) -> Cell {
    let scores: Vec<(&Run, &LayerScore)> =
        found.iter().filter_map(|(run, findings)| Some((*run, *column(findings, metric).get(&layer)?))).collect();
    let Some(mean) = mean(scores.iter().filter_map(|(_, score)| score.mean)) else { return Cell::none() };
    let refused = scores.iter().any(|(_, score)| score.refused.is_some());
    let other = |score: &LayerScore| score.other.map_or(String::new(), |other| format!(":{other}"));
    let sources = scores
        .iter()
        .filter_map(|(run, score)| Some(run.source(stage(run, point)?, &format!("{metric}@{layer}{}", other(score)))));
    let shade = ((mean - low) / (high - low) * 9.999).clamp(0.0, 9.0);
    let cell = Cell { shade: shade.is_finite().then_some(shade as u8), ..Cell::number(mean, score) }.from(sources);
    match refused {
        true => Cell { shown: format!("({})", cell.shown), shade: None, ..cell }.marked(Mark::Void),
        false => cell,
    }
}

/// The name of the stage that analysed a run's layers at this point.
fn stage(run: &Run, point: Point) -> Option<&str> {
    let analyses = |output: &StoredOutput| matches!(output.manifest.settings, Stage::Probe(ProbeStage::Layers(_)));
    let mut stages = run.stored().filter(|(stage, output)| stage.point == Some(point) && analyses(output));
    stages.next().map(|(stage, _)| stage.name.as_str())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Where each curve has its maximum, and what the layers above lose, after the last step.
fn summaries(subject: &Subject<'_>, metrics: &[String]) -> Table {
    let mut rows = Vec::new();
    for metric in metrics {
        for group in &subject.groups {
            let lasts = group.runs.iter().filter_map(|run| run.results.layers.points.last());
            let found: Vec<_> = lasts.filter_map(|last| last.summaries.get(metric)).collect();
            if found.is_empty() {
                continue;
            }
            let layers: Vec<String> = found.iter().map(|curve| curve.best_layer.to_string()).collect();
            let of = |number: fn(&reprise_spec::layers::LayerCurve) -> f64| {
                Cell::maybe(mean(found.iter().map(|curve| number(curve))), score)
            };
            let mut row = vec![Cell::text(metric), Cell::text(&group.name), Cell::count(found.len() as u64)];
            row.push(Cell::text(layers.join(", ")));
            row.extend([
                of(|curve| curve.best),
                of(|curve| curve.last),
                of(|curve| curve.top_drop),
                of(|curve| curve.area),
            ]);
            rows.push(row);
        }
    }
    let columns = ["Metric", "Model", "#Seeds", "#Best layer of each", "#Best", "#Last layer", "#Top drop", "#Area"];
    Table::new("layer-summaries", "Curves over layers in few numbers, after the last step", &columns, rows)
}

/// How layers' scores go with word error rates, by the points of each run.
fn correlations(subject: &Subject<'_>) -> Option<Table> {
    let mut rows = Vec::new();
    for (place, run) in subject.all() {
        for found in &run.results.layers.with_errors {
            rows.push(vec![
                Cell::text(&subject.groups[place].name),
                Cell::count(run.record.seed),
                Cell::text(&found.metric),
                Cell::count(found.layer.into()),
                Cell::text(&found.split),
                Cell::count(found.correlation.pairs.into()),
                Cell::number(found.correlation.spearman, score),
                Cell::number(found.correlation.pearson, score),
            ]);
        }
    }
    let columns = ["Model", "#Seed", "Metric", "#Layer", "Split", "#Points", "#Spearman", "#Pearson"];
    let caption = "Correlation of a layer’s score with the word error rate, over the annealed points of a run";
    (!rows.is_empty()).then(|| Table::new("layers-with-errors", caption, &columns, rows))
}

/// What the numbers cannot show.
pub fn limits(subject: &Subject<'_>) -> Vec<String> {
    let findings: Vec<&Findings> = subject.groups.iter().flat_map(last).map(|(_, findings)| findings).collect();
    let mut limits = Vec::new();
    let shallow: BTreeSet<u32> = findings.iter().filter(|found| found.too_shallow).map(|found| found.depth).collect();
    if !shallow.is_empty() {
        let depths: Vec<String> = shallow.iter().map(u32::to_string).collect();
        limits.push(format!("Too shallow: {} layers do not show what top layers do.", depths.join(" or ")));
    }
    let seen: BTreeSet<&str> =
        findings.iter().flat_map(|found| &found.seen_in_pretraining).map(|split| split.as_str()).collect();
    if !seen.is_empty() {
        limits.push(format!("Seen in pretraining: {}.", seen.into_iter().collect::<Vec<_>>().join(", ")));
    }
    let curves = findings.iter().flat_map(|found| &found.curves);
    let refused = curves
        .filter_map(|curve| Some((curve.layers.iter().find_map(|score| score.refused.as_deref())?, &curve.metric)));
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    refused.for_each(|(reason, metric)| {
        reasons.entry(reason).or_default().insert(metric);
    });
    for (reason, metrics) in reasons {
        let metrics = metrics.into_iter().collect::<Vec<_>>().join(", ");
        limits.push(format!("Refused, in brackets: {metrics}: {reason}."));
    }
    limits
}

/// What was left out of the samples.
pub fn left_out(subject: &Subject<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (_, findings) in subject.groups.iter().flat_map(last) {
        if !findings.unaligned.is_empty() {
            found.insert(format!(
                "{} utterances without alignment were left out of the layer-wise analysis",
                findings.unaligned.len()
            ));
        }
        for (kind, labels) in &findings.labels {
            if !labels.dropped.is_empty() {
                let (kept, segments) = (labels.analysed.len(), labels.segments);
                let dropped = labels.dropped.len();
                found.insert(format!("{dropped} rare {kind} were dropped from the layer-wise analysis, which kept {kept} with {segments} segments"));
            }
        }
    }
    found.into_iter().collect()
}
