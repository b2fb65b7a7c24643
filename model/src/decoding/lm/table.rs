//! The converted form of a model: sorted tables in one file that is memory-mapped.
//!
//! Layout, every number little-endian: magic `RPRNGRAM`; version, endian mark 0x01020304, order and zero as u32; bytes of the words as u64;
//! [`MAX_ORDER`] entry counts as u64; SHA-256 of all that follows. Then the words, sorted, one after the other, and where each ends (u32);
//! then for each order the words (u32), the log10 probabilities (f32) and, below the highest order, the log10 back-off weights (f32) and where
//! the entries of the next order end that have this one as context (u32). Entries of order 1 are words, so theirs are their ids.
//!
//! Version 1 is the only one. Opening reads the file once for the checksum and to see that every place lies inside.

use std::fs::File;
use std::io::{self, Write};
use std::ops::{Deref, Range};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::MAX_ORDER;

/// How a converted model begins.
pub const MAGIC: &[u8; 8] = b"RPRNGRAM";
const VERSION: u32 = 1;
const ENDIAN: u32 = 0x0102_0304;
const HEADER: usize = 8 + 4 * 4 + 8 + 8 * MAX_ORDER + 32;

/// A file that holds no converted model, or one that was damaged.
#[derive(Debug, thiserror::Error)]
pub enum BadTable {
    #[error("cannot read the converted language model: {0}")]
    Io(#[from] io::Error),
    #[error("not a converted language model: {0}; convert the ARPA file again")]
    Content(&'static str),
}

/// The entries of one order while a model is being built.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub words: Vec<u32>,
    pub log10: Vec<f32>,
    pub back_off: Vec<f32>,
    /// Where the entries of the next order with this context end.
    pub ends: Vec<u32>,
}

/// Where the tables of one order begin.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    count: usize,
    words: usize,
    log10: usize,
    back_off: usize,
    ends: usize,
}

/// An n-gram language model with back-off.
pub struct NgramModel {
    bytes: Box<dyn Deref<Target = [u8]> + Send + Sync>,
    levels: Vec<Places>,
    word_bytes: Range<usize>,
    word_ends: usize,
    begin: u32,
    end: u32,
    unknown: u32,
}

/// Writes `words` (sorted) and `levels` as a converted model.
pub(super) fn write(words: &[String], levels: &[Level], to: &mut dyn Write) -> io::Result<()> {
    let tables = |each: &mut dyn FnMut(&[u8]) -> io::Result<()>| -> io::Result<()> {
        let mut numbers = |values: &mut dyn Iterator<Item = [u8; 4]>| -> io::Result<()> {
            let mut buffer = Vec::with_capacity(1 << 16);
            for value in values {
                buffer.extend(value);
                if buffer.len() == 1 << 16 {
                    each(&buffer)?;
                    buffer.clear();
                }
            }
            each(&buffer)
        };
        numbers(&mut padded(words))?;
        numbers(&mut words.iter().scan(0u32, |end, word| {
            *end += word.len() as u32;
            Some(end.to_le_bytes())
        }))?;
        for level in levels {
            numbers(&mut level.words.iter().map(|word| word.to_le_bytes()))?;
            numbers(&mut level.log10.iter().map(|value| value.to_le_bytes()))?;
            numbers(&mut level.back_off.iter().map(|value| value.to_le_bytes()))?;
            numbers(&mut level.ends.iter().map(|end| end.to_le_bytes()))?;
        }
        Ok(())
    };
    let mut hasher = Sha256::new();
    tables(&mut |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    to.write_all(MAGIC)?;
    for number in [VERSION, ENDIAN, levels.len() as u32, 0] {
        to.write_all(&number.to_le_bytes())?;
    }
    to.write_all(&words.iter().map(|word| word.len() as u64).sum::<u64>().to_le_bytes())?;
    for order in 0..MAX_ORDER {
        to.write_all(&levels.get(order).map_or(0, |level| level.words.len() as u64).to_le_bytes())?;
    }
    to.write_all(&hasher.finalize())?;
    tables(&mut |bytes| to.write_all(bytes))
}

/// The bytes of `words` in fours, zeros after the last.
fn padded(words: &[String]) -> impl Iterator<Item = [u8; 4]> {
    let mut bytes = words.iter().flat_map(|word| word.bytes());
    std::iter::from_fn(move || {
        let first = bytes.next()?;
        Some([first, bytes.next().unwrap_or(0), bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)])
    })
}

impl NgramModel {
    /// Maps a converted file. It must not be changed while the model lives.
    ///
    /// # Errors
    /// Refuses what is no converted model of this version, is cut short, or differs from its checksum.
    pub fn open(path: &Path) -> Result<Self, BadTable> {
        // SAFETY: the map is read only; that nobody truncates the file meanwhile is the caller's to keep, as documented.
        let map = unsafe { memmap2::Mmap::map(&File::open(path)?)? };
        Self::of(Box::new(map))
    }

