//! The experiment language of Reprise: words, defaults, canonical bytes, hashes, and the settings of every stage.
//!
//! No libtorch, no disk, no clock. [`experiment::Experiment`] is what a YAML file says; [`stage::Stage`] is what the trainer is asked to do;
//! [`contract`] is how it is asked.

pub mod arithmetic;
pub mod canon;
pub mod check;
pub mod claims;
pub mod contract;
pub mod corpus;
pub mod decoding;
pub mod document;
pub mod evaluation;
pub mod experiment;
pub mod extraction;
pub mod finetuning;
pub mod guards;
pub mod identity;
pub mod language_model;
pub mod layers;
mod matrix;
pub mod metrics;
pub mod network;
pub mod node;
pub mod probing;
pub mod problem;
pub mod random;
pub mod read;
pub mod recognition;
pub mod schema;
pub mod source;
pub mod stage;
pub mod strategy;
pub mod training;
pub mod values;
