//! Beam search over the words of a lexicon, with a language model.
//!
//! A hypothesis W has the score ln p_CTC(W) + `lm` · log₁₀ P_LM(W) + `word` · |W| + `unknown` · (words that the language model lacks) +
//! `silence` · (space symbols). Terms and units of wav2letter and flashlight (Collobert et al. 2016, arXiv:1609.03193; Pratap et al. 2019),
//! with these differences:
//! - p_CTC sums all paths of W, as flashlight does under `log_add`; its default takes the maximum.
//! - The silence score is paid once for each space symbol of the label, not for each of its frames.
//! - Spaces stand between two words; before the first and after the last there may be one, and paths with and without are summed.
//!
//! P_LM includes `</s>`. The language model speaks when a word is complete: at the space after it or at the end of the utterance. Until then
//! a prefix is paid the log₁₀ P of the likeliest word that it may become, without regard to the words before, so that a beam keeps what is
//! likely to be said (Ortmanns et al. 1996; flashlight's `SmearingMode.MAX`); that is taken back when the word is complete.

use std::collections::HashMap;

use reprise_spec::decoding;

use super::beam::Grammar;
use super::lexicon::Lexicon;
use super::lm::{NgramModel, State};

/// A language model with what a search over the words of one lexicon asks of it.
#[derive(Debug)]
pub struct Model {
    ngrams: NgramModel,
    /// Of every word of the lexicon; `<unk>`'s for words that the model lacks.
    ids: Vec<u32>,
    /// log₁₀ P of the likeliest word at or below each node of the lexicon, 0 at the root.
    ahead: Vec<f64>,
}

impl Model {
    /// Asks `ngrams` about every word of `lexicon`.
    pub fn new(lexicon: &Lexicon, ngrams: NgramModel) -> Self {
        let ids: Vec<u32> = lexicon.words().iter().map(|word| ngrams.id(word).unwrap_or(ngrams.unknown())).collect();
        let mut ahead = vec![f64::NEG_INFINITY; lexicon.len()];
        // Nodes stand behind the one above them.
        for place in (0..ahead.len()).rev() {
            let node = lexicon.node(place as u32);
            let words = node.words.iter().map(|&word| ngrams.score(State::EMPTY, ids[word as usize]).0);
            let below = node.children.values().map(|&child| ahead[child as usize]);
            ahead[place] = words.chain(below).fold(f64::NEG_INFINITY, f64::max);
        }
        ahead[0] = 0.0;
        Self { ngrams, ids, ahead }
    }
}

/// What each part of a hypothesis adds: [`decoding::Weights`] as plain numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    pub lm: f64,
    pub word: f64,
    pub unknown: f64,
    pub silence: f64,
}

impl From<&decoding::Weights> for Weights {
    fn from(weights: &decoding::Weights) -> Self {
        let decoding::Weights { lm, word, unknown, silence } = weights;
        Self { lm: lm.get(), word: word.get(), unknown: unknown.get(), silence: silence.get() }
    }
}

/// The word sequences of a lexicon. Serves one utterance.
#[derive(Debug)]
pub struct WordSequences<'a> {
    lexicon: &'a Lexicon,
    model: Option<&'a Model>,
    weights: Weights,
    histories: Vec<History>,
    places: HashMap<(u32, u32), u32>,
}

/// Complete words: the last as a place in the lexicon, and those before.
#[derive(Clone, Copy, Debug)]
struct History {
    before: u32,
    word: u32,
    state: Option<State>,
    /// What completing the last word has added.
    added: f64,
}

/// Complete words and what has been spelt since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WordPrefix {
    history: u32,
    since: Since,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Since {
    Nothing,
    Space,
    /// A part of a word: its node and last symbol.
    Part(u32, u32),
}

impl<'a> WordSequences<'a> {
    /// Without a `model`, which is of this lexicon, every word sequence is equally likely.
    pub fn new(lexicon: &'a Lexicon, model: Option<&'a Model>, weights: Weights) -> Self {
        let start = History { before: 0, word: 0, state: model.map(|model| model.ngrams.begin()), added: 0.0 };
        Self { lexicon, model, weights, histories: vec![start], places: HashMap::new() }
    }

