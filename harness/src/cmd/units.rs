use std::path::{Path, PathBuf};

use reprise_spec::contract::Tool;
use reprise_spec::extraction::{Label, LabelFormat};

use super::on_audio::{self, OnAudio};
use super::{Places, load};
use crate::exit::{Exit, Failure};
use crate::named;

/// Label audio files with a codebook
///
/// The labels of every audio file become one line of OUT: numbers with spaces between them in a fairseq .km, beside which a .tsv names
/// root, relative paths and samples in the same order; or a JSON object with `id`, `samples`, `rate` (labels a second) and `labels`. A
/// codebook of acoustic features computes them; one of a layer runs the model that it was fitted on. The labels are the ones that the
/// experiment itself would store. OUT.json says what they were made with.
///
/// The work can be stopped or killed at any moment: the same command goes on with what is not finished. Files that cannot be read are
/// named and counted, the others are done, and the exit code is 2.
#[derive(clap::Args)]
pub struct Args {
    /// A run, by its id or enough of the beginning; or the output of a `units` stage, by its digest, key or folder
    #[arg(long, value_name = "RUN|OUTPUT")]
    codebook: String,
    /// Which iteration of a run: the units that it predicted [default: the last]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    iteration: Option<u32>,
    /// Which of the sets of units that an iteration of a run predicted, counted from 0 [default: 0]
    #[arg(long, value_name = "I")]
    set: Option<u32>,
    /// `km` or `jsonl` [default: what the extension of OUT says, else `km`]
    #[arg(long, value_parser = on_audio::word::<LabelFormat>)]
    format: Option<LabelFormat>,
    #[command(flatten)]
    on: OnAudio,
    /// The file of the output, or a folder for `units.km` or `units.jsonl`
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let Args { codebook, iteration, set, format, on, out } = args;
    let (codebook, model) = named::codebook(&codebook, iteration, set, &load::store(places, None)?)?;
    let list = on.list()?;
    let (out, format) = output(&load::here()?.join(out), format)?;
    list.check_outputs(format.extension(), &[])?;
    let with = |suffix: &str| {
        let mut path = out.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    };
    let (about, unreadable) = (with(".json"), with(".unreadable.tsv"));
    let (input, kept) = on.input(&list)?;
    let root = list.root.clone();
    let tool = Tool::Label(Label { codebook, model, format, audio: input, root, out: out.clone() });
    let outcome = on.work("units", tool);
    drop(kept);
    on.conclude(outcome?, &on_audio::Output { path: out, about, unreadable })
}

/// The file that is meant, and its format.
fn output(out: &Path, format: Option<LabelFormat>) -> Result<(PathBuf, LabelFormat), Failure> {
    let formats = [LabelFormat::Km, LabelFormat::Jsonl];
    let folder = out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/");
    let said = out.extension().and_then(|extension| formats.into_iter().find(|format| extension == format.extension()));
    let said = said.filter(|_| !folder);
    let format = match (format, said) {
        (Some(format), Some(said)) if format != said => {
            let message = format!("{} does not end in .{}", out.display(), format.extension());
            return Err(Failure::user(
                message,
                "give --format and the extension of --out alike, or leave --format out",
            ));
        }
        (Some(format), _) => format,
        (None, said) => said.unwrap_or(LabelFormat::Km),
    };
    let mut path = if folder { out.join("units") } else { out.to_path_buf() }.into_os_string();
    if said.is_none() {
        path.push(".");
        path.push(format.extension());
    }
    Ok((path.into(), format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_says_the_format_and_the_format_the_extension() {
        let of = |out: &str, format| {
            output(Path::new(out), format).map(|(path, format)| (path.display().to_string(), format))
        };
        use LabelFormat::{Jsonl, Km};
        for (out, format, expected, meant) in [
            ("a.km", None, "a.km", Km),
            ("a.jsonl", None, "a.jsonl", Jsonl),
            ("a", None, "a.km", Km),
            ("a.b", Some(Jsonl), "a.b.jsonl", Jsonl),
            ("none/", None, "none/units.km", Km),
            ("/", Some(Jsonl), "/units.jsonl", Jsonl),
        ] {
            assert_eq!(of(out, format).unwrap(), (expected.to_owned(), meant), "{out}");
        }
        assert!(of("a.km", Some(Jsonl)).is_err());
    }
}
