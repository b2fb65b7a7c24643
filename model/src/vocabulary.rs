//! The symbols that CTC tells apart: the blank, and characters or pieces of words of the training transcripts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::failure::StageError;

pub mod word_pieces;

use word_pieces::WORD_START;

/// The index of the CTC blank.
pub const BLANK: i64 = 0;
/// How the blank is written in a vocabulary file, as Hugging Face tokenizers name it.
pub const BLANK_SYMBOL: &str = "<pad>";
/// How the space between two words is written, as fairseq and Hugging Face have it.
pub const SPACE: char = '|';

/// Output symbols of a CTC model: index 0 is the blank, 1 the space between words, then the characters in order of their code points.
/// Models from elsewhere may have another order, no space, and special symbols such as `<unk>`, which spell nothing.
///
/// Characters are Unicode scalar values: a letter with a combining accent is two symbols. Unlike fairseq's `.ltr` files, labels carry
/// no space after the last word.
///
/// A vocabulary of word pieces has [`WORD_START`] for its first symbol in place of the space, then the characters, then longer pieces in the
/// order in which they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// From index 1 on.
    symbols: Vec<Symbol>,
    /// Of what spells something.
    indices: BTreeMap<String, i64>,
}

/// An output other than the blank.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Symbol {
    Character(char),
    /// Several characters, in a vocabulary of word pieces alone.
    Piece(String),
    /// A name in brackets.
    Special(String),
}

impl Symbol {
    fn parse(text: &str, pieces: bool) -> Option<Self> {
        let mut characters = text.chars();
        let only = characters.next().filter(|_| characters.next().is_none());
        if let Some(character) = only {
            return (!character.is_control() && !character.is_whitespace()).then_some(Self::Character(character));
        }
        let bracketed =
            [('<', '>'), ('[', ']')].iter().any(|(open, close)| text.starts_with(*open) && text.ends_with(*close));
        let plain = !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        match (plain, bracketed) {
            (true, true) => Some(Self::Special(text.to_owned())),
            (true, false) => pieces.then(|| Self::Piece(text.to_owned())),
            (false, _) => None,
        }
    }
}

impl std::fmt::Display for Symbol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Character(character) => write!(f, "{character}"),
            Self::Piece(text) | Self::Special(text) => f.write_str(text),
        }
    }
}

/// A character that no training transcript has, so that no output of the model can be it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the character {0:?} is in no training transcript")]
pub struct UnseenCharacter(pub char);

