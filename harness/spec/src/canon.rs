//! Canonical bytes: what is hashed.
//!
//! A value is brought into a small tree, [`Canon`], and the tree into bytes. The rules are ours, so that no printer, crate feature or
//! order of fields can change an identity. Every node is a tag byte and what follows it; lengths and counts are `u64`, little-endian:
//!
//! | node | tag | then |
//! |---|---|---|
//! | unit | 0 | nothing |
//! | bool | 1 | one byte, 0 or 1 |
//! | int | 2 | 16 bytes, `i128` little-endian |
//! | float | 3 | 8 bytes, the bits of an `f64` little-endian; one zero (`-0.0` is `0.0`), never NaN or an infinity |
//! | text | 4 | length in bytes, UTF-8 |
//! | list | 5 | count, items |
//! | map | 6 | count, entries ascending by the bytes of their keys: length of the key, key, value |
//! | variant | 7 | length of the name, name, value (unit for a variant that holds nothing) |
//!
//! Structs are maps by the names that serde writes. A field that is `None` is left out, so a language that gains an optional word keeps
//! the identity of every experiment that doesn't use it; elsewhere `None` is unit. Newtypes are what they hold. No two trees share bytes.

mod json;
mod read;
mod serialize;

pub use json::NotATree;
pub use read::NotCanonical;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use thiserror::Error;

/// A value, free of everything that isn't meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Canon {
    Unit,
    Bool(bool),
    Int(i128),
    /// Finite, and never `-0.0`.
    Float(f64),
    Text(String),
    List(Vec<Canon>),
    Map(BTreeMap<String, Canon>),
    Variant(String, Box<Canon>),
}

/// Why a value has no canonical form.
#[derive(Debug, Error)]
pub enum CanonError {
    #[error("{0} has no canonical bytes: numbers must be finite")]
    NotFinite(f64),
    #[error("an integer beyond i128 has no canonical bytes")]
    TooLarge,
    #[error("a map has canonical bytes only if its keys are texts")]
    KeyIsNotText,
    #[error("the key {0:?} appears twice")]
    DuplicateKey(String),
    #[error("an optional value that may itself be nothing has no canonical bytes")]
    NestedOption,
    #[error("{0}")]
    Other(String),
}

/// The canonical bytes of a value made of this crate's types.
///
/// # Panics
/// When [`try_bytes`] fails. No type of this crate makes it fail: their numbers are finite by construction, their map keys are texts,
/// and none nests one option in another.
pub fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    of(value).to_bytes()
}

/// The tree of a value made of this crate's types.
///
/// # Panics
/// As [`bytes`], which is to say never for these types.
pub fn of<T: Serialize>(value: &T) -> Canon {
    tree(value).expect("the types of this crate have canonical bytes")
}

/// The canonical bytes of any value.
///
/// # Errors
/// NaN and infinities, map keys that aren't texts, duplicate keys, integers beyond `i128`, and an option within an option.
pub fn try_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonError> {
    Ok(tree(value)?.to_bytes())
}

/// The tree of any value.
///
/// # Errors
/// As [`try_bytes`].
pub fn tree<T: Serialize>(value: &T) -> Result<Canon, CanonError> {
    value.serialize(serialize::ToTree)
}

impl Canon {
    /// The bytes that the module's documentation defines.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, out: &mut Vec<u8>) {
        let length = |out: &mut Vec<u8>, n: usize| out.extend((n as u64).to_le_bytes());
        let text = |out: &mut Vec<u8>, text: &str| {
            length(out, text.len());
            out.extend(text.as_bytes());
        };
        match self {
            Canon::Unit => out.push(0),
            Canon::Bool(value) => out.extend([1, u8::from(*value)]),
            Canon::Int(value) => {
                out.push(2);
                out.extend(value.to_le_bytes());
            }
            Canon::Float(value) => {
                out.push(3);
                out.extend(value.to_bits().to_le_bytes());
            }
            Canon::Text(value) => {
                out.push(4);
                text(out, value);
            }
            Canon::List(items) => {
                out.push(5);
                length(out, items.len());
                items.iter().for_each(|item| item.write(out));
            }
            Canon::Map(entries) => {
                out.push(6);
                length(out, entries.len());
                for (key, value) in entries {
                    text(out, key);
                    value.write(out);
                }
            }
            Canon::Variant(name, value) => {
                out.push(7);
                text(out, name);
                value.write(out);
            }
        }
    }
}

