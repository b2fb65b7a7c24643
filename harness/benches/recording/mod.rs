//! How fast numbers are recorded, and what a run of 55 scalars costs: time, files and bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reprise::bundle::experiment::joined;
use reprise::lease::{self, Claim, Owner, Watch};
use reprise::plan::{Contents, Plan, RunOf};
use reprise::provenance::Provenance;
use reprise::store::{
    Attempt, Manifest, ManifestInput, Means, Recipe, RunRecord, StageRecord, StageState, Status, Store, files,
    manifest, run,
};
use reprise_spec::contract::Score;
use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{ContentDigest, OutputDigest};
use reprise_spec::metrics::Encoder;

use super::versus::{Bound, Measured, Peer, Record, compare, median, timed};
use super::{MLFLOW, MLFLOW_RUNS, NAMES, TIMES, mlflow_folder, planted_study, value};

pub fn append(record: &mut Record) {
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
    record.comparisons.push(compare("1,000 single metrics", "mlflow in SQLite", 0.0, 5, &mut mlflow, ours));
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

/// The experiment that the run is of, as somebody wrote it.
const EXPERIMENT: &str = "\
version: 1
name: toy
question: Does it differ?
corpus:
  name: toy
  pretrain: [train]
  finetune: [train]
  validate: [dev]
  test: [test]
strategy: scratch
seeds: [1]
";

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
        let experiment = planted_study::experiment(EXPERIMENT);
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
        let digest = OutputDigest([7; 32]);
        let read = node.inputs.iter().map(|edge| ManifestInput {
            role: edge.role.clone(),
            key: self.plan.nodes[edge.node].key.expect("a key"),
            digest,
        });
        let inputs: Vec<ManifestInput> = read.collect();
        let text = joined([("/experiments/toy.yaml", EXPERIMENT)]);
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
            let (mut record, lock) = store.create_run(&text, &canonical, &self.recipe, made).expect("a run");
            let folder = store.stage_folder(&key);
            let Claim::Taken(lease) = lease::claim(&folder, &mut Watch::default()).expect("a lease") else {
                panic!("nobody else works here")
            };
            let work = lease.work();
            let mut encoder = Encoder::default();
            let log: Vec<u8> = (0..55).flat_map(|n| encoder.point(NAMES[n % 8], n as u64 / 8, n as f64)).collect();
            fs::create_dir_all(work.join("out")).expect("a folder");
            fs::write(work.join("metrics.log"), log).expect("room");
            let manifest = Manifest {
                format: manifest::FORMAT,
                key,
                kind: stage.kind().into(),
                canonical: hex::encode(stage.canonical()),
                settings: stage.clone(),
                seed: Some(seed),
                inputs: inputs.clone(),
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
            manifest.write(&work).expect("room");
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

pub fn recording(record: &mut Record) {
    let temp = tempfile::tempdir().expect("a folder");
    let mut recorded = Recorded::new(&temp.path().join("store"));
    let mut mlflow =
        Peer::start(MLFLOW, &[mlflow_folder().to_str().expect("UTF-8"), &MLFLOW_RUNS.to_string(), "run"], 1);
    let what = "create, record and finish a run of 55 scalars";
    record.comparisons.push(compare(what, "mlflow in SQLite", 0.0, TIMES, &mut mlflow, || recorded.one_more()));
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
