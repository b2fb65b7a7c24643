//! The program `reprise` and its store, beside MLflow and DVC: how long commands take with thousands of runs, and how fast numbers are recorded.
//!
//! `cargo bench -p reprise --bench harness [start] [list] [growth] [record] [append] [noop] [report]`

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reprise_spec::contract;

#[path = "../../tests/planted.rs"]
mod planted;
#[path = "../../tests/planted_study.rs"]
#[allow(dead_code)]
mod planted_study;

mod listing;
mod program;
mod recording;
mod versus;

use program::Program;
use versus::{Bound, Growth, Measured, Peer, Record, Value, compare, median};

/// Runs that MLflow is asked for: making more through its client takes minutes.
const MLFLOW_RUNS: usize = 2_000;
const MLFLOW: &str = "harness/benches/peers/tracking.py";
const PROGRAM: &str = "harness/benches/peers/program.py";
const TIMES: usize = 15;
/// How long files must have been left alone before an index keeps what they say.
const SETTLED: Duration = Duration::from_secs(4);

/// The scalars of one logged step.
const NAMES: [&str; 8] =
    ["loss", "masked-accuracy", "mask-fraction", "penalty", "gradient-norm", "learning-rate", "epoch", "audio-seconds"];

fn main() {
    type Part = (&'static str, fn(&mut Record));
    let parts: [Part; 7] = [
        ("start", start),
        ("append", recording::append),
        ("record", recording::recording),
        ("noop", noop),
        ("report", report),
        ("list", listing::list),
        ("growth", listing::growth),
    ];
    for (name, part) in parts.into_iter().filter(|(name, _)| versus::wanted(name)) {
        let mut record = Record::new(1);
        part(&mut record);
        record.keep(&format!("harness-{name}"));
    }
}

fn value(record: &mut Record, what: &str, unit: &str, measured: f64, bound: Bound, peer: &str) {
    println!("{what}: {measured:.3} {unit} (wanted {bound:?}; {peer})");
    let (what, unit, peer) = (what.into(), unit.into(), peer.into());
    record.values.push(Value { what, unit, measured, bound, peer });
}

fn start(record: &mut Record) {
    let temp = tempfile::tempdir().expect("a folder");
    let version = Program::new(temp.path(), &["--version"]);
    let empty = Program::new(temp.path(), &["list"]);
    let mut dvc = Peer::start(PROGRAM, &["dvc", "dvc", "--version"], 1);
    record.comparisons.push(compare("start, `--version`", "dvc", 0.0, 7, &mut dvc, || version.start()));
    let mut mlflow = Peer::start(PROGRAM, &["mlflow", "mlflow", "--version"], 1);
    record.comparisons.push(compare("start, `--version`", "mlflow", 0.0, 3, &mut mlflow, || version.start()));
    let peers = record
        .comparisons
        .iter()
        .map(|found| (&found.peer, median(&found.theirs, "seconds"), found.theirs[0].get("peak-mib")));
    let peers: Vec<String> = peers
        .map(|(name, seconds, peak)| {
            format!("{name} {:.0} ms, {:.0} MiB", seconds * 1e3, peak.copied().unwrap_or(f64::NAN))
        })
        .collect();
    let peers = peers.join("; ");
    for (what, program) in [("start of `--version`", version), ("`list` of an empty store", empty)] {
        value(record, what, "ms", program.median_ms(40), Bound::AtMost(10.0), &peers);
        if let Some(peak) = program.peak_mib() {
            value(record, &format!("{what}, resident memory"), "MiB", peak, Bound::AtMost(15.0), &peers);
        }
    }
}

/// A whole run of an experiment with a trainer that only answers, and then the same command again.
fn noop(record: &mut Record) {
    let temp = tempfile::tempdir().expect("a folder");
    let at = |name: &str| temp.path().join(name);
    for split in ["train", "dev", "test"] {
        fs::create_dir_all(at("corpora/small").join(split)).expect("a folder");
        for number in 0..50 {
            let (audio, text) = (format!("{number}.flac"), format!("{number}.trans.txt"));
            fs::write(at("corpora/small").join(split).join(audio), format!("{split} {number}")).expect("a file");
            fs::write(at("corpora/small").join(split).join(text), format!("{number} HELLO\n")).expect("a file");
        }
    }
    fs::write(at("reprise.toml"), "data = [\"corpora\"]\n").expect("a file");
    fs::write(at("shortest.yaml"), include_str!("../../tests/fixtures/experiments/shortest.yaml")).expect("a file");
    let script = format!(
        "#!/bin/sh\necho '{{\"hello\":{{\"contract\":{},\"build\":\"{}\",\"environment\":{{}}}}}}'\n\
         grep '\"key\"' \"$1\" | head -1 > \"$(dirname \"$1\")/out/result.tsv\"\n\
         echo '{{\"done\":{{\"summary\":[{{\"name\":\"wer\",\"value\":0.5,\"interval\":null}}]}}}}'\n",
        contract::VERSION,
        reprise::provenance::BUILD,
    );
    fs::write(at("trainer"), script).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(at("trainer"), mode).expect("a file of ours");
    let trainer = at("trainer");
    let run =
        Program::new(temp.path(), &["run", "shortest.yaml"]).with("REPRISE_TRAINER", trainer.to_str().expect("UTF-8"));
    std::thread::sleep(SETTLED);
    run.start();
    let mut dvc = Peer::start(PROGRAM, &["dvc", "dvc", "repro"], 1);
    record.comparisons.push(compare("nothing to do", "dvc repro", 0.0, 5, &mut dvc, || run.start()));
    let theirs = record.comparisons.last().map(|found| median(&found.theirs, "seconds") * 1e3).unwrap_or_default();
    value(
        record,
        "nothing to do",
        "ms",
        run.median_ms(TIMES),
        Bound::AtMost(20.0),
        &format!("dvc repro {theirs:.0} ms"),
    );
}

fn report(record: &mut Record) {
    for seeds in [10, 100, 400] {
        let temp = tempfile::tempdir().expect("a folder");
        let text = include_str!("../../tests/fixtures/experiments/shortest.yaml");
        let all = (1..=seeds).map(|seed: u64| seed.to_string()).collect::<Vec<_>>().join(", ");
        let text = text.replace("seeds: [1]", &format!("seeds: [{all}]")).replace("steps: 3", "steps: 2000");
        let planting = planted_study::Planting { curves: 19, ..planted_study::Planting::default() };
        planting.plant(&planted_study::experiment(&text), &temp.path().join("store"));
        fs::write(temp.path().join("many.yaml"), text).expect("a file");
        let report = Program::new(temp.path(), &["report", "many.yaml", "--store", "store", "--out", "out"]);
        let measured = report.measure(5);
        if seeds == 100 {
            let size = fs::metadata(temp.path().join("out/report.html")).expect("a page").len() as f64 / 1e6;
            value(record, "report of 100 runs with 20 curves each", "s", measured["seconds"], Bound::AtMost(1.0), "");
            value(record, "report of 100 runs with 20 curves each, its page", "MB", size, Bound::AtMost(2.0), "");
        }
        grew(record, "report", "runs of 20 curves", seeds as f64, measured);
    }
}

fn grew(record: &mut Record, what: &str, size: &str, of: f64, mut point: Measured) {
    println!("{what} of {of} {size}: {point:?}");
    point.insert("size".into(), of);
    match record.growth.iter_mut().find(|growth| growth.what == what) {
        Some(growth) => growth.points.push(point),
        None => record.growth.push(Growth { what: what.into(), size: size.into(), points: vec![point] }),
    }
}

/// Where MLflow's runs are kept for the next time.
fn mlflow_folder() -> PathBuf {
    versus::root().join("target/benchmarks/peers")
}
