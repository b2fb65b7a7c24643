//! The program `reprise` and its store, beside MLflow and DVC: how long commands take with thousands of runs, and how fast numbers are recorded.
//!
//! `cargo bench -p reprise --bench harness [start] [list] [growth] [record] [append] [noop] [report]`

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reprise::lease::{self, Claim, Owner, Watch};
use reprise::plan::{Contents, Plan, RunOf};
use reprise::provenance::Provenance;
use reprise::store::{
    Attempt, Manifest, Means, Recipe, RunRecord, StageRecord, StageState, Status, Store, files, manifest, run,
};
use reprise_spec::contract::{self, Score};
use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{ContentDigest, OutputDigest};
use reprise_spec::metrics::Encoder;
use reprise_spec::stage::Stage;
use serde_json::json;

#[path = "../../tests/planted.rs"]
mod planted;
#[path = "../../tests/planted_study.rs"]
#[allow(dead_code)]
mod planted_study;
mod program;
mod versus;

use planted::{Output, Wanted};
use program::Program;
use versus::{Bound, Growth, Measured, Peer, Record, Value, compare, median, timed};

/// Runs that MLflow is asked for: making more through its client takes minutes.
const MLFLOW_RUNS: usize = 2_000;
const MLFLOW: &str = "harness/benches/peers/tracking.py";
const PROGRAM: &str = "harness/benches/peers/program.py";
const TIMES: usize = 15;
/// How long files must have been left alone before an index keeps what they say.
const SETTLED: Duration = Duration::from_secs(4);

