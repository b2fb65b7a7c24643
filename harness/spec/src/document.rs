//! YAML files that are no experiments, such as goldens: the same first pass, then typed reading with the place of everything that is wrong.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::node::{Node, Path};
use crate::problem::{File, Location, Problem, SpecErrors};
use crate::read;
use crate::source::{self, Kind, MOST_PROBLEMS};

/// What a file says, and where.
#[derive(Clone, Debug)]
pub struct Document<T> {
    pub value: T,
    tree: Node,
}

impl<T> Document<T> {
    /// Where a value was written; for one that wasn't, the nearest word above it that was.
    pub fn locate(&self, path: &Path) -> Location {
        self.tree.locate(path)
    }
}

/// Reads the file `name`, with one of several things written as a map of one entry.
///
/// # Errors
/// Everything that is wrong with it: what can't be read as YAML, then all values that don't fit.
pub fn read<T: DeserializeOwned>(name: &str, bytes: Vec<u8>, kind: Kind) -> Result<Document<T>, SpecErrors> {
    let text = source::text(name, bytes)?;
    let refused = |problems| SpecErrors { file: name.to_owned(), problems };
    let mut tree = source::parse(&Arc::new(File { name: name.to_owned(), text }), kind).map_err(refused)?;
    let mut problems = Vec::new();
    while problems.len() < MOST_PROBLEMS {
        let (path, message) = match read::typed(&tree) {
            Ok(value) if problems.is_empty() => return Ok(Document { value, tree }),
            Ok(_) => break,
            Err(found) => found,
        };
        // What was pruned below makes this place unreadable, and has been told.
        if !tree.find(&path).is_some_and(Node::prunes_below) {
            let told = if path.0.is_empty() { message } else { format!("`{path}`: {message}") };
            problems.push(Problem::new(tree.locate(&path), told));
        }
        match tree.find_mut(&path) {
            Some(node) if !path.0.is_empty() && !node.pruned => node.pruned = true,
            _ => break,
        }
    }
    Err(refused(problems))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    const KIND: Kind = Kind { noun: "a list of prices", begin: "write one" };

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Prices {
        version: u32,
        prices: BTreeMap<String, Price>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Price {
        Free,
        Euros(f64),
    }

    fn problems(text: &str) -> Vec<String> {
        let errors = read::<Prices>("prices.yaml", text.into(), KIND).unwrap_err();
        errors
            .plain()
            .iter()
            .map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.message))
            .collect()
    }

    #[test]
    fn a_file_is_read_as_its_type_and_knows_its_places() {
        let text = "version: 1\nprices:\n  a bc/d@3:\n    euros: 0.1\n  x: free\n";
        let read = read::<Prices>("prices.yaml", text.into(), KIND).unwrap();
        assert_eq!(read.value.prices["a bc/d@3"], Price::Euros(0.1));
        assert_eq!(read.value.prices["x"], Price::Free);
        let at = read.locate(&Path(["prices", "x"].map(|key| crate::node::Segment::Key(key.into())).into()));
        assert_eq!((at.line(), at.column()), (5, 6));
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_place() {
        let wrong = "version: one\nprices: { a: { euros: dear }, b: cheap, c: free }\nowner: me\n";
        insta::assert_snapshot!(problems(wrong).join("\n"));
        insta::assert_snapshot!(problems("prices: {}\n").join("\n"), @"1:1 missing field `version`");
        insta::assert_snapshot!(problems("").join("\n"), @"1:1 the file is empty");
        insta::assert_snapshot!(problems("- 1\n").join("\n"), @"1:1 a list of prices is a map of words, found a list");
        insta::assert_snapshot!(problems("version: 1\nprices: { a: { euros: .nan } }\n").join("\n"), @"2:23 `.nan` isn't allowed: numbers must be finite");
        insta::assert_snapshot!(problems("version: 1\nprices: { a: free, a: free }\n").join("\n"), @"2:20 `a` is written twice");
    }
}
