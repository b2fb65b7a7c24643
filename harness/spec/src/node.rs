//! A YAML file as a tree in which every node knows where it was written, so that merging files keeps positions.

use std::fmt;

use serde_yaml::Value;

use crate::problem::Location;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: Location,
    pub content: Content,
    /// Left out of [`Node::value`], because a problem with it is already known.
    pub pruned: bool,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// A text, number or truth value.
    Scalar(Value),
    List(Vec<Node>),
    /// In the order of the file; keys are unique.
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_at: Location,
    pub node: Node,
}

/// One step into a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    Key(String),
    Index(usize),
}

/// Where in a tree, from its root.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Segment>);

impl Path {
    /// The path without its last step, and that step.
    pub fn split_last(&self) -> Option<(Path, &Segment)> {
        self.0.split_last().map(|(last, parents)| (Path(parents.to_vec()), last))
    }
}

impl fmt::Display for Path {
    /// As in `strategy.baseline.iterations[1].steps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Path {
    type Err = std::convert::Infallible;

    /// Reads what `Display` writes, for paths whose keys have neither `.` nor `[`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split(['.', '[']).filter(|part| !part.is_empty());
        Ok(Path(
            parts
                .map(|part| match part.strip_suffix(']').and_then(|index| index.parse().ok()) {
                    Some(index) => Segment::Index(index),
                    None => Segment::Key(part.to_owned()),
                })
                .collect(),
        ))
    }
}

impl Node {
    /// The value for typed decoding, without what is pruned.
    pub fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().filter(|item| !item.pruned).map(Node::value).collect(),
            Content::Map(entries) => {
                let kept = entries.iter().filter(|entry| !entry.node.pruned);
                Value::Mapping(kept.map(|entry| (entry.key.as_str().into(), entry.node.value())).collect())
            }
        }
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entry of a key, if this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The node at a path.
    pub fn find(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, segment| match (segment, &node.content) {
            (Segment::Key(key), _) => node.get(key),
            (Segment::Index(index), Content::List(items)) => items.get(*index),
            _ => None,
        })
    }

    /// The node at a path, to prune it.
    pub fn find_mut(&mut self, path: &Path) -> Option<&mut Node> {
        path.0.iter().try_fold(self, |node, segment| match (segment, &mut node.content) {
            (Segment::Key(key), Content::Map(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            (Segment::Index(index), Content::List(items)) => items.get_mut(*index),
            _ => None,
        })
    }

    /// The path in this tree of a path in its [`Node::value`], where pruned items of lists don't count.
    pub fn unpruned(&self, path: &Path) -> Path {
        let mut node = Some(self);
        let steps = path.0.iter().map(|segment| {
            let step = match (segment, node.map(|node| &node.content)) {
                (Segment::Index(index), Some(Content::List(items))) => {
                    let kept = items.iter().enumerate().filter(|(_, item)| !item.pruned).nth(*index);
                    Segment::Index(kept.map_or(*index, |(original, _)| original))
                }
                _ => segment.clone(),
            };
            node = node.and_then(|node| node.find(&Path(vec![step.clone()])));
            step
        });
        Path(steps.collect())
    }

    /// Whether something below this node is pruned.
    pub fn prunes_below(&self) -> bool {
        let prunes = |node: &Node| node.pruned || node.prunes_below();
        match &self.content {
            Content::Scalar(_) => false,
            Content::List(items) => items.iter().any(prunes),
            Content::Map(entries) => entries.iter().any(|entry| prunes(&entry.node)),
        }
    }

    /// Where to point for the value at a path: at a scalar itself; for a map or list at its key; where the path isn't written, at the
    /// nearest place above that is.
    pub fn locate(&self, path: &Path) -> Location {
        if let Some(Node { at, content: Content::Scalar(_), .. }) = self.find(path) {
            return at.clone();
        }
        self.locate_key(path)
    }

    /// Where to point for a path itself: at its last key.
    pub fn locate_key(&self, path: &Path) -> Location {
        match path.split_last() {
            None => self.at.clone(),
            Some((parent, Segment::Key(key))) => match self.find(&parent).and_then(|node| node.entry(key)) {
                Some(entry) => entry.key_at.clone(),
                None => self.locate_key(&parent),
            },
            Some((parent, Segment::Index(_))) => match self.find(path) {
                Some(node) => node.at.clone(),
                None => self.locate_key(&parent),
            },
        }
    }

    /// What a person would call the content: `the text "3"`, `a list`.
    pub fn describe(&self) -> String {
        match &self.content {
            Content::Scalar(Value::String(text)) if text.chars().count() > 40 => {
                format!("the text {:?}…", text.chars().take(40).collect::<String>())
            }
            Content::Scalar(Value::String(text)) => format!("the text {text:?}"),
            Content::Scalar(Value::Bool(value)) => format!("`{value}`"),
            Content::Scalar(Value::Number(number)) => format!("the number {number}"),
            Content::Scalar(_) => "nothing".into(),
            Content::List(_) => "a list".into(),
            Content::Map(_) => "a map".into(),
        }
    }
}
