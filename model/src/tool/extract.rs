//! `extract`: hidden states of audio files, one file of them for each.
//!
//! ```text
//! OUT/extract.json             the settings that everything here was made with
//! OUT/<name>.safetensors       the states of one audio file, or .npy
//! OUT/index.tsv                what was made of what, once the list is done
//! OUT/unreadable.tsv           audio files that could not be used, where there are any
//! OUT/.finished.jsonl          what is finished, so that the work can be stopped and continued
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::contract::Score;
use reprise_spec::extraction::{Extract, State, StateFormat};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ToolWork;
use super::ledger::{self, Ledger, Row, Source, locked};
use super::states::{Shape, StateFile};
use super::waves::{self, Progress};
use crate::failure::StageError;
use crate::hidden_states::HiddenStates;

const ABOUT: &str = "extract.json";
const LEDGER: &str = ".finished.jsonl";
const INDEX: &str = "index.tsv";
const UNREADABLE: &str = "unreadable.tsv";

/// What was made of one audio file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Made {
    /// In bytes.
    size: u64,
    /// Of each layer.
    frames: Vec<u64>,
}

/// Does the work. Memory is bounded by two decoded files and the states of 100 s, whatever the number and length of the files.
pub fn run(settings: &Extract, work: &mut ToolWork) -> Result<Vec<Score>, StageError> {
    let hidden = HiddenStates::load(&settings.model.path, work.device, |network| {
        let help = "`--numbering` says whose numbers are meant, `--layers all` takes every layer";
        settings.numbering.states(&settings.layers, network).map_err(|message| StageError::refused(message, help))
    })?;
    let strides: Vec<u64> = hidden.states().iter().map(|state| hidden.stride(state)).collect();
    if settings.format == StateFormat::Npy && strides.iter().any(|stride| *stride != strides[0]) {
        let message = "these layers have several frame rates, which do not fit into one array";
        return Err(StageError::refused(message, "use `--format safetensors`, or ask for layers of one rate"));
    }
    let out = open_folder(&settings.out)?;
    let about = about(settings, &hidden, work);
    let ledger = Ledger::open(&out.join(LEDGER), &out.join(ABOUT), &about)?;
    let ledger = Arc::new(Mutex::new(ledger));
    let finished = {
        let (ledger, out, format) = (ledger.clone(), out.clone(), settings.format);
        move |source: &Source| {
            let row: Option<Row<Made>> = locked(&ledger).find(&source.audio)?;
            Ok(row.is_some_and(|row| {
                let path = out.join(file_name(row.source.audio.stem(), format));
                row.source == *source
                    && fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == row.made.size)
            }))
        }
    };
    let mut progress = Progress::new(&settings.audio);
    for read in waves::read(&settings.audio, finished)? {
        let Some((_, source, wave)) = progress.take(read?, &mut work.report)? else { continue };
        let path = out.join(file_name(source.audio.stem(), settings.format));
        make_parent(&path, &out)?;
        let samples = wave.len() as u64;
        let metadata = json!({ "audio": source.audio, "samples": samples, "extract": about });
        let made = write(&hidden, wave, settings.format, &path, &metadata)?;
        locked(&ledger).append(&Row { source, samples, made })?;
        progress.done(&mut work.report);
    }
    progress.write_unreadable(&out.join(UNREADABLE))?;
    write_index(&out.join(INDEX), &locked(&ledger), settings.format, &strides)?;
    Ok(progress.scores())
}

/// The output of an audio file.
fn file_name(stem: &str, format: StateFormat) -> String {
    format!("{stem}.{}", format.extension())
}

