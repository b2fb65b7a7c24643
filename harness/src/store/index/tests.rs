use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use reprise_spec::contract::Score;
use reprise_spec::identity::{OutputDigest, SpecHash, StageKey, VariantHash};
use serde_json::json;

use super::*;
use crate::lease::Owner;
use crate::measures::Address;
use crate::provenance::Provenance;
use crate::store::{
    Attempt, Belief, Manifest, RunRecord, Seen, StageRecord, StageState, Status, Summarised, manifest, run,
};

/// Enough runs for an index to be worth its writing.
const RUNS: u8 = WORTH as u8 + 6;

/// A store of runs that ended long ago, each with an output of its own whose error rate is its number.
struct Planted {
    _temp: tempfile::TempDir,
    store: Store,
}

fn id(number: u8) -> String {
    format!("20260101-000000-0000{number:02x}")
}

fn address() -> Address {
    Address::new("decode test", "wer")
}

fn record(number: u8, status: Status) -> RunRecord {
    let attempt = Attempt { owner: Owner::current(), means: None, started: jiff::Timestamp::UNIX_EPOCH, ended: None };
    RunRecord {
        format: run::FORMAT,
        id: id(number).try_into().unwrap(),
        experiment: "toy".into(),
        spec: SpecHash([1; 32]),
        variant: VariantHash([2; 32]),
        variant_name: format!("v{}", number % 3),
        seed: number.into(),
        status,
        stages: vec![StageRecord {
            name: address().stage,
            kind: "decode/1".into(),
            point: None,
            key: StageKey([number; 32]),
            state: StageState::Executed { digest: OutputDigest([number; 32]), seconds: 1.0 },
        }],
        attempts: vec![attempt],
        environment: Default::default(),
        provenance: Provenance { build: "test".into(), ..Provenance::default() },
        error: None,
    }
}

impl Planted {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::at(temp.path().join("store"));
        store.prepare().unwrap();
        let planted = Self { _temp: temp, store };
        for number in 0..RUNS {
            planted.write(&record(number, Status::Finished));
            planted.score(number, f64::from(number));
        }
        planted.settle();
        planted
    }

    fn write(&self, record: &RunRecord) {
        fs::create_dir_all(self.store.run_folder(&record.id)).unwrap();
        self.store.write_run(record).unwrap();
    }

    fn manifest(&self, number: u8) -> PathBuf {
        let folder = self.store.stage_folder(&StageKey([number; 32])).join(OutputDigest([number; 32]).short());
        folder.join(manifest::FILE)
    }

    fn score(&self, number: u8, value: f64) {
        let hash = hex::encode([number; 32]);
        let written = json!({
            "format": 1, "key": format!("stage:{hash}"), "kind": "decode/1", "settings": { "features": { "kind": "mfcc" } },
            "canonical": "00", "seed": null, "inputs": [], "digest": format!("output:{hash}"), "files": [],
            "summary": [], "environment": {}, "build": "", "started": "1970-01-01T00:00:00Z",
            "finished": "1970-01-01T00:00:00Z", "seconds": 0, "attempts": 1
        });
        let mut written: Manifest = serde_json::from_value(written).unwrap();
        written.summary = vec![Score { name: address().metric, value, interval: None }];
        let path = self.manifest(number);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        files::write_json(&path, &written).unwrap();
    }

    /// Waits until what was written counts as left alone.
    fn settle(&self) {
        std::thread::sleep(Duration::from_secs(SETTLED as u64 + 1));
    }

    fn runs(&self) -> Vec<Summarised> {
        self.store.summaries(None).unwrap()
    }

    fn seen(&self, number: u8) -> Option<Seen> {
        self.runs().iter().find(|run| run.id == id(number)).map(Summarised::seen)
    }

    fn wer(&self, number: u8) -> Option<f64> {
        let run: Vec<Summarised> = self.runs().into_iter().filter(|run| run.id == id(number)).collect();
        self.store.numbers(&run, Some(&address()), Belief::Checked).unwrap().get(0, &address())
    }

    fn all_wer(&self) -> Vec<Option<f64>> {
        let runs = self.runs();
        let numbers = self.store.numbers(&runs, None, Belief::Checked).unwrap();
        (0..runs.len()).map(|row| numbers.get(row, &address())).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store.root().join(FOLDER).join(name)
    }

    /// The index, where a listing of everything left one.
    fn indexed(&self) -> [Vec<u8>; 2] {
        self.runs();
        self.all_wer();
        ["runs", "numbers"].map(|name| fs::read(self.file(name)).unwrap())
    }

    /// What an observer without an index sees, and one with it.
    fn check(&self) {
        let with = (self.runs(), self.all_wer());
        let bare = self.store.runs().unwrap();
        let read: Vec<_> = bare.iter().map(|run| run.record.as_ref().map(crate::store::Summary::of)).collect();
        let with_summaries: Vec<_> = with.0.iter().map(|run| run.summary.as_ref()).collect();
        assert_eq!(with_summaries.len(), read.len());
        for (with, read) in with_summaries.iter().zip(&read) {
            match (with, read) {
                (Ok(with), Ok(read)) => assert_eq!(*with, read),
                (with, read) => assert_eq!(with.is_err(), read.is_err()),
            }
        }
        let scores: Vec<Option<f64>> = bare
            .iter()
            .map(|run| {
                crate::measures::of(run.record.as_ref().ok()?, &self.store).get(&address()).map(|found| found.value)
            })
            .collect();
        assert_eq!(with.1, scores);
    }
}