    /// What a prefix has been paid in advance for the word that it is within.
    fn ahead(&self, node: u32) -> f64 {
        self.model.map_or(0.0, |model| self.weights.lm * model.ahead[node as usize])
    }

    /// `history` and one more word.
    fn complete(&self, history: u32, word: u32) -> History {
        let (mut added, mut state) = (self.weights.word, None);
        if let (Some(model), Some(before)) = (self.model, self.histories[history as usize].state) {
            let id = model.ids[word as usize];
            let (log10, after) = model.ngrams.score(before, id);
            added += self.weights.lm * log10;
            if id == model.ngrams.unknown() {
                added += self.weights.unknown;
            }
            state = Some(after);
        }
        History { before: history, word, state, added }
    }

    /// What the end of the sentence adds.
    fn end(&self, history: &History) -> f64 {
        match (self.model, history.state) {
            (Some(model), Some(state)) => self.weights.lm * model.ngrams.score(state, model.ngrams.sentence_end()).0,
            _ => 0.0,
        }
    }

    fn words(&self, mut history: u32) -> Vec<u32> {
        let mut words = Vec::new();
        while history != 0 {
            let History { before, word, .. } = self.histories[history as usize];
            words.push(word);
            history = before;
        }
        words.reverse();
        words
    }
}

impl Grammar for WordSequences<'_> {
    type Prefix = WordPrefix;
    /// Places of words in the lexicon.
    type Label = Vec<u32>;

    fn start(&self) -> WordPrefix {
        WordPrefix { history: 0, since: Since::Nothing }
    }

    fn last(&self, prefix: WordPrefix) -> Option<u32> {
        match prefix.since {
            Since::Nothing => None,
            Since::Space => Some(self.lexicon.space()),
            Since::Part(_, symbol) => Some(symbol),
        }
    }

    fn extend(&mut self, prefix: WordPrefix, next: &mut dyn FnMut(u32, WordPrefix, f64)) {
        let lexicon = self.lexicon;
        let (space, silence) = (lexicon.space(), self.weights.silence);
        let node = match prefix.since {
            Since::Part(node, _) => node,
            Since::Nothing => {
                next(space, WordPrefix { since: Since::Space, ..prefix }, silence);
                0
            }
            Since::Space => 0,
        };
        let ahead = self.ahead(node);
        for (&symbol, &child) in &lexicon.node(node).children {
            next(symbol, WordPrefix { since: Since::Part(child, symbol), ..prefix }, self.ahead(child) - ahead);
        }
        for &word in &lexicon.node(node).words {
            let place = match self.places.get(&(prefix.history, word)) {
                Some(&place) => place,
                None => {
                    let place = self.histories.len() as u32;
                    self.histories.push(self.complete(prefix.history, word));
                    self.places.insert((prefix.history, word), place);
                    place
                }
            };
            let added = self.histories[place as usize].added - ahead + silence;
            next(space, WordPrefix { history: place, since: Since::Space }, added);
        }
    }

    fn finish(&self, prefix: WordPrefix, whole: &mut dyn FnMut(Vec<u32>, f64)) {
        let history = &self.histories[prefix.history as usize];
        let Since::Part(node, _) = prefix.since else {
            return whole(self.words(prefix.history), self.end(history));
        };
        for &word in &self.lexicon.node(node).words {
            let complete = self.complete(prefix.history, word);
            let mut words = self.words(prefix.history);
            words.push(word);
            whole(words, complete.added - self.ahead(node) + self.end(&complete));
        }
    }

    fn without_rest(&self, prefix: WordPrefix) -> (WordPrefix, f64) {
        let ahead = if let Since::Part(node, _) = prefix.since { self.ahead(node) } else { 0.0 };
        (WordPrefix { since: Since::Nothing, ..prefix }, -ahead)
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
