//! From the frame-wise scores of a CTC model to text: prefix beam search, alone or over the words of a lexicon with a language model.
//!
//! Nothing here needs libtorch. Scores are natural logarithms in f64; a language model's own tables are log10 in f32, as ARPA files are.

pub mod beam;
pub mod decoder;
pub mod heard;
pub mod kneser_ney;
pub mod lexicon;
pub mod lm;
pub mod times;
pub mod words;