impl fmt::Display for Canon {
    /// As a person would write it on one line of YAML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Canon::Unit => f.write_str("nothing"),
            Canon::Bool(value) => write!(f, "{value}"),
            Canon::Int(value) => write!(f, "{value}"),
            Canon::Float(value) => write!(f, "{value}"),
            Canon::Text(value) => f.write_str(value),
            Canon::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Canon::Map(entries) => {
                f.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
            Canon::Variant(name, value) if **value == Canon::Unit => f.write_str(name),
            Canon::Variant(name, value) => write!(f, "{{{name}: {value}}}"),
        }
    }
}

/// One place where two trees differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// As in messages about a file: `strategy.baseline.iterations[1].steps`; empty for the whole value.
    pub path: String,
    pub left: Option<Canon>,
    pub right: Option<Canon>,
}

/// Every place where two trees differ, in the order of their keys, each as deep as both trees reach.
pub fn differences(left: &Canon, right: &Canon) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(String::new(), Some(left), Some(right), &mut found);
    found
}

fn compare(path: String, left: Option<&Canon>, right: Option<&Canon>, found: &mut Vec<Difference>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (left, right) {
        (Some(Canon::Map(a)), Some(Canon::Map(b))) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter().for_each(|key| compare(below(key), a.get(key), b.get(key), found));
        }
        (Some(Canon::List(a)), Some(Canon::List(b))) => {
            (0..a.len().max(b.len())).for_each(|i| compare(format!("{path}[{i}]"), a.get(i), b.get(i), found));
        }
        (Some(Canon::Variant(a, x)), Some(Canon::Variant(b, y))) if a == b => {
            compare(below(a), Some(x), Some(y), found)
        }
        _ if left == right => {}
        _ => found.push(Difference { path, left: left.cloned(), right: right.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Here {
        b: Option<u8>,
        a: f64,
    }

    #[derive(Serialize)]
    struct Elsewhere {
        a: f64,
    }

    #[test]
    fn the_order_of_fields_and_absent_options_are_no_meaning() {
        assert_eq!(bytes(&Here { b: None, a: -0.0 }), bytes(&Elsewhere { a: 0.0 }));
        assert_ne!(bytes(&Here { b: Some(0), a: 0.0 }), bytes(&Elsewhere { a: 0.0 }));
    }

    #[test]
    fn what_has_no_canonical_form_is_refused() {
        assert!(matches!(try_bytes(&f64::NAN), Err(CanonError::NotFinite(_))));
        assert!(matches!(try_bytes(&[1.0, f64::INFINITY]), Err(CanonError::NotFinite(_))));
        assert!(matches!(try_bytes(&Some(None::<u8>)), Err(CanonError::NestedOption)));
        assert!(matches!(try_bytes(&BTreeMap::from([(1, 2)])), Err(CanonError::KeyIsNotText)));
        assert!(matches!(try_bytes(&u128::MAX), Err(CanonError::TooLarge)));
    }

    #[test]
    fn differences_are_named_by_path() {
        let left = tree(&serde_json::json!({"a": [{"b": 1}, 2], "c": 3})).unwrap();
        let right = tree(&serde_json::json!({"a": [{"b": 4}], "c": 3, "d": true})).unwrap();
        let found: Vec<_> = differences(&left, &right)
            .into_iter()
            .map(|d| (d.path, d.left.map(|v| v.to_string()), d.right.map(|v| v.to_string())))
            .collect();
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(
            found,
            [
                ("a[0].b".into(), text("1"), text("4")),
                ("a[1]".into(), text("2"), None),
                ("d".into(), None, text("true"))
            ]
        );
    }
}
