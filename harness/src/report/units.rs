//! Unit quality: what codebooks tell of phones, and how well they were predicted.

use std::collections::BTreeMap;

use reprise_spec::contract::Score;

use super::parts::{Cell, Part, Section, Table};
use super::shown::{percent, score};
use super::subject::{Group, Subject};
use crate::results::{Units, find};

/// What is shown of a codebook, as stages name it.
const QUALITY: [&str; 7] = [
    "pnmi",
    "pnmi-null",
    "pnmi-corrected",
    "phone-purity",
    "phone-purity-null",
    "cluster-purity",
    "cluster-purity-null",
];

/// The section; `None` where nothing was clustered.
pub fn section(subject: &Subject<'_>) -> Option<Section> {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut alone: Vec<Vec<Cell>> = Vec::new();
    for group in &subject.groups {
        rows.extend(predicted(group));
        alone.extend(measured(group));
    }
    if rows.is_empty() && alone.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    let quality = ["#PNMI", "#null", "#corrected", "#Phone purity", "#null", "#Cluster purity", "#null"];
    if !rows.is_empty() {
        let mut columns = vec!["Model", "#Iteration", "Units of", "#Clusters", "#Seeds"];
        columns.extend(quality);
        columns.extend(["#Dead clusters", "#Masked accuracy", "#by chance"]);
        parts.push(Part::Table(Table::new(
            "units",
            "Units that each iteration predicted; means over seeds",
            &columns,
            rows,
        )));
    }
    if !alone.is_empty() {
        let mut columns = vec!["Model", "Codebook", "#Clusters", "#Seeds"];
        columns.extend(quality);
        columns.push("#Dead clusters");
        let caption = "Codebooks that were measured and that nothing was trained on; means over seeds";
        parts.push(Part::Table(Table::new("codebooks", caption, &columns, alone)));
    }
    parts.push(Part::Text(
        "Null is the same measure with shuffled labels; corrected takes the bias of a small sample off. Numbers compare at equal cluster count, \
         frames and phone inventory alone."
            .into(),
    ));
    Some(Section::new("units", "Unit quality", parts))
}

/// The same row of several runs: what it is, and the scores of each.
type Rows<'a, K> = BTreeMap<K, Of<'a>>;

/// Units and the scores of the training that predicted them, one a run.
type Of<'a> = Vec<(&'a Units, &'a [Score])>;

fn predicted(group: &Group) -> Vec<Vec<Cell>> {
    let mut found: Rows<'_, (usize, usize)> = BTreeMap::new();
    for run in &group.runs {
        for (iteration, of) in run.results.iterations.iter().enumerate() {
            for (place, units) in of.targets.iter().enumerate() {
                found.entry((iteration + 1, place)).or_default().push((units, &of.pretraining));
            }
        }
    }
    let row = |((iteration, _), of): ((usize, usize), Of<'_>)| {
        let units = of.first()?.0;
        let mut row = vec![Cell::text(&group.name), Cell::count(iteration as u64), Cell::text(&units.source)];
        row.extend([Cell::count(units.clusters.into()), Cell::count(of.len() as u64)]);
        row.extend(QUALITY.map(|name| mean(of.iter().map(|(units, _)| find(&units.quality, name)), score)));
        row.push(mean(of.iter().map(|(units, _)| find(&units.quality, "dead-clusters")), count));
        row.push(mean(of.iter().map(|(_, scores)| find(scores, "masked-accuracy")), percent));
        let chance = |scores| find(scores, "most-frequent-unit").or_else(|| find(scores, "blind-guess"));
        row.push(mean(of.iter().map(|(_, scores)| chance(scores)), percent));
        Some(row)
    };
    found.into_iter().filter_map(row).collect()
}

fn measured(group: &Group) -> Vec<Vec<Cell>> {
    let mut found: BTreeMap<(usize, &str), Vec<&Units>> = BTreeMap::new();
    for run in &group.runs {
        for (place, codebook) in run.results.codebooks.iter().enumerate() {
            found.entry((place, &codebook.name)).or_default().push(&codebook.units);
        }
    }
    let row = |((_, name), of): ((usize, &str), Vec<&Units>)| {
        let mut row = vec![Cell::text(&group.name), Cell::text(name)];
        row.extend([Cell::count(of.first()?.clusters.into()), Cell::count(of.len() as u64)]);
        row.extend(QUALITY.map(|name| mean(of.iter().map(|units| find(&units.quality, name)), score)));
        row.push(mean(of.iter().map(|units| find(&units.quality, "dead-clusters")), count));
        Some(row)
    };
    found.into_iter().filter_map(row).collect()
}

fn mean<'a>(scores: impl Iterator<Item = Option<&'a Score>>, how: impl Fn(f64) -> String) -> Cell {
    let values: Vec<f64> = scores.flatten().map(|score| score.value).collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    Cell::maybe((!values.is_empty()).then_some(mean), how)
}

fn count(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
