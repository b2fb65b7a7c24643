//! How long `reprise diff` takes for two runs with 200 settings that differ and 100,000 logged points each, from its start to its end.
//!
//! `cargo bench -p reprise --bench diff` prints the median of 30 runs of the program, which it builds with the profile `bench`.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reprise::provenance::Provenance;
use reprise::store::Store;
use reprise_spec::canon::Canon;
use reprise_spec::recognition::Recognised;
use reprise_spec::stage::Stage;

#[path = "../../tests/planted.rs"]
mod planted;

use planted::{Output, Wanted};

const SETTINGS: i128 = 200;
/// Of each run: two iterations of pretraining with five metrics each.
const POINTS: u64 = 100_000;
const UTTERANCES: usize = 500;
const TIMES: usize = 30;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::at(folder.path());
    let experiment = planted::experiment(serde_json::json!({}));
    for (run, id) in ["aaaaaa", "bbbbbb"].into_iter().enumerate() {
        let settings = (0..SETTINGS).map(|n| (format!("setting-{n:03}"), Canon::Int(n + run as i128)));
        planted::plant(
            &store,
            &Wanted {
                id,
                experiment: &experiment,
                seed: 1 + run as u64,
                content: &|_| 0,
                output: &|_, stage| output(stage, run),
                settings: settings.collect::<BTreeMap<_, _>>(),
                provenance: Provenance::default(),
            },
        );
    }
    for form in ["terminal", "--markdown", "--json"] {
        let mut times: Vec<Duration> = (0..TIMES).map(|_| time(&store, form)).collect();
        times.sort();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "diff of {SETTINGS} settings and {POINTS} points a run, {form}: median {:.1} ms, {:.1} to {:.1} ms over {TIMES} runs",
            milliseconds(times[TIMES / 2]),
            milliseconds(times[0]),
            milliseconds(times[TIMES - 1]),
        );
    }
}

fn time(store: &Store, form: &str) -> Duration {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reprise"));
    command.args(["diff", "20260101-000000-a", "20260101-000000-b", "--store"]).arg(store.root());
    command.args(Some(form).filter(|form| form.starts_with("--")));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let clock = Instant::now();
    let status = command.status().expect("reprise starts");
    let took = clock.elapsed();
    assert_eq!(status.code(), Some(1), "two runs that differ");
    took
}

fn output(stage: &Stage, run: usize) -> Output {
    match stage {
        Stage::Pretrain(_) => {
            let metrics = ["loss", "masked-accuracy", "gradient-norm", "learning-rate", "code-perplexity"];
            let steps = POINTS / 2 / metrics.len() as u64;
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
