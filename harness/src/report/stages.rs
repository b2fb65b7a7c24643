//! The plan as a picture: stages, what each reads, and which were executed, reused or shared. And what they cost.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::identity::{OutputDigest, StageKey};

use super::figure::graph::{self, Node};
use super::parts::{Cell, Folded, Part, Section, Table};
use super::shown::{counted, duration, hours};
use super::subject::Subject;
use crate::results::find;
use crate::store::{StageState, StoredOutput};

/// Stages above which a picture has one box a kind.
const BOXES: usize = 40;

/// Outputs above which a page doesn't list them.
const LISTED: usize = 400;

/// One output of a stage, with what the shown runs did with it.
struct Output<'a> {
    name: &'a str,
    kind: &'a str,
    stored: Option<&'a StoredOutput>,
    executed: usize,
    runs: usize,
    /// What it took where it was executed.
    seconds: f64,
}

type Outputs<'a> = BTreeMap<(StageKey, OutputDigest), Output<'a>>;

/// The outputs of all runs, each once, in the order of the runs' plans.
fn outputs<'a>(subject: &'a Subject<'_>) -> (Vec<(StageKey, OutputDigest)>, Outputs<'a>) {
    let (mut order, mut outputs) = (Vec::new(), Outputs::new());
    for (_, run) in subject.all() {
        for (stage, stored) in run.record.stages.iter().zip(&run.outputs) {
            let Some(digest) = stage.state.digest() else { continue };
            let output = outputs.entry((stage.key, digest)).or_insert_with(|| {
                order.push((stage.key, digest));
                let kind = stage.kind.split('/').next().unwrap_or(&stage.kind);
                Output { name: &stage.name, kind, stored: stored.as_ref(), executed: 0, runs: 0, seconds: 0.0 }
            });
            output.runs += 1;
            output.executed += usize::from(matches!(stage.state, StageState::Executed { .. }));
            if let Some(stored) = &output.stored {
                output.seconds = stored.manifest.seconds;
            } else if let StageState::Executed { seconds, .. } = stage.state {
                output.seconds = seconds;
            }
        }
    }
    (order, outputs)
}

/// The picture, and the stages as a table.
pub fn section(subject: &Subject<'_>) -> Option<Section> {
    let (order, outputs) = outputs(subject);
    if order.is_empty() {
        return None;
    }
    let executed = outputs.values().filter(|output| output.executed > 0).count();
    let shared = outputs.values().filter(|output| output.runs > 1).count();
    let reused = outputs.len() - executed;
    let told = format!(
        "{} of {} came to {}: {executed} executed by them, {reused} reused from what was stored before, {shared} shared by several.",
        counted(outputs.values().map(|output| output.runs).sum(), "stage"),
        counted(subject.all().count(), "run"),
        counted(outputs.len(), "output"),
    );
    let nodes = if order.len() <= BOXES { one_by_one(&order, &outputs) } else { by_kind(&outputs) };
    let title = if order.len() <= BOXES { "Stages and what each reads" } else { "Kinds of stages and what each reads" };
    let picture = graph::figure("plan", title, told, &nodes);
    let listed = match order.len() {
        0..=LISTED => Part::Folded(Folded {
            summary: "All stages with keys and digests".into(),
            open: false,
            parts: vec![Part::Table(table(&order, &outputs))],
        }),
        many => Part::Text(format!(
            "{many} outputs are too many for a table: report.json has them, run by run, with keys and digests."
        )),
    };
    Some(Section::new("plan", "Plan", vec![Part::Figure(picture), listed]))
}

fn state(output: &Output<'_>) -> (&'static str, String) {
    let took = if output.seconds > 0.0 { format!(", {}", duration(output.seconds)) } else { String::new() };
    let runs = if output.runs > 1 { format!(", {} runs", output.runs) } else { String::new() };
    match (output.executed, output.runs) {
        (0, _) => ("reused", format!("reused{runs}")),
        (_, 1) => ("executed", format!("executed{took}")),
        _ => ("shared", format!("executed once{runs}{took}")),
    }
}

fn one_by_one(order: &[(StageKey, OutputDigest)], outputs: &Outputs<'_>) -> Vec<Node> {
    let places: BTreeMap<_, _> = order.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let node = |(place, id): (usize, &(StageKey, OutputDigest))| {
        let output = &outputs[id];
        let inputs = output.stored.into_iter().flat_map(|stored| &stored.manifest.inputs);
        let reads = inputs.filter_map(|input| places.get(&(input.key, input.digest)).copied());
        let (class, state) = state(output);
        Node { lines: [output.name.to_owned(), state], class, reads: reads.filter(|read| *read < place).collect() }
    };
    order.iter().enumerate().map(node).collect()
}