/// The settings that decide what is in the folder, and what its numbers mean.
fn about(settings: &Extract, hidden: &HiddenStates, work: &ToolWork) -> Value {
    let Extract { model, layers: _, numbering, format, audio, out: _ } = settings;
    let layer = |state: &State| {
        let stride = hidden.stride(state);
        let value = json!({
            "of": if state.layer == 0 { "the input of block 1".into() } else { format!("the output of block {}", state.layer) },
            "after-final-norm": state.after_final_norm,
            "width": hidden.width(),
            "samples-a-frame": stride,
            "frames-a-second": f64::from(SAMPLE_RATE) / stride as f64,
        });
        (state.layer, value)
    };
    json!({
        "version": 1,
        "model": model.digest,
        "numbering": numbering,
        "layers": hidden.states().iter().map(layer).collect::<BTreeMap<_, _>>(),
        "format": format,
        "conversion": audio.conversion,
        "device": work.request.device,
        "threads": work.request.threads,
        "build": env!("REPRISE_BUILD_ID"),
    })
}

/// Makes the folder, and refuses one that holds something else.
fn open_folder(out: &Path) -> Result<PathBuf, StageError> {
    let fail = |error: std::io::Error| StageError::io("cannot use the folder", out, &error);
    fs::create_dir_all(out).map_err(fail)?;
    let out = fs::canonicalize(out).map_err(fail)?;
    if out.join(ABOUT).exists() {
        return Ok(out);
    }
    for entry in fs::read_dir(&out).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        // What a kill leaves that comes before the settings are written.
        if name != LEDGER && Some(name.as_os_str()) != ledger::partial(&out.join(ABOUT)).file_name() {
            let message = format!("{} holds {}, but no {ABOUT}", out.display(), Path::new(&name).display());
            return Err(StageError::refused(message, "give an empty or new folder as --out"));
        }
    }
    Ok(out)
}

/// Makes the folder of an output, which must not lead out of `out` through a link.
fn make_parent(path: &Path, out: &Path) -> Result<(), StageError> {
    let parent = path.parent().unwrap_or(out);
    let fail = |error: std::io::Error| match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            let message = format!("{} cannot be a folder: a part of it is a file", parent.display());
            StageError::refused(message, "give an empty or new folder as --out")
        }
        _ => StageError::io("cannot create", parent, &error),
    };
    // Looking first keeps folders from being made behind a link.
    let existing = parent.ancestors().find(|folder| fs::symlink_metadata(folder).is_ok()).unwrap_or(out);
    if !fs::canonicalize(existing).map_err(fail)?.starts_with(out) {
        let message = format!("{} leads out of {} through a link", existing.display(), out.display());
        return Err(StageError::refused(message, "remove the link, or give another folder as --out"));
    }
    fs::create_dir_all(parent).map_err(fail)
}

/// Writes the states of a wave.
fn write(
    hidden: &HiddenStates,
    wave: Vec<f32>,
    format: StateFormat,
    path: &Path,
    metadata: &Value,
) -> Result<Made, StageError> {
    let samples = wave.len() as u64;
    let shape =
        |state: &State| Shape { number: state.layer, frames: hidden.frames(state, samples), width: hidden.width() };
    let shapes: Vec<Shape> = hidden.states().iter().map(shape).collect();
    let frames = shapes.iter().map(|shape| shape.frames).collect();
    let mut file = StateFile::create(path, format, shapes, metadata)?;
    for piece in hidden.of(wave) {
        file.append(&piece?)?;
    }
    Ok(Made { size: file.finish()?, frames })
}

/// The table of everything in the folder, sorted by the names of the audio files. Where all layers have one rate, `frames` is one number,
/// else one for each layer.
fn write_index(path: &Path, ledger: &Ledger, format: StateFormat, strides: &[u64]) -> Result<(), StageError> {
    let one_rate = strides.iter().all(|stride| *stride == strides[0]);
    ledger::write(path, |out| {
        out.put("audio\tfile\tsamples\tframes\taudio-bytes\taudio-sha256")?;
        for row in ledger.rows() {
            let Row { source, samples, made } = row?;
            let Made { mut frames, .. } = made;
            frames.truncate(if one_rate { 1 } else { frames.len() });
            let frames: Vec<String> = frames.iter().map(u64::to_string).collect();
            let (file, frames) = (file_name(source.audio.stem(), format), frames.join(","));
            let Source { audio, size, sha256 } = source;
            out.put(format_args!("{audio}\t{file}\t{samples}\t{frames}\t{size}\t{sha256}"))?;
        }
        Ok(())
    })
}
