//! Our numbers against those of reference implementations, on fixtures that `tests/fixtures/generate/` makes.

#[path = "parity/analysis.rs"]
mod analysis;
#[path = "parity/decoding.rs"]
mod decoding;
#[path = "parity/exchange.rs"]
mod exchange;
#[path = "parity/features.rs"]
mod features;
#[path = "parity/fixture.rs"]
mod fixture;
#[path = "parity/frontends.rs"]
mod frontends;
#[path = "parity/hidden_states.rs"]
mod hidden_states;
#[path = "parity/language_model.rs"]
mod language_model;
#[path = "parity/multires.rs"]
mod multires;
#[path = "parity/network.rs"]
mod network;
#[path = "parity/parameters.rs"]
mod parameters;
#[path = "parity/scoring.rs"]
mod scoring;
#[path = "parity/units.rs"]
mod units;
#[path = "parity/wav2vec2.rs"]
mod wav2vec2;
#[path = "parity/weights.rs"]
mod weights;
