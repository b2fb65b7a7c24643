//! What the commands of `cargo xtask`, the build scripts and `reprise doctor` must agree on.
//!
//! No dependencies, so that `cargo xtask` starts in a second and a build script gets to its checks at once.

pub mod build_id;
pub mod libtorch;
