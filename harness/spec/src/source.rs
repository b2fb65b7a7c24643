//! YAML text to a tree with positions: the first pass, which refuses what an experiment has no use for.
//!
//! The text is parsed as a stream, so that size, number of nodes and depth are bounded before anything is built. Anchors, aliases,
//! tags, merge keys, further documents, duplicate or non-text keys, nulls, NaN and infinities are refused. Scalars are resolved by the
//! YAML 1.2 core schema; a quoted scalar is always a text.

use std::collections::BTreeSet;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use serde_yaml::Value;

use crate::node::{Content, Entry, Node};
use crate::problem::{File, Location, Problem, SpecErrors};

/// Most bytes of one file.
pub const MOST_BYTES: usize = 1 << 20;
/// Most scalars, lists and maps of one file.
pub const MOST_NODES: usize = 100_000;
/// Deepest nesting of lists and maps.
pub const DEEPEST: usize = 32;
/// Problems after which reading stops.
pub const MOST_PROBLEMS: usize = 50;

/// What a file is, for messages about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// With its article: `an experiment`.
    pub noun: &'static str,
    /// How a file of this kind comes to be, told of an empty one.
    pub begin: &'static str,
}

/// A file that declares an experiment.
pub const EXPERIMENT: Kind = Kind { noun: "an experiment", begin: "`reprise new` writes an experiment to start from" };

/// Decodes the bytes of a file.
///
/// # Errors
/// A file that is too large or not UTF-8.
pub fn text(name: &str, bytes: Vec<u8>) -> Result<String, SpecErrors> {
    let nowhere = || Location { file: Arc::new(File { name: name.into(), text: String::new() }), offset: 0, length: 0 };
    let refused = |problem| SpecErrors { file: name.into(), problems: vec![problem] };
    if bytes.len() > MOST_BYTES {
        return Err(refused(Problem::new(nowhere(), too_large(bytes.len()))));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count();
        let message = format!("the file isn't UTF-8: byte {valid} (line {line}) can't be read as text");
        refused(Problem::new(nowhere(), message).help("save the file as UTF-8"))
    })
}

fn too_large(bytes: usize) -> String {
    format!("the file has {bytes} bytes; at most {MOST_BYTES} are read")
}

fn too_deep(at: Location) -> Problem {
    Problem::new(at, format!("lists and maps nest more than {DEEPEST} levels deep"))
}

/// Parses one file, whose root must be a map.
///
/// # Errors
/// Every problem up to the first that leaves the rest unreadable, at most [`MOST_PROBLEMS`].
pub fn parse(file: &Arc<File>, kind: Kind) -> Result<Node, Vec<Problem>> {
    let start = Location { file: file.clone(), offset: 0, length: 0 };
    if file.text.len() > MOST_BYTES {
        return Err(vec![Problem::new(start, too_large(file.text.len()))]);
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(&file.text),
        bytes: (!file.text.is_ascii()).then(|| file.text.char_indices().map(|(byte, _)| byte).collect()),
        file,
        kind,
        nodes: 0,
        problems: Vec::new(),
    };
    let root = reader.document();
    match root {
        Ok(Some(root)) if reader.problems.is_empty() => match root.content {
            Content::Map(_) => Ok(root),
            _ => Err(vec![
                Problem::new(root.at.clone(), format!("{} is a map of words, found {}", kind.noun, root.describe()))
                    .help("start with `version: 1`"),
            ]),
        },
        Ok(None) if reader.problems.is_empty() => Err(vec![Problem::new(start, "the file is empty").help(kind.begin)]),
        Ok(_) => Err(reader.problems),
        Err(Stop) => Err(reader.problems),
    }
}

