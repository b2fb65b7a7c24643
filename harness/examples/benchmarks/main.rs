//! Makes `BENCHMARKS.md` and its figure of what benchmarks left in `target/benchmarks`, and compares ratios with those that were accepted.
//!
//! `benchmarks` compares: it ends with 1 where a ratio to a peer has fallen below three quarters of the accepted one. Times are never
//! compared, because they hang on the machine. `benchmarks accept` writes `BENCHMARKS.md`, `golden/benchmarks.svg` and
//! `golden/benchmarks.json`; a benchmark that was not run keeps what was accepted of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

#[path = "../../benches/versus/mod.rs"]
mod versus;

mod figure;
mod page;

use versus::{Comparison, Record, root};

/// Name of a benchmark → what it saw.
pub type Records = BTreeMap<String, Record>;

/// Where accepted records are, from the root of the checkout.
const ACCEPTED: &str = "golden/benchmarks.json";
const FIGURE: &str = "golden/benchmarks.svg";
const PAGE: &str = "BENCHMARKS.md";

/// A ratio may fall to this share of the accepted one: turns of one run differ by as much on a machine that does other work.
const LEAST: f64 = 0.75;

fn main() -> ExitCode {
    let found = match found(&root().join("target/benchmarks")) {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => return refuse("no benchmark has left a record: run `cargo xtask bench`"),
        Err(error) => return refuse(&error),
    };
    let accepted = match accepted(&root().join(ACCEPTED)) {
        Ok(accepted) => accepted,
        Err(error) => return refuse(&error),
    };
    if std::env::args().nth(1).as_deref() != Some("accept") {
        let (lines, slower) = compared(&found, &accepted);
        lines.iter().for_each(|line| println!("{line}"));
        return if slower { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut all = accepted;
    all.extend(found);
    let text = serde_json::to_string_pretty(&all).expect("numbers and text") + "\n";
    for (path, text) in [(ACCEPTED, text), (FIGURE, figure::svg(&all)), (PAGE, page::markdown(&all))] {
        if let Err(error) = fs::write(root().join(path), text) {
            return refuse(&format!("cannot write {path}: {error}"));
        }
        println!("{path}");
    }
    ExitCode::SUCCESS
}

/// What was accepted; nothing where there is no file yet.
fn accepted(path: &Path) -> Result<Records, String> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Records::new()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn found(folder: &Path) -> Result<Records, String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Records::new()) };
    let mut records = Records::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let record = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        records.insert(name, record);
    }
    Ok(records)
}

/// How every ratio stands to the accepted one of the same work and peer, and whether one has fallen too far.
fn compared(found: &Records, accepted: &Records) -> (Vec<String>, bool) {
    let (mut lines, mut slower) = (Vec::new(), false);
    for (name, record) in found {
        for comparison in &record.comparisons {
            let Comparison { what, peer, .. } = comparison;
            let same = |other: &&Comparison| other.what == *what && other.peer == *peer;
            let before = accepted.get(name).and_then(|record| record.comparisons.iter().find(same));
            let ratio = comparison.ratio();
            lines.push(match before.map(Comparison::ratio) {
                Some(before) if ratio < LEAST * before => {
                    slower = true;
                    format!("slower    {what} ({peer}): {ratio:.2} times the peer's speed, {before:.2} accepted")
                }
                Some(before) => format!("as before {what} ({peer}): {ratio:.2}, {before:.2} accepted"),
                None => format!("new       {what} ({peer}): {ratio:.2}"),
            });
        }
    }
    (lines, slower)
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work that takes us a second, and each peer so many.
    fn records(peers: &[(&str, f64)]) -> Records {
        let took = |seconds: f64| vec![versus::Measured::from([("seconds".into(), seconds)])];
        let comparison = |&(peer, seconds): &(&str, f64)| Comparison {
            what: "work".into(),
            peer: peer.into(),
            versions: BTreeMap::new(),
            wanted: 0.0,
            ours: took(1.0),
            theirs: took(seconds),
        };
        let record = Record { comparisons: peers.iter().map(comparison).collect(), ..Record::default() };
        Records::from([("bench".to_owned(), record)])
    }

    #[test]
    fn a_ratio_is_compared_with_that_of_the_same_peer() {
        let accepted = records(&[("fast", 2.0), ("slow", 20.0)]);
        let (lines, slower) = compared(&records(&[("fast", 1.6), ("slow", 14.0), ("other", 1.0)]), &accepted);
        assert_eq!(
            lines,
            [
                "as before work (fast): 1.60, 2.00 accepted",
                "slower    work (slow): 14.00 times the peer's speed, 20.00 accepted",
                "new       work (other): 1.00",
            ]
        );
        assert!(slower && !compared(&accepted, &accepted).1);
    }

    #[test]
    fn accepted_numbers_that_cannot_be_read_are_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("benchmarks.json");
        assert!(accepted(&path).unwrap().is_empty());
        fs::write(&path, "{").unwrap();
        assert!(accepted(&path).unwrap_err().contains("benchmarks.json"));
    }
}
