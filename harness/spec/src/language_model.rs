//! What `reprise lm` asks of the trainer: n-gram language models from text, in another form, and what they say of text.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::values::{Log10, NgramOrder, Weight};

/// Work on a language model. An `out` is a file that isn't there yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum LmTool {
    /// Estimates an interpolated modified Kneser-Ney model of a text with one sentence a line, as an ARPA file, gzip where `out` ends in `.gz`.
    Estimate { text: PathBuf, order: NgramOrder, discount_fallback: Option<[Weight; 3]>, out: PathBuf },
    /// Converts an ARPA file, plain or gzip, into a table that is memory-mapped.
    Convert { arpa: PathBuf, missing_unknown: Option<Log10>, out: PathBuf },
    /// Scores every sentence of a text with a table or an ARPA file; gives [`SentencePerplexity`] as JSON lines.
    Perplexity { model: PathBuf, missing_unknown: Option<Log10>, text: PathBuf, out: PathBuf },
}

/// What a model says of one sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SentencePerplexity {
    /// The line of the text, counted from 1.
    pub line: u64,
    /// Without the end of the sentence.
    pub words: u64,
    /// Words that the model lacks and scores as `<unk>`.
    pub unknown: u64,
    /// log₁₀ of the probability, the end of the sentence included.
    pub log10: f64,
    /// 10 to the −`log10` for each word and the end.
    pub perplexity: f64,
}
