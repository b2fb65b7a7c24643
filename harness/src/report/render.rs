//! Templates: from a report to a page and to Markdown.
//!
//! No decision is taken in a template, and no text of data reaches a page unescaped: what a template prints goes through [`inert`] and the escaping
//! of the file's kind, whoever wrote the template. The page runs nothing and loads nothing: its policy allows its one style sheet, by hash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use miette::Diagnostic;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, context};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::Report;
use crate::inert;

/// The templates that the program brings, by file name.
const TEMPLATES: [(&str, &str); 4] = [
    ("report.html", include_str!("../../../templates/report.html")),
    ("report.md", include_str!("../../../templates/report.md")),
    ("report.css", include_str!("../../../templates/report.css")),
    ("figure.css", include_str!("../../../templates/figure.css")),
];

/// What stands in for strings of Markdown, whose escaping is ours.
const MARKDOWN: AutoEscape = AutoEscape::Custom("markdown");

/// Why a report was not rendered.
#[derive(Debug, Error, Diagnostic)]
pub enum RenderError {
    #[error("cannot read the template {}: {error}", .path.display())]
    #[diagnostic(help("--templates DIR names a folder with any of report.html, report.md, report.css and figure.css"))]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{} has none of report.html, report.md, report.css and figure.css", .0.display())]
    #[diagnostic(help("copy one from the folder templates/ of the sources and change it"))]
    Nothing(PathBuf),
    #[error("the template {name}{place}: {message}")]
    #[diagnostic(help("a template sees `report` as report.json has it, `style`, `policy` and `svg(figure)`"))]
    Template { name: String, place: String, message: String },
}

impl From<minijinja::Error> for RenderError {
    fn from(error: minijinja::Error) -> Self {
        let place = error.line().map_or(String::new(), |line| format!(", line {line}"));
        let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
        let message = format!("{}{detail}", error.kind());
        Self::Template { name: error.name().unwrap_or("report").to_owned(), place, message }
    }
}

/// The texts of the templates, a user's own in place of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates(BTreeMap<&'static str, String>);

impl Templates {
    /// Ours, file by file replaced by those in a folder.
    ///
    /// # Errors
    /// When the folder has none of them, or one can't be read.
    pub fn with(folder: Option<&Path>) -> Result<Self, RenderError> {
        let mut texts: BTreeMap<&str, String> = TEMPLATES.map(|(name, text)| (name, text.to_owned())).into();
        let Some(folder) = folder else { return Ok(Self(texts)) };
        let mut found = false;
        for (name, _) in TEMPLATES {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    found = true;
                    texts.insert(name, text);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(RenderError::Read { path, error }),
            }
        }
        if found { Ok(Self(texts)) } else { Err(RenderError::Nothing(folder.to_path_buf())) }
    }

    /// The style sheet of figures, which those outside of the page carry with them.
    pub fn figures(&self) -> &str {
        self.0.get("figure.css").map_or("", String::as_str)
    }

    /// The style sheet of the page.
    fn style(&self) -> String {
        self.figures().to_owned() + self.0.get("report.css").map_or("", String::as_str)
    }
}

/// A report as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub html: String,
    pub markdown: String,
}

/// Fills both templates.
///
/// # Errors
/// When a template is no template, or asks for what isn't there.
pub fn render(report: &Report, templates: &Templates) -> Result<Rendered, RenderError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|name| if name.ends_with(".md") { MARKDOWN } else { AutoEscape::Html });
    environment.set_formatter(write_inert);
    environment.add_filter("code", code);
    let figures = report.sections.iter().flat_map(|section| section.shown().1);
    let drawings: BTreeMap<String, String> =
        figures.map(|figure| (figure.id.clone(), figure.drawing.0.clone())).collect();
    environment.add_function("svg", move |id: &str| -> Result<Value, minijinja::Error> {
        let missing =
            || minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, format!("there is no figure {id:?}"));
        drawings.get(id).map(|drawing| Value::from_safe_string(drawing.clone())).ok_or_else(missing)
    });
    for name in ["report.html", "report.md"] {
        environment.add_template_owned(name, templates.0.get(name).cloned().unwrap_or_default())?;
    }
    let style = templates.style();
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        Base64::encode_string(&Sha256::digest(style.as_bytes()))
    );
    let context = context! {
        report => Value::from_serialize(report.without_dots()),
        style => Value::from_safe_string(style),
        policy => Value::from_safe_string(policy),
    };
    let fill = |name: &str| environment.get_template(name).and_then(|template| template.render(&context));
    Ok(Rendered { html: fill("report.html")?, markdown: fill("report.md")? })
}

/// Prints a value: text that isn't ours inert first, then escaped for the kind of the file.
fn write_inert(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    let text = match value.as_str() {
        Some(text) if !value.is_safe() => text,
        _ if value.kind() == ValueKind::String => return Ok(out.write_str(value.as_str().unwrap_or_default())?),
        _ if state.auto_escape() == MARKDOWN => return Ok(out.write_str(&inert::markdown(&value.to_string()))?),
        _ => return minijinja::escape_formatter(out, state, value),
    };
    if state.auto_escape() == MARKDOWN {
        return Ok(out.write_str(&inert::markdown(text))?);
    }
    escape_html(&inert::terminal(text), out)
}

fn escape_html(text: &str, out: &mut Output<'_>) -> Result<(), minijinja::Error> {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        out.write_str(&rest[..at])?;
        out.write_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    Ok(out.write_str(rest)?)
}

/// Lines to be typed or read as they are: in a page escaped, in Markdown fenced by more backticks than they have.
fn code(state: &State<'_, '_>, text: &str) -> Value {
    let plain = inert::lines(text);
    let shown = match state.auto_escape() == MARKDOWN {
        true => {
            let runs = plain.split(|c| c != '`').map(str::len).max().unwrap_or(0);
            let fence = "`".repeat(runs.max(2) + 1);
            format!("{fence}text\n{}\n{fence}", plain.trim_end())
        }
        false => plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
    };
    Value::from_safe_string(shown)
}
