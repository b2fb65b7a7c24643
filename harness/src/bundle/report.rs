//! The report of a bundle, rendered from the bundle's own store.

use std::collections::BTreeMap;
use std::path::Path;

use super::{About, BundleError};

/// The files of `report/` by name, of the bundle that lies in a folder.
///
/// # Errors
/// When the store can't be read.
pub fn render(_root: &Path, _about: &About) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    Ok(BTreeMap::new())
}
