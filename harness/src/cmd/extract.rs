use std::path::PathBuf;

use reprise_spec::contract::Tool;
use reprise_spec::extraction::{Extract, Layers, Numbering, StateFormat};

use super::on_audio::{self, OnAudio};
use super::{Places, load, model};
use crate::exit::{Exit, Failure};
use crate::named;

/// Files of the output that no audio file may take.
const RESERVED: [&str; 5] = ["extract.json", "index.tsv", "unreadable.tsv", ".finished.jsonl", ".partial"];

/// Compute hidden states of audio files, one file of them for each
///
/// Every audio file becomes OUT/<its name>.safetensors with a tensor `layer.N` (frames × width, 32-bit floats) for each layer, or .npy.
/// OUT/extract.json says what the numbers mean: model, numbering, width and rate of each layer; OUT/index.tsv what was made of what.
/// Audio longer than 100 s passes through the network in pieces of 100 s without context of each other.
///
/// The work can be stopped or killed at any moment: the same command goes on with what is not finished. Files that cannot be read are
/// named and counted, the others are done, and the exit code is 2.
#[derive(clap::Args)]
pub struct Args {
    /// A run, by its id or enough of the beginning; the output of a stage, by its digest or key; or a folder with a model
    #[arg(long, value_name = "RUN|OUTPUT|FOLDER")]
    model: String,
    #[command(flatten)]
    which: model::Choice,
    /// Layers by number, such as `0,6,12`; `all`; or `last`
    #[arg(long, default_value = "last", value_parser = layers)]
    layers: Layers,
    /// Whose numbers are meant: `reprise`, `hugging-face`, `fairseq`, `torchaudio`, `s3prl`
    ///
    /// Layer k of L is the output of block k in all of them. Layer 0, the input of block 1, is known to `reprise`, `hugging-face` and
    /// `s3prl` only. Of a pre-norm network (LARGE), layer L is taken after the final norm by `hugging-face` (transformers 4; transformers
    /// 5 takes it before, as `reprise` does) and `s3prl`, before it by the others.
    #[arg(long, default_value = "reprise", value_name = "WHOSE", value_parser = on_audio::word::<Numbering>)]
    numbering: Numbering,
    /// `safetensors`, or `npy`: frames × width of one layer, layers × frames × width of several
    #[arg(long, default_value = "safetensors", value_parser = on_audio::word::<StateFormat>)]
    format: StateFormat,
    #[command(flatten)]
    on: OnAudio,
    /// The folder of the output: a new or empty one, or one that the same command began
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn layers(text: &str) -> Result<Layers, String> {
    match text {
        "all" => return Ok(Layers::All),
        "last" => return Ok(Layers::Last),
        _ => {}
    }
    let numbers = text.split(',').map(|number| number.trim().parse::<u32>());
    let mut numbers: Vec<u32> =
        numbers.collect::<Result<_, _>>().map_err(|_| "use numbers such as 0,6,12, or all, or last".to_owned())?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Layers::These(numbers))
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let Args { model, which, layers, numbering, format, on, out } = args;
    let model = named::model(&model, which.into(), &load::store(places, None)?)?;
    let list = on.list()?;
    list.check_outputs(format.extension(), &RESERVED)?;
    let out = load::here()?.join(out);
    let unreadable = out.join("unreadable.tsv");
    let about = out.join("extract.json");
    let (input, kept) = on.input(&list)?;
    let tool = Tool::Extract(Extract { model, layers, numbering, format, audio: input, out: out.clone() });
    let outcome = on.work("extract", tool);
    drop(kept);
    on.conclude(outcome?, &on_audio::Output { path: out, about, unreadable })
}