fn main() {
    type Part = (&'static str, fn(&mut Record));
    let parts: [Part; 7] = [
        ("start", start),
        ("append", append),
        ("record", recording),
        ("noop", noop),
        ("report", report),
        ("list", list),
        ("growth", growth),
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
    record.comparisons.push(compare("start, `--version`", "dvc", 10.0, 7, &mut dvc, || version.start()));
    let mut mlflow = Peer::start(PROGRAM, &["mlflow", "mlflow", "--version"], 1);
    record.comparisons.push(compare("start, `--version`", "mlflow", 10.0, 3, &mut mlflow, || version.start()));
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

/// The scalars of one logged step.
const NAMES: [&str; 8] =
    ["loss", "masked-accuracy", "mask-fraction", "penalty", "gradient-norm", "learning-rate", "epoch", "audio-seconds"];

fn append(record: &mut Record) {
    const POINTS: u64 = 4_000_000;
    /// As the trainer does: what waits is written every second, or here when a buffer of that size is full.
    const BUFFER: usize = 1 << 20;
    let temp = tempfile::tempdir().expect("a folder");
    let mut mlflow = Peer::start(MLFLOW, &[mlflow_folder().to_str().expect("UTF-8"), "0", "log"], 1);
    let path = temp.path().join("metrics.log");
    let ours = || {
        let (mut encoder, mut log) = (Encoder::default(), fs::File::create(&path).expect("a file"));
        let mut pending = Vec::new();
        let ((), measured) = timed(|| {
            for step in 0..1000 {
                encoder.append(&mut pending, "loss", step, 1.0 / (step + 1) as f64);
            }
            log.write_all(&pending).expect("room");
        });
        measured
    };
    record.comparisons.push(compare("1,000 single metrics", "mlflow in SQLite", 10.0, 5, &mut mlflow, ours));
    let theirs = record.comparisons.last().map(|found| 1000.0 / median(&found.theirs, "seconds")).unwrap_or_default();
    let peer = format!("mlflow {theirs:.0} a second");

    // Not durable: batches of 64 records are timed one by one.
    let (mut encoder, mut log) = (Encoder::default(), fs::File::create(&path).expect("a file"));
    let (mut pending, mut batches) = (Vec::new(), Vec::with_capacity((POINTS / 64) as usize));
    let start = Instant::now();
    for batch in 0..POINTS / 64 {
        let clock = Instant::now();
        for point in batch * 64..(batch + 1) * 64 {
            encoder.append(&mut pending, NAMES[point as usize % NAMES.len()], point / 8, point as f64);
        }
        if pending.len() >= BUFFER {
            log.write_all(&pending).expect("room");
            pending.clear();
        }
        batches.push(clock.elapsed().as_secs_f64() / 64.0 * 1e6);
    }
    log.write_all(&pending).expect("room");
    let seconds = start.elapsed().as_secs_f64();
    batches.sort_by(f64::total_cmp);
    let microseconds = batches[batches.len() / 2];
    value(record, "metric append, not durable", "records/s", POINTS as f64 / seconds, Bound::AtLeast(1e6), &peer);
    value(record, "metric append, median on the training thread", "µs", microseconds, Bound::AtMost(1.0), &peer);
    // The trainer logs eight numbers every tenth step.
    let a_step = microseconds * NAMES.len() as f64 / 10.0;
    let what = "recording, on the training thread a step (0.1 % of a step of 1 ms)";
    value(record, what, "µs", a_step, Bound::AtMost(1.0), "");
    let bytes = fs::metadata(&path).expect("a file").len() as f64 / POINTS as f64;
    value(record, "bytes a scalar record, checksum included", "bytes", bytes, Bound::AtMost(24.01), "");

    // Durable: flushed every 100 ms, so that no more than 100 ms and one flush are lost with the power.
    let mut log = fs::File::create(&path).expect("a file");
    let (mut encoder, mut points, mut flushes) = (Encoder::default(), 0u64, Vec::new());
    let start = Instant::now();
    let mut flushed = start;
    pending.clear();
    while start.elapsed() < Duration::from_secs(5) {
        for _ in 0..64 {
            encoder.append(&mut pending, NAMES[points as usize % NAMES.len()], points / 8, points as f64);
            points += 1;
        }
        if flushed.elapsed() >= Duration::from_millis(100) {
            let clock = Instant::now();
            log.write_all(&pending).and_then(|()| log.sync_data()).expect("room");
            pending.clear();
            flushes.push(Measured::from([("seconds".into(), clock.elapsed().as_secs_f64())]));
            flushed = Instant::now();
        }
    }
    let rate = points as f64 / start.elapsed().as_secs_f64();
    let note = format!("a flush took {:.1} ms in the median; {peer}", median(&flushes, "seconds") * 1e3);
    value(record, "metric append, flushed to disk every 100 ms", "records/s", rate, Bound::AtLeast(5e4), &note);
}

/// One run of 55 scalars made by the store's own means: created, a stage with its log and scores stored, finished.
struct Recorded {
    store: Store,
    recipe: Recipe,
    experiment: Experiment,
    plan: Plan,
    seed: u64,
}

impl Recorded {
    fn new(root: &Path) -> Self {
        let store = Store::at(root);
        store.prepare().expect("a store");
        let experiment = planted::experiment(json!({ "strategy": "scratch" }));
        let plan = plan_of(&experiment, 0);
        Self { store, recipe: Recipe::new(experiment.clone(), Path::new("toy.yaml"), None), experiment, plan, seed: 0 }
    }

    /// Makes one more run, and says what it left in the store and how long that took.
    fn one_more(&mut self) -> Measured {
        self.seed += 1;
        let (experiment, seed) = (&self.experiment, self.seed);
        self.plan = plan_of(experiment, seed);
        let node = self.plan.nodes.iter().find(|node| node.kind.starts_with("finetune")).expect("a training");
        let (key, stage) = (node.key.expect("a key"), node.stage.clone().expect("settings"));
        let (canonical, variant) = (experiment.meaning().to_bytes(), experiment.variants[0].setting.hash());
        let name = node.runs[0].name.clone();
        let pending = StageRecord { name, kind: node.kind.into(), point: None, key, state: StageState::Pending };
        let attempt = || Attempt {
            owner: Owner::current(),
            means: Some(Means::default()),
            started: Timestamp::now(),
            ended: None,
        };
        let made = |id| RunRecord {
            format: run::FORMAT,
            id,
            experiment: experiment.name.to_string(),
            spec: experiment.spec_hash(),
            variant,
            variant_name: String::new(),
            seed,
            status: Status::Running,
            stages: vec![pending.clone()],
            attempts: vec![attempt()],
            environment: BTreeMap::new(),
            provenance: Provenance::default(),
            error: None,
        };
        let store = &self.store;
        let (id, mut measured) = timed(|| {
            let (mut record, lock) = store.create_run("version: 1\n", &canonical, &self.recipe, made).expect("a run");
            let folder = store.stage_folder(&key);
            let Claim::Taken(lease) = lease::claim(&folder, &mut Watch::default()).expect("a lease") else {
                panic!("nobody else works here")
            };
            let work = lease.work();
            let mut encoder = Encoder::default();
            let log: Vec<u8> = (0..55).flat_map(|n| encoder.point(NAMES[n % 8], n as u64 / 8, n as f64)).collect();
            fs::create_dir_all(work.join("out")).expect("a folder");
            fs::write(work.join("metrics.log"), log).expect("room");
            let digest = OutputDigest([7; 32]);
            let manifest = Manifest {
                format: manifest::FORMAT,
                key,
                kind: stage.kind().into(),
                canonical: hex::encode(stage.canonical()),
                settings: stage.clone(),
                seed: Some(seed),
                inputs: Vec::new(),
                continued: None,
                digest,
                files: Vec::new(),
                summary: ["wer", "cer", "ser"]
                    .map(|name| Score { name: name.into(), value: 0.5, interval: None })
                    .into(),
                environment: BTreeMap::new(),
                build: "bench".into(),
                started: Timestamp::now(),
                finished: Timestamp::now(),
                seconds: 1.0,
                attempts: 1,
            };
            files::sync_tree(&work).expect("room");
            files::write_json(&work.join(manifest::FILE), &manifest).expect("room");
            assert!(lease.commit(&digest.short()).expect("room"));
            record.stages[0].state = StageState::Executed { digest, seconds: 1.0 };
            record.status = Status::Finished;
            record.attempts[0].ended = Some(Timestamp::now());
            store.write_run(&record).expect("room");
            drop(lock);
            record.id
        });
        let (mut count, mut bytes) = (0.0, 0.0);
        for folder in [store.run_folder(&id), store.stage_folder(&key)] {
            walk(&folder, &mut |size| {
                count += 1.0;
                bytes += size as f64;
            });
        }
        measured.extend([("files".to_owned(), count), ("bytes".to_owned(), bytes)]);
        measured
    }
}

fn recording(record: &mut Record) {
    let temp = tempfile::tempdir().expect("a folder");
    let mut recorded = Recorded::new(&temp.path().join("store"));
    let mut mlflow =
        Peer::start(MLFLOW, &[mlflow_folder().to_str().expect("UTF-8"), &MLFLOW_RUNS.to_string(), "run"], 1);
    let what = "create, record and finish a run of 55 scalars";
    record.comparisons.push(compare(what, "mlflow in SQLite", 10.0, TIMES, &mut mlflow, || recorded.one_more()));
    let found = record.comparisons.last().expect("a comparison");
    let (ours, theirs) = (median(&found.ours, "seconds") * 1e3, median(&found.theirs, "seconds") * 1e3);
    let (count, bytes, database) =
        (median(&found.ours, "files"), median(&found.ours, "bytes"), median(&found.theirs, "bytes-per-run"));
    let flush = flush_ms(temp.path());
    let peer = format!("mlflow {theirs:.1} ms; one flush of this disk takes {flush:.1} ms");
    value(record, "create, record and finish a run of 55 scalars, durable", "ms", ours, Bound::AtMost(5.0), &peer);
    value(record, "files of a run of 55 scalars", "files", count, Bound::AtMost(12.0), "mlflow's file store 57");
    let peer = format!("mlflow {:.1} KiB", database / 1024.0);
    value(record, "bytes of a run of 55 scalars", "KiB", bytes / 1024.0, Bound::AtMost(8.0), &peer);
}

/// The median time that a small write takes to reach the disk.
fn flush_ms(folder: &Path) -> f64 {
    let mut file = fs::File::create(folder.join("flushed")).expect("a file");
    let flushes: Vec<Measured> =
        (0..40).map(|_| timed(|| file.write_all(&[1; 512]).and_then(|()| file.sync_data()).expect("room")).1).collect();
    median(&flushes, "seconds") * 1e3
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
    record.comparisons.push(compare("nothing to do", "dvc repro", 10.0, 5, &mut dvc, || run.start()));
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

fn list(record: &mut Record) {
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
            record.comparisons.push(compare(&what, "mlflow in SQLite", 10.0, 5, &mut mlflow, || ours.start()));
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

fn growth(record: &mut Record) {
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

fn plan_of(experiment: &Experiment, seed: u64) -> Plan {
    let splits = ["train", "dev", "test"].map(|split| {
        let split = split.to_owned().try_into().expect("a split");
        ((split, reprise::plan::Part::Utterances), ContentDigest([0; 32]))
    });
    let contents = Contents { splits: splits.into(), ..Contents::default() };
    let plan = Plan::of(&experiment.variants[0].setting, seed, &contents).expect("a plan");
    assert!(!plan.run(RunOf { variant: 0, seed }).is_empty());
    plan
}

fn walk(folder: &Path, file: &mut dyn FnMut(u64)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), file),
            _ => file(entry.metadata().map_or(0, |meta| meta.len())),
        }
    }
}

/// Lets the system forget what it has read of the disk; false where this user may not.
fn forget_files() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Where MLflow's runs are kept for the next time.
fn mlflow_folder() -> PathBuf {
    versus::root().join("target/benchmarks/peers")
}
