//! The waves of a list of audio files, read and decoded one ahead of what is done with them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use reprise_spec::arithmetic::FRAME_WINDOW;
use reprise_spec::contract::{Level, Score};
use reprise_spec::corpus::Conversion;
use reprise_spec::extraction::{AudioFile, AudioInput, AudioName, Unreadable};
use sha2::{Digest, Sha256};

use super::ledger::{self, Source};
use crate::audio::{self, AudioError};
use crate::failure::StageError;
use crate::report::Reporter;

/// One file of the list.
#[derive(Debug)]
pub struct Read {
    pub file: AudioFile,
    pub content: Content,
}

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    /// It was done with before, and is the same as then.
    Finished,
    /// At 16 kHz, at least one frame.
    Wave(Source, Vec<f32>),
    /// Why there is nothing to use.
    Unreadable(String),
}

/// Reads the files in the order of the list, the next one while the last is worked on. `finished` says which need not be decoded.
///
/// Memory is bounded by two decoded files.
pub fn read(
    input: &AudioInput,
    finished: impl Fn(&Source) -> Result<bool, StageError> + Send + 'static,
) -> Result<Receiver<Result<Read, StageError>>, StageError> {
    let list = files(&input.list)?;
    let conversion = input.conversion;
    let (sender, receiver) = sync_channel(0);
    std::thread::spawn(move || {
        for file in list {
            let read = file.and_then(|file| Ok(Read { content: content(&file, conversion, &finished)?, file }));
            let failed = read.is_err();
            if sender.send(read).is_err() || failed {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The entries of a list.
pub fn files(list: &Path) -> Result<impl Iterator<Item = Result<AudioFile, StageError>> + Send + use<>, StageError> {
    let path = list.to_owned();
    let lines = BufReader::new(File::open(list).map_err(|error| StageError::io("cannot read", list, &error))?).lines();
    Ok(lines.map(move |line| {
        let line = line.map_err(|error| StageError::io("cannot read", &path, &error))?;
        serde_json::from_str(&line).map_err(|error| StageError::Failed(format!("{}: {error}", path.display())))
    }))
}

fn content(
    file: &AudioFile,
    conversion: Conversion,
    finished: &dyn Fn(&Source) -> Result<bool, StageError>,
) -> Result<Content, StageError> {
    let bytes = match fs::metadata(&file.path) {
        // Reading a pipe or a device might never end.
        Ok(meta) if !meta.is_file() => return Ok(Content::Unreadable("not a file".into())),
        Ok(_) => fs::read(&file.path),
        Err(error) => Err(error),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Content::Unreadable(format!("cannot be read: {error}"))),
    };
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let source = Source { audio: file.name.clone(), size: bytes.len() as u64, sha256 };
    if finished(&source)? {
        return Ok(Content::Finished);
    }
    Ok(match decode(bytes, conversion, file.samples) {
        Ok(wave) => Content::Wave(source, wave),
        Err(reason) => Content::Unreadable(reason),
    })
}

/// The wave of a file that a list says has `listed` samples.
fn decode(bytes: Vec<u8>, conversion: Conversion, listed: Option<u64>) -> Result<Vec<f32>, String> {
    let wave = audio::decode(bytes, conversion).map_err(|error| match error {
        AudioError::OtherLayout { rate, channels } => {
            let s = if channels == 1 { "" } else { "s" };
            format!("{rate} Hz and {channels} channel{s}, not 16000 Hz mono; --convert would convert it")
        }
        error => error.to_string(),
    })?;
    let samples = wave.len() as u64;
    match listed {
        // A list counts samples at the file's own rate.
        Some(listed) if conversion == Conversion::Refuse && listed != samples => {
            Err(format!("{samples} samples, but {listed} in the list"))
        }
        _ if samples < FRAME_WINDOW => Err(format!("{samples} samples are shorter than one frame of 25 ms")),
        _ => Ok(wave),
    }
}

/// How far through the list the work is, and which files could not be used.
#[derive(Debug)]
pub struct Progress {
    files: u64,
    unreadable: Unreadable,
    done: u64,
    before: u64,
    samples: u64,
    reasons: BTreeMap<AudioName, String>,
}

impl Progress {
    pub fn new(input: &AudioInput) -> Self {
        let AudioInput { files, unreadable, .. } = *input;
        Self { files, unreadable, done: 0, before: 0, samples: 0, reasons: BTreeMap::new() }
    }

    /// Takes note of one file and returns its wave, where there is something to do.
    ///
    /// # Errors
    /// When the work was asked to stop, and for an unusable file where that is fatal.
    pub fn take(
        &mut self,
        read: Read,
        report: &mut Reporter,
    ) -> Result<Option<(AudioFile, Source, Vec<f32>)>, StageError> {
        report.check_stop()?;
        let Read { file, content } = read;
        match content {
            Content::Wave(source, wave) => {
                self.samples += wave.len() as u64;
                return Ok(Some((file, source, wave)));
            }
            Content::Finished => self.before += 1,
            Content::Unreadable(reason) => {
                let message = format!("{}: {reason}", file.path.display());
                if self.unreadable == Unreadable::Fatal {
                    return Err(StageError::refused(
                        message,
                        "leave the file out, or go on without it: take --strict away",
                    ));
                }
                report.say(Level::Warning, message);
                self.reasons.insert(file.name, reason);
            }
        }
        self.done(report);
        Ok(None)
    }

    /// Takes note that a file is finished.
    pub fn done(&mut self, report: &mut Reporter) {
        self.done += 1;
        let seconds = self.samples / u64::from(reprise_spec::arithmetic::SAMPLE_RATE);
        let note = format!("{} h {:02} min of audio", seconds / 3600, seconds % 3600 / 60);
        report.progress(self.done, self.files, "files", &note);
    }

    /// Whether a file of the list could not be used.
    pub fn is_unreadable(&self, name: &AudioName) -> bool {
        self.reasons.contains_key(name)
    }

    /// Writes what could not be used, by name, to a table at `path`; where all could, there is none.
    pub fn write_unreadable(&self, path: &Path) -> Result<(), StageError> {
        if self.reasons.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(StageError::io("cannot remove", path, &error))
                }
                _ => Ok(()),
            };
        }
        ledger::write(path, |out| {
            out.put("audio\treason")?;
            let line =
                |(name, reason): (&AudioName, &String)| format!("{name}\t{}", reason.replace(char::is_control, " "));
            self.reasons.iter().map(line).try_for_each(|line| out.put(line))
        })
    }

    /// Counts: files in the list, of these finished before and unreadable, and seconds of audio that were worked on.
    pub fn scores(&self) -> Vec<Score> {
        let seconds = self.samples as f64 / f64::from(reprise_spec::arithmetic::SAMPLE_RATE);
        [
            ("files", self.files as f64),
            ("finished-before", self.before as f64),
            ("unreadable", self.reasons.len() as f64),
            ("seconds", seconds),
        ]
        .map(|(name, value)| Score { name: name.into(), value, interval: None })
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::tests::{FLAC, wav};

    #[test]
    fn every_way_to_be_unusable_has_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8], samples: Option<u64>| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            AudioFile { path, name: AudioName::try_from(name.to_owned()).unwrap(), samples }
        };
        let reason = |file: &AudioFile, conversion| match content(file, conversion, &|_| Ok(false)).unwrap() {
            Content::Unreadable(reason) => reason,
            other => format!("{other:?}").chars().take(12).collect(),
        };
        let (refuse, allow) = (Conversion::Refuse, Conversion::Allow);
        let short = wav(16_000, 1, &[1; 399]);
        assert_eq!(reason(&file("short", &short, None), refuse), "399 samples are shorter than one frame of 25 ms");
        assert_eq!(reason(&file("listed", FLAC, Some(4801)), refuse), "4800 samples, but 4801 in the list");
        assert_eq!(reason(&file("cut", &FLAC[..3000], None), refuse).split(':').next(), Some("truncated"));
        let stereo = file("stereo", &wav(8_000, 2, &[1; 1600]), Some(800));
        assert_eq!(reason(&stereo, refuse), "8000 Hz and 2 channels, not 16000 Hz mono; --convert would convert it");
        assert_eq!(reason(&stereo, allow), "Wave(Source ");
        let missing = AudioFile { path: dir.path().join("none"), ..stereo.clone() };
        assert!(reason(&missing, allow).starts_with("cannot be read"));
        assert_eq!(reason(&AudioFile { path: dir.path().into(), ..stereo }, allow), "not a file");
    }

    #[test]
    fn a_finished_file_is_told_by_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.flac");
        fs::write(&path, FLAC).unwrap();
        let file =
            AudioFile { path: path.clone(), name: AudioName::try_from("a.flac".to_owned()).unwrap(), samples: None };
        let Content::Wave(before, _) = content(&file, Conversion::Refuse, &|_| Ok(false)).unwrap() else {
            panic!("a whole file")
        };
        let same = move |source: &Source| Ok(*source == before);
        assert!(matches!(content(&file, Conversion::Refuse, &same).unwrap(), Content::Finished));
        fs::write(&path, wav(16_000, 1, &[1; 800])).unwrap();
        assert!(matches!(content(&file, Conversion::Refuse, &same).unwrap(), Content::Wave(..)));
    }
}