/// Kinds of stages in the order in which a run goes through them; others after them.
const KINDS: [&str; 11] = [
    "corpus",
    "checkpoint",
    "features",
    "units",
    "pretrain",
    "language-model",
    "lexicon",
    "finetune",
    "tune",
    "decode",
    "probe",
];

/// The kinds among these, each once, in the order of [`KINDS`].
pub(super) fn kinds<'a>(of: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = of.collect::<BTreeSet<_>>().into_iter().collect();
    kinds.sort_by_key(|kind| KINDS.iter().position(|known| known == kind).unwrap_or(KINDS.len()));
    kinds
}

/// One box a kind; what a kind reads of its own and of later kinds has no arrow.
fn by_kind(outputs: &Outputs<'_>) -> Vec<Node> {
    let kinds = kinds(outputs.values().map(|output| output.kind));
    let node = |(place, kind): (usize, &&str)| {
        let of: Vec<&Output<'_>> = outputs.values().filter(|output| output.kind == *kind).collect();
        let executed = of.iter().filter(|output| output.executed > 0).count();
        let shared = of.iter().filter(|output| output.runs > 1).count();
        let seconds: f64 = of.iter().map(|output| output.seconds).sum();
        let inputs = of.iter().filter_map(|output| output.stored).flat_map(|stored| &stored.manifest.inputs);
        let read: BTreeSet<&str> =
            inputs.filter_map(|input| Some(outputs.get(&(input.key, input.digest))?.kind)).collect();
        let reads = kinds[..place].iter().enumerate().filter(|(_, kind)| read.contains(*kind)).map(|(place, _)| place);
        let class = if executed == 0 {
            "reused"
        } else if shared > 0 {
            "shared"
        } else {
            "executed"
        };
        let reused = of.len() - executed;
        let reused = if reused > 0 { format!("{reused} reused, ") } else { String::new() };
        let lines = [format!("{kind} × {}", of.len()), format!("{reused}{shared} shared, {}", duration(seconds))];
        Node { lines, class, reads: reads.collect() }
    };
    kinds.iter().enumerate().map(node).collect()
}

fn table(order: &[(StageKey, OutputDigest)], outputs: &Outputs<'_>) -> Table {
    let row = |id: &(StageKey, OutputDigest)| {
        let output = &outputs[id];
        let (class, _) = state(output);
        let mut row = vec![Cell::text(output.name), Cell::text(class), Cell::count(output.runs as u64)];
        row.push(Cell::maybe((output.seconds > 0.0).then_some(output.seconds), duration));
        row.extend([Cell::text(id.0.to_string()), Cell::text(id.1.to_string())]);
        if output.stored.is_none() {
            row[1] = Cell::text(format!("{class}, no longer stored"));
        }
        row
    };
    let columns = ["Stage", "State", "#Runs", "#Took", "Key", "Digest"];
    let caption = "Every output that the shown runs made or took from the store; it lies in stages/KEY/DIGEST of the store, by their first digits";
    Table::new("stages", caption, &columns, order.iter().map(row).collect())
}

/// What the shown runs cost: every output once, whoever executed it.
pub fn cost(subject: &Subject<'_>) -> Option<Section> {
    let (order, outputs) = outputs(subject);
    let kinds = kinds(outputs.values().map(|output| output.kind));
    let row = |name: &str, of: &[&Output<'_>]| {
        let audio = of.iter().filter_map(|output| output.stored).map(|stored| {
            let summary = &stored.manifest.summary;
            find(summary, "audio-seconds").map_or(0.0, |score| score.value)
        });
        let audio: f64 = audio.sum();
        let seconds: f64 = of.iter().map(|output| output.seconds).sum();
        let bytes: u64 = of
            .iter()
            .filter_map(|output| output.stored)
            .flat_map(|stored| &stored.manifest.files)
            .map(|file| file.size)
            .sum();
        vec![
            Cell::text(name),
            Cell::count(of.len() as u64),
            Cell::number(seconds, duration),
            Cell::maybe((audio > 0.0).then_some(audio), hours),
            Cell::number(bytes as f64, |bytes| crate::cmd::print::bytes(bytes as u64)),
        ]
    };
    let of = |kind: &str| -> Vec<&Output<'_>> { outputs.values().filter(|output| output.kind == kind).collect() };
    let mut rows: Vec<Vec<Cell>> = kinds.iter().map(|kind| row(kind, &of(kind))).collect();
    rows.push(row("total", &outputs.values().collect::<Vec<_>>()));
    let columns = ["Kind of stage", "#Outputs", "#Device time", "#Hours of audio trained on", "#Stored"];
    let caption = "What the outputs of the shown runs took, each counted once, where it was executed";
    let text = "Time is that of the last attempt of each stage. Energy was not measured.";
    let parts = vec![Part::Table(Table::new("cost", caption, &columns, rows)), Part::Text(text.into())];
    (!order.is_empty()).then(|| Section::new("cost", "Cost", parts))
}
