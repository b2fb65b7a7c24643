use std::path::PathBuf;

use clap::Subcommand;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use reprise_spec::experiment::Experiment;

use super::{Places, load};
use crate::exit::{Exit, Failure};
use crate::golden::Files;
use crate::project::Project;

mod bypass;
mod change;
mod decide;
mod propose;
mod review;
mod status;

/// Propose, review and accept the golden metrics of an experiment
///
/// `golden/<experiment>.yaml` changes by review alone: `propose` writes what runs give now into `golden/<experiment>.yaml.new`, `review` goes
/// through it change by change, `accept` and `reject` decide without asking. `reprise check` compares.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Propose(propose::Args),
    Review(review::Args),
    /// Accept proposed changes without being asked about each
    Accept(decide::Args),
    /// Reject proposed changes without being asked about each
    Reject(decide::Args),
    Status(status::Args),
    Bypass(bypass::Args),
}

/// An experiment and its goldens.
#[derive(clap::Args)]
pub struct Of {
    /// The experiment file
    #[arg(value_name = "EXPERIMENT")]
    pub file: PathBuf,
    /// The golden file [default: `golden/<experiment>.yaml` beside the nearest `reprise.toml`, else here]
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
}

impl Of {
    /// The experiment, and where its goldens are.
    pub fn read(&self) -> Result<(Experiment, Files), Failure> {
        let experiment = load::read(&self.file)?.experiment;
        let name = experiment.name.clone();
        let files = match &self.golden {
            Some(path) => Files::at(path.clone(), name),
            None => Files::of(&folder(Some(&self.file))?, name),
        };
        Ok((experiment, files))
    }
}

/// The folder of golden files.
pub(super) fn folder(experiment: Option<&std::path::Path>) -> Result<PathBuf, Failure> {
    let here = load::here()?;
    let project = Project::find(&here, experiment)?;
    Ok(project.map_or(here, |project| project.root).join("golden"))
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Propose(args) => propose::run(args, places),
        Verb::Review(args) => review::run(args),
        Verb::Accept(args) => decide::accept(args),
        Verb::Reject(args) => decide::reject(args),
        Verb::Status(args) => status::run(args, places),
        Verb::Bypass(args) => bypass::run(args),
    }
}
