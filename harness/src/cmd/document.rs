//! Titled sections of tables, words and lines, for a terminal or as Markdown. Everything in them is made inert here.

use super::print;
use crate::diff::{Piece, Which};
use crate::inert;

/// A titled part of a document.
pub struct Section {
    pub title: &'static str,
    pub blocks: Vec<Block>,
}

/// What a section consists of.
pub enum Block {
    /// One paragraph.
    Text(String),
    Table(Table),
    /// Lines of words below a title, each line with its name.
    Words {
        title: String,
        lines: Vec<(&'static str, Vec<Piece>)>,
    },
    /// Lines of files.
    Lines(Vec<Piece>),
}

/// Rows below a header; the columns in `right` hold numbers.
pub struct Table {
    pub header: Vec<&'static str>,
    pub right: Vec<usize>,
    pub rows: Vec<Vec<String>>,
}

impl Block {
    pub fn table(header: &[&'static str], right: &[usize], rows: Vec<Vec<String>>) -> Self {
        Self::Table(Table { header: header.to_vec(), right: right.to_vec(), rows })
    }
}

/// The document as a terminal shows it.
pub fn terminal(sections: &[Section], colour: bool) -> String {
    let section = |section: &Section| {
        let blocks = section.blocks.iter().map(|block| on_terminal(block, colour));
        let title = (!section.title.is_empty()).then(|| styled(section.title, "1", colour));
        title.into_iter().chain(blocks).collect::<Vec<_>>().join("\n")
    };
    sections.iter().map(section).collect::<Vec<_>>().join("\n\n")
}

fn on_terminal(block: &Block, colour: bool) -> String {
    match block {
        Block::Text(text) => inert::terminal(text).into_owned(),
        Block::Table(Table { header, right, rows }) => print::table(header, right, rows.clone()),
        Block::Words { title, lines } => {
            let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
            let line = |(name, words): &(&str, Vec<Piece>)| {
                let words: Vec<String> = words.iter().map(|word| marked(word, colour)).collect();
                format!("  {name:width$}  {}", words.join(" ")).trim_end().to_owned()
            };
            std::iter::once(inert::terminal(title).into_owned())
                .chain(lines.iter().map(line))
                .collect::<Vec<_>>()
                .join("\n")
        }
        Block::Lines(lines) => {
            let line = |Piece { of, text }: &Piece| match of {
                None => format!("    {}", of_file(text)),
                Some(Which::A) => styled(&format!("A   {}", of_file(text)), RED, colour),
                Some(Which::B) => styled(&format!("B   {}", of_file(text)), GREEN, colour),
            };
            lines.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

/// A line of a file, indented as it is.
fn of_file(line: &str) -> String {
    inert::terminal(&line.replace('\t', "    ")).into_owned()
}

const RED: &str = "31";
const GREEN: &str = "32";

/// A word, marked in its side's colour, or between signs where there is none.
fn marked(Piece { of, text }: &Piece, colour: bool) -> String {
    let text = inert::terminal(text);
    match (of, colour) {
        (None, _) => text.into_owned(),
        (Some(Which::A), true) => styled(&text, RED, true),
        (Some(Which::B), true) => styled(&text, GREEN, true),
        (Some(Which::A), false) => format!("[-{text}-]"),
        (Some(Which::B), false) => format!("{{+{text}+}}"),
    }
}

fn styled(text: &str, style: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// The document as Markdown, its sections of the second level.
pub fn markdown(sections: &[Section]) -> String {
    let section = |section: &Section| {
        let title = (!section.title.is_empty()).then(|| format!("## {}", capitalised(section.title)));
        title.into_iter().chain(section.blocks.iter().map(in_markdown)).collect::<Vec<_>>().join("\n\n")
    };
    sections.iter().map(section).collect::<Vec<_>>().join("\n\n")
}

fn in_markdown(block: &Block) -> String {
    match block {
        Block::Text(text) => inert::markdown(text),
        Block::Table(Table { header, right, rows }) => {
            let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
            let rule = (0..header.len()).map(|column| if right.contains(&column) { "---:" } else { "---" }.to_owned());
            let cells = |cells: &Vec<String>| row(cells.iter().map(|cell| inert::markdown(cell)).collect());
            let head = [row(header.iter().map(|name| (*name).to_owned()).collect()), row(rule.collect())];
            head.into_iter().chain(rows.iter().map(cells)).collect::<Vec<_>>().join("\n")
        }
        Block::Words { title, lines } => {
            let word = |Piece { of, text }: &Piece| match of {
                None => inert::markdown(text),
                Some(Which::A) => format!("~~{}~~", inert::markdown(text)),
                Some(Which::B) => format!("**{}**", inert::markdown(text)),
            };
            let line = |(name, words): &(&str, Vec<Piece>)| {
                format!("- {name}: {}", words.iter().map(word).collect::<Vec<_>>().join(" "))
            };
            let lines = lines.iter().map(line).collect::<Vec<_>>().join("\n");
            format!("{}\n\n{lines}", inert::markdown(title))
        }
        // Indented: what a line says can't end the block.
        Block::Lines(lines) => {
            let mark = |of: &Option<Which>| match of {
                None => " ",
                Some(Which::A) => "A",
                Some(Which::B) => "B",
            };
            let line = |piece: &Piece| format!("    {} {}", mark(&piece.of), of_file(&piece.text));
            lines.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

fn capitalised(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