#[test]
fn what_changes_after_an_index_was_written_is_seen_at_once() {
    let planted = Planted::new();
    let before = planted.indexed();
    planted.check();
    assert_eq!(planted.runs().len(), usize::from(RUNS));

    // Added, removed, changed by a rename, changed in place, damaged.
    planted.write(&record(200, Status::Finished));
    planted.score(200, 200.0);
    fs::remove_dir_all(planted.store.run_folder(&id(3).try_into().unwrap())).unwrap();
    planted.write(&record(4, Status::Failed));
    let path = planted.store.run_folder(&id(5).try_into().unwrap()).join(run::FILE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"seed\":5", "\"seed\":7")).unwrap();
    let path = planted.store.run_folder(&id(6).try_into().unwrap()).join(run::FILE);
    fs::write(&path, "{").unwrap();
    planted.score(8, -1.0);
    let text = fs::read_to_string(planted.manifest(9)).unwrap();
    assert!(text.contains("9.0"), "{text}");
    fs::write(planted.manifest(9), text.replace("9.0", "6.0")).unwrap();
    fs::remove_file(planted.manifest(10)).unwrap();
    fs::write(planted.manifest(11), "{").unwrap();

    assert_eq!((planted.seen(200), planted.seen(3)), (Some(Seen::Finished), None));
    assert_eq!((planted.seen(4), planted.seen(6)), (Some(Seen::Failed), Some(Seen::Damaged)));
    assert_eq!(planted.runs().iter().find(|run| run.id == id(5)).unwrap().summary.as_ref().unwrap().seed, 7);
    assert_eq!([200, 8, 9, 10, 11].map(|number| planted.wer(number)), [Some(200.0), Some(-1.0), Some(6.0), None, None]);
    planted.check();
    assert_eq!(planted.indexed(), before, "a few changes aren't worth another index");
}

