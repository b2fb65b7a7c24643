//! Figures as SVG. Colours are classes that a style sheet gives, so that a figure reads in light and in dark.
//!
//! The `svg` crate writes them. A plotting library was left aside because those at hand write colours and fonts into every element and
//! have no place for a title, a description or a role.

use svg::Document;
use svg::node::Text;
use svg::node::element::{Circle, Description, Element, Group, Line as Stroke, Path, Rectangle, Text as Label, Title};

pub mod graph;
pub mod lines;

/// The widths of characters of a proportional font in sizes of the font: coarse, the same on every machine.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let of = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | ' ' | '.' | ',' | ':' | ';' | '\'' | '(' | ')' | '-' => 0.34,
        'm' | 'w' | 'M' | 'W' | '–' => 0.9,
        c if c.is_uppercase() => 0.68,
        c if c.is_ascii() => 0.57,
        _ => 1.0,
    };
    size * text.chars().map(of).sum::<f64>()
}

/// The beginning of a text that is at most so wide.
pub(super) fn fitting(text: &str, size: f64, most: f64) -> String {
    let text = crate::inert::terminal(text);
    if width(&text, size) <= most {
        return text.into_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if width(&kept, size) + width(&c.to_string(), size) + size > most {
            break;
        }
        kept.push(c);
    }
    kept.trim_end().to_owned() + "…"
}

/// An empty figure of this size in its own units, named for those who can't see it.
fn document(id: &str, title: &str, description: &str, [width, height]: [f64; 2]) -> Document {
    let (title_id, text_id) = (format!("{id}-title"), format!("{id}-text"));
    let labelled = format!("{title_id} {text_id}");
    let inert = |text: &str| crate::inert::terminal(text).into_owned();
    Document::new()
        .set("id", format!("figure-{id}"))
        .set("class", "figure")
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("role", "img")
        .set("aria-labelledby", labelled)
        .add(Title::new(inert(title)).set("id", title_id))
        .add(Description::new().set("id", text_id).add(Text::new(inert(description))))
}

/// A coordinate with one decimal.
fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

fn label(class: &str, [x, y]: [f64; 2], text: &str) -> Label {
    Label::new(text).set("class", class).set("x", at(x)).set("y", at(y))
}

fn stroke(class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> Stroke {
    Stroke::new().set("class", class).set("x1", at(x1)).set("y1", at(y1)).set("x2", at(x2)).set("y2", at(y2))
}

fn path(class: &str, data: String) -> Path {
    Path::new().set("class", class).set("d", data)
}

/// The marker of a style at a place: its shape says the style as its colour does.
fn marker(class: &str, shape: usize, [x, y]: [f64; 2]) -> Element {
    let path = |data: String| Path::new().set("class", class).set("d", data).into();
    let [l, r, t, b] = [at(x - 3.5), at(x + 3.5), at(y - 3.5), at(y + 3.5)];
    match shape % 4 {
        0 => Circle::new().set("class", class).set("cx", at(x)).set("cy", at(y)).set("r", 3.5).into(),
        1 => Rectangle::new().set("class", class).set("x", l).set("y", t).set("width", 7).set("height", 7).into(),
        2 => path(format!("M{} {}L{r} {b}L{l} {b}Z", at(x), at(y - 4.5))),
        _ => path(format!("M{} {t}L{r} {}L{} {b}L{l} {}Z", at(x), at(y), at(x), at(y))),
    }
}

fn group(class: &str) -> Group {
    Group::new().set("class", class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_their_place_and_stay_inert() {
        assert_eq!(fitting("baseline", 12.0, 100.0), "baseline");
        let cut = fitting("a variant with quite a long name", 12.0, 60.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0) <= 60.0 + 12.0, "{cut}");
        let hostile = document("x", "<script>", "\u{202e}\u{1b}[31m", [1.0, 1.0]).to_string();
        assert!(!hostile.contains("<script>") && !hostile.contains(['\u{202e}', '\u{1b}']), "{hostile}");
    }
}
