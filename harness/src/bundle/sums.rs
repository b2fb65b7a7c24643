//! `SHA256SUMS`: the checksum of every other file of a bundle, as `sha256sum --check` reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use reprise_spec::identity::BundleId;
use sha2::{Digest, Sha256};

use super::names::Names;

/// The name of the list.
pub const FILE: &str = "SHA256SUMS";

/// SHA-256 in lower-case hex by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub BTreeMap<String, String>);

impl Sums {
    /// Reads what [`fmt::Display`] writes, and nothing else.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut sums, mut names) = (BTreeMap::new(), Names::default());
        for (index, line) in text.lines().enumerate() {
            let wrong = || format!("line {} of {FILE} is not a checksum and a name", index + 1);
            let (sum, name) = line.split_once("  ").ok_or_else(wrong)?;
            if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                return Err(wrong());
            }
            names.add(name).map_err(|why| format!("{FILE}: {why}"))?;
            sums.insert(name.to_owned(), sum.to_owned());
        }
        let sums = Self(sums);
        if sums.to_string() == text { Ok(sums) } else { Err(format!("{FILE} isn't spelt as reprise spells it")) }
    }

    /// The identity of the bundle with these files.
    pub fn id(&self) -> BundleId {
        BundleId(Sha256::digest(self.to_string()).into())
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, sum)| writeln!(f, "{sum}  {name}"))
    }
}

/// The checksum of a file's bytes, in hex.
///
/// # Errors
/// When it can't be read.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_one_spelling() {
        let sums = Sums(BTreeMap::from([("a".to_owned(), "0".repeat(64)), ("b/c".to_owned(), "f".repeat(64))]));
        let text = sums.to_string();
        assert_eq!(Sums::parse(&text), Ok(sums));
        for other in [
            text.to_ascii_uppercase(),
            text.replace('\n', "\r\n"),
            text.trim_end().to_owned(),
            text.replace("  a", " *a"),
            text.replace("b/c", "../c"),
            text.lines().rev().map(|line| format!("{line}\n")).collect(),
            format!("{text}\n"),
        ] {
            assert!(Sums::parse(&other).is_err(), "{other}");
        }
    }
}
