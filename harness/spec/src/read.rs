//! Reading an experiment: files to one tree, the tree to [`Experiment`], and every problem on the way by file, line and column.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment as Step;
use thiserror::Error;

use crate::check;
use crate::experiment::{self, Experiment, Variant, Written};
use crate::matrix::{self, Overlay};
use crate::node::{Content, Node, Path, Segment};
use crate::problem::{File, Location, Problem, SpecErrors};
use crate::schema::{Place, nearest, quoted};
use crate::source::{self, MOST_PROBLEMS};

/// Most files between an experiment and the farthest that it extends.
pub const LONGEST_CHAIN: usize = 8;

/// Why a file that `extends` names could not be loaded.
#[derive(Clone, Debug, Error)]
pub enum LoadError {
    #[error("there is no such file")]
    Missing,
    #[error("it isn't UTF-8 text")]
    NotText,
    #[error("{0}")]
    Other(String),
}

/// An experiment as it is meant, and the files that said so.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub experiment: Experiment,
    /// Every file that was read, the experiment's own first.
    pub sources: Vec<Arc<File>>,
    tree: Node,
}

impl Resolved {
    /// Where a value was written, for messages about it; for a default, the nearest word above it that was written.
    pub fn locate(&self, path: &Path) -> Location {
        self.tree.locate(path)
    }

    /// Addresses in claims whose stage no run of the variant has, as problems of the file; `stages` gives the names of a variant's stages.
    pub fn unknown_stages(&self, stages: &dyn Fn(&Variant) -> BTreeSet<String>) -> Vec<Problem> {
        check::unknown_stages(&self.experiment, &self.tree, stages)
    }
}

/// Reads the experiment `text` of the file `path`; files that it extends come from `load`, which takes a path like `path` with `/`
/// between its parts.
///
/// # Errors
/// Everything that is wrong: text that can't be read, then all values that don't fit, then all rules about several values.
pub fn experiment(
    path: &str,
    text: &str,
    load: &mut dyn FnMut(&str) -> Result<String, LoadError>,
) -> Result<Resolved, SpecErrors> {
    let mut files = Files { load, sources: Vec::new(), problems: Vec::new() };
    let tree = files.tree(path, text, &mut Vec::new());
    let Files { sources, mut problems, .. } = files;
    if let (Some(mut tree), true) = (tree, problems.is_empty()) {
        let overlays = matrix::take(&mut tree, &mut problems);
        let read = if problems.is_empty() { variants(&tree, overlays, &sources, &mut problems) } else { None };
        if let (Some(experiment), true) = (read, problems.is_empty()) {
            return Ok(Resolved { experiment, sources, tree });
        }
    }
    Err(SpecErrors { file: path.to_owned(), problems })
}

/// Reads every variant of `tree`. A problem that several variants have is said once.
fn variants(
    tree: &Node,
    overlays: Vec<Overlay>,
    sources: &[Arc<File>],
    problems: &mut Vec<Problem>,
) -> Option<Experiment> {
    let place = Place::root();
    let (mut whole, mut variants): (Option<Written>, Vec<Variant>) = (None, Vec::new());
    let alone = overlays.len() == 1;
    for Overlay { name, layers } in overlays {
        let mut own = layers.into_iter().fold(tree.clone(), |below, over| merge(below, over, &place));
        let mut found = Vec::new();
        match decode(&mut own, &place, &mut found) {
            Some(written) => {
                found = check::check(&written, &own, alone);
                if found.is_empty() {
                    variants.extend(written.variants(&name));
                    whole.get_or_insert(written);
                }
            }
            None => found.sort_by_key(|problem| {
                let file = sources.iter().position(|file| *file == problem.at.file);
                (file, problem.at.offset)
            }),
        }
        for problem in found {
            if !problems.iter().any(|known| known.at == problem.at && known.message == problem.message) {
                problems.push(problem);
            }
        }
        if problems.len() >= MOST_PROBLEMS {
            return None;
        }
    }
    if !problems.is_empty() {
        return None;
    }
    let Written { name, question, notes, claims, seeds, .. } = whole?;
    problems.extend(check::variants(&variants, &claims, tree));
    Some(Experiment { name, question, notes, claims, seeds, variants: experiment::distinct(variants) })
}

struct Files<'a> {
    load: &'a mut dyn FnMut(&str) -> Result<String, LoadError>,
    sources: Vec<Arc<File>>,
    problems: Vec<Problem>,
}

