//! The files of a report, laid out in a folder that appears at once.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::curves::Logged;
use super::parts::{Figure, Table};
use super::render::{Rendered, Templates};
use super::subject::Subject;
use super::{Report, shown};
use crate::inert;
use crate::measures;

/// The file by which a folder is known as a report, so that a new one may take its place.
const PAGE: &str = "report.html";

/// Files by their path in the report's folder.
pub type Files = Vec<(String, Vec<u8>)>;

/// The data of a report.
pub const DATA: &str = "report.json";

/// All files of a report: the page, Markdown, `report.json`, `figures/*.svg` and `data/*.csv`.
pub fn files(
    report: &Report,
    rendered: Rendered,
    templates: &Templates,
    subject: &Subject<'_>,
    logs: &[Vec<Logged>],
) -> Files {
    let mut files: Files =
        vec![(PAGE.into(), rendered.html.into_bytes()), ("report.md".into(), rendered.markdown.into_bytes())];
    // Names for keys and numbers for values: JSON can spell all of it.
    let json = serde_json::to_string(report).unwrap_or_default();
    files.push((DATA.into(), (inert::json(&json).into_owned() + "\n").into_bytes()));
    for section in &report.sections {
        let (tables, figures) = section.shown();
        files.extend(
            tables.into_iter().map(|table| (format!("data/{}.csv", table.id), csv_of_table(table).into_bytes())),
        );
        for figure in figures {
            files.push((format!("figures/{}.svg", figure.id), alone(figure, templates.figures()).into_bytes()));
            if !figure.lines.is_empty() {
                files.push((format!("data/figure-{}.csv", figure.id), csv_of_figure(figure).into_bytes()));
            }
        }
    }
    files.push(("data/curves.csv".into(), csv_of_logs(subject, logs).into_bytes()));
    files.push(("data/numbers.csv".into(), csv_of_numbers(subject).into_bytes()));
    files.sort();
    files
}

/// Writes the files into a new folder, which then takes the place of an older report at `folder`.
///
/// # Errors
/// When the disk refuses, or `folder` holds something else than a report.
pub fn write(folder: &Path, files: &Files) -> Result<(), String> {
    let fail = |verb: &str, path: &Path, error: std::io::Error| format!("cannot {verb} {}: {error}", path.display());
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| fail("create", parent, error))?;
    let there = folder.symlink_metadata().is_ok();
    let empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if there && !folder.join(PAGE).is_file() && !empty() {
        return Err(format!("{} is there and is no report", folder.display()));
    }
    let new = tempfile::Builder::new()
        .prefix(".new-report-")
        .tempdir_in(parent)
        .map_err(|error| fail("write below", parent, error))?;
    let inner = new.path().join("report");
    for (name, bytes) in files {
        let path = inner.join(name);
        let above = path.parent().unwrap_or(&inner);
        fs::create_dir_all(above).map_err(|error| fail("create", above, error))?;
        fs::write(&path, bytes).map_err(|error| fail("write", &path, error))?;
    }
    if there {
        let old = new.path().join("old");
        fs::rename(folder, &old).map_err(|error| fail("move", folder, error))?;
    }
    fs::rename(&inner, folder).map_err(|error| fail("write", folder, error))
}

/// A figure with its style sheet, to be shown outside of the page.
fn alone(figure: &Figure, style: &str) -> String {
    let drawing = &figure.drawing.0;
    match drawing.find('>') {
        Some(end) => format!("{}<style>{style}</style>{}\n", &drawing[..=end], &drawing[end + 1..]),
        None => String::new(),
    }
}

/// Numbers as they are, text guarded against being computed.
fn csv_of_table(table: &Table) -> String {
    let mut text = line(table.columns.iter().map(|column| inert::csv(&column.name)));
    for row in &table.rows {
        text +=
            &line(row.iter().map(|cell| cell.value.map_or_else(|| inert::csv(&cell.shown), |value| value.to_string())));
    }
    text
}

fn csv_of_figure(figure: &Figure) -> String {
    let mut text = line(["line", "x", "y", "low", "high", "hollow", "starts"].map(String::from));
    for of in &figure.lines {
        let name = inert::csv(&of.name);
        for dot in &of.dots {
            let (low, high) = dot.band.map_or_else(Default::default, |(low, high)| (low.to_string(), high.to_string()));
            text += &line([
                name.clone(),
                dot.x.to_string(),
                dot.y.to_string(),
                low,
                high,
                dot.hollow.to_string(),
                dot.starts.to_string(),
            ]);
        }
    }
    text
}

/// Every logged value of every run.
fn csv_of_logs(subject: &Subject<'_>, logs: &[Vec<Logged>]) -> String {
    let mut text = line(["run", "model", "seed", "metric", "iteration", "step", "value"].map(String::from));
    for ((place, run), log) in subject.all().zip(logs.iter().flatten()) {
        let group = inert::csv(&subject.groups[place].name);
        for (metric, series) in &log.0 {
            let head = format!("{},{group},{},{}", run.record.id, run.record.seed, inert::csv(metric));
            for (step, (iteration, value)) in series {
                // Writing into a string doesn't fail.
                let _ = writeln!(text, "{head},{iteration},{step},{value}");
            }
        }
    }
    text
}

/// Every number of every run with where it stands.
fn csv_of_numbers(subject: &Subject<'_>) -> String {
    let header = ["run", "model", "seed", "number", "value", "low", "high", "steps", "key", "digest", "refused"];
    let mut text = line(header.map(String::from));
    for (place, run) in subject.every() {
        let group = inert::csv(&subject.groups[place].name);
        for (address, measure) in measures::of_outputs(&run.record, &run.outputs) {
            let (low, high) =
                measure.interval.map_or_else(Default::default, |(low, high)| (low.to_string(), high.to_string()));
            text += &line([
                run.record.id.to_string(),
                group.clone(),
                run.record.seed.to_string(),
                inert::csv(&address.to_string()),
                measure.value.to_string(),
                low,
                high,
                measure.point.map_or_else(String::new, |point| point.cumulative.to_string()),
                measure.key.to_string(),
                measure.digest.to_string(),
                measure.refused.map_or_else(String::new, |why| inert::csv(&why)),
            ]);
        }
    }
    text
}

fn line(cells: impl IntoIterator<Item = String>) -> String {
    let mut text = cells.into_iter().collect::<Vec<_>>().join(",");
    text.push('\n');
    text
}

/// The folder that a report is written to where none is named.
pub fn default_folder(title: &str) -> std::path::PathBuf {
    Path::new("report").join(shown::slug(title))
}
