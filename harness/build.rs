//! Names the build, so that `reprise` can refuse a trainer that was built from other sources.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    // Asked when the script runs: a checkout may have been moved since the script was compiled.
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    xtask::build_id::export(&root.canonicalize()?)
}
