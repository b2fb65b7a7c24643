//! What layers are analysed on: the utterances with their words and phones, and what is drawn of them.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::arithmetic::frames_at;
use reprise_spec::layers::Labels;
use reprise_spec::network::Network;
use reprise_spec::probing::Analysis;
use reprise_spec::stage::{LayersStage, Role};

use super::meaning::Meanings;
use crate::alignment::{Alignments, Interval, Tier};
use crate::analysis::frames::FrameSample;
use crate::analysis::sample::{Sample, phone_label, word_label};
use crate::corpus::{Corpus, Utterance};
use crate::failure::StageError;
use crate::random::Draws;
use crate::stage::Work;

/// As many utterances are named where alignments are missing.
const NAMED: usize = 5;

/// The utterances that are analysed.
pub struct Material {
    corpora: Vec<Corpus>,
    /// Split by split, in the order of the corpus.
    pub subjects: Vec<Subject>,
    /// Left out.
    pub unaligned: Vec<String>,
    /// By the names of subjects; empty where no analysis reads them.
    words: Tier,
    pub phones: Tier,
    pub meanings: Meanings,
}

/// One utterance.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Split and id.
    pub name: String,
    at: (usize, usize),
    pub samples: u64,
    /// Whether frames are sampled from it and codebooks are fitted on it; they are measured on the others.
    pub fits: bool,
}

/// What is drawn once, and the seed of what is drawn with it.
pub struct Sampling {
    pub seed: u64,
    pub words: Option<Sample>,
    pub phones: Option<Sample>,
    pub frames: Option<FrameSample>,
}

impl Material {
    /// Reads the splits and sets utterances apart that fit codebooks.
    ///
    /// # Errors
    /// More utterances without an alignment than are allowed, named.
    pub fn read(settings: &LayersStage, seed: u64, work: &Work) -> Result<Self, StageError> {
        let mut corpora = Vec::new();
        let any = |of: fn(Analysis) -> bool| settings.analyses.iter().any(|analysis| of(*analysis));
        let (reads_words, reads_phones) = (any(Analysis::reads_words), any(Analysis::reads_phones));
        let (mut subjects, mut unaligned) = (Vec::new(), Vec::new());
        let (mut words, mut phones) = (Tier::new(), Tier::new());
        for (split_index, split) in settings.layers.splits.iter().enumerate() {
            let corpus = Corpus::read_once(work.input(&Role::Corpus(split.clone()))?, work.data_root()?)?;
            let alignments = match reads_words || reads_phones {
                true => Some(Alignments::read(work.input(&Role::Alignments(split.clone()))?)?),
                false => None,
            };
            for (index, Utterance { id, samples, .. }) in corpus.utterances.iter().enumerate() {
                let name = format!("{split}/{id}");
                if let Some(alignments) = &alignments {
                    let of_words = alignments.words(id).filter(|_| reads_words);
                    let of_phones = alignments.phones(id).filter(|_| reads_phones);
                    if of_words.is_some() != reads_words || of_phones.is_some() != reads_phones {
                        unaligned.push(name);
                        continue;
                    }
                    words.extend(of_words.map(|intervals| (name.clone(), within(intervals, *samples))));
                    phones.extend(of_phones.map(|intervals| (name.clone(), within(intervals, *samples))));
                }
                subjects.push(Subject { name, at: (split_index, index), samples: *samples, fits: false });
            }
            corpora.push(corpus);
        }
        if unaligned.len() > settings.layers.unaligned_at_most as usize {
            return Err(missing(&unaligned));
        }
        let fits = (settings.layers.fit.get() * subjects.len() as f64).ceil() as u64;
        for index in Draws::new(seed, "analysis fit utterances", &[], "").distinct(fits, subjects.len() as u64) {
            subjects[index as usize].fits = true;
        }
        Ok(Self { corpora, subjects, unaligned, words, phones, meanings: Meanings::read(work)? })
    }

    /// The names of the subjects that fit codebooks.
    pub fn fitting(&self) -> BTreeSet<&str> {
        self.subjects.iter().filter(|subject| subject.fits).map(|subject| subject.name.as_str()).collect()
    }

    /// The samples of a subject at 16 kHz.
    pub fn wave(&self, subject: &Subject) -> Result<Vec<f32>, StageError> {
        let (split, utterance) = subject.at;
        let corpus = &self.corpora[split];
        corpus.wave(&corpus.utterances[utterance])
    }

    /// Draws what the analyses look at, by the seed of each sampling.
    ///
    /// # Errors
    /// Too few labels with enough tokens.
    pub fn draw(&self, settings: &LayersStage, network: &Network, seed: u64) -> Result<Vec<Sampling>, StageError> {
        let LayersStage { analyses, layers, .. } = settings;
        let any = |of: fn(Analysis) -> bool| analyses.iter().any(|analysis| of(*analysis));
        let slowest = (0..=network.encoder.layers.get()).map(|layer| network.layer_stride(layer)).max();
        let slowest = slowest.unwrap_or_else(|| network.frame_stride());
        let fitting = self.subjects.iter().filter(|subject| subject.fits);
        let fitting: Vec<(&str, u64)> =
            fitting.map(|subject| (subject.name.as_str(), frames_at(subject.samples, slowest))).collect();
        let draw = |sampling: u32| {
            let seed = Draws::new(seed, "analysis sampling", &[sampling.into()], "").torch_seed() as u64;
            let sample = |tier, label, tokens| Sample::draw(tier, label, tokens, seed);
            let words = any(Analysis::reads_words).then(|| sample(&self.words, word_label, layers.tokens.words));
            let phones = any(Analysis::pools_phones).then(|| sample(&self.phones, phone_label, layers.tokens.phones));
            let frames =
                any(Analysis::samples_frames).then(|| FrameSample::draw(&fitting, layers.frames.get().into(), seed));
            Ok(Sampling { seed, words: words.transpose()?, phones: phones.transpose()?, frames })
        };
        (0..layers.samplings.get()).map(draw).collect()
    }
}

impl Sampling {
    /// The labels of its segments, which are those of every sampling, and what is known of their meaning.
    pub fn labels(&self, meanings: &Meanings) -> BTreeMap<String, Labels> {
        let told = |sample: &Sample| Labels {
            analysed: sample.labels.clone(),
            segments: sample.segments.values().map(|segments| segments.len() as u64).sum(),
            dropped: sample.dropped.clone(),
        };
        let kinds = [("words", &self.words), ("phones", &self.phones)];
        let told = kinds.into_iter().filter_map(|(kind, sample)| Some((kind.to_owned(), told(sample.as_ref()?))));
        told.chain(self.words.iter().flat_map(|words| meanings.labels(words))).collect()
    }
}

/// Intervals that end with the audio at the latest: how far an alignment may run past it is the `corpus` stage's to judge.
fn within(intervals: &[Interval], samples: u64) -> Vec<Interval> {
    intervals.iter().map(|interval| Interval { end: interval.end.min(samples), ..interval.clone() }).collect()
}

fn missing(unaligned: &[String]) -> StageError {
    let more = unaligned.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named = unaligned[..unaligned.len().min(NAMED)].join(", ");
    StageError::refused(
        format!("{} utterances have no word or phone times: {named}{more}", unaligned.len()),
        "align them, or let `probing.layers.unaligned-at-most` allow as many to be left out",
    )
}
