use super::print;
use crate::exit::{Exit, Failure};

/// Print the JSON Schema of the experiment language, for editors
///
/// Put `# yaml-language-server: $schema=FILE` at the top of an experiment to have an editor check and complete it.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> Result<Exit, Failure> {
    print::json(&reprise_spec::schema::schema());
    Ok(Exit::Fine)
}
