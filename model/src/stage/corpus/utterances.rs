//! Audio and transcripts of a split in LibriSpeech's layout: `speaker/chapter/utterance.flac` (or `.wav`) and `*.trans.txt` files of
//! `utterance TEXT` lines.

use std::collections::BTreeMap;

use reprise_spec::arithmetic::{FRAME_WINDOW, SAMPLE_RATE};
use reprise_spec::contract::Score;
use reprise_spec::corpus::Conversion;
use reprise_spec::values::SplitName;
use serde::{Deserialize, Serialize};

use super::files::{self, Listed};
use super::{named, score};
use crate::audio;
use crate::corpus::{Reading, Utterance, table};
use crate::failure::StageError;
use crate::stage::Work;

const TRANSCRIPTS: &str = ".trans.txt";

/// Reads and checks; gives `utterances.tsv`, `excluded.tsv` and `corpus.json`.
pub fn run(
    split: &SplitName,
    transcribed: bool,
    conversion: Conversion,
    exclude_at_most: u32,
    work: &mut Work,
) -> Result<Vec<Score>, StageError> {
    let files = files::listed(work)?;
    let contents = files::read_what_is_left(&files, work, |file, bytes| examine(file, bytes, conversion))?;
    let Checked { utterances, excluded } = assemble(files.iter().zip(contents), transcribed);
    refuse_if_too_many(split, &excluded, exclude_at_most)?;
    if utterances.is_empty() {
        let help = "a split has SPLIT/SPEAKER/CHAPTER/UTTERANCE.flac (or .wav) files";
        return Err(StageError::refused(format!("{split} has no utterance that can be used"), help));
    }
    work.write("utterances.tsv", table(&utterances).as_bytes())?;
    work.write("excluded.tsv", exclusions(&excluded).as_bytes())?;
    let reading = serde_json::to_vec(&Reading { transcribed, conversion });
    work.write("corpus.json", &reading.map_err(|error| StageError::Failed(error.to_string()))?)?;
    let samples: u64 = utterances.iter().map(|utterance| utterance.samples).sum();
    let mut scores = vec![
        score("utterances", utterances.len() as f64),
        score("seconds", samples as f64 / f64::from(SAMPLE_RATE)),
        score("excluded", excluded.len() as f64),
    ];
    if transcribed {
        let words =
            utterances.iter().flat_map(|utterance| utterance.transcript.iter()).flat_map(|t| t.split_whitespace());
        scores.push(score("words", words.count() as f64));
    }
    Ok(scores)
}

/// What one file holds.
#[derive(Serialize, Deserialize)]
enum Content {
    /// The number of samples at 16 kHz, or why there are none to use.
    Audio(Result<u64, String>),
    Transcripts(Vec<Line>),
    Other,
}

/// One line of a transcript file: an id and its transcript, or what is wrong with it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    id: String,
    text: Result<String, String>,
}

fn examine(file: &Listed, bytes: Vec<u8>, conversion: Conversion) -> Content {
    if utterance_id(file.name()).is_some() {
        return Content::Audio(match audio::decode(bytes, conversion) {
            Ok(wave) if (wave.len() as u64) < FRAME_WINDOW => {
                Err(format!("{} samples are shorter than one frame of 25 ms", wave.len()))
            }
            Ok(wave) => Ok(wave.len() as u64),
            Err(error) => Err(error.to_string()),
        });
    }
    if file.name().ends_with(TRANSCRIPTS) {
        return Content::Transcripts(transcripts(file.name(), &bytes));
    }
    Content::Other
}

/// The id that an audio file's name gives its utterance.
fn utterance_id(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    ["flac", "wav"].iter().any(|known| extension.eq_ignore_ascii_case(known)).then_some(stem)
}

fn transcripts(name: &str, bytes: &[u8]) -> Vec<Line> {
    let lines = bytes.split(|&byte| byte == b'\n').enumerate().map(|(index, line)| (index + 1, line.trim_ascii()));
    lines.filter(|(_, line)| !line.is_empty()).map(|(number, line)| transcript(name, number, line)).collect()
}

fn transcript(name: &str, number: usize, line: &[u8]) -> Line {
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (id, text) = line.split_at(end);
    let problem = |what: &str| Err(format!("{what} ({name} line {number})"));
    let text = match (std::str::from_utf8(id), std::str::from_utf8(text).map(str::trim)) {
        (Err(_), _) | (_, Err(_)) => problem("its transcript is not UTF-8"),
        (_, Ok("")) => problem("its transcript is empty"),
        (_, Ok(text)) if text.contains(char::is_control) => problem("its transcript has a control character"),
        (_, Ok(text)) => Ok(text.to_owned()),
    };
    Line { id: String::from_utf8_lossy(id).replace(char::is_control, "\u{FFFD}"), text }
}

