//! Boxes in rows, joined by arrows that lead down: stages, and what each reads.

use std::collections::BTreeMap;

use svg::node::element::Rectangle;

use super::{at, document, fitting, group, label, path};
use crate::report::parts::{Drawing, Figure};

/// One box.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// In the middle, then below it.
    pub lines: [String; 2],
    /// What becomes of it: a word of the style sheet, which the second line says too.
    pub class: &'static str,
    /// The places of earlier boxes that it reads.
    pub reads: Vec<usize>,
}

const BOX: [f64; 2] = [158.0, 42.0];
const GAP: [f64; 2] = [14.0, 30.0];

/// Draws boxes, each below all that it reads.
pub fn figure(id: &str, title: &str, description: String, nodes: &[Node]) -> Figure {
    let places = places(nodes);
    let across = places.iter().map(|place| place[0]).fold(0.0, f64::max) + BOX[0] + 4.0;
    let down = places.iter().map(|place| place[1]).fold(0.0, f64::max) + BOX[1] + 4.0;
    let mut arrows = group("arrows");
    for (node, [x, y]) in nodes.iter().zip(&places) {
        for [from_x, from_y] in node.reads.iter().filter_map(|read| places.get(*read)) {
            let (from, to) = ([from_x + BOX[0] / 2.0, from_y + BOX[1]], [x + BOX[0] / 2.0, *y]);
            let bend = ((to[1] - from[1]) / 2.0).max(8.0);
            arrows = arrows.add(path(
                "arrow",
                format!(
                    "M{} {}C{} {} {} {} {} {}",
                    at(from[0]),
                    at(from[1]),
                    at(from[0]),
                    at(from[1] + bend),
                    at(to[0]),
                    at(to[1] - bend),
                    at(to[0]),
                    at(to[1])
                ),
            ));
        }
    }
    let mut drawn = document(id, title, &description, [across, down]).add(arrows);
    for (node, [x, y]) in nodes.iter().zip(&places) {
        let frame = Rectangle::new().set("class", format!("box {}", node.class)).set("rx", 5);
        let frame = frame.set("x", at(*x)).set("y", at(*y)).set("width", BOX[0]).set("height", BOX[1]);
        let middle = x + BOX[0] / 2.0;
        drawn = drawn
            .add(frame)
            .add(label("what", [middle, y + 18.0], &fitting(&node.lines[0], 12.5, BOX[0] - 8.0)))
            .add(label("state", [middle, y + 33.0], &fitting(&node.lines[1], 11.0, BOX[0] - 8.0)));
    }
    let drawing = Drawing(drawn.to_string());
    Figure {
        id: id.into(),
        title: title.into(),
        description,
        note: None,
        lines: Vec::new(),
        axes: Default::default(),
        drawing,
    }
}

/// The upper left corners: a row below the lowest of what a box reads, beside each other by where that stands.
fn places(nodes: &[Node]) -> Vec<[f64; 2]> {
    let mut rows: Vec<usize> = Vec::new();
    for node in nodes {
        rows.push(node.reads.iter().filter_map(|read| rows.get(*read)).map(|row| row + 1).max().unwrap_or(0));
    }
    let mut of_row: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        of_row.entry(*row).or_default().push(index);
    }
    let widest = of_row.values().map(Vec::len).max().unwrap_or(0) as f64;
    let mut places = vec![[0.0; 2]; nodes.len()];
    for (row, mut members) in of_row {
        let wish = |index: &usize| {
            let above: Vec<f64> =
                nodes[*index].reads.iter().filter_map(|read| places.get(*read)).map(|p| p[0]).collect();
            if above.is_empty() { 0.0 } else { above.iter().sum::<f64>() / above.len() as f64 }
        };
        let mut wishes: Vec<(usize, f64)> = members.iter().map(|index| (*index, wish(index))).collect();
        wishes.sort_by(|(a, x), (b, y)| x.total_cmp(y).then(a.cmp(b)));
        members = wishes.into_iter().map(|(index, _)| index).collect();
        let start = (widest - members.len() as f64) / 2.0 * (BOX[0] + GAP[0]);
        for (column, index) in members.into_iter().enumerate() {
            places[index] = [2.0 + start + column as f64 * (BOX[0] + GAP[0]), 2.0 + row as f64 * (BOX[1] + GAP[1])];
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn boxes_never_touch_and_stand_below_what_they_read(reads in prop::collection::vec(prop::collection::vec(0usize..40, 0..4), 1..40)) {
            let node = |(index, reads): (usize, Vec<usize>)| Node {
                lines: [index.to_string(), String::new()],
                class: "executed",
                reads: reads.into_iter().filter(|read| *read < index).collect(),
            };
            let nodes: Vec<Node> = reads.into_iter().enumerate().map(node).collect();
            let places = places(&nodes);
            for (index, node) in nodes.iter().enumerate() {
                prop_assert!(node.reads.iter().all(|read| places[*read][1] + BOX[1] < places[index][1]));
                for other in &places[..index] {
                    let apart = |axis: usize| (other[axis] - places[index][axis]).abs() >= BOX[axis];
                    prop_assert!(apart(0) || apart(1));
                }
            }
        }
    }
}
