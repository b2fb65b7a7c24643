//! Lists of files with checksums: what a split of a corpus consists of.

use std::path::Path;

use reprise_spec::identity::{ContentDigest, sha256};

use super::DataError;
use crate::plan::Part;

/// One file of a corpus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileEntry {
    /// Relative to the folder of the corpus, with `/` between its parts.
    pub path: String,
    /// In bytes.
    pub size: u64,
    pub sha256: [u8; 32],
}

/// Files sorted by the bytes of their paths, each path once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileList(Vec<FileEntry>);

impl FileList {
    /// Sorts the entries.
    pub fn new(mut entries: Vec<FileEntry>) -> Self {
        entries.sort();
        entries.dedup_by(|a, b| a.path == b.path);
        Self(entries)
    }

    pub fn entries(&self) -> &[FileEntry] {
        &self.0
    }

    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.0.iter().map(|entry| entry.size).sum()
    }

    /// SHA-256 over path, size and SHA-256 of every file.
    pub fn digest(&self) -> ContentDigest {
        let sizes: Vec<[u8; 8]> = self.0.iter().map(|entry| entry.size.to_le_bytes()).collect();
        let mut parts: Vec<&[u8]> = vec![b"reprise content 1"];
        for (entry, size) in self.0.iter().zip(&sizes) {
            parts.extend([entry.path.as_bytes(), size, &entry.sha256]);
        }
        ContentDigest(sha256(&parts))
    }

    /// SHA-256 over size and SHA-256 of every file, whatever they are called.
    pub fn nameless_digest(&self) -> ContentDigest {
        let sizes: Vec<[u8; 8]> = self.0.iter().map(|entry| entry.size.to_le_bytes()).collect();
        let mut parts: Vec<&[u8]> = vec![b"reprise file content 1"];
        for (entry, size) in self.0.iter().zip(&sizes) {
            parts.extend([&size[..], &entry.sha256]);
        }
        ContentDigest(sha256(&parts))
    }

    /// The entries that `part` reads: alignments lie below `alignments/`; transcripts count only where the split is transcribed.
    pub fn part(self, part: Part, transcribed: bool) -> Self {
        let belongs = |path: &str| match part {
            Part::Alignments => path.starts_with("alignments/"),
            Part::Utterances => !path.starts_with("alignments/") && (transcribed || !path.ends_with(".trans.txt")),
        };
        Self(self.0.into_iter().filter(|entry| belongs(&entry.path)).collect())
    }

    /// Reads a committed list. Blank lines and lines that start with `#` are comments.
    ///
    /// # Errors
    /// For a file that can't be read, and for a line that is not `sha256  size  path` with a safe relative path; a path that appears twice.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| DataError::Unreadable { path: path.to_path_buf(), error })?;
        Self::parse(&text).map_err(|(line, message)| DataError::List { path: path.to_path_buf(), line, message })
    }

    /// [`FileList::read`] on text; an error comes with its line, counted from 1.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if !line.trim().is_empty() && !line.starts_with('#') {
                entries.push((index + 1, parse_line(line).map_err(|message| (index + 1, message))?));
            }
        }
        entries.sort_by(|(_, a), (_, b)| a.path.cmp(&b.path));
        match entries.windows(2).find(|pair| pair[0].1.path == pair[1].1.path) {
            Some(pair) => Err((pair[0].0.max(pair[1].0), format!("{} appears twice", pair[0].1.path))),
            None => Ok(Self(entries.into_iter().map(|(_, entry)| entry).collect())),
        }
    }
}

impl std::fmt::Display for FileList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|e| writeln!(f, "{}  {}  {}", hex::encode(e.sha256), e.size, e.path))
    }
}

fn parse_line(line: &str) -> Result<FileEntry, String> {
    let mut fields = line.splitn(3, "  ");
    let (Some(digest), Some(size), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
        return Err("this is not `sha256  size  path`".into());
    };
    let mut sha256 = [0; 32];
    hex::decode_to_slice(digest, &mut sha256).map_err(|_| format!("{digest:?} is not a SHA-256 in 64 hex digits"))?;
    let size = size.parse().map_err(|_| format!("{size:?} is not a size in bytes"))?;
    let unsafe_part = |part: &str| matches!(part, "" | "." | "..");
    if path.split('/').any(unsafe_part) || path.chars().any(|c| c.is_control() || c == '\\') {
        return Err(format!("{path:?} is not a path below the folder of the corpus"));
    }
    Ok(FileEntry { path: path.to_owned(), size, sha256 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, size: u64) -> FileEntry {
        FileEntry { path: path.into(), size, sha256: [size as u8; 32] }
    }

    proptest! {
        #[test]
        fn a_list_reads_back_as_it_was_written(paths in proptest::collection::vec("[a-z]{1,4}/[a-z é-]{1,6}[a-z]", 0..9)) {
            let list = FileList::new(paths.iter().enumerate().map(|(i, path)| entry(path, i as u64)).collect());
            prop_assert_eq!(FileList::parse(&list.to_string()).unwrap(), list);
        }
    }

    #[test]
    fn neighbouring_fields_do_not_collide() {
        let one = FileList::new(vec![entry("a/b", 1), entry("c", 2)]);
        let two = FileList::new(vec![entry("a/b", 1), entry("c", 3)]);
        let three = FileList::new(vec![entry("a/bc", 1), entry("c", 2)]);
        assert_ne!(one.digest(), two.digest());
        assert_ne!(one.digest(), three.digest());
    }

    #[test]
    fn a_path_out_of_the_corpus_is_refused_with_its_line() {
        let digest = "0".repeat(64);
        for path in ["../a.flac", "/etc/passwd", "a//b.flac", "a\\b.flac", "a/./b"] {
            let text = format!("# files\n{digest}  1  fine.flac\n{digest}  1  {path}\n");
            let (line, message) = FileList::parse(&text).unwrap_err();
            assert_eq!(line, 3, "{message}");
        }
        let twice = format!("{digest}  1  a.flac\n{digest}  2  a.flac\n");
        assert_eq!(FileList::parse(&twice).unwrap_err(), (2, "a.flac appears twice".into()));
    }

    #[test]
    fn transcripts_of_an_untranscribed_split_do_not_count() {
        let list =
            FileList::new(vec![entry("s/a.flac", 1), entry("s/a.trans.txt", 2), entry("alignments/s.phones.tsv", 3)]);
        let count = |part, transcribed| list.clone().part(part, transcribed).entries().len();
        assert_eq!(
            (count(Part::Utterances, true), count(Part::Utterances, false), count(Part::Alignments, true)),
            (2, 1, 1)
        );
    }
}
