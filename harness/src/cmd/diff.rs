use std::io::IsTerminal;
use std::path::Path;

use super::document;
use super::{Color, Places, load, print};
use crate::diff::{self, Side};
use crate::exit::{Exit, Failure};
use crate::store::Store;

mod sections;

/// Say in what two runs, settings or experiments differ, from the settings to the words that were recognised
///
/// Each of the two is one of: the start of a run's id; an experiment file, with the runs that the store has of it where it has one
/// variant; FILE@VARIANT, one variant of an experiment, with its runs; or `variant:` or `spec:` with the first digits of a hash that the
/// store knows. Two runs are compared whatever their seeds; runs of two settings seed by seed, with means and intervals.
///
/// From cause to effect: settings, data, code and uncommitted changes, environment, stages and why they part, numbers with their
/// tolerances, logged curves with the step at which they part, and hypotheses with the words that changed. Only what differs is shown.
///
/// Exits 0 when settings and data are equal and every number is within its tolerance, and 1 when not, or when seeds are too few to tell.
#[derive(clap::Args)]
pub struct Args {
    /// The one
    a: String,
    /// The other
    b: String,
    /// Show at most so many rows of a table, lines of a patch, and utterances of a decoded split
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
    /// Print Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print JSON, with all rows
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places, color: Color) -> Result<Exit, Failure> {
    let store = load::store(places, None)?;
    let (a, b) = (side(&args.a, &store)?, side(&args.b, &store)?);
    let diff = diff::compare(&a, &b, &store)?;
    match (args.json, args.markdown) {
        (true, _) => print::json(&diff),
        (false, true) => print::line(document::markdown(&sections::of(&diff, args.rows))),
        (false, false) => {
            let colour = color.on(std::io::stdout().is_terminal());
            print::coloured(document::terminal(&sections::of(&diff, args.rows), colour));
        }
    }
    Ok(if diff.answer.holds() { Exit::Fine } else { Exit::No })
}

fn side(given: &str, store: &Store) -> Result<Side, Failure> {
    if Path::new(given).is_file() {
        return Ok(Side::of_experiment(given, &load::read(Path::new(given))?.experiment, store)?);
    }
    // A file's name may have an @, and so may a variant's.
    let ats = given.match_indices('@').map(|(at, _)| (&given[..at], &given[at + 1..]));
    match ats.into_iter().find(|(file, _)| Path::new(file).is_file()) {
        Some((file, variant)) => {
            let experiment = load::read(Path::new(file))?.experiment;
            let chosen = load::chosen(&experiment, &[variant.to_owned()])?;
            let (_, variant) = chosen.first().expect("`chosen` refuses a name that it doesn't find");
            Ok(Side::of_variant(given, &experiment, variant, store)?)
        }
        None => Ok(Side::named(given, store)?),
    }
}
