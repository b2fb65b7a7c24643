//! Plans, executes and stores experiments. Never loads libtorch: every stage is executed by `reprise-trainer` in a process of its own.
//!
//! - [`project`] finds `reprise.toml` and with it data roots and store; [`data`] finds a corpus and says what its files are.
//! - [`plan`] turns an experiment into a graph of stages with their keys. It is pure: no disk, no clock.
//! - [`execute`] schedules the stages of runs: reuse what the [`store`] has, else take the [`lease`], start the trainer, and keep what it
//!   gave under its [`digest`].
//! - [`estimate`] says what the stages of a plan are expected to cost, and [`outlook`] which of them would execute.
//! - [`explain`] says why two identities differ; [`rerun`] compares a run with one that executed it again, with the intervals of
//!   [`statistics`].
//! - [`measures`] gives every number of a run an address; [`cohort`] gathers the comparable runs of an experiment; [`claims`] decides by them
//!   what it claims.
//! - [`published`] has the values that papers printed, to be shown beside ours.
//! - [`golden`] compares the runs of an experiment with accepted values, and changes these by review alone.
//! - [`report`] says what an experiment or runs came to, as a page, as Markdown and as data.
//! - [`bundle`] publishes runs as a part of a store, checks such a bundle, and executes it again.
//! - [`significance`] says whether two runs that recognised the same speech differ.
//! - [`named`] and [`audio`] find the models, codebooks and audio files that a person names, for work beside stages.
//! - [`diff`] says in what two runs or settings differ, from the settings to the words that were recognised.
//! - [`inert`] shows text that comes from data so that it can do nothing.
//! - [`provenance`] records what a result was made with, beside it and never in a key.
//!
//! Invariants: only `store` and `lease` write below `.reprise/`; plain files are the truth; no wall clock decides anything; an output
//! folder with a manifest is whole, and one without is not an output.

pub mod audio;
pub mod bundle;
pub mod claims;
pub mod cmd;
pub mod cohort;
pub mod data;
pub mod diff;
pub mod digest;
pub mod doctor;
pub mod estimate;
pub mod execute;
pub mod exit;
pub mod explain;
pub mod golden;
pub mod inert;
pub mod interrupt;
pub mod lease;
pub mod measures;
pub mod named;
pub mod outlook;
pub mod plan;
pub mod project;
pub mod provenance;
pub mod published;
pub mod report;
pub mod rerun;
pub mod results;
pub mod significance;
pub mod statistics;
pub mod store;
