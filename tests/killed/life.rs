//! One life of `reprise run`, watched from outside, and the store that it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::trainer_of;
use crate::place::Place;

/// How long anything is waited for before it counts as a deadlock; no machine is this slow.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// Between two looks at processes and files.
const TICK: Duration = Duration::from_micros(300);

/// One stage of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub name: String,
    /// 64 hex digits.
    pub key: String,
    /// The digest of the output that the store has.
    pub digest: Option<String>,
}

/// The stages of an experiment in the order of their execution.
pub fn plan(place: &Place, experiment: &str, store: &str) -> Vec<Planned> {
    let plan = place.json(&["plan", "--json", "--store", store, experiment]);
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let stage = |stage: &serde_json::Value| Planned {
        name: text(&stage["node"]["name"]).expect("a name"),
        key: text(&stage["node"]["key"]).expect("a key").trim_start_matches("stage:").to_owned(),
        digest: text(&stage["outlook"]["stored"]["digest"]),
    };
    plan["stages"].as_array().expect("stages").iter().map(stage).collect()
}

/// What a line of standard error says of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Started,
    Finished,
    Other,
}

/// The number of the stage that a line is about, and what it says of it.
pub fn read(line: &str) -> Option<(usize, Word)> {
    let (number, rest) = line.strip_prefix('[')?.split_once('/')?;
    let said = rest.split_once(": ")?.1;
    let seconds = |word: &str| word.parse::<f64>().is_ok();
    let word = match said.split(' ').collect::<Vec<_>>().as_slice() {
        [first, ..] if first.trim_end_matches([';', ',']) == "started" || *first == "continuing," => Word::Started,
        [first, unit, ..] if seconds(first) && ["s", "min", "h"].contains(unit) => Word::Finished,
        _ => Word::Other,
    };
    Some((number.parse().ok()?, word))
}

/// One process of `reprise run`.
pub struct Life {
    child: Child,
    lines: Receiver<String>,
    /// Everything that it said on standard error so far.
    pub said: String,
}

impl Life {
    /// Starts a run that writes a checkpoint every second.
    pub fn start(place: &Place, experiment: &str) -> Self {
        let mut child = place
            .command(&["run", "--checkpoint-every", "1", experiment])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("reprise starts");
        let (sender, lines) = channel();
        let err = BufReader::new(child.stderr.take().expect("a pipe"));
        std::thread::spawn(move || err.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { child, lines, said: String::new() }
    }

    /// The next line, if it comes within `patience`; `None` also at the end of the process.
    pub fn line(&mut self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => {
                self.said += &line;
                self.said.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Waits for a line that says something of a stage that `wanted` wants to hear.
    pub fn until(&mut self, wanted: impl Fn(usize, Word) -> bool) -> Option<usize> {
        let start = Instant::now();
        while let Some(line) = self.line(DEADLINE.saturating_sub(start.elapsed())) {
            match read(&line) {
                Some((number, word)) if wanted(number, word) => return Some(number),
                _ => {}
            }
        }
        assert!(start.elapsed() < DEADLINE, "nothing happens any more\n{}", self.said);
        None
    }

    /// Looks again and again until `seen` gives something; `None` when the process has ended first.
    pub fn watch<T>(&mut self, seen: impl Fn() -> Option<T>) -> Option<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = seen() {
                return Some(found);
            }
            if self.has_ended() {
                return None;
            }
            assert!(start.elapsed() < DEADLINE, "nothing happens any more\n{}", self.said);
            std::thread::sleep(TICK);
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The trainer that it has started, if one is at work.
    pub fn trainer(&self) -> Option<i32> {
        trainer_of(self.child.id()).filter(|pid| is_at_work(*pid))
    }

    /// How it ended, and the rest of what it said.
    pub fn end(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            self.line(Duration::from_millis(5));
            if start.elapsed() > DEADLINE {
                kill(self.pid());
                panic!("it doesn't end\n{}", self.said);
            }
        };
        while self.line(DEADLINE).is_some() {}
        (status, self.said)
    }
}

/// Sends KILL. A process that has just ended by itself is left alone.
pub fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Whether a process lives, other than as one that nobody has asked for its status yet.
pub fn is_at_work(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !matches!(rest.split_whitespace().next(), None | Some("Z" | "X")))
}

/// The names in a folder; none where there is no such folder.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The store of a place after everything has ended well: every key of the plans has one output, and nothing half-made lies about.
pub fn assert_clean(store: &Path, plans: &[Vec<Planned>]) {
    let mut outputs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in names(&store.join("stages")) {
        let mut inside = names(&store.join("stages").join(&key));
        inside.retain(|name| name != "guard");
        for output in &inside {
            let mut files = names(&store.join("stages").join(&key).join(output));
            files.retain(|name| name != "files.txt"); // of a corpus
            files.sort();
            assert_eq!(files, ["log.txt", "manifest.json", "metrics.log", "out", "request.json"], "{key}/{output}");
        }
        outputs.insert(key, inside);
    }
    for (key, inside) in &outputs {
        assert_eq!(inside.len(), 1, "{key} was completed once, and no work of it is left: {inside:?}");
    }
    let planned: std::collections::BTreeSet<&String> = plans.iter().flatten().map(|stage| &stage.key).collect();
    assert_eq!(outputs.keys().collect::<std::collections::BTreeSet<_>>(), planned);
    let mut below = vec![store.to_path_buf()];
    while let Some(folder) = below.pop() {
        for name in names(&folder) {
            let path = folder.join(&name);
            let half = name.starts_with(".new-") || name.ends_with(".partial") || name == "lease";
            assert!(!half, "{} was left behind", path.display());
            if path.is_dir() {
                below.push(path);
            }
        }
    }
}

/// The metric log of a stage's only output.
pub fn metrics(store: &Path, key: &str) -> reprise_spec::metrics::Log {
    let folder: PathBuf = store.join("stages").join(key);
    let output = names(&folder).into_iter().find(|name| name != "guard").expect("an output");
    let log = reprise_spec::metrics::Log::decode(&fs::read(folder.join(output).join("metrics.log")).expect("a log"));
    assert_eq!(log.damaged, 0, "{key}");
    log
}

/// Numbers that repeat: splitmix64.
pub struct Chance(pub u64);

impl Chance {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub fn milliseconds(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}
