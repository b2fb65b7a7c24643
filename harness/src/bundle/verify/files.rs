//! Checksums.

use super::{Area, Verification};
use crate::bundle::sums::{self, Sums};
use crate::bundle::{Bundle, BundleError};

/// Every file that is listed, and nothing else, is there with its checksum.
pub fn check(bundle: &Bundle, sums: &Sums, verification: &mut Verification) -> Result<(), BundleError> {
    for (name, expected) in &sums.0 {
        if !bundle.files().contains_key(name) {
            verification.failed(Area::Files, name, "it is missing");
            continue;
        }
        let path = bundle.root().join(name);
        let found = sums::of_file(&path).map_err(|error| BundleError::io("read", &path, error))?;
        let wrong = (found != *expected).then(|| "it is not what its checksum says".into());
        verification.check(Area::Files, name, wrong);
    }
    for name in bundle.files().keys().filter(|name| *name != sums::FILE && !sums.0.contains_key(*name)) {
        verification.failed(Area::Files, name, format!("{} doesn't list it", sums::FILE));
    }
    Ok(())
}
