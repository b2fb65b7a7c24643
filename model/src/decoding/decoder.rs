//! Log-probabilities to text, as an experiment describes it.

use std::fs;

use reprise_spec::contract::Level;
use reprise_spec::decoding::{self, Beam, Search};
use reprise_spec::stage::Role;

use super::beam::{AnySymbols, Hypothesis, LogProbabilities, Width, search};
use super::heard::{Heard, HeardWord, Scored};
use super::lexicon::Lexicon;
use super::lm::{self, NgramModel};
use super::times::best_path;
use super::words::{self, WordSequences};
use crate::failure::StageError;
use crate::greedy;
use crate::stage::Work;
use crate::vocabulary::Vocabulary;

/// The words among the outputs of a language model or a lexicon.
pub const WORDS: &str = "words.txt";

/// A way to search.
pub struct Decoder<'a> {
    vocabulary: &'a Vocabulary,
    search: &'a Search,
    words: Option<(&'a Words, words::Weights)>,
}

/// The words that can be recognised, and what says how likely they are.
pub struct Words {
    lexicon: Lexicon,
    /// The model with its ids of the lexicon's words.
    model: Option<(NgramModel, Vec<u32>)>,
}

impl Words {
    /// Reads the lexicon and the language model among a stage's inputs; `None` without a lexicon.
    ///
    /// # Errors
    /// Refuses a lexicon with letters that `vocabulary` lacks, and one of a language model of whose words it can spell none.
    pub fn read(work: &mut Work, vocabulary: &Vocabulary) -> Result<Option<Self>, StageError> {
        let Some(lexicon) = work.find(&Role::Lexicon).cloned() else { return Ok(None) };
        let model = work.find(&Role::LanguageModel).cloned();
        let of_model = model.as_ref().is_some_and(|model| model.key == lexicon.key);
        let path = lexicon.path.join(WORDS);
        let text = fs::read_to_string(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
        let model = model.map(|model| NgramModel::open(&model.path.join(lm::TABLE))).transpose();
        let model = model.map_err(|error| StageError::Failed(error.to_string()))?;
        let refused = |error: super::lexicon::BadLexicon| {
            StageError::refused(
                error.to_string(),
                "a lexicon spells with the letters of the transcripts that were fine-tuned on",
            )
        };
        let lexicon = match of_model {
            true => {
                let (lexicon, left_out) = Lexicon::of(text.lines(), vocabulary).map_err(refused)?;
                if left_out > 0 {
                    let message =
                        format!("{left_out} words of the language model have letters that the model doesn't have");
                    work.report.say(Level::Warning, message);
                }
                lexicon
            }
            false => Lexicon::read(&text, vocabulary).map_err(refused)?,
        };
        let model = model.map(|model| {
            let ids = words::ids(&lexicon, &model);
            (model, ids)
        });
        Ok(Some(Self { lexicon, model }))
    }

    /// The most likely sequences of words, best first.
    pub fn search(
        &self,
        scores_tv: LogProbabilities,
        beam: &Beam,
        weights: words::Weights,
    ) -> Vec<Hypothesis<Vec<u32>>> {
        let model = self.model.as_ref().map(|(model, ids)| (model, ids.as_slice()));
        search(scores_tv, &mut WordSequences::new(&self.lexicon, model, weights), width(beam), n_best(beam))
    }

    /// The words of a hypothesis with single spaces between.
    pub fn text(&self, words: &[u32]) -> String {
        words.iter().map(|&word| self.lexicon.word(word)).collect::<Vec<_>>().join(" ")
    }

    /// The symbols of a hypothesis. Of a word with several spellings the one is taken that makes the label most likely, words before
    /// decided, words after in their first spelling.
    fn label(&self, words: &[u32], scores_tv: LogProbabilities) -> Vec<i64> {
        let mut chosen = vec![0; words.len()];
        let label = |chosen: &[usize]| {
            let spelt = words.iter().zip(chosen).map(|(&word, &spelling)| &self.lexicon.spellings(word)[spelling]);
            let spelt: Vec<Vec<i64>> = spelt.map(|symbols| symbols.iter().copied().map(i64::from).collect()).collect();
            spelt.join(&i64::from(self.lexicon.space()))
        };
        for (place, &word) in words.iter().enumerate() {
            let spellings = self.lexicon.spellings(word).len();
            if spellings == 1 {
                continue;
            }
            let scored = (0..spellings).map(|spelling| {
                chosen[place] = spelling;
                (best_path(scores_tv, &label(&chosen)).map_or(f64::NEG_INFINITY, |path| path.score), spelling)
            });
            chosen[place] =
                scored.fold((f64::NEG_INFINITY, 0), |best, next| if next.0 > best.0 { next } else { best }).1;
        }
        label(&chosen)
    }
}

fn width(beam: &Beam) -> Width {
    Width { prefixes: beam.prefixes.get() as usize, threshold: beam.threshold.get() }
}

fn n_best(beam: &Beam) -> usize {
    beam.n_best.get() as usize
}

impl<'a> Decoder<'a> {
    /// `words` where the search knows words, with what weighs them.
    pub fn new(search: &'a Search, vocabulary: &'a Vocabulary, words: Option<(&'a Words, &decoding::Weights)>) -> Self {
        Self { vocabulary, search, words: words.map(|(words, weights)| (words, weights.into())) }
    }

    /// What was said in an utterance, with the times of the best hypothesis' words.
    pub fn hear(&self, scores_tv: LogProbabilities) -> Heard {
        let spelt = |symbols: &[i64]| self.vocabulary.decode(symbols);
        match (self.search, &self.words) {
            (Search::Greedy, _) => {
                let (path, score) = best_symbols(scores_tv);
                let label = greedy::collapse(&path);
                let words = self.times(scores_tv, &label, |_, symbols| spelt(symbols));
                Heard { hypotheses: vec![Scored { text: spelt(&label), score }], words }
            }
            (Search::Beam(beam), None) => {
                let found = search(scores_tv, &mut AnySymbols::new(scores_tv.symbols()), width(beam), n_best(beam));
                let times =
                    |best: &Hypothesis<Vec<i64>>| self.times(scores_tv, &best.label, |_, symbols| spelt(symbols));
                let words = found.first().map_or(Vec::new(), times);
                Heard { hypotheses: scored(&found, |label| spelt(label)), words }
            }
            (Search::Beam(beam), Some((words, weights))) => {
                let found = words.search(scores_tv, beam, *weights);
                let times = |best: &Hypothesis<Vec<u32>>| {
                    let label = words.label(&best.label, scores_tv);
                    self.times(scores_tv, &label, |place, _| words.text(&best.label[place..=place]))
                };
                let heard = found.first().map_or(Vec::new(), times);
                Heard { hypotheses: scored(&found, |label| words.text(label)), words: heard }
            }
        }
    }

    /// The words of a label on its best path; `name` says what the word at a place with these symbols is called.
    fn times(
        &self,
        scores_tv: LogProbabilities,
        label: &[i64],
        name: impl Fn(usize, &[i64]) -> String,
    ) -> Vec<HeardWord> {
        let Some(path) = best_path(scores_tv, label) else { return Vec::new() };
        let words = path.words(label, &self.vocabulary.words(label)).into_iter().enumerate();
        let named = words.map(|(place, (symbols, frames))| HeardWord { word: name(place, symbols), frames });
        named.filter(|word| !word.word.is_empty()).collect()
    }
}

fn scored<L>(found: &[Hypothesis<L>], text: impl Fn(&L) -> String) -> Vec<Scored> {
    found.iter().map(|hypothesis| Scored { text: text(&hypothesis.label), score: hypothesis.score }).collect()
}

/// The most likely path, of equally likely symbols the first, and its score.
fn best_symbols(scores_tv: LogProbabilities) -> (Vec<i64>, f64) {
    let best = |frame: &[f32]| {
        (1..frame.len()).fold(0, |best, symbol| if frame[symbol] > frame[best] { symbol } else { best })
    };
    let path: Vec<usize> = scores_tv.frames().map(best).collect();
    let score = scores_tv.frames().zip(&path).map(|(frame, &symbol)| f64::from(frame[symbol])).sum();
    (path.into_iter().map(|symbol| symbol as i64).collect(), score)
}
