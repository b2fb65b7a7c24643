//! Canonical bytes back into their tree, so that stored identities can be explained.

use std::collections::BTreeMap;

use thiserror::Error;

use super::Canon;

/// Bytes that no value has.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("these are no canonical bytes: at byte {at}, {what}")]
pub struct NotCanonical {
    pub at: usize,
    pub what: &'static str,
}

/// Deeper trees are refused, so that hostile bytes can't exhaust the stack.
const DEEPEST: usize = 128;

impl Canon {
    /// Reads what [`Canon::to_bytes`] wrote.
    ///
    /// # Errors
    /// Anything else: other tags, torn values, bytes after the value, unsorted keys, a second zero, depth beyond 128.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let mut reader = Reader { bytes, at: 0 };
        let tree = reader.value(0)?;
        if reader.at == bytes.len() { Ok(tree) } else { reader.fail("the value ends before the bytes do") }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, what: &'static str) -> Result<T, NotCanonical> {
        Err(NotCanonical { at: self.at, what })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], NotCanonical> {
        match self.bytes[self.at..].first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => self.fail("the bytes end within a value"),
        }
    }

    /// A length or count; each item takes at least one byte, so more than what is left can't be.
    fn length(&mut self) -> Result<usize, NotCanonical> {
        let length = u64::from_le_bytes(self.take()?);
        match usize::try_from(length) {
            Ok(length) if length <= self.bytes.len() - self.at => Ok(length),
            _ => self.fail("a length goes beyond the end"),
        }
    }

    fn text(&mut self) -> Result<String, NotCanonical> {
        let length = self.length()?;
        match std::str::from_utf8(&self.bytes[self.at..self.at + length]) {
            Ok(text) => {
                self.at += length;
                Ok(text.to_owned())
            }
            Err(_) => self.fail("a text isn't UTF-8"),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Canon, NotCanonical> {
        if depth > DEEPEST {
            return self.fail("values nest too deeply");
        }
        Ok(match self.take::<1>()?[0] {
            0 => Canon::Unit,
            1 => match self.take::<1>()?[0] {
                bit @ (0 | 1) => Canon::Bool(bit == 1),
                _ => return self.fail("a bool is neither 0 nor 1"),
            },
            2 => Canon::Int(i128::from_le_bytes(self.take()?)),
            3 => match f64::from_bits(u64::from_le_bytes(self.take()?)) {
                value if value.is_finite() && value.to_bits() != (-0.0f64).to_bits() => Canon::Float(value),
                _ => return self.fail("a float is NaN, infinite or the negative zero"),
            },
            4 => Canon::Text(self.text()?),
            5 => Canon::List((0..self.length()?).map(|_| self.value(depth + 1)).collect::<Result<_, _>>()?),
            6 => {
                let mut entries = BTreeMap::new();
                for _ in 0..self.length()? {
                    let key = self.text()?;
                    if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                        return self.fail("keys aren't ascending");
                    }
                    entries.insert(key, self.value(depth + 1)?);
                }
                Canon::Map(entries)
            }
            7 => Canon::Variant(self.text()?, Box::new(self.value(depth + 1)?)),
            _ => return self.fail("no value has this tag"),
        })
    }
}