/// Reading can't go on; the reason is among the problems.
struct Stop;

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// The byte of every character, unless all are ASCII.
    bytes: Option<Vec<usize>>,
    file: &'a Arc<File>,
    kind: Kind,
    nodes: usize,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentStart(_) if root.is_some() => {
                    let at = self.location(span);
                    return self.stop(
                        Problem::new(at, "a second document starts here")
                            .help(format!("one file is {}: remove the `---`", self.kind.noun)),
                    );
                }
                Event::StreamEnd => return Ok(root),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                Event::Scalar(text, ScalarStyle::Plain, 0, None) if text.is_empty() && root.is_none() => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let problem = self.syntax(&error);
                self.stop(problem)
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let at = self.location(Span::empty(*error.marker()));
        if error.info() == "recursion limit exceeded" {
            return too_deep(at); // the parser's own limit on lists and maps that open without an event between them
        }
        let line = self.file.text[..at.offset].rsplit('\n').next().unwrap_or_default();
        let tab = line.contains('\t') || self.file.text[at.offset..].starts_with('\t') || error.info().contains("tab");
        let problem = Problem::new(at, format!("this isn't YAML: {}", error.info()));
        if tab { problem.help("indent with spaces: YAML doesn't allow tabs there") } else { problem }
    }

    fn stop<T>(&mut self, problem: Problem) -> Result<T, Stop> {
        self.problems.push(problem);
        Err(Stop)
    }

    fn note(&mut self, problem: Problem) -> Result<(), Stop> {
        self.problems.push(problem);
        if self.problems.len() < MOST_PROBLEMS { Ok(()) } else { Err(Stop) }
    }

    fn location(&self, span: Span) -> Location {
        let byte = |index: usize| match &self.bytes {
            None => index.min(self.file.text.len()),
            Some(bytes) => bytes.get(index).copied().unwrap_or(self.file.text.len()),
        };
        let offset = byte(span.start.index());
        let first_line = self.file.text[offset..].lines().next().map_or(0, |line| line.trim_end().len());
        Location { file: self.file.clone(), offset, length: (byte(span.end.index()) - offset).min(first_line) }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut at = self.location(span);
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return self.stop(Problem::new(at, format!("the file has more than {MOST_NODES} values")));
        }
        if depth >= DEEPEST && matches!(event, Event::SequenceStart(..) | Event::MappingStart(..)) {
            return self.stop(too_deep(at));
        }
        if let Event::Scalar(_, _, anchor, tag) = &event {
            self.bare(&at, *anchor, tag.is_some())?;
        }
        let content = match event {
            Event::Scalar(text, style, _, _) => Content::Scalar(self.scalar(&text, style, &at)?),
            Event::SequenceStart(anchor, tag) => {
                self.bare(&at, anchor, tag.is_some())?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                Content::List(items)
            }
            Event::MappingStart(anchor, tag) => {
                self.bare(&at, anchor, tag.is_some())?;
                let entries = self.map(depth)?;
                if let Some(first) = entries.first() {
                    at = first.key_at.clone();
                }
                Content::Map(entries)
            }
            Event::Alias(_) => {
                let problem = Problem::new(at, "an alias (`*…`) isn't allowed")
                    .help("write the value out, or move it to a file that both `extends`");
                return self.stop(problem);
            }
            _ => return self.stop(Problem::new(at, "this isn't YAML: a value is missing")),
        };
        Ok(Node { at, content, pruned: false })
    }

    fn bare(&mut self, at: &Location, anchor: usize, tagged: bool) -> Result<(), Stop> {
        if anchor > 0 {
            let problem = Problem::new(at.clone(), "an anchor (`&…`) isn't allowed");
            self.note(problem.help("write the value out, or move it to a file that both `extends`"))?;
        }
        if tagged {
            let problem = Problem::new(at.clone(), "a tag (`!…`) isn't allowed");
            self.note(problem.help("write one of several things as a map: `baseline: { … }`"))?;
        }
        Ok(())
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = BTreeSet::new();
        loop {
            let (event, span) = self.next()?;
            let key_at = self.location(span);
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, style, anchor, tag) => {
                    self.bare(&key_at, anchor, tag.is_some())?;
                    match (style, resolve(&text)) {
                        (ScalarStyle::Plain, _) if text == "<<" => {
                            let problem = Problem::new(key_at.clone(), "a merge key (`<<`) isn't allowed");
                            self.note(problem.help("put what is shared into a file and name it with `extends`"))?;
                        }
                        (ScalarStyle::Plain, Ok(value)) if !value.is_string() => {
                            let problem = Problem::new(key_at.clone(), format!("a key must be a text, found `{text}`"));
                            self.note(problem.help("put the key in quotes"))?;
                        }
                        _ => {}
                    }
                    text.into_owned()
                }
                _ => return self.stop(Problem::new(key_at, "a key must be a text")),
            };
            let (event, span) = self.next()?;
            if let Event::Scalar(text, ScalarStyle::Plain, 0, None) = &event
                && is_null(text)
            {
                let problem = Problem::new(key_at.clone(), format!("`{}` has no value", key.escape_debug()));
                self.note(problem.help("write a value, or leave the key out to get its default"))?;
                continue;
            }
            let node = self.node(event, span, depth + 1)?;
            if seen.insert(key.clone()) {
                entries.push(Entry { key, key_at, node });
            } else if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let problem = Problem::new(key_at, format!("`{}` is written twice", key.escape_debug()))
                    .label("again here")
                    .also(first.key_at.clone(), "first here")
                    .help("keep one of the two");
                self.note(problem)?;
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: &Location) -> Result<Value, Stop> {
        if style != ScalarStyle::Plain {
            return Ok(Value::String(text.to_owned()));
        }
        if is_null(text) {
            self.note(
                Problem::new(at.clone(), "a value is missing here")
                    .help(format!("write a value; there is no null in {}", self.kind.noun)),
            )?;
        }
        match resolve(text) {
            Ok(value) => Ok(value),
            Err(message) => {
                self.note(Problem::new(at.clone(), message))?;
                Ok(Value::Bool(false))
            }
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The value of a plain scalar by the YAML 1.2 core schema.
fn resolve(text: &str) -> Result<Value, String> {
    match text {
        "true" | "True" | "TRUE" => return Ok(true.into()),
        "false" | "False" | "FALSE" => return Ok(false.into()),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("`{text}` isn't allowed: numbers must be finite"));
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole =
        if let Some(hex) = text.strip_prefix("0x").filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            Some((hex, 16))
        } else if let Some(octal) = text.strip_prefix("0o").filter(|octal| digits(octal)) {
            Some((octal, 8))
        } else {
            digits(unsigned).then_some((text, 10))
        };
    if let Some((spelt, radix)) = whole.filter(|(spelt, _)| !spelt.is_empty()) {
        return match i128::from_str_radix(spelt, radix).map(|value| (u64::try_from(value), i64::try_from(value))) {
            Ok((Ok(value), _)) => Ok(value.into()),
            Ok((_, Ok(value))) => Ok(value.into()),
            _ => Err(format!("`{}` is too large a number", text.chars().take(40).collect::<String>())),
        };
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let number = digits(&format!("{before}{after}"))
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    match text.parse::<f64>() {
        Ok(value) if number && value.is_finite() => Ok(value.into()),
        Ok(_) if number => Err(format!("`{text}` is too large a number")),
        _ => Ok(Value::String(text.to_owned())),
    }
}
