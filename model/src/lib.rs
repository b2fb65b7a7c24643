//! What `reprise-trainer` is made of: audio, units, networks, training, decoding and probing on libtorch.
//!
//! One part of the architecture a file; [`stage`] has one file for each kind of stage that the trainer can be asked to execute. Nothing here
//! knows runs, golden metrics or reports.

pub mod alignment;
pub mod analysis;
pub mod audio;
pub mod batch;
pub mod bootstrap;
pub mod checkpoint;
pub mod contrastive;
pub mod corpus;
pub mod ctc;
pub mod decoding;
pub mod encoder;
pub mod environment;
pub mod exchange;
pub mod failure;
pub mod features;
pub mod finetune;
pub mod finished;
pub mod framing;
pub mod front_end;
pub mod greedy;
pub mod guards;
pub mod head;
pub mod hidden_states;
pub mod hierarchy;
pub mod hubert;
pub mod kmeans;
pub mod labels;
pub mod layer_of;
pub mod layers;
pub mod loader;
pub mod mask;
pub mod model_folder;
pub mod npy;
pub mod objective;
pub mod optimiser;
pub mod phone;
pub mod pieces;
pub mod quality;
pub mod quantiser;
pub use reprise_spec::random;
pub mod recogniser;
pub mod report;
pub mod schedule;
pub mod score;
pub mod selection;
pub mod shim;
pub mod source;
pub mod stage;
pub mod tensors;
pub mod textgrid;
pub mod tool;
pub mod trunk;
pub mod vocabulary;
