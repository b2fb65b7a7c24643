//! Records without what is nobody else's concern: where things lay, which process of which machine worked, and secrets.

use std::collections::BTreeMap;

use crate::lease::{Owner, Process};
use crate::provenance::{Provenance, secrets};
use crate::store::{Attempt, Manifest, Recipe, RunRecord};

/// What stands in the place of an absolute path.
pub const PATH: &str = "[path]";

/// What ends a path within a text.
const ENDS: &str = "\"'`<>()[],;:=";

/// The record of a run, for others.
pub fn record(record: RunRecord) -> RunRecord {
    let owner = Owner { host: String::new(), boot: None, namespace: None, process: Process::starting() };
    let attempts = record.attempts.into_iter().map(|attempt| Attempt { owner: owner.clone(), ..attempt }).collect();
    let Provenance { command, variables, .. } = record.provenance;
    let provenance = Provenance {
        command: secrets::redacted_command(command).iter().map(|argument| without_paths(argument)).collect(),
        variables: facts(variables),
        ..record.provenance
    };
    RunRecord { attempts, environment: facts(record.environment), provenance, ..record }
}

/// The manifest of an output, for others: what the output is stays as it was.
pub fn manifest(manifest: Manifest) -> Manifest {
    Manifest { environment: facts(manifest.environment), ..manifest }
}

/// A recipe whose experiment lies in `file` of the bundle.
pub fn recipe(recipe: Recipe, file: &str) -> Recipe {
    Recipe { file: file.into(), corpus: None, ..recipe }
}

fn facts(facts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    facts.into_iter().map(|(name, value)| (name, without_paths(&secrets::redacted(&value)))).collect()
}

/// The text with [`PATH`] for everything that starts at the root of a file system.
pub fn without_paths(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || ENDS.contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, path) = rest.split_at(at);
        out.push_str(before);
        let starts = out.chars().next_back().is_none_or(ends);
        // The host of an address begins with two slashes; that of a file is empty.
        let address = path.starts_with("//") && !path.starts_with("///") && before.ends_with(':');
        let end = path.find(ends).unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        out.push_str(if starts && !address && path.len() > 1 { PATH } else { path });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_from_the_root_are_taken_out_and_nothing_else() {
        for (text, expected) in [
            ("/root/work/target/debug/reprise", "[path]"),
            (
                "reprise run experiments/a.yaml --store /tmp/x --data=/srv/y",
                "reprise run experiments/a.yaml --store [path] --data=[path]",
            ),
            ("/usr/lib:/home/me/lib", "[path]:[path]"),
            ("https://host.example/a/b", "https://host.example/a/b"),
            ("file:///root/x", "file:[path]"),
            ("2.11.0+cu130 a/b 1/2 /", "2.11.0+cu130 a/b 1/2 /"),
            ("(see \"/root/a b\")", "(see \"[path] b\")"),
            ("pid:[4026531836]", "pid:[4026531836]"),
            ("", ""),
        ] {
            assert_eq!(without_paths(text), expected);
        }
    }
}
