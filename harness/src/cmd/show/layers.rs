//! Layer-wise analyses as people read them: a table of layers and steps for each metric, and what its curves come to.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::evaluation::Rate;
use reprise_spec::layers::{Curve, Findings, LayerScore};

use super::super::print;
use crate::results::layers::{Analysed, Layers, WithErrors};

/// The tables of all metrics, then their summaries, then what restricts them; empty without analyses.
pub fn tables(layers: &Layers) -> Vec<String> {
    let Some(last) = layers.points.last() else { return Vec::new() };
    let mut parts: Vec<String> = layers.last_curves().iter().map(|curve| heat_map(curve, layers)).collect();
    parts.push(summaries(layers));
    parts.extend(with_errors(&layers.with_errors));
    parts.extend(notes(layers, last));
    parts
}

/// One row a layer, one column a step; beside the last step that has the metric its deviation and its null, and the control.
fn heat_map(last: &Curve, layers: &Layers) -> String {
    let metric = last.metric.as_str();
    let steps: Vec<String> = layers.points.iter().map(|analysed| analysed.point.cumulative.to_string()).collect();
    let mut header = vec![metric];
    header.extend(steps.iter().map(String::as_str));
    header.extend(["±", "null", "random weights"]);
    let mut columns: Vec<BTreeMap<u32, &LayerScore>> =
        layers.points.iter().map(|analysed| column(&analysed.findings, metric)).collect();
    columns.extend(layers.control.as_ref().map(|control| column(control, metric)));
    let rows = last.by_layer().map(|score| {
        let cells = columns.iter().map(|column| column.get(&score.layer).map_or("-".into(), |score| cell(score)));
        let (at_points, control): (Vec<_>, Vec<_>) =
            cells.enumerate().partition(|(index, _)| *index < layers.points.len());
        let mut row = vec![format!("layer {}", score.layer)];
        row.extend(at_points.into_iter().map(|(_, cell)| cell));
        row.extend([score.deviation, score.null].map(number));
        row.push(control.into_iter().map(|(_, cell)| cell).next().unwrap_or_else(|| "-".into()));
        row
    });
    print::table(&header, &(1..header.len()).collect::<Vec<_>>(), rows.collect())
}

fn column<'a>(findings: &'a Findings, metric: &str) -> BTreeMap<u32, &'a LayerScore> {
    let scores = findings.curve(metric).into_iter().flat_map(Curve::by_layer);
    scores.map(|score| (score.layer, score)).collect()
}

/// In brackets where the number supports nothing.
fn cell(score: &LayerScore) -> String {
    match (score.mean, &score.refused) {
        (Some(_), Some(_)) => format!("({})", number(score.mean)),
        _ => number(score.mean),
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.3}"))
}

/// Where each curve has its maximum, and what the layers above lose.
fn summaries(layers: &Layers) -> String {
    let mut rows = Vec::new();
    for curve in layers.last_curves() {
        let measured = |analysed: &&Analysed| analysed.findings.curve(&curve.metric).is_some();
        for Analysed { point, summaries, .. } in layers.points.iter().filter(measured) {
            let mut row = vec![curve.metric.clone(), point.cumulative.to_string()];
            row.extend(match summaries.get(&curve.metric) {
                Some(found) => {
                    let numbers = [found.best, found.last, found.top_drop, found.area];
                    [found.best_layer.to_string()].into_iter().chain(numbers.map(|value| number(Some(value)))).collect()
                }
                None => vec!["-".to_owned(); 5],
            });
            rows.push(row);
        }
    }
    let header = ["layers", "steps", "best layer", "best", "last", "top-drop", "area"];
    print::table(&header, &[1, 2, 3, 4, 5, 6], rows)
}

/// Rank correlations with the word error rate, one column a layer.
fn with_errors(all: &[WithErrors]) -> Option<String> {
    let layers: BTreeSet<u32> = all.iter().map(|found| found.layer).collect();
    let mut rows: BTreeMap<(&str, &str), BTreeMap<u32, &WithErrors>> = BTreeMap::new();
    for found in all {
        rows.entry((&found.metric, &found.split)).or_default().insert(found.layer, found);
    }
    let points = all.iter().map(|found| found.correlation.pairs).max()?;
    let title = format!("rank correlation with wer of {points} points");
    let layer_names: Vec<String> = layers.iter().map(|layer| format!("layer {layer}")).collect();
    let mut header = vec![title.as_str(), "split"];
    header.extend(layer_names.iter().map(String::as_str));
    let rows = rows.into_iter().map(|((metric, split), of_layers)| {
        let cells = layers.iter().map(|layer| number(of_layers.get(layer).map(|found| found.correlation.spearman)));
        [metric.to_owned(), split.to_owned()].into_iter().chain(cells).collect()
    });
    Some(print::table(&header, &(2..header.len()).collect::<Vec<_>>(), rows.collect()))
}

/// What the numbers cannot show, and what was left out of them.
fn notes(layers: &Layers, last: &Analysed) -> Option<String> {
    let Findings { depth, too_shallow, seen_in_pretraining, unaligned, labels, .. } = &last.findings;
    let mut notes = Vec::new();
    if *too_shallow {
        notes.push(format!("{depth} layers are too shallow to show what top layers do"));
    }
    if !seen_in_pretraining.is_empty() {
        let splits: Vec<&str> = seen_in_pretraining.iter().map(|split| split.as_str()).collect();
        notes.push(format!("seen in pretraining: {}", splits.join(", ")));
    }
    let running = layers.points.iter().filter(|analysed| analysed.point.rate == Rate::Running);
    let running: Vec<String> = running.map(|analysed| analysed.point.cumulative.to_string()).collect();
    if !running.is_empty() {
        let steps = running.join(", ");
        notes.push(format!("in mid-schedule, so that they support no claim beside annealed models: {steps}"));
    }
    for (kind, labels) in labels {
        let (kept, segments, rare) = (labels.analysed.len(), labels.segments, labels.dropped.len());
        notes.push(format!("{kind}: {kept} labels with {segments} segments; {rare} dropped"));
    }
    if !unaligned.is_empty() {
        notes.push(format!("left out without alignment: {}", unaligned.join(", ")));
    }
    let mut refused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for curve in layers.last_curves() {
        if let Some(reason) = curve.layers.iter().find_map(|score| score.refused.as_deref()) {
            refused.entry(reason).or_default().push(&curve.metric);
        }
    }
    notes.extend(refused.into_iter().map(|(reason, metrics)| format!("in brackets, {}: {reason}", metrics.join(", "))));
    (!notes.is_empty()).then(|| notes.join("\n"))
}

#[cfg(test)]
mod tests;
