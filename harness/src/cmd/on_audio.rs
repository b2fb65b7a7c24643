//! What verbs that pass audio files through a trained model have in common.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use reprise_spec::contract::{Device, Score, Tool};
use reprise_spec::corpus::Conversion;
use reprise_spec::extraction::{AudioInput, Unreadable};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{load, model, print, run};
use crate::audio::AudioList;
use crate::exit::{Exit, Failure};
use crate::results;

/// Which audio, and how it is worked on.
#[derive(clap::Args)]
pub struct OnAudio {
    /// Audio files, folders that are searched for *.flac and *.wav, fairseq .tsv lists, or `-` for a list on standard input
    #[arg(required = true)]
    audio: Vec<PathBuf>,
    /// Average channels and resample what is not 16 kHz mono, instead of passing it over as unreadable
    #[arg(long)]
    convert: bool,
    /// Stop at the first file that cannot be read
    #[arg(long)]
    strict: bool,
    /// Where to compute: `cpu`, `cuda`, or `cuda:N`
    #[arg(long, default_value = "cpu", value_parser = run::device)]
    device: Device,
    /// Threads of the trainer; part of what the result is recorded with, because bits depend on it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Where the results are.
pub struct Output {
    pub path: PathBuf,
    /// The settings that they were made with.
    pub about: PathBuf,
    /// The table of audio files that could not be used.
    pub unreadable: PathBuf,
}

impl OnAudio {
    /// The files that are meant.
    pub fn list(&self) -> Result<AudioList, Failure> {
        Ok(AudioList::collect(&self.audio, &load::here()?, BufReader::new(std::io::stdin()))?)
    }

    /// The list as the trainer reads it; the file must live as long as the trainer.
    pub fn input(&self, list: &AudioList) -> Result<(AudioInput, NamedTempFile), Failure> {
        let file = list.write().map_err(|error| {
            let folder = std::env::temp_dir();
            Failure::user(
                format!("cannot write below {}: {error}", folder.display()),
                "set TMPDIR to a folder with room",
            )
        })?;
        let input = AudioInput {
            list: file.path().to_path_buf(),
            files: list.files.len() as u64,
            conversion: if self.convert { Conversion::Allow } else { Conversion::Refuse },
            unreadable: if self.strict { Unreadable::Fatal } else { Unreadable::Passed },
        };
        Ok((input, file))
    }

    /// Lets the trainer do the work.
    pub fn work(&self, name: &str, tool: Tool) -> Result<Vec<Score>, Failure> {
        model::use_tool(name, tool, &model::machine(self.device, self.threads)?, None)
    }

    /// Says what was done, and fails where a file could not be used.
    pub fn conclude(&self, scores: Vec<Score>, output: &Output) -> Result<Exit, Failure> {
        let count = |name: &str| results::find(&scores, name).map_or(0.0, |score| score.value);
        let [files, before, unreadable] = ["files", "finished-before", "unreadable"].map(|name| count(name) as u64);
        let path = output.path.display();
        if self.json {
            print::json(&json!({
                "out": output.path,
                "about": read_json(&output.about),
                "files": files,
                "finished-before": before,
                "unreadable": rows(&output.unreadable),
                "seconds": count("seconds"),
            }));
        } else {
            let earlier = if before > 0 { format!(", {before} of them before") } else { String::new() };
            print::line(format!("{} of {files} files finished{earlier}: {path}", files - unreadable.min(files)));
        }
        match unreadable {
            0 => Ok(Exit::Fine),
            _ => Err(Failure::user(
                format!("{unreadable} of {files} audio files could not be used; the others are done"),
                format!("{} says why; mend them and give the same command again", output.unreadable.display()),
            )),
        }
    }
}

fn read_json(path: &Path) -> Value {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The rows of a table of unreadable files; there is no table where there are none.
fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let row = |line: &str| line.split_once('\t').map(|(audio, reason)| json!({ "audio": audio, "reason": reason }));
    text.lines().skip(1).filter_map(row).collect()
}

/// A value by its kebab-case name.
pub fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.into())).map_err(|error| error.to_string())
}