/// An utterance or file that cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Excluded {
    id: String,
    /// Empty for a transcript without audio.
    path: String,
    reason: String,
}

/// Everything a split has, sorted into what can be used and what cannot, each by id.
#[derive(Debug, Default, PartialEq, Eq)]
struct Checked {
    utterances: Vec<Utterance>,
    excluded: Vec<Excluded>,
}

/// Where an utterance's audio lies, and its samples at 16 kHz or what is wrong with it.
type Audio<'a> = (&'a str, Result<u64, String>);

fn assemble<'a>(contents: impl Iterator<Item = (&'a Listed, Content)>, transcribed: bool) -> Checked {
    let mut audio: BTreeMap<String, Vec<Audio<'_>>> = BTreeMap::new();
    let mut lines: BTreeMap<String, Vec<Result<String, String>>> = BTreeMap::new();
    let mut checked = Checked::default();
    for (file, content) in contents {
        match content {
            Content::Audio(samples) => {
                let id = utterance_id(file.name()).unwrap_or_default().to_owned();
                audio.entry(id).or_default().push((&file.path, samples));
            }
            Content::Transcripts(read) => {
                read.into_iter().for_each(|Line { id, text }| lines.entry(id).or_default().push(text))
            }
            Content::Other => checked.excluded.push(Excluded {
                id: String::new(),
                path: file.path.clone(),
                reason: format!("neither .flac nor .wav nor {TRANSCRIPTS}"),
            }),
        }
    }
    for (id, files) in audio {
        let texts = lines.remove(&id).unwrap_or_default();
        let twice = (files.len() > 1).then(|| "another file has the same utterance id".to_owned());
        for (path, samples) in files {
            let usable = twice.clone().map_or(Ok(()), Err).and_then(|()| {
                Ok(Utterance {
                    samples: samples?,
                    speaker: speaker(&id, path)?,
                    transcript: if transcribed { Some(only(&texts)?) } else { None },
                    id: id.clone(),
                    path: path.to_owned(),
                })
            });
            match usable {
                Ok(utterance) => checked.utterances.push(utterance),
                Err(reason) => checked.excluded.push(Excluded { id: id.clone(), path: path.to_owned(), reason }),
            }
        }
    }
    if transcribed {
        let reason = "a transcript without audio";
        checked.excluded.extend(lines.into_keys().map(|id| Excluded {
            id,
            path: String::new(),
            reason: reason.into(),
        }));
    }
    checked.excluded.sort_by(|a, b| (&a.id, &a.path).cmp(&(&b.id, &b.path)));
    checked
}

fn only(texts: &[Result<String, String>]) -> Result<String, String> {
    match texts {
        [] => Err("audio without a transcript".into()),
        [text] => text.clone(),
        _ => Err(format!("it has {} transcripts", texts.len())),
    }
}

/// The folder above the chapter's.
fn speaker(id: &str, path: &str) -> Result<String, String> {
    if id.is_empty() || id.contains(char::is_whitespace) {
        return Err(format!("{id:?} is no utterance id: it is empty or has a space"));
    }
    let mut folders = path.rsplit('/').skip(2);
    folders.next().map(str::to_owned).ok_or_else(|| "it does not lie in SPEAKER/CHAPTER/".into())
}

fn refuse_if_too_many(split: &SplitName, excluded: &[Excluded], at_most: u32) -> Result<(), StageError> {
    let count = excluded.len();
    if count <= at_most as usize {
        return Ok(());
    }
    let problems = excluded.iter().map(|Excluded { id, path, reason }| {
        let name = if path.is_empty() { id } else { path };
        format!("{name}: {reason}")
    });
    Err(StageError::refused(
        format!("{split} has {count} unusable files or utterances, {at_most} may be left out:{}", named(problems)),
        format!("mend them, or set `corpus.exclude-at-most: {count}`: they are then left out and listed in the result"),
    ))
}

fn exclusions(excluded: &[Excluded]) -> String {
    let rows = excluded.iter().map(|Excluded { id, path, reason }| format!("{id}\t{path}\t{reason}\n"));
    std::iter::once("id\tpath\treason\n".to_owned()).chain(rows).collect()
}
