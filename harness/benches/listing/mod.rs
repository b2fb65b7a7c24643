//! Thousands of runs: how long it takes to list, sort and export them, and how commands grow with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use reprise::provenance::Provenance;
use reprise::store::{Store, run};
use reprise_spec::stage::Stage;
use serde_json::json;

use super::planted::{self, Output, Wanted};
use super::program::Program;
use super::versus::{Bound, Measured, Peer, Record, compare, median};
use super::{MLFLOW, MLFLOW_RUNS, NAMES, SETTLED, TIMES, grew, mlflow_folder, value};

pub fn list(record: &mut Record) {
    let theirs: Vec<f64> = {
        let temp = tempfile::tempdir().expect("a folder");
        let store = plant(&temp.path().join("store"), MLFLOW_RUNS, true);
        let folder = mlflow_folder();
        let works = [("first", &["list", "-n", "1000"][..]), ("top", &TOP), ("export", &["list", "--csv"])];
        for (work, arguments) in works {
            let ours = of_store(&store, arguments);
            ours.start();
            let mut mlflow = Peer::start(MLFLOW, &[folder.to_str().expect("UTF-8"), &MLFLOW_RUNS.to_string(), work], 1);
            let what = format!("{work} of {MLFLOW_RUNS} runs");
            record.comparisons.push(compare(&what, "mlflow in SQLite", 0.0, 5, &mut mlflow, || ours.start()));
        }
        let last = record.comparisons.len() - 3..;
        record.comparisons[last].iter().map(|found| median(&found.theirs, "seconds") * 1e3).collect()
    };
    let temp = tempfile::tempdir().expect("a folder");
    let store = plant(&temp.path().join("store"), 10_000, true);
    let peer = |place: usize| format!("mlflow {:.0} ms for {MLFLOW_RUNS} runs, without its start", theirs[place]);
    let index = store.root().join("index");
    let again = |program: &Program| {
        let _ = fs::remove_dir_all(&index);
        program.start()
    };
    let export = of_store(&store, &["list", "--csv"]);
    let rebuilt: Vec<Measured> = (0..3).map(|_| again(&export)).collect();
    value(record, "index made anew of 10,000 runs", "s", median(&rebuilt, "seconds"), Bound::AtMost(3.0), "");
    value(record, "export of 10,000 runs to a table", "s", export.median_ms(5) / 1e3, Bound::AtMost(1.0), &peer(2));
    let first = of_store(&store, &["list", "-n", "1000"]);
    value(record, "first 1,000 of 10,000 runs, warm", "ms", first.median_ms(TIMES), Bound::AtMost(30.0), &peer(0));
    let top = of_store(&store, &TOP);
    value(record, "top 100 of 10,000 runs by a metric", "ms", top.median_ms(TIMES), Bound::AtMost(50.0), &peer(1));
    let cold: Option<Vec<Measured>> = (0..3).map(|_| forget_files().then(|| first.start())).collect();
    if let Some(cold) = cold {
        let cold = median(&cold, "seconds") * 1e3;
        value(
            record,
            "first 1,000 of 10,000 runs, nothing of the disk in memory",
            "ms",
            cold,
            Bound::AtMost(150.0),
            &peer(0),
        );
    }
}

const TOP: [&str; 5] = ["list", "--sort", "decode test/wer", "-n", "100"];

pub fn growth(record: &mut Record) {
    for count in [10, 1_000, 10_000, 100_000] {
        let temp = tempfile::tempdir().expect("a folder");
        let store = plant(&temp.path().join("store"), count, false);
        let times = if count == 100_000 { 3 } else { 7 };
        let size = "runs in the store";
        for (what, arguments) in
            [("list", &["list"][..]), ("list -n 1000", &["list", "-n", "1000"]), ("list --sort", &TOP)]
        {
            grew(record, what, size, count as f64, of_store(&store, arguments).measure(times));
        }
        let diff = of_store(&store, &["diff", "20260101-000000-000000", "20260101-000000-000001"]).ends_with(1);
        grew(record, "diff of two runs", size, count as f64, diff.measure(times));
        let one = of_store(&store, &["report", "20260101-000000-000000", "--out", "report"]);
        grew(record, "report of a run", size, count as f64, one.measure(times));
    }
}

fn of_store(store: &Store, arguments: &[&str]) -> Program {
    let all: Vec<&str> = arguments.iter().copied().chain(["--store", "store"]).collect();
    Program::new(store.root().parent().expect("a folder"), &all)
}

/// A store of so many finished runs, whose files were left alone for long enough to be remembered. Each has outputs of its own, or all but the first
/// two share those of the second.
fn plant(root: &Path, count: usize, outputs: bool) -> Store {
    let store = Store::at(root);
    store.prepare().expect("a store");
    let experiment = planted::experiment(json!({ "strategy": "scratch" }));
    let mut last = None;
    for number in 0..count {
        let id = format!("{number:06x}");
        let output = |_: &str, stage: &Stage| output(stage, number);
        if outputs || number < 2 {
            let wanted = Wanted {
                id: &id,
                experiment: &experiment,
                seed: number as u64,
                content: &|_| 0,
                output: &output,
                settings: BTreeMap::new(),
                provenance: Provenance::default(),
            };
            last = Some(planted::plant(&store, &wanted));
        } else if let Some(record) = &mut last {
            record.id = format!("20260101-000000-{id}").try_into().expect("an id");
            record.seed = number as u64;
            let folder = store.run_folder(&record.id);
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(run::FILE), serde_json::to_vec_pretty(record).expect("JSON")).expect("a file");
        }
    }
    std::thread::sleep(SETTLED);
    store
}

fn output(stage: &Stage, number: usize) -> Output {
    let number = number as f64;
    match stage {
        Stage::Finetune(_) => {
            let log = (0..55).map(|n| (NAMES[n % 8].to_owned(), n as u64 / 8, number + n as f64)).collect();
            let scores = ["validation-wer", "validation-loss"].map(|name| planted::score(name, number)).into();
            Output { digest: 1, log, summary: scores, ..Output::default() }
        }
        Stage::Decode(_) => {
            let scores = ["wer", "cer", "ser", "empty-hypotheses", "utterances"];
            let scores = scores.map(|name| planted::score(name, (number * 0.37).fract())).into();
            Output { digest: 1, summary: scores, ..Output::default() }
        }
        _ => Output { digest: 1, ..Output::default() },
    }
}

/// Lets the system forget what it has read of the disk; false where this user may not.
fn forget_files() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
