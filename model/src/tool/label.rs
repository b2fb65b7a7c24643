//! `units`: labels audio files with a codebook, into one file in the order of the list.
//!
//! ```text
//! OUT.km, OUT.tsv              fairseq's labels, and root, relative paths and samples in the same order; or
//! OUT.jsonl                    one JSON object a line
//! OUT.km.json                  the settings that the labels were made with
//! OUT.km.unreadable.tsv        audio files that could not be used, where there are any
//! .OUT.km.finished.jsonl       what is finished, so that the work can be stopped and continued
//! ```

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use reprise_spec::contract::Score;
use reprise_spec::extraction::{AudioFile, Label, LabelFormat, State};
use reprise_spec::network::FeatureKind;
use reprise_spec::stage::UnitSource;
use serde_json::{Value, json};
use tch::{Device, Tensor};

use super::ToolWork;
use super::ledger::{self, Ledger, Row, Source, locked};
use super::waves::{self, Progress};
use crate::failure::StageError;
use crate::features::Extractor;
use crate::hidden_states::HiddenStates;
use crate::labels::{Codebook, Units};
use crate::source::{self, View};
use crate::stage::features;

/// The labels of one audio file.
type Labels = Vec<u16>;

/// Does the work. Memory is bounded by two decoded files and the frames of one.
pub fn run(settings: &Label, work: &mut ToolWork) -> Result<Vec<Score>, StageError> {
    let codebook = Codebook::read(&settings.codebook.path, work.device)?;
    let mut frames = Frames::open(settings, &codebook, work.device)?;
    let beside = |suffix: &str| beside(&settings.out, suffix);
    let about_path = beside(".json");
    if let Some(parent) = settings.out.parent() {
        fs::create_dir_all(parent).map_err(|error| StageError::io("cannot create", parent, &error))?;
    }
    if !about_path.exists() {
        refuse_what_is_there(settings)?;
    }
    let ledger = Ledger::open(&hidden(&settings.out), &about_path, &about(settings, &codebook.units, work))?;
    let ledger = Arc::new(Mutex::new(ledger));
    let finished = {
        let ledger = ledger.clone();
        move |source: &Source| {
            let row: Option<Row<Labels>> = locked(&ledger).find(&source.audio)?;
            Ok(row.is_some_and(|row| row.source == *source))
        }
    };
    let mut progress = Progress::new(&settings.audio);
    for read in waves::read(&settings.audio, finished)? {
        let Some((_, source, wave)) = progress.take(read?, &mut work.report)? else { continue };
        let samples = wave.len() as u64;
        let made: Labels = codebook.assign(&frames.of(wave)?);
        locked(&ledger).append(&Row { source, samples, made })?;
        progress.done(&mut work.report);
    }
    progress.write_unreadable(&beside(".unreadable.tsv"))?;
    write(settings, &codebook.units, &progress, &locked(&ledger))?;
    Ok(progress.scores())
}

/// What turns a wave into the frames that the codebook was fitted on.
enum Frames {
    Features { extractor: Extractor, view: View, device: Device },
    Layer(Box<HiddenStates>),
}

impl Frames {
    fn open(settings: &Label, codebook: &Codebook, device: Device) -> Result<Self, StageError> {
        let features = |kind, view| Self::Features { extractor: Extractor::new(kind, device), view, device };
        let frames = match codebook.units.source {
            UnitSource::Features(kind) => features(kind, View::Whole),
            UnitSource::MfccSubspace { order, splice } => features(FeatureKind::Mfcc, View::Subspace { order, splice }),
            UnitSource::Layer { height, after_final_norm } => {
                let model = settings.model.as_ref().ok_or_else(|| {
                    StageError::Failed("the request names no model for a codebook of its layer".into())
                })?;
                let state = State { layer: height.get(), after_final_norm };
                Self::Layer(Box::new(source::hidden_state(&model.path, state, device)?))
            }
        };
        let (clusters, columns) = codebook.centroids.tensor().size2()?;
        let width = frames.width();
        if columns != width {
            let message = format!("{clusters} centroids of {columns} numbers do not belong to frames of {width}");
            return Err(StageError::Failed(message));
        }
        Ok(frames)
    }

