//! What `reprise-trainer` is made of: audio, units, networks, training, decoding and probing on libtorch.
//!
//! One part of the architecture a file; [`stage`] has one file for each kind of stage that the trainer can be asked to execute. Nothing here
//! knows runs, golden metrics or reports.

pub mod alignment;
pub mod audio;
pub mod bootstrap;
pub mod corpus;
pub mod environment;
pub mod failure;
pub mod features;
pub mod greedy;
pub mod kmeans;
pub mod labels;
pub mod npy;
pub mod phone;
pub mod random;
pub mod report;
pub mod score;
pub mod stage;
pub mod textgrid;
pub mod vocabulary;
