//! What comparisons of runs rest on: pure functions of numbers, with every case in which nothing can be said as an answer of its own.
//!
//! - [`sample`]: mean, deviation, the interval of a mean, and where one new value is expected;
//! - [`difference`]: the difference of two means, paired (runs that share a seed or ancestry) or by Welch (runs that don't);
//! - [`equivalence`]: two one-sided tests against a margin, and the one-sided question whether something is no worse;
//! - [`power`]: the smallest difference that so many seeds would have seen, and how many seeds a difference needs;
//! - [`holm`]: p values of a family;
//! - [`bootstrap`]: intervals of error rates over seeds and the speakers or utterances that they were measured on;
//! - [`error_rates`]: how often all this errs, by simulation.
//!
//! A confidence is the share of experiments in which an interval holds the truth; α is one less it.

pub mod bootstrap;
pub mod difference;
pub mod equivalence;
pub mod error_rates;
pub mod holm;
pub mod power;
pub mod sample;
mod student;

pub use bootstrap::Group;
pub use difference::{Design, MeanDifference, Untestable};
pub use equivalence::{Equivalence, NonInferiority};
pub use holm::holm;
pub use sample::{interval_of_mean, mean_and_deviation, p_of_new_value, prediction_interval};

#[cfg(test)]
mod tests;
