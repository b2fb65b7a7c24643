//! How long `reprise diff` takes for two runs with 200 settings that differ and as many logged points each as a size says, from its start to its end.
//!
//! `cargo bench -p reprise --bench diff`

use std::collections::BTreeMap;
use std::path::Path;

use reprise::provenance::Provenance;
use reprise::store::Store;
use reprise_spec::canon::Canon;
use reprise_spec::recognition::Recognised;
use reprise_spec::stage::Stage;

#[path = "../../tests/planted.rs"]
mod planted;
mod program;
mod versus;

use planted::{Output, Wanted};
use program::Program;
use versus::{Bound, Growth, Record, Value};

const SETTINGS: i128 = 200;
/// Of each run, in two iterations of pretraining with five metrics each; the target is of the third.
const POINTS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const UTTERANCES: usize = 500;
const TIMES: usize = 15;

fn main() {
    let mut record = Record::new(1);
    let what = format!("diff of {SETTINGS} settings and the logs of two runs");
    let mut growth = Growth { what: what.clone(), size: "points of each run".into(), points: Vec::new() };
    for points in POINTS {
        let folder = tempfile::tempdir().expect("a folder");
        plant(&Store::at(folder.path().join("store")), points);
        let forms: &[&str] = if points == POINTS[2] { &["--markdown", "--json", ""] } else { &[""] };
        for form in forms {
            let runs = ["diff", "20260101-000000-a", "20260101-000000-b", "--store", "store", form];
            let diff = of(folder.path(), &runs).measure(TIMES);
            let milliseconds = diff["seconds"] * 1e3;
            println!("{what}, {points} points {form}: {milliseconds:.1} ms");
            if points == POINTS[2] {
                let what = format!("{what}, {points} points {form}").trim_end().to_owned();
                let (unit, bound, peer) = ("ms".into(), Bound::AtMost(100.0), String::new());
                record.values.push(Value { what, unit, measured: milliseconds, bound, peer });
            }
            if form.is_empty() {
                growth.points.push(diff.into_iter().chain([("size".to_owned(), points as f64)]).collect());
            }
        }
    }
    record.growth.push(growth);
    record.keep("diff");
}

fn of(folder: &Path, arguments: &[&str]) -> Program {
    let given: Vec<&str> = arguments.iter().copied().filter(|argument| !argument.is_empty()).collect();
    Program::new(folder, &given).ends_with(1)
}

/// Two runs that differ in every setting and slightly in every number.
fn plant(store: &Store, points: u64) {
    let experiment = planted::experiment(serde_json::json!({}));
    for (run, id) in ["aaaaaa", "bbbbbb"].into_iter().enumerate() {
        let settings = (0..SETTINGS).map(|n| (format!("setting-{n:03}"), Canon::Int(n + run as i128)));
        planted::plant(
            store,
            &Wanted {
                id,
                experiment: &experiment,
                seed: 1 + run as u64,
                content: &|_| 0,
                output: &|_, stage| output(stage, run, points),
                settings: settings.collect::<BTreeMap<_, _>>(),
                provenance: Provenance::default(),
            },
        );
    }
}

fn output(stage: &Stage, run: usize, points: u64) -> Output {
    match stage {
        Stage::Pretrain(_) => {
            let metrics = ["loss", "masked-accuracy", "gradient-norm", "learning-rate", "code-perplexity"];
            let steps = points / 2 / metrics.len() as u64;
            let value = |step: u64, metric: usize| (step as f64).ln_1p() * (1 + metric) as f64 + run as f64 * 1e-6;
            let point =
                |step| metrics.iter().enumerate().map(move |(at, name)| ((*name).to_owned(), step, value(step, at)));
            let log = (0..steps).flat_map(point).collect();
            Output { digest: 1 + run as u8, log, ..Output::default() }
        }
        Stage::Decode(_) => {
            let row = |index: usize| Recognised {
                id: format!("u{index:04}"),
                speaker: "s".into(),
                reference: "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT".into(),
                hypothesis: format!("ONE TWO THREE FOUR FIVE SIX SEVEN {}", index * run),
                alignment: "CCCCCCCS".parse().expect("an alignment"),
            };
            let rows: Vec<Recognised> = (0..UTTERANCES).map(row).collect();
            let files = vec![("hypotheses.tsv", Recognised::table(&rows))];
            Output { digest: 1 + run as u8, files, summary: vec![planted::score("wer", 0.125)], ..Output::default() }
        }
        _ => Output { digest: 1, ..Output::default() },
    }
}