#[test]
fn an_index_that_is_torn_damaged_or_hostile_counts_as_absent() {
    let planted = Planted::new();
    let before = planted.indexed();
    for (name, bytes) in ["runs", "numbers"].into_iter().zip(&before) {
        for cut in [0, 7, 12, 13, bytes.len() / 2, bytes.len() - 1] {
            fs::write(planted.file(name), &bytes[..cut]).unwrap();
            planted.check();
        }
        for at in [0, 9, 20, bytes.len() / 2, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            fs::write(planted.file(name), bytes).unwrap();
            planted.check();
        }
        // Whole by its checksum, with counts that nothing could hold.
        let mut body = bytes[12..].to_vec();
        body[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        fs::write(planted.file(name), [&bytes[..8], &crc32fast::hash(&body).to_le_bytes(), &body].concat()).unwrap();
        planted.check();
        fs::remove_file(planted.file(name)).unwrap();
        fs::create_dir(planted.file(name)).unwrap();
        planted.check();
        fs::remove_dir(planted.file(name)).unwrap();
    }
    assert_eq!(planted.indexed(), before);
    fs::remove_dir_all(planted.store.root().join(FOLDER)).unwrap();
    fs::write(planted.store.root().join(FOLDER), "not a folder").unwrap();
    planted.check();
}

#[test]
fn a_run_is_kept_only_when_nothing_but_its_record_can_change_it() {
    let planted = Planted::new();
    planted.write(&record(0, Status::Running));
    planted.settle();
    planted.indexed();
    let index = fs::read(planted.file("runs")).unwrap();
    let holds = |id: &str| index.windows(id.len()).any(|window| window == id.as_bytes());
    assert!(holds(&id(1)) && !holds(&id(0)));
    assert_eq!(planted.seen(0), Some(Seen::Running));
}

#[test]
fn what_was_written_a_moment_ago_is_not_kept() {
    let planted = Planted::new();
    for number in 0..RUNS {
        planted.write(&record(number, Status::Finished));
    }
    planted.runs();
    assert!(!planted.file("runs").exists());
}

#[test]
fn a_store_that_no_run_was_executed_in_gets_no_index() {
    let planted = Planted::new();
    fs::remove_file(planted.store.root().join(crate::store::IGNORE)).unwrap();
    planted.check();
    assert!(!planted.store.root().join(FOLDER).exists());
}

#[test]
fn several_listings_at_once_agree() {
    let planted = Planted::new();
    let wanted: Vec<String> = planted.store.runs().unwrap().into_iter().map(|run| run.id).collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert!(planted.runs().iter().map(|run| &run.id).eq(&wanted));
                    assert_eq!(planted.all_wer().iter().flatten().count(), wanted.len());
                    let _ = fs::remove_file(planted.file("runs"));
                }
            });
        }
    });
    planted.check();
    let left = fs::read_dir(planted.store.root().join(FOLDER)).unwrap().flatten();
    assert!(left.map(|entry| entry.file_name()).all(|name| name == "runs" || name == "numbers"));
}

#[test]
fn the_newest_runs_alone_are_read_where_no_more_are_asked_for() {
    let planted = Planted::new();
    let newest = planted.store.summaries(Some(3)).unwrap();
    assert_eq!(newest.iter().map(|run| run.id.clone()).collect::<Vec<_>>(), [RUNS - 1, RUNS - 2, RUNS - 3].map(id));
    assert!(!planted.file("runs").exists());
    planted.indexed();
    assert_eq!(planted.store.summaries(Some(3)).unwrap(), newest);
}

#[test]
fn a_file_with_the_times_of_another_is_told_by_its_size_or_inode() {
    let planted = Planted::new();
    planted.indexed();
    let path = planted.store.run_folder(&id(5).try_into().unwrap()).join(run::FILE);
    let modified: SystemTime = fs::metadata(&path).unwrap().modified().unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("\"seed\":5", "\"seed\":6");
    let copy = path.with_file_name("copy");
    fs::write(&copy, text).unwrap();
    File::options().write(true).open(&copy).unwrap().set_modified(modified).unwrap();
    fs::rename(&copy, &path).unwrap();
    assert_eq!(planted.runs().iter().find(|run| run.id == id(5)).unwrap().summary.as_ref().unwrap().seed, 6);
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), magic: bool) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::at(temp.path());
        fs::create_dir_all(store.root().join("runs")).unwrap();
        fs::create_dir_all(store.root().join(FOLDER)).unwrap();
        for (name, kind) in [("runs", *b"RPRruns1"), ("numbers", *b"RPRnums1")] {
            let head = if magic { [&kind[..], &crc32fast::hash(&bytes).to_le_bytes()].concat() } else { Vec::new() };
            fs::write(store.root().join(FOLDER).join(name), [&head, &bytes[..]].concat()).unwrap();
        }
        prop_assert!(store.summaries(None).unwrap().is_empty());
        let run = Summarised { id: id(1), summary: Err(String::new()), stamp: None };
        prop_assert!(store.numbers(&[run], None, Belief::Checked).unwrap().addresses.is_empty());
    }
}
