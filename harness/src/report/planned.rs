//! An experiment that nobody has executed yet: its plan, and what that is expected to cost.

use super::figure::graph::{self, Node};
use super::parts::{Cell, Part, Section, Table};
use super::shown::{counted, hours};
use super::stages::kinds;
use crate::estimate::{Amount, Estimate, Sum};
use crate::plan::Plan;

/// Stages above which a picture has one box a kind.
const BOXES: usize = 40;

/// The plan as a picture, and the estimate of its cost.
pub fn sections(plan: &Plan, estimates: &[Estimate]) -> Vec<Section> {
    let kinds = kinds(plan.nodes.iter().map(|node| kind(node.kind)));
    let told =
        format!("{}, none of them executed. The picture is of the plan alone.", counted(plan.nodes.len(), "stage"));
    let boxes = if plan.nodes.len() <= BOXES { one_by_one(plan) } else { by_kind(plan, &kinds) };
    let picture = graph::figure("plan", "Planned stages", told, &boxes);
    let of = |name: &str| {
        let nodes = plan.nodes.iter().zip(estimates).filter(|(node, _)| kind(node.kind) == name);
        Sum::of(nodes.map(|(_, estimate)| estimate))
    };
    let mut rows: Vec<Vec<Cell>> = kinds.iter().map(|name| row(name, &of(name))).collect();
    rows.push(row("total", &Sum::of(estimates)));
    let columns = ["Kind of stage", "#Stages", "#Steps", "#Hours of audio", "#PFLOP", "#Disk"];
    let caption = "What the stages are expected to cost: estimated from settings, not measured";
    let cost = Part::Table(Table::new("estimate", caption, &columns, rows));
    vec![
        Section::new("plan", "Plan: not executed", vec![Part::Figure(picture)]),
        Section::new("cost", "Estimated cost", vec![cost]),
    ]
}

fn kind(versioned: &str) -> &str {
    versioned.split('/').next().unwrap_or(versioned)
}

fn one_by_one(plan: &Plan) -> Vec<Node> {
    let node = |node: &crate::plan::Node| {
        let runs = if node.runs.len() > 1 { format!("planned, {} runs", node.runs.len()) } else { "planned".into() };
        Node {
            lines: [node.name.clone(), runs],
            class: "planned",
            reads: node.inputs.iter().map(|edge| edge.node).collect(),
        }
    };
    plan.nodes.iter().map(node).collect()
}

fn by_kind(plan: &Plan, kinds: &[&str]) -> Vec<Node> {
    let node = |(place, name): (usize, &&str)| {
        let of: Vec<&crate::plan::Node> = plan.nodes.iter().filter(|node| kind(node.kind) == *name).collect();
        let reads = |earlier: &&str| {
            of.iter().flat_map(|node| &node.inputs).any(|edge| kind(plan.nodes[edge.node].kind) == *earlier)
        };
        let reads = kinds[..place].iter().enumerate().filter(|(_, earlier)| reads(earlier)).map(|(place, _)| place);
        let shared = of.iter().filter(|node| node.runs.len() > 1).count();
        let lines = [format!("{name} × {}", of.len()), format!("planned, {shared} shared")];
        Node { lines, class: "planned", reads: reads.collect() }
    };
    kinds.iter().enumerate().map(node).collect()
}

fn row(name: &str, sum: &Sum) -> Vec<Cell> {
    let amount = |amount: Amount, how: &dyn Fn(f64) -> String| match amount {
        Amount { known: 0.0, unknown: 1.. } => Cell::text("unknown"),
        Amount { known, unknown: 0 } => Cell::number(known, how),
        Amount { known, .. } => Cell::number(known, |known| format!("{} + unknown", how(known))),
    };
    vec![
        Cell::text(name),
        Cell::count(sum.stages as u64),
        Cell::count(sum.steps),
        amount(sum.audio_seconds, &hours),
        amount(sum.flops, &|flops| format!("{:.1}", flops / 1e15)),
        amount(sum.bytes, &|bytes| crate::cmd::print::bytes(bytes as u64)),
    ]
}
