//! The utterances that a `corpus` stage checked, for the stages that read their audio and transcripts.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::corpus::Conversion;
use reprise_spec::stage::Role;
use reprise_spec::values::SplitName;
use serde::{Deserialize, Serialize};

use crate::audio;
use crate::failure::StageError;
use crate::stage::Work;

/// Bytes of samples that are kept in memory so that later epochs need not decode them again.
const CACHE_BYTES: usize = 1 << 30;
/// The columns of `utterances.tsv`.
const HEADER: &str = "id\tpath\tsamples\tspeaker\ttranscript";

/// One stretch of speech by one speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    /// The file's name without its extension.
    pub id: String,
    /// The audio file below the data root.
    pub path: String,
    /// Length at 16 kHz.
    pub samples: u64,
    pub speaker: String,
    /// `None` in splits without transcripts.
    pub transcript: Option<String>,
}

/// How a split's audio was read; stored as `corpus.json` beside `utterances.tsv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reading {
    pub transcribed: bool,
    pub conversion: Conversion,
}

/// One split: its utterances, sorted by id, and the way to their samples. May be read from several threads.
#[derive(Debug)]
pub struct Corpus {
    pub utterances: Vec<Utterance>,
    pub reading: Reading,
    root: PathBuf,
    cache: Arc<Cache>,
}

impl Corpus {
    /// Reads what a `corpus` stage left in `dir`; audio paths start from `data_root`.
    pub fn read(dir: &Path, data_root: &Path) -> Result<Self, StageError> {
        Self::with_cache(dir, data_root, Arc::new(Cache::new(CACHE_BYTES)))
    }

    /// The same for a stage that needs each wave once: nothing decoded is kept.
    pub fn read_once(dir: &Path, data_root: &Path) -> Result<Self, StageError> {
        Self::with_cache(dir, data_root, Arc::new(Cache::new(0)))
    }

    fn with_cache(dir: &Path, data_root: &Path, cache: Arc<Cache>) -> Result<Self, StageError> {
        let text = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|error| StageError::io("cannot read", &path, &error))
        };
        let damaged = |what: String| StageError::Failed(format!("{}: {what}", dir.display()));
        let reading: Reading =
            serde_json::from_str(&text("corpus.json")?).map_err(|e| damaged(format!("corpus.json: {e}")))?;
        let utterances = parse(&text("utterances.tsv")?, reading.transcribed).map_err(damaged)?;
        Ok(Self { utterances, reading, root: data_root.to_owned(), cache })
    }

    /// The utterance of this id.
    pub fn find(&self, id: &str) -> Option<&Utterance> {
        let index = self.utterances.binary_search_by(|utterance| utterance.id.as_str().cmp(id)).ok()?;
        Some(&self.utterances[index])
    }

    /// Length of all utterances together.
    pub fn seconds(&self) -> f64 {
        let samples: u64 = self.utterances.iter().map(|utterance| utterance.samples).sum();
        samples as f64 / f64::from(SAMPLE_RATE)
    }

    /// All samples of an utterance of this corpus at 16 kHz, `utterance.samples` numbers in `[-1, 1]`.
    ///
    /// Refused when the file is no longer the one that the `corpus` stage checked.
    pub fn wave(&self, utterance: &Utterance) -> Result<Vec<f32>, StageError> {
        self.crop(utterance, 0, utterance.samples)
    }

    /// `length` samples from sample `start`; both within the utterance.
    pub fn crop(&self, utterance: &Utterance, start: u64, length: u64) -> Result<Vec<f32>, StageError> {
        if start.checked_add(length).is_none_or(|end| end > utterance.samples) {
            let Utterance { id, samples, .. } = utterance;
            return Err(StageError::Failed(format!("{length} samples from {start} are not within {id} of {samples}")));
        }
        let path = self.root.join(&utterance.path);
        let samples = match self.cache.get(&path) {
            Some(samples) => samples,
            None => self.cache.keep(path.clone(), self.decode(&path, utterance)?),
        };
        Ok(samples.range(start as usize, length as usize))
    }

    fn decode(&self, path: &Path, utterance: &Utterance) -> Result<Samples, StageError> {
        const HELP: &str = "run again: the changed files give the corpus another identity";
        let bytes = fs::read(path).map_err(|error| StageError::io("cannot read", path, &error))?;
        let wave = audio::decode(bytes, self.reading.conversion)
            .map_err(|error| StageError::refused(format!("{} has changed: {error}", path.display()), HELP))?;
        if wave.len() as u64 != utterance.samples {
            let (found, checked) = (wave.len(), utterance.samples);
            let message = format!("{} has changed: {found} samples, {checked} when it was checked", path.display());
            return Err(StageError::refused(message, HELP));
        }
        Ok(Samples::new(wave))
    }
}

/// Several splits that are used together.
#[derive(Debug)]
pub struct Corpora {
    /// In the order they were asked for.
    pub splits: Vec<(SplitName, Corpus)>,
}

impl Corpora {
    /// Reads the [`Role::Corpus`] inputs of `splits`; they share one memory for decoded audio.
    pub fn read(work: &Work, splits: &[SplitName]) -> Result<Self, StageError> {
        let cache = Arc::new(Cache::new(CACHE_BYTES));
        let read = |split: &SplitName| {
            let dir = work.input(&Role::Corpus(split.clone()))?;
            Ok((split.clone(), Corpus::with_cache(dir, work.data_root()?, cache.clone())?))
        };
        Ok(Self { splits: splits.iter().map(read).collect::<Result<_, StageError>>()? })
    }

