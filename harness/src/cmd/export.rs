use std::path::PathBuf;

use clap::Subcommand;
use reprise_spec::contract::{Device, Tool};
use serde_json::json;

use super::import::exchange;
use super::{Places, model, print, progress};
use crate::exit::{Exit, Failure};

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
        /// A model folder, or a run's id or its beginning
        model: String,
        /// The folder to make; it must not be there yet
        out: PathBuf,
        /// Which stage's model of a run; the last one's if left out
        #[arg(long, value_name = "NAME")]
        stage: Option<String>,
        /// Print what was made as JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let To::Hf { model, out, stage, json } = args.to;
    let from = model::folder(&model, stage.as_deref(), places)?;
    let tool = Tool::ExportHf(exchange(&from, &out)?);
    let scores = model::use_tool("export", tool, &model::machine(Device::Cpu, 1)?, None)?;
    match json {
        true => print::json(&json!({ "folder": out, "model": from, "summary": scores })),
        false => print::line(format!("{}: {}", out.display(), progress::scores(&scores))),
    }
    Ok(Exit::Fine)
}
