//! The uncommitted changes of two runs, file by file.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};

use super::{Piece, Which};

/// Equal lines around those that differ.
const AROUND: usize = 3;

/// Lines of either patch of one file beyond which the two aren't compared line by line.
const LONGEST: usize = 5_000;

/// Lines that are told of one file.
const TOLD: usize = 400;

/// A file that two patches change in different ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PatchedFile {
    pub file: String,
    /// The side whose patch alone has the file.
    pub only: Option<Which>,
    /// The lines of the patches: those of one, and equal ones around them. Of a patch that one side has alone, all of them.
    pub lines: Vec<Piece>,
    /// Lines that are not told: there are too many.
    pub left_out: usize,
}

/// Compares two patches in the form of `git diff`.
pub fn compare(a: &str, b: &str) -> Vec<PatchedFile> {
    let (a, b) = (files(a), files(b));
    let names: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let compared = |name: &&str| match (a.get(name), b.get(name)) {
        (Some(one), Some(two)) if one == two => None,
        (Some(one), Some(two)) => Some(both(name, one, two)),
        (Some(lines), None) => Some(alone(name, Which::A, lines)),
        (None, Some(lines)) => Some(alone(name, Which::B, lines)),
        (None, None) => None,
    };
    names.iter().filter_map(compared).collect()
}

/// The lines of each file's part.
fn files(patch: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in patch.lines() {
        if let Some(paths) = line.strip_prefix("diff --git ") {
            // `a/PATH b/PATH`, the same path twice unless a file was renamed.
            name = paths.rsplit_once(" b/").map_or(paths, |(_, path)| path);
        }
        files.entry(name).or_default().push(line);
    }
    files
}

fn alone(name: &str, which: Which, lines: &[&str]) -> PatchedFile {
    let pieces = lines.iter().map(|line| Piece { of: Some(which), text: (*line).to_owned() });
    told(name, Some(which), pieces.collect())
}

fn both(name: &str, a: &[&str], b: &[&str]) -> PatchedFile {
    if a.len().max(b.len()) > LONGEST {
        return PatchedFile { file: name.into(), only: None, lines: Vec::new(), left_out: a.len() + b.len() };
    }
    let pieces = |of, lines: &[&str]| -> Vec<Piece> {
        lines.iter().map(|line| Piece { of, text: (*line).to_owned() }).collect()
    };
    let mut lines = Vec::new();
    for op in group_diff_ops(capture_diff_slices(Algorithm::Myers, a, b), AROUND).into_iter().flatten() {
        let (_, of_a, of_b) = op.as_tag_tuple();
        match op {
            DiffOp::Equal { .. } => lines.extend(pieces(None, &a[of_a])),
            _ => {
                lines.extend(pieces(Some(Which::A), &a[of_a]));
                lines.extend(pieces(Some(Which::B), &b[of_b]));
            }
        }
    }
    told(name, None, lines)
}

fn told(name: &str, only: Option<Which>, mut lines: Vec<Piece>) -> PatchedFile {
    let left_out = lines.len().saturating_sub(TOLD);
    lines.truncate(TOLD);
    PatchedFile { file: name.into(), only, lines, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_compared_file_by_file() {
        let part = |file: &str, line: &str| {
            format!("diff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-x\n+{line}\n")
        };
        let a = part("both.rs", "same") + &part("changed.rs", "one") + &part("only a.rs", "y");
        let b = part("both.rs", "same") + &part("changed.rs", "two") + &part("only b.rs", "z");
        let found = compare(&a, &b);
        let told: Vec<(&str, Option<Which>)> = found.iter().map(|file| (file.file.as_str(), file.only)).collect();
        assert_eq!(told, [("changed.rs", None), ("only a.rs", Some(Which::A)), ("only b.rs", Some(Which::B))]);
        let changed: Vec<(Option<Which>, &str)> =
            found[0].lines.iter().map(|line| (line.of, line.text.as_str())).collect();
        let last = [(None, "-x"), (Some(Which::A), "+one"), (Some(Which::B), "+two")];
        assert_eq!(changed[changed.len() - 3..], last);
        assert!(compare(&a, &a).is_empty());
    }

    #[test]
    fn long_patches_are_cut_with_what_is_left_out() {
        let text = format!("diff --git a/x b/x\n{}", "+line\n".repeat(1_000));
        let found = compare(&text, "");
        assert_eq!((found[0].lines.len(), found[0].left_out), (TOLD, 1_001 - TOLD));
    }
}
