//! What a report is made of: sections of paragraphs, tables and figures, each with the numbers that it shows.

use reprise_spec::recognition::Operation;
use serde::Serialize;

use crate::measures::Address;
use crate::store::RunId;

/// One section.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Section {
    /// By which a template or a link names it.
    pub id: &'static str,
    pub heading: String,
    pub parts: Vec<Part>,
}

/// A piece of a section.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Text(String),
    /// What restricts the numbers around it.
    Note(String),
    List(Vec<String>),
    /// Lines to be typed, or settings.
    Code(String),
    Table(Table),
    Figure(Figure),
    /// Figures to be seen beside each other.
    Figures(Vec<Figure>),
    /// Shown on request.
    Folded(Folded),
    Utterances(Vec<Utterance>),
}

/// Parts that are shown on request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Folded {
    pub summary: String,
    /// Whether it is unfolded at first.
    pub open: bool,
    pub parts: Vec<Part>,
}

/// A table. The first cell of a row is its header.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Table {
    /// Unique in the report; the name of its CSV file.
    pub id: String,
    pub caption: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// Whether its cells are shaded by their values.
    pub heat: bool,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Column {
    pub name: String,
    /// Whether it holds numbers.
    pub numeric: bool,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cell {
    /// What people read.
    pub shown: String,
    /// The number, unrounded and in its own unit; null where it is not finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The numbers of runs that it is, or is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
    /// How dark it is, 0 to 9, in a table that is shaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shade: Option<u8>,
    /// A word that sets it apart: `pass`, `fail`, `undecided`, `refused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

/// How a cell is set apart. The cell's text says it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    Good,
    Bad,
    Unsure,
    /// It supports nothing.
    Void,
}

/// Where a number stands: its stage of the run has the key and the digest in the report's list of runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Source {
    pub run: RunId,
    pub number: Address,
}

/// A figure: lines over a common axis, or boxes joined by arrows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figure {
    /// Unique in the report; the name of its files.
    pub id: String,
    pub title: String,
    /// What it shows, in words.
    pub description: String,
    /// What its reader must know, shown beside its title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What is drawn, as far as the figure is of numbers.
    pub lines: Vec<Line>,
    /// The names of the two axes.
    pub axes: [String; 2],
    #[serde(skip)]
    pub drawing: Drawing,
}

/// An SVG element, as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawing(pub String);

/// A line of a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    pub name: String,
    pub style: Style,
    pub dots: Vec<Dot>,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// The group at this place of the report.
    Group(usize),
    /// The group at this place, of which there is one number for the whole axis.
    Level(usize),
    /// What shuffled labels give.
    Null,
    /// What random weights give.
    Control,
}

/// A point of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dot {
    pub x: f64,
    pub y: f64,
    /// The lowest and highest of several seeds, or the ends of an interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<(f64, f64)>,
    /// Of a model in mid-schedule: it supports no comparison.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hollow: bool,
    /// No line leads here from the dot before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub starts: bool,
}

/// One utterance as a model of a run recognised it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Utterance {
    pub id: String,
    pub speaker: String,
    pub by: String,
    pub words: Vec<Word>,
}

/// One step of an utterance's alignment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Word {
    /// `C`, `S`, `D` or `I`.
    pub operation: char,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypothesis: Option<String>,
}

impl Word {
    /// The words of an alignment, as far as it fits its reference and hypothesis.
    pub fn aligned(operations: &[Operation], reference: &str, hypothesis: &str) -> Vec<Self> {
        let (mut reference, mut hypothesis) = (reference.split_whitespace(), hypothesis.split_whitespace());
        let mut next = |operation: &Operation| {
            let reference = if *operation == Operation::Insertion { None } else { reference.next() };
            let hypothesis = if *operation == Operation::Deletion { None } else { hypothesis.next() };
            let [reference, hypothesis] = [reference, hypothesis].map(|word| word.map(str::to_owned));
            Self { operation: operation.letter(), reference, hypothesis }
        };
        operations.iter().map(&mut next).collect()
    }
}

impl Table {
    /// A table whose columns of numbers are named with a `#` before them.
    pub fn new(id: impl Into<String>, caption: impl Into<String>, columns: &[&str], rows: Vec<Vec<Cell>>) -> Self {
        let column = |name: &&str| Column {
            name: name.strip_prefix('#').unwrap_or(name).to_owned(),
            numeric: name.starts_with('#'),
        };
        let columns = columns.iter().map(column).collect();
        Self { id: id.into(), caption: caption.into(), columns, rows, heat: false }
    }
}

impl Cell {
    pub fn text(shown: impl Into<String>) -> Self {
        Self { shown: shown.into(), ..Self::default() }
    }

    /// Where there is nothing to show.
    pub fn none() -> Self {
        Self::text("–")
    }

    /// A number as `how` shows it; one that is not finite as what it is.
    pub fn number(value: f64, how: impl Fn(f64) -> String) -> Self {
        match value.is_finite() {
            true => Self { shown: how(value), value: Some(value), ..Self::default() },
            false => Self { shown: value.to_string(), mark: Some(Mark::Void), ..Self::default() },
        }
    }

    pub fn count(value: u64) -> Self {
        Self::number(value as f64, |_| value.to_string())
    }

    /// [`Cell::number`] where there is one.
    pub fn maybe(value: Option<f64>, how: impl Fn(f64) -> String) -> Self {
        value.map_or_else(Self::none, |value| Self::number(value, how))
    }

    pub fn from(mut self, sources: impl IntoIterator<Item = Source>) -> Self {
        self.from.extend(sources);
        self
    }

    pub fn marked(self, mark: Mark) -> Self {
        Self { mark: Some(mark), ..self }
    }
}

impl Section {
    pub fn new(id: &'static str, heading: impl Into<String>, parts: Vec<Part>) -> Self {
        Self { id, heading: heading.into(), parts }
    }

    /// Its tables and figures, those of folded parts included.
    pub fn shown(&self) -> (Vec<&Table>, Vec<&Figure>) {
        let (mut tables, mut figures) = (Vec::new(), Vec::new());
        gather(&self.parts, &mut tables, &mut figures);
        (tables, figures)
    }
}

fn gather<'a>(parts: &'a [Part], tables: &mut Vec<&'a Table>, figures: &mut Vec<&'a Figure>) {
    for part in parts {
        match part {
            Part::Table(table) => tables.push(table),
            Part::Figure(figure) => figures.push(figure),
            Part::Figures(several) => figures.extend(several),
            Part::Folded(folded) => gather(&folded.parts, tables, figures),
            Part::Text(_) | Part::Note(_) | Part::List(_) | Part::Code(_) | Part::Utterances(_) => {}
        }
    }
}
