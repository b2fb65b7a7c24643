//! Makes `BENCHMARKS.md` and its figure of what benchmarks left in `target/benchmarks`, and compares ratios with those that were accepted.
//!
//! `benchmarks` compares: it ends with 1 where a ratio to a peer has fallen below three quarters of the accepted one. Times are never
//! compared, because they hang on the machine. `benchmarks accept` writes `BENCHMARKS.md`, `golden/benchmarks.svg` and
//! `golden/benchmarks.json`; a benchmark that was not run keeps what was accepted of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

#[path = "../../benches/versus/mod.rs"]
mod versus;

mod figure;
mod page;

use versus::{Record, root};

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
    let accepted: Records = fs::read_to_string(root().join(ACCEPTED))
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    if std::env::args().nth(1).as_deref() != Some("accept") {
        return compare(&found, &accepted);
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

fn found(folder: &Path) -> Result<Records, String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Records::new()) };
    let mut records = Records::new();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let record = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        records.insert(name, record);
    }
    Ok(records)
}

/// Says how every ratio stands to the accepted one.
fn compare(found: &Records, accepted: &Records) -> ExitCode {
    let mut slower = false;
    for (name, record) in found {
        for comparison in &record.comparisons {
            let before =
                accepted.get(name).and_then(|record| record.comparisons.iter().find(|c| c.what == comparison.what));
            let ratio = comparison.ratio();
            match before.map(versus::Comparison::ratio) {
                Some(before) if ratio < LEAST * before => {
                    slower = true;
                    println!("slower    {}: {ratio:.2} times the peer's speed, {before:.2} accepted", comparison.what);
                }
                Some(before) => println!("as before {}: {ratio:.2}, {before:.2} accepted", comparison.what),
                None => println!("new       {}: {ratio:.2}", comparison.what),
            }
        }
    }
    if slower { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(2)
}