impl Files<'_> {
    /// The tree of a file over the trees of what it extends. `chain` holds the files that led here.
    fn tree(&mut self, path: &str, text: &str, chain: &mut Vec<String>) -> Option<Node> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text); // a byte order mark says nothing in UTF-8
        let file = Arc::new(File { name: path.to_owned(), text: text.to_owned() });
        self.sources.push(file.clone());
        let mut own = match source::parse(&file, source::EXPERIMENT) {
            Ok(own) => own,
            Err(problems) => {
                self.problems.extend(problems);
                return None;
            }
        };
        let bases = self.take_bases(&mut own);
        chain.push(path.to_owned());
        let mut below: Option<Node> = None;
        for (base, at) in bases {
            let base = beside(path, &base);
            let Some(tree) = self.base(&base, at, chain) else { continue };
            below = Some(match below {
                Some(earlier) => merge(earlier, tree, &Place::root()),
                None => tree,
            });
        }
        chain.pop();
        Some(match below {
            Some(below) => merge(below, own, &Place::root()),
            None => own,
        })
    }

    fn base(&mut self, path: &str, at: Location, chain: &mut Vec<String>) -> Option<Node> {
        let problem = if let Some(first) = chain.iter().position(|earlier| normal(earlier) == path) {
            let round: Vec<&str> = chain[first..].iter().map(String::as_str).chain([path]).collect();
            Problem::new(at, format!("files extend each other in a circle: {}", round.join(" → ")))
        } else if chain.len() > LONGEST_CHAIN {
            Problem::new(at, format!("more than {LONGEST_CHAIN} files extend one another"))
        } else {
            match (self.load)(path) {
                Ok(text) => return self.tree(path, &text, chain),
                Err(error) => Problem::new(at, format!("can't read {path:?}: {error}"))
                    .help("`extends` names a file relative to the file that says it"),
            }
        };
        self.problems.push(problem);
        None
    }

    /// Takes `extends` out of a tree.
    fn take_bases(&mut self, own: &mut Node) -> Vec<(String, Location)> {
        let Content::Map(entries) = &mut own.content else { return Vec::new() };
        let Some(index) = entries.iter().position(|entry| entry.key == "extends") else { return Vec::new() };
        let named = entries.remove(index).node;
        let items = match named.content {
            Content::List(items) => items,
            _ => vec![named],
        };
        let mut bases = Vec::new();
        for item in items {
            match item.value().as_str() {
                Some(path)
                    if path.is_empty()
                        || path.starts_with('/')
                        || path.contains(|c: char| c.is_control() || c == '\\') =>
                {
                    let problem = Problem::new(item.at.clone(), format!("{path:?} isn't a relative path"));
                    self.problems.push(problem.help("name a file relative to this one, with `/` between its parts"));
                }
                Some(path) => bases.push((path.to_owned(), item.at.clone())),
                None => {
                    let message = format!("expected the path of a file, found {}", item.describe());
                    self.problems.push(Problem::new(item.at.clone(), message));
                }
            }
        }
        bases
    }
}

/// The path that `relative` means in the file `path`.
pub fn beside(path: &str, relative: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    match (folder, path.starts_with('/')) {
        ("", true) => normal(&format!("/{relative}")),
        ("", false) => normal(relative),
        _ => normal(&format!("{folder}/{relative}")),
    }
}

/// A path without `.` and inner `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            "" if !parts.is_empty() => {}
            ".." if parts.last().is_some_and(|last| !matches!(*last, ".." | "")) => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Lays `over` on `below`: maps key by key; lists, scalars and another one of several things replace what they lie on.
fn merge(below: Node, over: Node, place: &Place) -> Node {
    let (Content::Map(mut entries), Content::Map(overs)) = (below.content, over.content.clone()) else { return over };
    if let Place::OneOf(_) = place
        && overs.iter().any(|entry| entries.iter().all(|lower| lower.key != entry.key))
    {
        return over;
    }
    for entry in overs {
        match entries.iter().position(|lower| lower.key == entry.key) {
            // A matrix is one thought: another replaces it whole.
            Some(index) if matches!(place, Place::Record { .. }) && entry.key == matrix::WORD => entries[index] = entry,
            Some(index) => {
                let lower = entries.remove(index);
                let node = match place.key(&entry.key) {
                    Some(place) => merge(lower.node, entry.node, &place),
                    None => entry.node,
                };
                entries.insert(index, crate::node::Entry { node, ..entry });
            }
            None => entries.push(entry),
        }
    }
    Node { content: Content::Map(entries), ..over }
}

/// Decodes a tree; after each problem the place is pruned and decoding tried again, so that all problems are found.
fn decode(tree: &mut Node, root: &Place, problems: &mut Vec<Problem>) -> Option<Written> {
    while problems.len() < MOST_PROBLEMS {
        let (path, message) = match typed(tree) {
            Ok(experiment) => return problems.is_empty().then_some(experiment),
            Err(found) => found,
        };
        explain(tree, root, &path, &message, problems);
        match tree.find_mut(&path) {
            Some(node) if !path.0.is_empty() && !node.pruned => node.pruned = true,
            _ => break,
        }
    }
    None
}

/// The value of a tree as a type, one of several things being written as a map of one entry; else the path and message of the first problem.
pub(crate) fn typed<T: DeserializeOwned>(tree: &Node) -> Result<T, (Path, String)> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(tree.value(), &mut track);
    serde_yaml::with::singleton_map_recursive::deserialize(tracked)
        .map_err(|error| (tree.unpruned(&steps(&track.path())), error.to_string()))
}