    /// Takes the bytes of a converted model.
    pub(super) fn of(bytes: Box<dyn Deref<Target = [u8]> + Send + Sync>) -> Result<Self, BadTable> {
        let wrong = BadTable::Content;
        if bytes.len() < HEADER || &bytes[..8] != MAGIC {
            return Err(wrong("it doesn't begin like one"));
        }
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if number(&bytes, 8) != VERSION || number(&bytes, 12) != ENDIAN {
            return Err(wrong("another version or byte order"));
        }
        let order = number(&bytes, 16) as usize;
        if !(1..=MAX_ORDER).contains(&order) {
            return Err(wrong("an order that none has"));
        }
        if number(&bytes, 20) != 0 || (order..MAX_ORDER).any(|above| long(32 + 8 * above) != 0) {
            return Err(wrong("numbers where zeros should be"));
        }
        let length = bytes.len() as u64;
        let sizes: Vec<u64> = (0..=order).map(|index| long(24 + 8 * index)).collect();
        if sizes.iter().any(|&size| size > length) {
            return Err(wrong("it is cut short"));
        }
        let sizes: Vec<usize> = sizes.into_iter().map(|size| size as usize).collect();
        let word_bytes = HEADER..HEADER + sizes[0];
        let word_ends = HEADER + sizes[0].next_multiple_of(4);
        let mut at = word_ends + 4 * sizes[1];
        let mut levels = Vec::new();
        for (index, &count) in sizes[1..].iter().enumerate() {
            let places =
                Places { count, words: at, log10: at + 4 * count, back_off: at + 8 * count, ends: at + 12 * count };
            at += if index + 1 < order { 16 * count } else { 8 * count };
            levels.push(places);
        }
        if at != bytes.len() {
            return Err(wrong("it is cut short or goes on after its end"));
        }
        if Sha256::digest(&bytes[HEADER..])[..] != bytes[HEADER - 32..HEADER] {
            return Err(wrong("its checksum differs"));
        }
        let mut model = Self { bytes, levels, word_bytes, word_ends, begin: 0, end: 0, unknown: 0 };
        model.inspect().map_err(wrong)?;
        let id = |word: &str| model.id(word).ok_or(wrong("<s>, </s> or <unk> is missing"));
        (model.begin, model.end, model.unknown) = (id("<s>")?, id("</s>")?, id("<unk>")?);
        Ok(model)
    }

    /// Every place that is followed later lies inside its table.
    fn inspect(&self) -> Result<(), &'static str> {
        let count = self.word_count();
        let text = std::str::from_utf8(&self.bytes[self.word_bytes.clone()]).map_err(|_| "words that are not UTF-8")?;
        let mut last = 0;
        for word in 0..count {
            let end = self.number(self.word_ends + 4 * word) as usize;
            if end < last || !text.is_char_boundary(end) {
                return Err("words that overlap");
            }
            last = end;
        }
        if last != text.len() {
            return Err("letters of no word");
        }
        for (order, level) in self.levels.iter().enumerate() {
            if (0..level.count).any(|entry| self.number(level.words + 4 * entry) as usize >= count) {
                return Err("an entry of no word");
            }
            let Some(next) = self.levels.get(order + 1) else { break };
            let mut ends = (0..level.count).map(|entry| self.number(level.ends + 4 * entry) as usize);
            if !ends.clone().is_sorted() || ends.next_back().unwrap_or(0) != next.count {
                return Err("entries outside their table");
            }
        }
        Ok(())
    }

    /// N.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// N-grams of every order from 1 on.
    pub fn counts(&self) -> Vec<usize> {
        self.levels.iter().map(|level| level.count).collect()
    }

    /// Number of words, `<s>`, `</s>` and `<unk>` among them.
    pub fn word_count(&self) -> usize {
        self.levels[0].count
    }

    /// The id of a word, if the model has it.
    pub fn id(&self, word: &str) -> Option<u32> {
        search(0..self.word_count(), |id| self.word(id as u32).as_bytes().cmp(word.as_bytes())).map(|id| id as u32)
    }

    /// The word of an id.
    pub fn word(&self, id: u32) -> &str {
        let end = |id: u32| self.number(self.word_ends + 4 * id as usize) as usize;
        let start = if id == 0 { 0 } else { end(id - 1) };
        let bytes = &self.bytes[self.word_bytes.start + start..self.word_bytes.start + end(id)];
        std::str::from_utf8(bytes).expect("opening has looked at every word")
    }

    /// The id of `<s>`.
    pub fn sentence_begin(&self) -> u32 {
        self.begin
    }

    /// The id of `</s>`.
    pub fn sentence_end(&self) -> u32 {
        self.end
    }

    /// The id of `<unk>`, which stands for every word that the model lacks.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    /// Whether a word is `<s>`, `</s>` or `<unk>`, which nobody says.
    pub fn special(&self, word: u32) -> bool {
        [self.begin, self.end, self.unknown].contains(&word)
    }

    /// The entry of order `order` + 1 for `word` after the context that is entry `context` of `order`.
    pub(super) fn child(&self, order: usize, context: u32, word: u32) -> Option<u32> {
        let (level, next) = (self.levels[order - 1], self.levels[order]);
        let end = |entry: u32| self.number(level.ends + 4 * entry as usize) as usize;
        let start = if context == 0 { 0 } else { end(context - 1) };
        search(start..end(context), |entry| self.number(next.words + 4 * entry).cmp(&word)).map(|entry| entry as u32)
    }

    pub(super) fn log10(&self, order: usize, entry: u32) -> f32 {
        f32::from_bits(self.number(self.levels[order - 1].log10 + 4 * entry as usize))
    }

    pub(super) fn back_off(&self, order: usize, entry: u32) -> f32 {
        f32::from_bits(self.number(self.levels[order - 1].back_off + 4 * entry as usize))
    }

    fn number(&self, at: usize) -> u32 {
        number(&self.bytes, at)
    }
}

impl std::fmt::Debug for NgramModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NgramModel").field("levels", &self.levels).finish_non_exhaustive()
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Binary search in what `compare` sorts.
pub(super) fn search(mut range: Range<usize>, compare: impl Fn(usize) -> std::cmp::Ordering) -> Option<usize> {
    while !range.is_empty() {
        let middle = range.start + range.len() / 2;
        match compare(middle) {
            std::cmp::Ordering::Less => range.start = middle + 1,
            std::cmp::Ordering::Greater => range.end = middle,
            std::cmp::Ordering::Equal => return Some(middle),
        }
    }
    None
}
