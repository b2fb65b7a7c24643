use reprise_spec::identity::OutputDigest;
use serde_json::json;

use super::recorded::Recorded;
use super::run::{SideBySide, execute_shown};
use super::{Places, load, print};
use crate::exit::{Exit, Failure};
use crate::inert;
use crate::rerun::grade::{self, Judged, Verdict};
use crate::rerun::{self, Comparison, Difference, Fact, Origin, Parting};
use crate::store::{Area, Means, RunRecord, Seen};

/// Execute a finished run again, without reuse, and grade how equal the two are
///
/// Every stage is executed anew in a store of its own, below the original's, and compared with it: outputs by digest, scores by declared
/// margins, logged values step by step. The grades, best first: bitwise; within tolerance; within the prediction interval, which needs two
/// seeds of the setting in the store; different; undecided. With `--seeds` also: statistically equivalent. Says in what the environments
/// differ, and the first stage and step at which the two part. An interrupted rerun goes on when the same command is given again.
///
/// Exits 1 when the two are different or it is undecided.
#[derive(clap::Args)]
pub struct Args {
    /// The run's id, or enough of its beginning to be unique
    run: String,
    /// Execute so many seeds of the setting again, this run's first, and test whether their means are equivalent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    seeds: Option<u32>,
    /// Threads inside one stage [default: those of the run]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Threads that load audio while a stage trains; change no result [default: those of the run]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    loader_threads: Option<u32>,
    /// Compute layers again in the backward pass, for less memory [default: as the run]
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    jobs: SideBySide,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let store = load::store(places, None)?;
    let listed = store.run(&args.run)?;
    let seen = listed.seen();
    let record = Recorded::record(listed)?;
    let id = record.id.clone();
    if seen != Seen::Finished {
        let message = format!("run {id} is {}: there is no whole result to compare with", print::word(&seen));
        return Err(Failure::user(message, format!("`reprise resume {id}` continues a run that ended early")));
    }
    let siblings = rerun::siblings(&record, &store)?;
    let originals = originals(record, &siblings, args.seeds)?;
    let recorded: Vec<Recorded> =
        originals.into_iter().map(|record| Recorded::of(record, &store, places)).collect::<Result<_, _>>()?;
    let before = recorded[0].means(); // `originals` begins with the named run
    let means = Means {
        threads: args.threads.unwrap_or(before.threads),
        loader_threads: args.loader_threads.unwrap_or(before.loader_threads),
        recompute: args.recompute || before.recompute,
        ..before
    };
    let area = Area::open(&store, &id, means)?;
    print::message(format!("executing run {id} again, apart from it, in {}", area.store.root().display()));
    let label = |recorded: &Recorded| match args.seeds {
        Some(_) => format!("seed {}", recorded.record.seed),
        None => String::new(),
    };
    let jobs: Vec<_> = recorded
        .iter()
        .map(|recorded| recorded.job(label(recorded), &area.store, means, None))
        .collect::<Result<_, _>>()?;
    let outcomes = execute_shown(&jobs, args.jobs.at_once, |_| {})?;
    let comparisons: Vec<Comparison> = recorded
        .iter()
        .zip(&outcomes)
        .map(|(recorded, outcome)| rerun::compare((&recorded.record, &store), (outcome.record(), &area.store)))
        .collect();
    let verdict = match args.seeds {
        Some(_) => grade::several(&comparisons),
        None => {
            let seeds: Vec<_> = siblings.iter().map(|run| rerun::scores(run, &store)).collect();
            grade::one(&comparisons[0], &seeds) // one job, one comparison
        }
    };
    let report = json!({
        "run": id, "rerun": area.number, "folder": area.store.root(), "verdict": verdict, "comparisons": comparisons,
    });
    let equal: Vec<_> = comparisons.iter().flat_map(Comparison::equal).collect();
    area.close(&report, &equal, &store)?;
    if args.json {
        print::json(&report);
    } else {
        print::line(format!("run {id}, rerun {}: {}\n{}", area.number, verdict.grade, verdict.because));
        comparisons.iter().filter_map(details).for_each(|details| print::line(format!("\n{details}")));
        if !verdict.scores.is_empty() {
            print::line(format!("\n{}", scores_table(&verdict)));
        }
    }
    Ok(if verdict.grade.holds() { Exit::Fine } else { Exit::No })
}

/// The runs to execute again, the named one first.
fn originals(record: RunRecord, siblings: &[RunRecord], seeds: Option<u32>) -> Result<Vec<RunRecord>, Failure> {
    let wanted = seeds.unwrap_or(1) as usize;
    if siblings.len() < wanted {
        return Err(Failure::user(
            format!(
                "--seeds {wanted} needs {wanted} finished runs of this setting, one a seed; the store has {}",
                siblings.len()
            ),
            "add seeds to the experiment and run it: equivalence needs several seeds on both sides",
        ));
    }
    let others: Vec<RunRecord> = siblings.iter().filter(|run| run.seed != record.seed).cloned().collect();
    Ok(std::iter::once(record).chain(others).take(wanted).collect())
}

