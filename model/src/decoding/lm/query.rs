//! What a back-off model says of a word after others.
//!
//! P(w | h) is the entry of the longest suffix h' of h for which h'w is in the model, times the back-off weights of the longer suffixes
//! (Katz 1987; the definition of ARPA files). Values are log10, summed in f64.

use super::MAX_ORDER;
use super::table::NgramModel;

/// No entry.
const ABSENT: u32 = u32::MAX;

/// What a model remembers of the words before: where two states are equal, all that follows is scored alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The entry of the last k + 1 words among those of order k + 1.
    contexts: [u32; MAX_ORDER - 1],
}

impl State {
    /// Nothing is known of the words before.
    pub const EMPTY: Self = Self { contexts: [ABSENT; MAX_ORDER - 1] };
}

/// The score of a sentence with its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SentenceScore {
    pub log10: f64,
    /// The words and the end of the sentence.
    pub tokens: u64,
    /// Words scored as `<unk>`.
    pub unknown: u64,
}

impl SentenceScore {
    /// 10 to the −log10 for each token, unknown words and the end among them, as `kenlm` has it.
    pub fn perplexity(&self) -> f64 {
        10f64.powf(-self.log10 / self.tokens as f64)
    }
}

impl std::iter::Sum for SentenceScore {
    fn sum<I: Iterator<Item = Self>>(scores: I) -> Self {
        scores.fold(Self { log10: 0.0, tokens: 0, unknown: 0 }, |sum, score| Self {
            log10: sum.log10 + score.log10,
            tokens: sum.tokens + score.tokens,
            unknown: sum.unknown + score.unknown,
        })
    }
}

impl NgramModel {
    /// The state before the first word of a sentence: after `<s>`.
    pub fn begin(&self) -> State {
        let mut state = State::EMPTY;
        if self.order() > 1 {
            state.contexts[0] = self.sentence_begin();
        }
        state
    }

    /// log10 P(`word` after `state`), and the state after it. `word` is an id of this model.
    pub fn score(&self, state: State, word: u32) -> (f64, State) {
        let mut after = [ABSENT; MAX_ORDER - 1];
        let (mut log10, mut found) = (0.0, false);
        for context in (0..self.order()).rev() {
            // `context` words before this one; none is always an entry, that of the empty context.
            let entry = match context {
                0 => Some(word),
                _ if state.contexts[context - 1] == ABSENT => continue,
                _ => self.child(context, state.contexts[context - 1], word),
            };
            if let Some(entry) = entry {
                if !found {
                    log10 += f64::from(self.log10(context + 1, entry));
                    found = true;
                }
                if context + 1 < self.order() {
                    after[context] = entry;
                }
            } else if !found {
                log10 += f64::from(self.back_off(context, state.contexts[context - 1]));
            }
        }
        (log10, State { contexts: after })
    }

    /// The score of a whole sentence between `<s>` and `</s>`; words that the model lacks are scored as `<unk>`.
    pub fn sentence<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> SentenceScore {
        let mut state = self.begin();
        let mut sum = SentenceScore { log10: 0.0, tokens: 1, unknown: 0 };
        for word in words {
            let id = self.id(word).unwrap_or(self.unknown());
            let (log10, next) = self.score(state, id);
            sum.log10 += log10;
            sum.tokens += 1;
            sum.unknown += u64::from(id == self.unknown());
            state = next;
        }
        sum.log10 += self.score(state, self.sentence_end()).0;
        sum
    }
}
