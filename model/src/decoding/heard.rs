//! What an utterance was heard as, and the tables that tell it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::times::Span;

/// The hypotheses of one utterance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// Best first.
    pub hypotheses: Vec<Scored>,
    /// Of the best one.
    pub words: Vec<HeardWord>,
}

/// A text and its score in nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    pub text: String,
    pub score: f64,
}

/// A word and the frames in which the network gives its symbols, which need not be all in which it is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeardWord {
    pub word: String,
    pub frames: Span,
}

impl Heard {
    /// The best text; nothing where the search found none.
    pub fn best(&self) -> &str {
        self.hypotheses.first().map_or("", |best| &best.text)
    }
}

/// `words.tsv`: id, word, and the samples from `start` up to `end`; a frame begins every `stride` samples.
pub fn words_table<'a>(heard: impl IntoIterator<Item = (&'a str, &'a Heard)>, stride: u64) -> String {
    let mut table = String::from("id\tword\tstart\tend\n");
    for (id, heard) in heard {
        for HeardWord { word, frames } in &heard.words {
            let sample = |frame: usize| frame as u64 * stride;
            _ = writeln!(table, "{id}\t{word}\t{}\t{}", sample(frames.start), sample(frames.end));
        }
    }
    table
}

/// `nbest.tsv`: id, rank from 1 on, score in nats, text.
pub fn nbest_table<'a>(heard: impl IntoIterator<Item = (&'a str, &'a Heard)>) -> String {
    let mut table = String::from("id\trank\tscore\thypothesis\n");
    for (id, heard) in heard {
        for (rank, Scored { text, score }) in (1..).zip(&heard.hypotheses) {
            _ = writeln!(table, "{id}\t{rank}\t{score}\t{text}");
        }
    }
    table
}
