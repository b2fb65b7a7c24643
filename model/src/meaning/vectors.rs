//! Vectors of words: a word and its numbers a line, separated by spaces, as GloVe has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufRead;
use std::path::Path;

use tch::Tensor;

use super::lines;
use crate::failure::StageError;
use crate::npy::{Reader, Writer};

/// The longest line, in bytes: some thousand numbers.
const LONGEST: u64 = 1 << 16;
const WORDS: &str = "words.txt";
const VECTORS: &str = "vectors.npy";

/// Some words with their vectors, all of one dimension.
#[derive(Debug)]
pub struct WordVectors {
    /// Sorted.
    pub words: Vec<String>,
    /// Words × dimensions, in float32.
    pub vectors_wd: Tensor,
}

impl WordVectors {
    /// The vectors of `wanted` words in a text. The dimension is that of the first line. A word may have spaces in it, as some of GloVe's have;
    /// the numbers of words that nobody wants are counted and not read.
    ///
    /// # Errors
    /// What is wrong, with the line: another dimension, a number that is none or not finite, a wanted word that comes twice, no UTF-8, a line
    /// that is too long; or that no wanted word has a vector.
    pub fn of(text: impl BufRead, wanted: &BTreeSet<String>) -> Result<Self, String> {
        let mut dimension = None;
        let mut found: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for line in lines(text, LONGEST) {
            let (number, line) = line?;
            let at = |problem: String| format!("line {number}: {problem}");
            let fields: Vec<&str> = line.trim_end_matches([' ', '\t']).split([' ', '\t']).collect();
            let expected = *dimension.get_or_insert(fields.len() - 1);
            if expected == 0 || fields.len() <= expected {
                return Err(at(format!("a word and {} numbers, not {}", fields.len() - 1, expected.max(1))));
            }
            let (word, numbers) = fields.split_at(fields.len() - expected);
            if let [_, .., last] = word
                && last.parse::<f32>().is_ok()
            {
                return Err(at(format!("a word and more numbers than {expected}, which line 1 has")));
            }
            let word = word.join(" ");
            if !wanted.contains(&word) {
                continue;
            }
            let read = |text: &&str| match text.parse::<f32>() {
                Ok(number) if number.is_finite() => Ok(number),
                _ => Err(at(format!("{text:?} is no finite number"))),
            };
            let numbers: Vec<f32> = numbers.iter().map(read).collect::<Result<_, _>>()?;
            if found.insert(word.clone(), numbers).is_some() {
                return Err(at(format!("{word:?} has a vector already")));
            }
        }
        let Some(dimension) = dimension.filter(|_| !found.is_empty()) else {
            return Err(format!("none of {} words has a vector", wanted.len()));
        };
        let (words, vectors): (Vec<String>, Vec<Vec<f32>>) = found.into_iter().unzip();
        Ok(Self { words, vectors_wd: Tensor::from_slice(&vectors.concat()).view([-1, dimension as i64]) })
    }

    /// D.
    pub fn dimension(&self) -> usize {
        self.vectors_wd.size()[1] as usize
    }

    /// The row of a word.
    pub fn row(&self, word: &str) -> Option<usize> {
        self.words.binary_search_by(|known| known.as_str().cmp(word)).ok()
    }

    /// Writes `words.txt` and `vectors.npy` into a folder.
    pub fn write(&self, folder: &Path) -> Result<(), StageError> {
        let path = folder.join(WORDS);
        let text: String = self.words.iter().map(|word| format!("{word}\n")).collect();
        fs::write(&path, text).map_err(|error| StageError::io("cannot write", &path, &error))?;
        let mut writer = Writer::<f32>::create(&folder.join(VECTORS), Some(self.dimension()))?;
        writer.write(&Vec::<f32>::try_from(self.vectors_wd.view([-1]))?)?;
        writer.finish()?;
        Ok(())
    }

    /// Reads what [`WordVectors::write`] left.
    pub fn read(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join(WORDS);
        let text = fs::read_to_string(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
        let mut reader = Reader::<f32>::open(&folder.join(VECTORS))?;
        let (rows, columns) = (reader.rows() as i64, reader.columns() as i64);
        let vectors_wd = Tensor::f_from_slice(&reader.read_all()?)?.f_view([rows, columns])?;
        Ok(Self { words: text.lines().map(str::to_owned).collect(), vectors_wd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], wanted: &[&str]) -> Result<WordVectors, String> {
        WordVectors::of(text, &wanted.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn wanted_words_have_their_numbers_and_come_back_from_disk() {
        let text = "the 1 2e0 -3\n. . 0 0 0\nsea 4 5 6 \r\nunread x y z\n";
        let found = read(text.as_bytes(), &["sea", "the", ". .", "land"]).unwrap();
        assert_eq!(found.words, [". .", "sea", "the"]);
        assert_eq!((found.dimension(), found.row("the"), found.row("land")), (3, Some(2), None));
        let numbers = |vectors: &WordVectors| Vec::<f32>::try_from(vectors.vectors_wd.view([-1])).unwrap();
        assert_eq!(numbers(&found), [0., 0., 0., 4., 5., 6., 1., 2., -3.]);
        let folder = tempfile::tempdir().unwrap();
        found.write(folder.path()).unwrap();
        let again = WordVectors::read(folder.path()).unwrap();
        assert_eq!((&again.words, numbers(&again)), (&found.words, numbers(&found)));
    }

    #[test]
    fn what_no_vectors_are_is_told_by_line() {
        let long = [b"a ".to_vec(), vec![b'1'; 1 << 17]].concat();
        let told: Vec<String> = [
            &b"a 1 2\nb 1\n"[..],
            b"a 1 2\nb 1 2 3\n",
            b"400000 2\na 1 2\n",
            b"a 1 NaN\n",
            b"a 1 inf\n",
            b"a 1 two\n",
            b"a 1 2\na 1 2\n",
            b"\xff 1 2\n",
            b"a\n",
            b"\n",
            b"",
            b"c 1 2\n",
            &long[..],
        ]
        .iter()
        .map(|text| read(text, &["a", "b"]).unwrap_err())
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