impl Vocabulary {
    /// The vocabulary of `transcripts`.
    ///
    /// # Errors
    /// Refuses transcripts without any character, and `|`, which stands for the space.
    pub fn of<'a>(transcripts: impl IntoIterator<Item = &'a str>) -> Result<Self, StageError> {
        let characters: BTreeSet<char> =
            transcripts.into_iter().flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
        if characters.is_empty() {
            return Err(StageError::refused(
                "the transcripts to fine-tune on hold no character",
                "name splits with transcripts in `corpus.finetune`",
            ));
        }
        if characters.contains(&SPACE) {
            return Err(StageError::refused(
                format!("a transcript to fine-tune on holds {SPACE:?}, which stands for the space between words"),
                format!("take {SPACE:?} out of the transcripts"),
            ));
        }
        Ok(Self::with(std::iter::once(SPACE).chain(characters).map(Symbol::Character).collect()))
    }

    /// The vocabulary of at most `most` word pieces of `transcripts`.
    ///
    /// # Errors
    /// Refuses transcripts without any character, or with more characters than `most`, and [`WORD_START`], which stands for the beginning of a word.
    pub fn of_pieces<'a>(transcripts: impl IntoIterator<Item = &'a str>, most: usize) -> Result<Self, StageError> {
        let pieces = word_pieces::learn(transcripts, most)?;
        let symbol = |piece: String| {
            let mut characters = piece.chars();
            match (characters.next(), characters.next()) {
                (Some(only), None) => Symbol::Character(only),
                _ => Symbol::Piece(piece),
            }
        };
        Ok(Self::with(pieces.into_iter().map(symbol).collect()))
    }

    fn with(symbols: Vec<Symbol>) -> Self {
        let spells = |symbol: &Symbol| !matches!(symbol, Symbol::Special(_));
        let indices = symbols
            .iter()
            .zip(BLANK + 1..)
            .filter(|(symbol, _)| spells(symbol))
            .map(|(symbol, index)| (symbol.to_string(), index))
            .collect();
        Self { symbols, indices }
    }

    /// Whether words are spelt in pieces.
    pub fn has_pieces(&self) -> bool {
        self.symbols.first() == Some(&Symbol::Character(WORD_START))
    }

    /// The vocabulary whose outputs have these names, the blank's first.
    ///
    /// # Errors
    /// Says which name is neither one visible character nor a word in brackets, nor a piece where there are pieces, or stands twice.
    pub fn of_symbols<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut names = names.peekable();
        if names.next() != Some(BLANK_SYMBOL) {
            return Err(format!("symbol 0 is not the blank {BLANK_SYMBOL}"));
        }
        let pieces = names.peek().is_some_and(|first| first.chars().eq([WORD_START]));
        let mut symbols = Vec::new();
        let mut seen = BTreeSet::from([BLANK_SYMBOL]);
        for (name, index) in names.zip(BLANK + 1..) {
            let wrong = || format!("symbol {index} is neither one character nor a word in brackets: {name:?}");
            symbols.push(Symbol::parse(name, pieces).ok_or_else(wrong)?);
            if !seen.insert(name) {
                return Err(format!("symbol {index} stands twice: {name:?}"));
            }
        }
        Ok(Self::with(symbols))
    }

    /// The names of all outputs, the blank's first.
    pub fn symbols(&self) -> impl Iterator<Item = String> {
        std::iter::once(BLANK_SYMBOL.to_owned()).chain(self.symbols.iter().map(Symbol::to_string))
    }

    /// Number of symbols, the blank among them.
    pub fn size(&self) -> usize {
        self.symbols.len() + 1
    }

    /// Where the words of a label are, first to last: between spaces, or in pieces from one start of a word to the next.
    pub fn words(&self, label: &[i64]) -> Vec<Range<usize>> {
        let mut words: Vec<Range<usize>> = Vec::new();
        let mut open = false;
        for (place, &symbol) in label.iter().enumerate() {
            let name = self.name(symbol).to_string();
            let space = !self.has_pieces() && name.chars().eq([SPACE]);
            let starts = !open || self.has_pieces() && name.starts_with(WORD_START);
            match words.last_mut() {
                _ if space => {}
                Some(word) if !starts => word.end = place + 1,
                _ => words.push(place..place + 1),
            }
            open = !space;
        }
        words
    }

    /// The label of a transcript; any white space between two words is one space symbol.
    ///
    /// In pieces, a word's characters after a [`WORD_START`] grow together: always the two neighbours that make the piece found first.
    pub fn encode(&self, transcript: &str) -> Result<Vec<i64>, UnseenCharacter> {
        let index = |character: char| {
            let index = self.indices.get(character.encode_utf8(&mut [0; 4])).copied();
            index.ok_or(UnseenCharacter(character))
        };
        // A transcript's own `|` is not a space, nor its own mark the start of a word: they are characters that no model can give.
        let own = |character: char| match character == if self.has_pieces() { WORD_START } else { SPACE } {
            true => Err(UnseenCharacter(character)),
            false => index(character),
        };
        let mut label = Vec::with_capacity(transcript.len());
        for word in transcript.split_whitespace() {
            if self.has_pieces() {
                let characters = std::iter::once(index(WORD_START)).chain(word.chars().map(own));
                let joined = |left: i64, right: i64| {
                    self.indices.get(&(self.name(left).to_string() + &self.name(right).to_string())).copied()
                };
                label.extend(word_pieces::merge(characters.collect::<Result<_, _>>()?, joined));
                continue;
            }
            if !label.is_empty() {
                label.push(index(SPACE)?);
            }
            for character in word.chars() {
                label.push(own(character)?);
            }
        }
        Ok(label)
    }

    fn name(&self, symbol: i64) -> &Symbol {
        &self.symbols[(symbol - BLANK - 1) as usize]
    }

    /// The text of symbols without blanks, with single spaces between words and none around them.
    ///
    /// # Panics
    /// When an index is not one of this vocabulary or is the blank: then the model and the vocabulary are not of one kind.
    pub fn decode(&self, symbols: &[i64]) -> String {
        let spelt = |&symbol: &i64| match self.name(symbol) {
            Symbol::Special(_) => None,
            spelling => Some(spelling.to_string()),
        };
        let text: String = symbols.iter().filter_map(spelt).collect();
        let between = if self.has_pieces() { WORD_START } else { SPACE };
        text.split(between).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// One symbol a line, in the order of the model's outputs.
    pub fn to_text(&self) -> String {
        self.symbols().map(|symbol| symbol + "\n").collect()
    }

    /// Reads what [`Vocabulary::to_text`] wrote.
    pub fn read(path: &Path) -> Result<Self, StageError> {
        let text = fs::read_to_string(path).map_err(|error| StageError::io("cannot read", path, &error))?;
        Self::from_text(&text).map_err(|reason| StageError::Failed(format!("{}: {reason}", path.display())))
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::of_symbols(text.lines())
    }
}

