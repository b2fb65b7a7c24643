use std::path::PathBuf;

use clap::Subcommand;
use reprise_spec::contract::{Device, Tool};
use serde_json::json;

use super::import::exchange;
use super::{Places, load, model, print, progress};
use crate::exit::{Exit, Failure};
use crate::named;

/// Make a model ready for another program, which computes the same with it
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    to: To,
}

#[derive(Subcommand)]
enum To {
    /// A folder that Hugging Face transformers loads: HuBERT or Wav2Vec2, with what is above it
    Hf {
        /// A run, by its id or enough of the beginning; the output of a stage, by its digest or key; or a folder with a model
        model: String,
        /// The folder to make; it must not be there yet
        out: PathBuf,
        #[command(flatten)]
        which: model::Choice,
        /// Print what was made as JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let To::Hf { model, out, which, json } = args.to;
    let made = named::model(&model, which.into(), &load::store(places, None)?)?;
    let tool = Tool::ExportHf(exchange(&made.path, &out)?);
    let scores = model::use_tool("export", tool, &model::machine(Device::Cpu, 1)?, None)?;
    match json {
        true => print::json(&json!({ "folder": out, "model": made.path, "summary": scores })),
        false => print::line(format!("{}: {}", out.display(), progress::scores(&scores))),
    }
    Ok(Exit::Fine)
}
