//! What is wrong with an experiment, where, and what to do.

use std::fmt;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// As the user or `extends` spelt it.
    pub name: String,
    pub text: String,
}

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub file: Arc<File>,
    /// In bytes from the start of the text.
    pub offset: usize,
    /// In bytes.
    pub length: usize,
}

impl Location {
    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        1 + self.before().matches('\n').count()
    }

    /// The column in characters, counted from 1.
    pub fn column(&self) -> usize {
        1 + self.before().rsplit('\n').next().map_or(0, |line| line.chars().count())
    }

    fn before(&self) -> &str {
        self.file.text.get(..self.offset).unwrap_or(&self.file.text)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.name, self.line(), self.column())
    }
}

/// Characters of a message; what quotes a hostile value is cut.
const LONGEST_MESSAGE: usize = 400;
/// Bytes of a line that is still worth an excerpt; drawing a file with a longer one would take long and show nothing.
const LONGEST_LINE: usize = 1_000;

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    pub message: String,
    pub help: Option<String>,
    /// Where it is wrong, and a few words to put there.
    pub at: Location,
    pub label: String,
    /// Other places that take part in it.
    pub also: Vec<(Location, String)>,
    /// What excerpts are drawn from, where the file's lines allow any.
    source: Option<NamedSource<String>>,
}

impl Problem {
    /// A problem at one place.
    pub fn new(at: Location, message: impl Into<String>) -> Self {
        let readable = at.file.text.lines().all(|line| line.len() <= LONGEST_LINE);
        let source = readable.then(|| NamedSource::new(&at.file.name, at.file.text.clone()));
        let mut message: String = message.into();
        if let Some((cut, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.replace_range(cut.., "…");
        }
        Self { message, help: None, at, label: "here".into(), also: Vec::new(), source }
    }

    /// What the place is called in the excerpt.
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// What to do about it.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Another place that takes part.
    pub fn also(mut self, at: Location, label: impl Into<String>) -> Self {
        self.also.push((at, label.into()));
        self
    }

    /// For listings and `--json`.
    pub fn plain(&self) -> PlainProblem {
        PlainProblem {
            file: self.at.file.name.clone(),
            line: self.at.line(),
            column: self.at.column(),
            message: self.message.clone(),
            help: self.full_help(),
        }
    }

    /// The help, and those places that no excerpt of this file can show.
    fn full_help(&self) -> Option<String> {
        let elsewhere = self.also.iter().filter(|(at, _)| at.file != self.at.file);
        let lines: Vec<String> =
            self.help.iter().cloned().chain(elsewhere.map(|(at, label)| format!("{label}: {at}"))).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Some(_) => f.write_str(&self.message),
            None => write!(f, "{}: {}", self.at, self.message),
        }
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.full_help().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let first = std::iter::once((&self.at, &self.label));
        let others = self.also.iter().filter(|(at, _)| at.file == self.at.file).map(|(at, label)| (at, label));
        Some(Box::new(
            first.chain(others).map(|(at, label)| LabeledSpan::new(Some(label.clone()), at.offset, at.length)),
        ))
    }
}

/// A problem as plain values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlainProblem {
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    pub message: String,
    pub help: Option<String>,
}

impl fmt::Display for PlainProblem {
    /// One line `file:line:column: message`, then the help indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        self.help.iter().flat_map(|help| help.lines()).try_for_each(|line| write!(f, "\n  help: {line}"))
    }
}

/// Everything that is wrong with an experiment, at least one thing.
#[derive(Clone, Debug)]
pub struct SpecErrors {
    /// The experiment that was asked for.
    pub file: String,
    pub problems: Vec<Problem>,
}

impl SpecErrors {
    /// For `--json`.
    pub fn plain(&self) -> Vec<PlainProblem> {
        self.problems.iter().map(Problem::plain).collect()
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "{} has a problem", self.file),
            count => write!(f, "{} has {count} problems", self.file),
        }
    }
}

impl std::error::Error for SpecErrors {}

impl Diagnostic for SpecErrors {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}
