//! Measures ours beside a peer, turn by turn in one run, and keeps what was seen for `BENCHMARKS.md`.
//!
//! A peer is a Python script that prints one line of JSON when it is ready, `{"versions": {"torch": "2.11.0"}}`, and for each line that it
//! reads does the work once and prints one line, `{"seconds": 1.5}`, with other numbers beside it where there are any.

#![allow(dead_code)] // every benchmark uses a part

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One repetition: `seconds`, and what else was measured in it.
pub type Measured = BTreeMap<String, f64>;

/// Everything that one benchmark saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since 1970.
    pub when: u64,
    pub processor: String,
    pub threads: usize,
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    #[serde(default)]
    pub values: Vec<Value>,
    #[serde(default)]
    pub growth: Vec<Growth>,
}

/// The same work done by us and by a peer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Comparison {
    pub what: String,
    pub peer: String,
    /// Of the peer's packages.
    pub versions: BTreeMap<String, String>,
    /// How many times as fast we have to be.
    pub wanted: f64,
    pub ours: Vec<Measured>,
    pub theirs: Vec<Measured>,
}

/// A number with a bound that it has to keep.
#[derive(Debug, Serialize, Deserialize)]
pub struct Value {
    pub what: String,
    pub unit: String,
    pub measured: f64,
    pub bound: Bound,
    /// What the best peer needs, measured in the same run where it says so.
    pub peer: String,
}

/// The side of a number on which the target lies.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// How time and memory grow with the size of a problem.
#[derive(Debug, Serialize, Deserialize)]
pub struct Growth {
    pub what: String,
    /// What the size counts.
    pub size: String,
    /// Each has `size`, `seconds`, and `peak-mib` where memory was measured.
    pub points: Vec<Measured>,
}

impl Comparison {
    /// Median time of the peer over ours.
    pub fn ratio(&self) -> f64 {
        median(&self.theirs, "seconds") / median(&self.ours, "seconds")
    }

    /// Least and greatest ratio of one turn.
    pub fn range(&self) -> (f64, f64) {
        let turns = self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| theirs["seconds"] / ours["seconds"]);
        turns.fold((f64::INFINITY, 0.0), |(least, most), ratio| (least.min(ratio), most.max(ratio)))
    }
}

/// The middle of one number over repetitions.
pub fn median(repetitions: &[Measured], name: &str) -> f64 {
    let mut all: Vec<f64> = repetitions.iter().map(|measured| measured[name]).collect();
    all.sort_by(f64::total_cmp);
    let half = all.len() / 2;
    if all.len().is_multiple_of(2) { (all[half - 1] + all[half]) / 2.0 } else { all[half] }
}

/// Times `work`.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Measured) {
    let start = Instant::now();
    let found = work();
    (found, Measured::from([("seconds".into(), start.elapsed().as_secs_f64())]))
}

/// A peer that waits for its next turn.
pub struct Peer {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    versions: BTreeMap<String, String>,
}

impl Peer {
    /// Starts `script`, a path from the root of the checkout, with `threads` threads for every library that has some.
    pub fn start(script: &str, arguments: &[&str], threads: usize) -> Self {
        let python =
            std::env::var_os("REPRISE_PEERS").map_or_else(|| root().join(".peers"), PathBuf::from).join("bin/python");
        assert!(
            python.exists(),
            "{} isn't there: run `cargo xtask peers`, or set REPRISE_PEERS to a virtual environment",
            python.display()
        );
        let mut child = Command::new(python)
            .arg(root().join(script))
            .args(arguments)
            .envs(
                ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"].map(|name| (name, threads.to_string())),
            )
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let ask = child.stdin.take().expect("piped");
        let answer = BufReader::new(child.stdout.take().expect("piped"));
        let mut peer = Self { child, ask, answer, versions: BTreeMap::new() };
        #[derive(Deserialize)]
        struct Ready {
            versions: BTreeMap<String, String>,
        }
        peer.versions = serde_json::from_str::<Ready>(&peer.line()).expect("a peer says its versions first").versions;
        peer
    }

    /// One repetition.
    pub fn measure(&mut self) -> Measured {
        writeln!(self.ask, "go").expect("the peer lives");
        serde_json::from_str(&self.line()).expect("a peer answers with numbers")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.answer.read_line(&mut line).expect("a peer's output is text");
        assert!(read > 0, "the peer ended; its message is above");
        line
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ours and the peer's turns, one after the other, `rounds` times.
pub fn compare(
    what: &str,
    peer_name: &str,
    wanted: f64,
    rounds: usize,
    peer: &mut Peer,
    mut ours: impl FnMut() -> Measured,
) -> Comparison {
    let mut found = Comparison {
        what: what.into(),
        peer: peer_name.into(),
        versions: peer.versions.clone(),
        wanted,
        ours: Vec::new(),
        theirs: Vec::new(),
    };
    for round in 1..=rounds {
        found.ours.push(ours());
        found.theirs.push(peer.measure());
        let (ours, theirs) = (found.ours[round - 1]["seconds"], found.theirs[round - 1]["seconds"]);
        eprintln!("{what}: round {round} of {rounds}: ours {ours:.4} s, {peer_name} {theirs:.4} s");
    }
    let (least, most) = found.range();
    println!("{what}: {:.2} times as fast as {peer_name} ({least:.2} to {most:.2}; wanted {wanted})", found.ratio());
    found
}

impl Record {
    /// An empty one of this machine and moment.
    pub fn new(threads: usize) -> Self {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            when: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            processor: processor.map_or_else(|| "unknown".into(), |(_, name)| name.into()),
            threads,
            ..Self::default()
        }
    }

    /// Writes what was seen to `target/benchmarks/NAME.json`, from which `BENCHMARKS.md` is made.
    pub fn keep(&self, name: &str) {
        let text = serde_json::to_string_pretty(self).expect("numbers and text");
        std::fs::write(folder().join(format!("{name}.json")), text + "\n").expect("a file below target");
    }
}

/// Where records are kept.
pub fn folder() -> PathBuf {
    let folder = root().join("target/benchmarks");
    std::fs::create_dir_all(&folder).expect("a folder below target");
    folder
}

/// The most memory that this process held since [`reset_peak`], in MiB; none where the system doesn't tell.
pub fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// Lets [`peak_mib`] begin anew.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// `--threads N` of the command line, or as many as the machine has.
pub fn threads() -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--threads").skip(1);
    let asked = arguments.next().map(|count| count.parse().expect("--threads takes a number"));
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get()))
}

/// Whether a part of a benchmark is wanted: the command line names parts, or none, which means all.
pub fn wanted(part: &str) -> bool {
    let mut named = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--") && argument.parse::<u64>().is_err())
        .peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates lie in the checkout").to_path_buf()
}
