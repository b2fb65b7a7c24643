//! Layer-wise analysis: what a layer's hidden states say about phones, words and the input, and what a curve of layers says in turn.
//!
//! Everything here works on plain matrices (rows are samples, float64, on the CPU) and label vectors, and knows neither stages nor files.
//! [`sample`] draws segments and pools states over them while they stream by, [`frames`] does so with single frames; [`cca`] and [`held_out`]
//! score a layer against a second view ([`view`]), of numbers or labels ([`rows`]), by [`sums`] that trials share;
//! [`information`] scores clusters of it; [`similarity`] compares layers without labels, [`streamed`] models; [`word_similarity`] asks whether words
//! that people find alike are alike. What the curves of layers are reduced to is in
//! [`reprise_spec::layers`].
//!
//! Decompositions are LAPACK's through libtorch, which the crate links already. Their last bits depend on the number of threads, so that a
//! stage requests a number and records it, as for every other computation.

pub mod abx;
pub mod cca;
pub mod frames;
pub mod held_out;
pub mod information;
pub mod rows;
pub mod sample;
pub mod similarity;
pub mod streamed;
pub mod sums;
pub mod view;
pub mod word_similarity;
