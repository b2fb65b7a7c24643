//! Drives the programs from outside, as a person would.
//!
//! One file a behaviour. [`place::Place`] is a fresh folder with a corpus cut from the shipped one, a project file, and nothing of the
//! caller's environment.

mod place;
mod planted;
mod planted_study;

mod bundles;
mod claims;
mod decoding;
mod diff;
mod disk;
mod doctor;
mod errors;
mod exchange;
mod experiments;
mod explain;
mod extract;
mod golden_metrics;
mod golden_stages;
mod hostile_data;
mod killed;
mod language_models;
mod layers;
mod list;
mod provenance;
mod recognition;
mod report;
mod rerun;
mod screens;
mod unit_labels;
mod variants;
mod whole_run;
