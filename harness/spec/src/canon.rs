//! Canonical bytes: what is hashed.

use serde::Serialize;

/// The canonical bytes of a value.
pub fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