/// The fewest frames that CTC can align with `label`: one for each symbol and one blank between equal neighbours.
pub fn frames_needed(label: &[i64]) -> u64 {
    (label.len() + label.windows(2).filter(|pair| pair[0] == pair[1]).count()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn symbols_are_blank_space_and_sorted_characters() {
        let vocabulary = Vocabulary::of(["so it is", "é\u{301}"]).unwrap();
        assert_eq!(vocabulary.to_text(), "<pad>\n|\ni\no\ns\nt\né\n\u{301}\n");
        assert_eq!(vocabulary.size(), 8);
        assert_eq!(vocabulary.encode(" is \t it ").unwrap(), [2, 4, 1, 2, 5]);
    }

    #[test]
    fn unseen_characters_are_named_and_the_bar_is_never_a_space() {
        let vocabulary = Vocabulary::of(["ab"]).unwrap();
        assert_eq!(vocabulary.encode("axb"), Err(UnseenCharacter('x')));
        assert_eq!(vocabulary.encode("a|b"), Err(UnseenCharacter('|')));
        assert!(Vocabulary::of(["a|b"]).is_err());
        assert!(Vocabulary::of(["", "  "]).is_err());
    }

    #[test]
    fn files_that_are_no_vocabulary_are_named_by_symbol() {
        for (text, reason) in [
            ("a\n|\n", "symbol 0"),
            ("<pad>\n\na\n", "symbol 1"),
            ("<pad>\n|\nab\n", "symbol 2"),
            ("<pad>\n|\n<a b>\n", "symbol 2"),
            ("<pad>\n|\na\na\n", "twice"),
        ] {
            assert!(Vocabulary::from_text(text).unwrap_err().contains(reason), "{text:?}");
        }
    }

    #[test]
    fn special_symbols_spell_nothing_and_the_space_may_stand_anywhere() {
        let text = "<pad>\n<unk>\nA\n|\n[PAD]\n";
        let vocabulary = Vocabulary::from_text(text).unwrap();
        assert_eq!((vocabulary.size(), vocabulary.to_text().as_str()), (5, text));
        assert_eq!(vocabulary.encode("A A").unwrap(), [2, 3, 2]);
        assert_eq!(vocabulary.decode(&[1, 2, 3, 4, 2]), "A A");
        let spaceless = Vocabulary::from_text("<pad>\nA\n").unwrap();
        assert_eq!(spaceless.encode("A A"), Err(UnseenCharacter('|')));
    }

    #[test]
    fn words_lie_between_spaces() {
        let vocabulary = Vocabulary::of(["ab"]).unwrap();
        assert_eq!(vocabulary.words(&[1, 2, 3, 1, 1, 3, 1]), [1..3, 5..6]);
        assert!(vocabulary.words(&[]).is_empty());
    }

    #[test]
    fn equal_neighbours_need_a_blank_between_them() {
        assert_eq!(frames_needed(&[]), 0);
        assert_eq!(frames_needed(&[3, 3, 3, 4]), 6);
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(words in prop::collection::vec("[a-zé\u{301}']{1,6}", 1..6)) {
            let text = words.join(" ");
            let vocabulary = Vocabulary::of([text.as_str()]).unwrap();
            prop_assert_eq!(vocabulary.decode(&vocabulary.encode(&text).unwrap()), text);
            prop_assert_eq!(Vocabulary::from_text(&vocabulary.to_text()).unwrap(), vocabulary);
        }
    }
}