/// In what a run and its rerun differ; `None` where every output is equal and so is what they were made with.
pub(super) fn details(comparison: &Comparison) -> Option<String> {
    let mut parts =
        vec![format!("seed {}: run {}, again as {}", comparison.seed, comparison.original, comparison.again)];
    if !comparison.environment.is_empty() {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        let row = |fact: &Fact| vec![fact.name.clone(), value(&fact.original), value(&fact.again)];
        let rows = comparison.environment.iter().map(row).collect();
        parts.push(print::table(&["made with", "original", "again"], &[], rows));
    }
    if let Some(first) = comparison.first_difference() {
        parts.push(format!("first difference: {}", inert::terminal(&first.name)));
        let rows = comparison
            .stages
            .iter()
            .filter_map(|stage| {
                let Difference { origin, parts_at } = stage.difference.as_ref()?;
                let digest = |digest: Option<OutputDigest>| digest.map_or("-".into(), |d| d.short());
                let parting = parts_at.as_ref().map_or("-".into(), parting);
                let row = [stage.name.clone(), digest(stage.original), digest(stage.again), because(origin), parting];
                Some(row.to_vec())
            })
            .collect();
        parts.push(print::table(&["stage", "original", "again", "because of", "logged values part at"], &[], rows));
    }
    for stage in comparison.findings() {
        parts.push(format!(
            "finding: `{}` gave two outputs under one key from the same inputs with the same environment; it does not repeat to \
             the bit here",
            inert::terminal(&stage.name)
        ));
    }
    (parts.len() > 1).then(|| parts.join("\n\n"))
}

fn because(origin: &Origin) -> String {
    match origin {
        Origin::Inputs => "its inputs".into(),
        Origin::Environment(facts) => facts.iter().map(|fact| fact.name.as_str()).collect::<Vec<_>>().join(", "),
        Origin::Unexplained => "nothing known".into(),
        Origin::Unknown => "not known: the original is no longer stored".into(),
    }
}

fn parting(parting: &Parting) -> String {
    let value = |value: Option<f64>| value.map_or("nothing".into(), |value| value.to_string());
    let Parting { step, metric, original, again } = parting;
    format!("step {step}, {metric}: {} and {}", value(*original), value(*again))
}

pub(super) fn scores_table(verdict: &Verdict) -> String {
    let number = |value: f64| format!("{value:.6}");
    let row = |score: &Judged| {
        vec![
            score.stage.clone(),
            score.metric.clone(),
            number(score.original),
            score.again.map_or("-".into(), number),
            number(score.margin),
            if score.within { "yes".into() } else { "no".into() },
            score.interval.map_or("-".into(), |(low, high)| format!("{} to {}", number(low), number(high))),
            score.says.as_ref().map_or("-".into(), print::word),
        ]
    };
    let header = ["stage", "score", "original", "again", "margin", "within", "interval", "says"];
    print::table(&header, &[2, 3, 4, 6], verdict.scores.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_names_what_differs_and_where() {
        let comparison: Comparison = serde_json::from_value(json!({
            "original": "20260101-000000-000000", "again": "20260102-000000-000000", "seed": 1,
            "environment": [{ "name": "threads", "original": "2", "again": "1" }],
            "stages": [
                { "name": "corpus train", "kind": "corpus/1", "key": format!("stage:{:064}", 1), "scores": [], "difference": null,
                  "original": format!("output:{:064}", 1), "again": format!("output:{:064}", 1) },
                { "name": "pretrain iteration 1", "kind": "pretrain/2", "key": format!("stage:{:064}", 2), "scores": [],
                  "original": format!("output:2{:063}", 2), "again": format!("output:3{:063}", 3),
                  "difference": { "origin": { "environment": [{ "name": "threads", "original": "2", "again": "1" }] },
                      "parts-at": { "step": 3, "metric": "loss", "original": 2.5, "again": 2.5000001 } } },
                { "name": "finetune", "kind": "finetune/2", "key": format!("stage:{:064}", 3), "scores": [],
                  "original": format!("output:4{:063}", 4), "again": null,
                  "difference": { "origin": "unexplained", "parts-at": null } },
            ],
        }))
        .unwrap();
        insta::assert_snapshot!(details(&comparison).unwrap());
    }

    #[test]
    fn scores_stand_beside_their_margins() {
        let verdict: Verdict = serde_json::from_value(json!({
            "grade": "different", "because": "…", "scores": [
                { "stage": "decode test", "metric": "wer", "original": 0.3, "again": 0.302, "margin": 0.005, "within": true,
                  "interval": null, "says": null },
                { "stage": "decode test", "metric": "cer", "original": 0.1, "again": 0.4, "margin": 0.005, "within": false,
                  "interval": [0.05, 0.15], "says": "different" },
            ],
        }))
        .unwrap();
        insta::assert_snapshot!(scores_table(&verdict));
    }
}
