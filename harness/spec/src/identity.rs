//! Identities: SHA-256 digests with a type each, so that none is taken for another.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// All 64 hex digits, without the prefix.
            pub fn hex(&self) -> String {
                hex::encode(self.0)
            }

            /// The first 12 hex digits, for people and folder names.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..6])
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.hex())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.short())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let digits = text.strip_prefix($prefix).unwrap_or(text);
                let mut bytes = [0; 32];
                hex::decode_to_slice(digits, &mut bytes)
                    .map_err(|_| format!("{text:?} is not {}followed by 64 hex digits", $prefix))?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

digest!(/// A whole experiment: SHA-256 over the canonical bytes of the resolved file.
    SpecHash, "spec:");
digest!(/// One concrete setting without name, question, notes and seeds.
    VariantHash, "variant:");
digest!(/// What a stage should produce: kind and version, settings, keys of its inputs, seed where randomness is drawn.
    StageKey, "stage:");
digest!(/// What a stage did produce: tensors and table rows, whatever container holds them.
    OutputDigest, "output:");
digest!(/// The files that a split of a corpus consists of: relative path, size and SHA-256 of each.
    ContentDigest, "content:");
digest!(/// A published bundle: SHA-256 over the bytes of its list of checksums.
    BundleId, "bundle:");

/// SHA-256 over parts, each preceded by its length as a little-endian `u64`, so that neighbours cannot collide.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}
