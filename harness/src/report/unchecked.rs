//! What was not checked, and what restricts the numbers: said as plainly as the numbers.

use std::collections::BTreeSet;

use reprise_spec::contract::Device;
use reprise_spec::stage::Stage;

use super::curves::Logged;
use super::parts::{Part, Section};
use super::shown::counted;
use super::subject::{Kind, Run, Subject, compares};
use super::verdict::Verdict;
use crate::results::find;
use crate::store::Status;

/// The section.
pub fn section(subject: &Subject<'_>, logs: &[Vec<Logged>], verdict: &Verdict) -> Section {
    let items = items(subject, logs, verdict);
    let parts = match items.is_empty() {
        true => vec![Part::Text("Nothing that this report knows to look for was left unchecked.".into())],
        false => vec![Part::List(items)],
    };
    Section::new("unchecked", "What was not checked", parts)
}

fn items(subject: &Subject<'_>, logs: &[Vec<Logged>], verdict: &Verdict) -> Vec<String> {
    let mut items = verdict.unchecked.clone();
    if subject.kind != Kind::Experiment {
        items.push("Claims and golden metrics are of an experiment: they were not looked at".into());
    }
    let runs: Vec<&Run> = subject.all().map(|(_, run)| run).collect();
    if subject.kind == Kind::Experiment {
        for group in &subject.groups {
            match (group.runs.len(), group.missing.as_slice()) {
                (0, _) => items.push(format!("{}: never finished a run", group.name)),
                (_, missing @ [_, ..]) => {
                    let seeds: Vec<String> = missing.iter().map(u64::to_string).collect();
                    items.push(format!("{}: no finished run of seed {}", group.name, seeds.join(", ")));
                }
                (1, []) => items
                    .push(format!("{}: one seed alone, so nothing is known of how far seeds lie apart", group.name)),
                _ => {}
            }
        }
        let scratch = |variant: &reprise_spec::experiment::Variant| variant.setting.iterations.is_empty();
        let pretrains =
            subject.groups.iter().filter_map(|group| group.variant.as_ref()).any(|variant| !scratch(variant));
        if pretrains && !subject.groups.iter().filter_map(|group| group.variant.as_ref()).any(scratch) {
            items.push("No control from random weights stands beside the pretrained models".into());
        }
    }
    for left_out in &subject.left_out {
        items.push(format!("Run {} was left out: {}", left_out.run, left_out.because));
    }
    for run in &runs {
        let id = &run.record.id;
        if run.record.status != Status::Finished {
            items.push(format!("Run {id} did not finish: its numbers go as far as it came"));
        }
        let stages = run.record.stages.iter().zip(&run.outputs);
        let gone = stages.filter(|(stage, output)| stage.state.digest().is_some() && output.is_none()).count();
        if gone > 0 {
            items.push(format!("Run {id}: {} no longer stored, so their numbers are missing", counted(gone, "output")));
        }
        for (stage, output) in run.stored() {
            let untrained = find(&output.manifest.summary, "trained").is_some_and(|score| score.value == 0.0);
            if untrained && matches!(output.manifest.settings, Stage::Pretrain(_)) {
                items.push(format!(
                    "Run {id}, {}: not trained, its masked accuracy doesn’t beat the most frequent unit, so it supports nothing",
                    stage.name
                ));
            }
        }
        if run.record.provenance.experiment.as_ref().is_some_and(|state| state.dirty) {
            items.push(format!("Run {id} was made with uncommitted changes"));
        }
    }
    let means = runs.iter().flat_map(|run| &run.record.attempts).filter_map(|attempt| attempt.means);
    let devices: BTreeSet<bool> = means.map(|means| means.device == Device::Cpu).collect();
    if devices.contains(&true) && devices.len() == 1 {
        items.push("Nothing was executed on a GPU".into());
    }
    let running =
        runs.iter().flat_map(|run| run.results.whole()).filter(|judgement| !compares(judgement.point)).count();
    if running > 0 {
        items.push(format!(
            "{} of a model in mid-schedule: marked, and no claim rests on it",
            counted(running, "judgement")
        ));
    }
    let finite = |log: &Logged| log.0.values().flat_map(|series| series.values()).all(|(_, value)| value.is_finite());
    for (run, _) in runs.iter().zip(logs.iter().flatten()).filter(|(_, log)| !finite(log)) {
        items.push(format!("Run {} logged values that are not finite; they are left out of its curves", run.record.id));
    }
    items.extend(super::layers::limits(subject));
    items.extend(super::layers::left_out(subject));
    items
}
