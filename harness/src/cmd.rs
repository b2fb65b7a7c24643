//! The command line: one file a verb.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::exit::{Exit, Failure};

pub mod check;
pub mod claim;
pub mod data;
pub mod diff;
pub mod doctor;
pub mod document;
pub mod explain;
pub mod export;
pub mod extract;
pub mod golden;
pub mod import;
pub mod list;
pub mod lm;
pub mod load;
pub mod model;
pub mod on_audio;
pub mod plan;
pub mod print;
pub mod progress;
pub mod publish;
pub mod recorded;
pub mod replay;
pub mod report;
pub mod rerun;
pub mod resume;
pub mod run;
pub mod schema;
pub mod show;
pub mod units;
pub mod validate;
pub mod verify;

/// Run speech pretraining experiments so that somebody else can run them again
///
/// An experiment is a YAML file. `reprise run` turns it into a graph of stages, executes those whose results are not stored yet, and
/// keeps every number beside what it came from.
#[derive(Parser)]
#[command(name = "reprise", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
    #[command(flatten)]
    pub places: Places,
    /// When to colour what is printed
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

/// Where things are on this machine. None of this changes an identity.
#[derive(clap::Args, Clone, Debug)]
pub struct Places {
    /// A folder that holds corpora, by name; may be given several times
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Vec<PathBuf>,
    /// The store [default: `.reprise` beside the nearest `reprise.toml`, else here]
    #[arg(long, global = true, value_name = "DIR", env = "REPRISE_STORE")]
    pub store: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether to colour what goes to a terminal, or elsewhere.
    pub fn on(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

#[derive(Subcommand)]
pub enum Verb {
    Validate(validate::Args),
    Schema(schema::Args),
    Plan(plan::Args),
    Explain(explain::Args),
    Run(run::Args),
    Resume(resume::Args),
    Rerun(rerun::Args),
    Diff(diff::Args),
    List(list::Args),
    Show(show::Args),
    Report(report::Args),
    Check(check::Args),
    Golden(golden::Args),
    Claim(claim::Args),
    Publish(publish::Args),
    Verify(verify::Args),
    Replay(replay::Args),
    Extract(extract::Args),
    Units(units::Args),
    Lm(lm::Args),
    Data(data::Args),
    Import(import::Args),
    Export(export::Args),
    Doctor(doctor::Args),
}

/// Executes the verb.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    let places = cli.places;
    match cli.verb {
        Verb::Validate(args) => validate::run(args),
        Verb::Schema(args) => schema::run(args),
        Verb::Plan(args) => plan::run(args, &places),
        Verb::Explain(args) => explain::run(args, &places),
        Verb::Run(args) => run::run(args, &places),
        Verb::Resume(args) => resume::run(args, &places),
        Verb::Diff(args) => diff::run(args, &places, cli.color),
        Verb::Rerun(args) => rerun::run(args, &places),
        Verb::List(args) => list::run(args, &places),
        Verb::Show(args) => show::run(args, &places),
        Verb::Report(args) => report::run(args, &places),
        Verb::Check(args) => check::run(args, &places),
        Verb::Golden(args) => golden::run(args, &places),
        Verb::Claim(args) => claim::run(args, &places),
        Verb::Publish(args) => publish::run(args, &places),
        Verb::Verify(args) => verify::run(args),
        Verb::Replay(args) => replay::run(args, &places),
        Verb::Import(args) => import::run(args),
        Verb::Export(args) => export::run(args, &places),
        Verb::Extract(args) => extract::run(args, &places),
        Verb::Units(args) => units::run(args, &places),
        Verb::Lm(args) => lm::run(args),
        Verb::Data(args) => data::run(args, &places),
        Verb::Doctor(args) => doctor::run(args, &places),
    }
}