fn steps(path: &serde_path_to_error::Path) -> Path {
    let steps = path.iter().filter_map(|step| match step {
        Step::Seq { index } => Some(Segment::Index(*index)),
        Step::Map { key } => Some(Segment::Key(key.clone())),
        Step::Enum { variant } => Some(Segment::Key(variant.clone())),
        Step::Unknown => None,
    });
    Path(steps.collect())
}

fn place_at(path: &Path) -> Option<Place> {
    path.0.iter().try_fold(Place::root(), |place, segment| match segment {
        Segment::Key(key) => place.key(key),
        Segment::Index(_) => place.item(),
    })
}

/// Says what serde found at a path, in terms of what was written and what may stand there.
fn explain(tree: &Node, root: &Place, path: &Path, message: &str, problems: &mut Vec<Problem>) {
    let (parent, last) = match path.split_last() {
        Some((parent, Segment::Key(key))) => (parent, Some(key.as_str())),
        Some((parent, Segment::Index(_))) => (parent, None),
        None => (Path::default(), None),
    };
    let place = if path.0.is_empty() { None } else { place_at(path) };
    let place = place.as_ref().or(path.0.is_empty().then_some(root));
    let node = tree.find(path);
    let around = place_at(&parent);
    if let (None, Some(key), Some(around)) = (place, last, &around) {
        problems.push(unknown(tree.locate_key(path), key, &parent, around));
    } else if let (Some(Place::Record { required, .. }), Some(Content::Map(entries)), true) =
        (place, node.map(|node| &node.content), message.starts_with("missing field"))
    {
        let written = |word: &str| entries.iter().any(|entry| entry.key == word);
        for word in required.iter().filter(|word| !written(word)) {
            let at = match path.0.is_empty() {
                true => Location { length: 0, ..tree.at.clone() },
                false => tree.locate_key(path),
            };
            let (inside, label) = match path.0.is_empty() {
                true => (String::new(), "add it to this file".to_owned()),
                false => (format!("`{path}` needs "), format!("`{word}` belongs in here")),
            };
            let message = if inside.is_empty() { format!("`{word}` is missing") } else { format!("{inside}`{word}`") };
            problems.push(Problem::new(at, message).label(label));
        }
    } else if node.is_some_and(Node::prunes_below) {
        // What was pruned below makes this place unreadable, and has been explained.
    } else if let (Some(place @ Place::OneOf(named)), Some(node)) = (place, node) {
        let at = tree.locate(path);
        problems.push(match &node.content {
            Content::Scalar(serde_yaml::Value::String(text)) => match named.iter().find(|(name, _)| name == text) {
                Some((name, _)) => Problem::new(at, format!("`{name}` has settings"))
                    .help(format!("write them as a map: `{}: {{ {name}: {{ … }} }}`", last.unwrap_or("- "))),
                None => unknown(at, text, path, place),
            },
            Content::Map(entries) if entries.len() != 1 => Problem::new(
                at,
                format!("`{path}` is exactly one of {}; found {}", quoted(place.known()), entries.len()),
            ),
            _ => wrong_type(at, path, place, node),
        });
    } else if let (Some(place), Some(node), true) =
        (place, node, message.contains("invalid type") || message.contains("invalid value"))
    {
        problems.push(wrong_type(tree.locate(path), path, place, node));
    } else {
        let placed = check::misread(tree, path);
        problems.push(placed.unwrap_or_else(|| Problem::new(tree.locate(path), message.to_owned())));
    }
}

fn wrong_type(at: Location, path: &Path, place: &Place, node: &Node) -> Problem {
    let problem = Problem::new(at, format!("`{path}`: expected {}, found {}", place.expected(), node.describe()));
    match (place, &node.content) {
        (Place::Scalar(what), Content::Scalar(serde_yaml::Value::String(text)))
            if what.contains("number") && text.trim().parse::<f64>().is_ok() =>
        {
            problem.help("write it without quotes")
        }
        (Place::Scalar("a text"), Content::Scalar(_)) => problem.help("put it in quotes"),
        (Place::Scalar("a whole number"), Content::Scalar(serde_yaml::Value::Number(number)))
            if number.as_i64().is_some_and(|n| n < 0) =>
        {
            problem.help("it can't be negative")
        }
        _ => problem,
    }
}

fn unknown(at: Location, word: &str, path: &Path, place: &Place) -> Problem {
    let known = place.known();
    let inside = if path.0.is_empty() { "an experiment".to_owned() } else { format!("`{path}`") };
    let shown = word.chars().take(60).collect::<String>();
    let problem = Problem::new(at, format!("`{}` isn't a word of {inside}", shown.escape_debug()));
    match nearest(&shown, known.iter().copied()) {
        Some(name) => problem.help(format!("did you mean `{name}`?")),
        None if known.is_empty() => problem,
        None => problem.help(format!("known here: {}", quoted(known))),
    }
}
