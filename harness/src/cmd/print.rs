//! Printing: data on standard output, messages on standard error. A reader that closes the pipe early is not an error.
//!
//! Whatever passes here is inert: see [`inert`].

use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use reprise_spec::experiment::Experiment;
use serde::Serialize;

use crate::exit::Failure;
use crate::inert;

/// Prints one line, or several.
pub fn line(text: impl AsRef<str>) {
    raw(&inert::lines(text.as_ref()));
}

/// Prints a message for people on standard error.
pub fn message(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", inert::lines(text.as_ref()));
}

/// Prints why something failed on standard error, in the colours of its report.
pub fn failure(failure: &Failure) {
    let _ = writeln!(std::io::stderr().lock(), "{}", inert::coloured(&format!("{:?}", failure.report)));
}

fn raw(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a value as indented JSON.
pub fn json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => raw(&inert::json(&text)),
        Err(error) => line(format!("{{\"error\": {:?}}}", error.to_string())),
    }
}

/// A table with aligned columns and no frame; the columns in `right` hold numbers.
pub fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| inert::terminal(cell)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// How many claims an experiment makes, to stand behind its identity; nothing where it makes none.
pub fn claims(experiment: &Experiment) -> String {
    match experiment.claims.len() {
        0 => String::new(),
        1 => ", 1 claim".into(),
        count => format!(", {count} claims"),
    }
}

/// Seconds as people say them: `0.4 s`, `3 min 20 s`, `1 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Bytes as people say them.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}

/// The kebab-case word that a unit variant is stored as.
pub fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::from("?"),
    }
}
