//! Names the build, so that `reprise` can refuse a trainer that was built from other sources.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    xtask::build_id::export(&root.canonicalize()?)
}
