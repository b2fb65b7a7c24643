//! Our numbers against those of reference implementations, on fixtures that `tests/fixtures/generate/` makes.

#[path = "parity/features.rs"]
mod features;
#[path = "parity/network.rs"]
mod network;
#[path = "parity/scoring.rs"]
mod scoring;
#[path = "parity/units.rs"]
mod units;
