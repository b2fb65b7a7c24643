//! Files that are read and files that aren't, with what a person is told.

use std::fmt::Write;
use std::path::Path;

use miette::{GraphicalReportHandler, GraphicalTheme};
use reprise_spec::problem::SpecErrors;
use reprise_spec::read::{LoadError, Resolved, experiment};
use reprise_spec::source;

/// Reads a fixture, named relative to the folder of all fixtures so that messages don't depend on the machine.
fn read(path: &Path) -> Result<Resolved, SpecErrors> {
    let specs = path.parent().unwrap().parent().unwrap();
    let name = path.strip_prefix(specs).unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    experiment(name, &text, &mut |path| {
        std::fs::read_to_string(specs.join(path)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => LoadError::Missing,
            _ => LoadError::Other(error.to_string()),
        })
    })
}

/// What a person sees, then what a program sees.
fn message(errors: &SpecErrors) -> String {
    let handler =
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100).with_links(false);
    let mut shown = String::new();
    handler.render_report(&mut shown, errors).unwrap();
    shown.push_str("\n---\n");
    for problem in errors.plain() {
        writeln!(shown, "{problem}").unwrap();
    }
    let cut = shown.lines().map(|line| line.trim_end().chars().take(160).collect::<String>());
    cut.collect::<Vec<_>>().join("\n")
}

#[test]
fn invalid_experiments_say_what_to_do() {
    insta::glob!("../../../../tests/fixtures/specs/invalid", "*.yaml", |path| {
        let errors = read(path).expect_err("the file is invalid");
        insta::assert_snapshot!(message(&errors));
    });
}

#[test]
fn valid_experiments_are_read_whole() {
    insta::glob!("../../../../tests/fixtures/specs/valid", "*.yaml", |path| {
        let resolved = read(path).unwrap_or_else(|errors| panic!("{}", message(&errors)));
        let files: Vec<_> = resolved.sources.iter().map(|file| file.name.clone()).collect();
        insta::assert_snapshot!(format!("{files:?}\n{}", serde_yaml::to_string(&resolved.experiment).unwrap()));
    });
}

fn first_message(text: &str) -> String {
    let errors = experiment("a.yaml", text, &mut |_| Err(LoadError::Missing)).expect_err("the text is invalid");
    errors.plain()[0].message.clone()
}

#[test]
fn hostile_texts_are_refused() {
    assert_eq!(first_message(&"[".repeat(1_000_000)), "lists and maps nest more than 32 levels deep");
    assert_eq!(first_message(&"{a: ".repeat(250_000)), "lists and maps nest more than 32 levels deep");
    assert!(first_message(&"a: x\n".repeat(1_000_000)).starts_with("the file has 5000000 bytes"));
    let many: String =
        std::iter::once("seeds: [".to_owned()).chain((0..100_001).map(|seed| format!("{seed},"))).collect();
    assert_eq!(first_message(&format!("{many}]")), "the file has more than 100000 values");
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let message = |bytes: Vec<u8>| source::text("a.yaml", bytes).unwrap_err().problems[0].message.clone();
    assert_eq!(
        message(b"version: 1\nname: caf\xe9\n".to_vec()),
        "the file isn't UTF-8: byte 20 (line 2) can't be read as text"
    );
    assert!(message(vec![b' '; (1 << 20) + 1]).contains("1048577 bytes"));
}

#[test]
fn positions_count_characters_and_survive_other_line_ends() {
    let text = "version: 1\r\nquestion: Ünïcödé 语\r\nname: ['ö', {x: 1, x: 2}]\r\n";
    let errors = experiment("a.yaml", text, &mut |_| Err(LoadError::Missing)).unwrap_err();
    assert_eq!((errors.plain()[0].line, errors.plain()[0].column), (3, 20), "{:?}", errors.plain());
}
