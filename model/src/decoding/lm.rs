//! N-gram language models with back-off: read from ARPA files, kept in one memory-mapped file, asked word by word.
//!
//! An n-gram's entry lies below the entry of its context, so a model is one array of entries for each order, sorted by context and then word
//! ([`table`]). Words have the ranks of their bytes as ids. A conversion holds the model in memory once (16 bytes an n-gram, 8 at the highest
//! order, and 20 more for the order being read); a converted file costs its pages only.

pub mod arpa;
mod query;
pub mod table;

pub use query::{SentenceScore, State};
pub use table::NgramModel;

/// The file of a converted model among the outputs of a stage.
pub const TABLE: &str = "lm.table";

/// The highest order that a model may have, as KenLM is built by default.
pub const MAX_ORDER: usize = 6;
