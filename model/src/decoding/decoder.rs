//! Log-probabilities to text, as an experiment describes it.

use reprise_spec::decoding::{self, Beam, Search};

use super::beam::{AnySymbols, Hypothesis, LogProbabilities, Width, search};
use super::heard::{Heard, HeardWord, Scored};
use super::lexicon::Lexicon;
use super::lm::NgramModel;
use super::times::best_path;
use super::words::{self, WordSequences};
use crate::greedy;
use crate::vocabulary::Vocabulary;

/// A way to search.
pub struct Decoder<'a> {
    vocabulary: &'a Vocabulary,
    search: &'a Search,
    words: Option<(&'a Words, words::Weights)>,
}

/// The words that can be recognised, and what says how likely they are.
pub struct Words {
    lexicon: Lexicon,
    model: Option<words::Model>,
}

impl Words {
    /// Words of `lexicon`, which `model` scores where there is one.
    pub fn new(lexicon: Lexicon, model: Option<NgramModel>) -> Self {
        let model = model.map(|model| words::Model::new(&lexicon, model));
        Self { lexicon, model }
    }

    /// The most likely sequences of words, best first.
    pub fn search(
        &self,
        scores_tv: LogProbabilities,
        beam: &Beam,
        weights: words::Weights,
    ) -> Vec<Hypothesis<Vec<u32>>> {
        let mut grammar = WordSequences::new(&self.lexicon, self.model.as_ref(), weights);
        search(scores_tv, &mut grammar, width(beam), n_best(beam))
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

#[cfg(test)]
mod tests {
    use reprise_spec::decoding::Weights;

    use super::super::times::Span;
    use super::*;

    /// Frames in which these symbols are most likely: 0 the blank, 1 the space, 2 `a`, 3 `b`.
    fn frames(path: &[usize]) -> Vec<f32> {
        path.iter().flat_map(|&symbol| (0..4).map(move |v| if v == symbol { -0.1 } else { -5.0 })).collect()
    }

    fn heard(search: &Search, lexicon: Option<&str>, path: &[usize]) -> Heard {
        let vocabulary = Vocabulary::of(["ab"]).unwrap();
        let words = lexicon.map(|text| Words::new(Lexicon::read(text, &vocabulary).unwrap(), None));
        let weights = Weights { word: 0.0.try_into().unwrap(), ..Weights::default() };
        let values = frames(path);
        let scores_tv = LogProbabilities::new(&values, 4).unwrap();
        Decoder::new(search, &vocabulary, words.as_ref().map(|words| (words, &weights))).hear(scores_tv)
    }

    fn timed(heard: &Heard) -> Vec<(&str, Span)> {
        heard.words.iter().map(|word| (word.word.as_str(), word.frames)).collect()
    }

    const PATH: [usize; 8] = [0, 3, 2, 2, 1, 0, 3, 0];
    const FIRST: Span = Span { start: 1, end: 4 };
    const SECOND: Span = Span { start: 6, end: 7 };

    #[test]
    fn every_search_tells_text_and_times() {
        let beam = Search::Beam(Beam { n_best: 2u64.try_into().unwrap(), ..Beam::default() });
        let (greedy, searched) = (heard(&Search::Greedy, None, &PATH), heard(&beam, None, &PATH));
        assert_eq!(timed(&greedy), [("ba", FIRST), ("b", SECOND)]);
        assert_eq!((greedy.best(), searched.best()), ("ba b", "ba b"));
        assert_eq!(timed(&searched), timed(&greedy));
        assert_eq!((greedy.hypotheses.len(), searched.hypotheses.len()), (1, 2));
        assert!((greedy.hypotheses[0].score + 0.8).abs() < 1e-6);
        assert!(searched.hypotheses[0].score > greedy.hypotheses[0].score, "a label has more paths than the best");
    }

    #[test]
    fn words_of_a_lexicon_have_the_times_of_their_likeliest_spelling() {
        let heard = heard(&Search::Beam(Beam::default()), Some("one a b\none b a\ntwo b"), &PATH);
        assert_eq!((heard.best(), timed(&heard)), ("one two", vec![("one", FIRST), ("two", SECOND)]));
    }

    #[test]
    fn an_utterance_without_frames_is_silent() {
        for search in [Search::Greedy, Search::Beam(Beam::default())] {
            let heard = heard(&search, None, &[]);
            assert_eq!((heard.best(), heard.words.len()), ("", 0));
        }
        assert_eq!(heard(&Search::Beam(Beam::default()), Some("b"), &[]).best(), "");
    }
}
