use std::path::{Path, PathBuf};

use clap::Subcommand;
use reprise_spec::contract::{Device, Exchange, Tool};
use serde_json::json;

use super::{model, print, progress};
use crate::exit::{Exit, Failure};

/// Make a model folder of a model that another program trained
///
/// The architecture must be one that Reprise computes exactly, and the tensors exactly those of that architecture; everything else is
/// refused by name. Nothing is unpickled.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand)]
enum From {
    /// A folder of Hugging Face transformers: HuBERT or Wav2Vec2, with or without a CTC head
    ///
    /// It holds config.json and model.safetensors, preprocessor_config.json if waves are normalised otherwise than fairseq does, and with a
    /// CTC head vocab.json.
    Hf(Paths),
    /// A state dict of torchaudio's Wav2Vec2Model or HuBERTPretrainModel
    ///
    /// M.safetensors, with M.json beside it: the arguments of torchaudio.models.wav2vec2_model, and model_type, normalize_waveform and, with an
    /// `aux` head, labels (the CTC blank first).
    Torchaudio(Paths),
    /// A fairseq checkpoint that experiments/convert/fairseq_to_safetensors.py has converted
    ///
    /// M.safetensors, with M.json beside it.
    Fairseq(Paths),
}

#[derive(clap::Args)]
struct Paths {
    /// The model of the other program
    model: PathBuf,
    /// The model folder to make; it must not be there yet
    out: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<Exit, Failure> {
    let (tool, paths): (fn(Exchange) -> Tool, _) = match args.from {
        From::Hf(paths) => (Tool::ImportHf, paths),
        From::Torchaudio(paths) => (Tool::ImportTorchaudio, paths),
        From::Fairseq(paths) => (Tool::ImportFairseq, paths),
    };
    let exchange = exchange(&paths.model, &paths.out)?;
    let scores = model::use_tool("import", tool(exchange), &model::machine(Device::Cpu, 1)?, None)?;
    match paths.json {
        true => print::json(&json!({ "folder": paths.out, "summary": scores })),
        false => print::line(format!("{}: {}", paths.out.display(), progress::scores(&scores))),
    }
    Ok(Exit::Fine)
}

/// Both ends as the trainer can be told them.
pub fn exchange(from: &Path, to: &Path) -> Result<Exchange, Failure> {
    Ok(Exchange { from: told(from)?, to: told(to)? })
}

/// A path as the trainer can be told it.
pub fn told(path: &Path) -> Result<PathBuf, Failure> {
    let help = "rename it, or a folder above it";
    path.to_str().ok_or_else(|| Failure::user(format!("the path {} is not UTF-8", path.display()), help))?;
    std::path::absolute(path).map_err(|error| Failure::user(format!("the path {path:?}: {error}"), "name a path"))
}