    /// Numbers a frame.
    fn width(&self) -> i64 {
        match self {
            Self::Features { extractor, view: View::Whole, .. } => extractor.dimensions() as i64,
            Self::Features { extractor, view: View::Subspace { splice, .. }, .. } => {
                extractor.dimensions() as i64 / 3 * i64::from(splice.get())
            }
            Self::Layer(layer) => layer.width() as i64,
        }
    }

    /// T × D, the same numbers that the `units` stage clustered.
    fn of(&mut self, wave: Vec<f32>) -> Result<Tensor, StageError> {
        match self {
            Self::Features { extractor, view, device } => {
                Ok(view.of(&features::of_wave(extractor, &wave, *device)?).f_to_device(*device)?)
            }
            Self::Layer(layer) => source::whole(layer, wave),
        }
    }
}

/// The settings that decide the labels.
fn about(settings: &Label, units: &Units, work: &ToolWork) -> Value {
    let Label { codebook, model, format, audio, root: _, out: _ } = settings;
    json!({
        "version": 1,
        "codebook": codebook.digest,
        "model": model.as_ref().map(|model| model.digest),
        "of": units.source.to_string(),
        "clusters": units.clusters,
        "labels-a-second": units.rate,
        "format": format,
        "conversion": audio.conversion,
        "device": work.request.device,
        "threads": work.request.threads,
        "build": env!("REPRISE_BUILD_ID"),
    })
}

/// A file beside the output, whose name is longer by `suffix`.
fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The ledger of an output.
fn hidden(out: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(out.file_name().unwrap_or_default());
    name.push(".finished.jsonl");
    out.with_file_name(name)
}

/// The table of files beside fairseq labels.
fn table(settings: &Label) -> Option<PathBuf> {
    (settings.format == LabelFormat::Km).then(|| settings.out.with_extension("tsv"))
}

fn refuse_what_is_there(settings: &Label) -> Result<(), StageError> {
    match [Some(settings.out.clone()), table(settings)].into_iter().flatten().find(|path| path.exists()) {
        Some(path) => {
            let message = format!("{} is there, and nothing beside it says what it was made with", path.display());
            Err(StageError::refused(message, "move it away, or give another --out"))
        }
        None => Ok(()),
    }
}

/// Writes the labels of every usable file of the list, in its order.
fn write(settings: &Label, units: &Units, progress: &Progress, ledger: &Ledger) -> Result<(), StageError> {
    let each = |act: &mut dyn FnMut(AudioFile, Row<Labels>) -> Result<(), StageError>| {
        for file in waves::files(&settings.audio.list)? {
            let file = file?;
            if progress.is_unreadable(&file.name) {
                continue;
            }
            let row = ledger.find(&file.name)?;
            let row = row.ok_or_else(|| StageError::Failed(format!("{} has no labels", file.name)))?;
            act(file, row)?;
        }
        Ok(())
    };
    if let Some(path) = table(settings) {
        ledger::write(&path, |out| {
            out.put(settings.root.display())?;
            each(&mut |file, row| {
                let relative = file.path.strip_prefix(&settings.root).unwrap_or(&file.path);
                out.put(format_args!("{}\t{}", relative.display(), row.samples))
            })
        })?;
    }
    ledger::write(&settings.out, |out| {
        each(&mut |file, row| match settings.format {
            LabelFormat::Km => {
                let labels: Vec<String> = row.made.iter().map(u16::to_string).collect();
                out.put(labels.join(" "))
            }
            LabelFormat::Jsonl => out.put(json!({
                "id": file.name.stem(), "samples": row.samples, "rate": units.rate, "labels": row.made,
            })),
        })
    })
}