    /// Every utterance with its split, split by split.
    pub fn iter(&self) -> impl Iterator<Item = (&SplitName, &Corpus, &Utterance)> {
        self.splits.iter().flat_map(|(split, corpus)| corpus.utterances.iter().map(move |u| (split, corpus, u)))
    }
}

/// The text of `utterances.tsv`.
pub fn table(utterances: &[Utterance]) -> String {
    let mut text = format!("{HEADER}\n");
    for Utterance { id, path, samples, speaker, transcript } in utterances {
        let transcript = transcript.as_deref().unwrap_or_default();
        text.push_str(&format!("{id}\t{path}\t{samples}\t{speaker}\t{transcript}\n"));
    }
    text
}

/// The inverse of [`table`].
fn parse(text: &str, transcribed: bool) -> Result<Vec<Utterance>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err("utterances.tsv does not begin with its header".into());
    }
    let utterances: Vec<Utterance> = lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [id, path, samples, speaker, transcript] = fields[..] else {
                return Err(format!("utterances.tsv has a line of {} fields: {line:?}", fields.len()));
            };
            Ok(Utterance {
                id: id.into(),
                path: path.into(),
                samples: samples.parse().map_err(|_| format!("{id} has {samples:?} samples"))?,
                speaker: speaker.into(),
                transcript: transcribed.then(|| transcript.into()),
            })
        })
        .collect::<Result<_, _>>()?;
    if utterances.is_sorted_by(|a, b| a.id < b.id) {
        Ok(utterances)
    } else {
        Err("utterances.tsv is not sorted".into())
    }
}

/// Decoded audio, as small as it can be kept without loss.
#[derive(Debug)]
enum Samples {
    Short(Vec<i16>),
    Float(Vec<f32>),
}

impl Samples {
    fn new(wave: Vec<f32>) -> Self {
        let short: Option<Vec<i16>> = wave
            .iter()
            .map(|&sample| {
                let scaled = sample * 32768.0;
                let short = scaled as i16;
                (f32::from(short) == scaled).then_some(short)
            })
            .collect();
        short.map_or(Self::Float(wave), Self::Short)
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Short(samples) => 2 * samples.len(),
            Self::Float(samples) => 4 * samples.len(),
        }
    }

    fn range(&self, start: usize, length: usize) -> Vec<f32> {
        match self {
            Self::Short(samples) => samples[start..start + length].iter().map(|&s| f32::from(s) / 32768.0).collect(),
            Self::Float(samples) => samples[start..start + length].to_vec(),
        }
    }
}

/// Decoded files up to a number of bytes. What came first stays: with epochs over everything, dropping the oldest would keep nothing.
#[derive(Debug)]
struct Cache {
    kept: Mutex<Kept>,
    budget: usize,
}

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<PathBuf, Arc<Samples>>,
    bytes: usize,
}

impl Cache {
    fn new(budget: usize) -> Self {
        Self { kept: Mutex::default(), budget }
    }

    fn get(&self, path: &Path) -> Option<Arc<Samples>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).files.get(path).cloned()
    }

    fn keep(&self, path: PathBuf, samples: Samples) -> Arc<Samples> {
        let samples = Arc::new(samples);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + samples.bytes() <= self.budget && !kept.files.contains_key(&path) {
            kept.bytes += samples.bytes();
            kept.files.insert(path, samples.clone());
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::tests::wav;

    fn split(samples: u64) -> (tempfile::TempDir, Corpus) {
        let dir = tempfile::tempdir().unwrap();
        let utterance = Utterance {
            id: "1-2-3".into(),
            path: "a.wav".into(),
            samples,
            speaker: "1".into(),
            transcript: Some("ONE".into()),
        };
        fs::write(dir.path().join("utterances.tsv"), table(&[utterance])).unwrap();
        fs::write(dir.path().join("corpus.json"), r#"{"transcribed":true,"conversion":"refuse"}"#).unwrap();
        fs::write(dir.path().join("a.wav"), wav(16_000, 1, &[0, 1, -32768, 32767])).unwrap();
        let corpus = Corpus::read(dir.path(), dir.path()).unwrap();
        (dir, corpus)
    }

    #[test]
    fn a_second_look_does_not_decode_again() {
        let (dir, corpus) = split(4);
        let wave = corpus.wave(&corpus.utterances[0]).unwrap();
        assert_eq!(wave, [0.0, 1.0 / 32768.0, -1.0, 32767.0 / 32768.0]);
        fs::remove_file(dir.path().join("a.wav")).unwrap();
        assert_eq!(corpus.crop(corpus.find("1-2-3").unwrap(), 1, 2).unwrap(), wave[1..3]);
        assert!(corpus.crop(&corpus.utterances[0], 3, 2).is_err());
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let (_dir, corpus) = split(5);
        let error = corpus.wave(&corpus.utterances[0]).unwrap_err().to_string();
        assert!(error.ends_with("has changed: 4 samples, 5 when it was checked"), "{error}");
    }

    #[test]
    fn a_full_cache_still_gives_samples() {
        let cache = Cache::new(3);
        assert_eq!(cache.keep("a".into(), Samples::new(vec![0.5; 2])).range(0, 2), [0.5; 2]);
        assert!(cache.get(Path::new("a")).is_none());
        cache.keep("b".into(), Samples::new(vec![0.5; 1]));
        assert!(cache.get(Path::new("b")).is_some());
    }

    proptest! {
        #[test]
        fn keeping_samples_loses_nothing(shorts: Vec<i16>, floats in prop::collection::vec(-1f32..1.0, 0..20)) {
            for wave in [shorts.iter().map(|&s| f32::from(s) / 32768.0).collect(), floats] {
                prop_assert_eq!(Samples::new(wave.clone()).range(0, wave.len()), wave);
            }
        }
    }
}
