//! The symbols that CTC tells apart: the blank and the characters of the training transcripts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::failure::StageError;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// From index 1 on.
    symbols: Vec<Symbol>,
    indices: BTreeMap<char, i64>,
}

/// An output other than the blank.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Symbol {
    Character(char),
    /// A name in brackets.
    Special(String),
}

impl Symbol {
    fn parse(text: &str) -> Option<Self> {
        let mut characters = text.chars();
        let only = characters.next().filter(|_| characters.next().is_none());
        if let Some(character) = only {
            return (!character.is_control() && !character.is_whitespace()).then_some(Self::Character(character));
        }
        let bracketed =
            [('<', '>'), ('[', ']')].iter().any(|(open, close)| text.starts_with(*open) && text.ends_with(*close));
        let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace());
        (bracketed && plain).then(|| Self::Special(text.to_owned()))
    }
}

impl std::fmt::Display for Symbol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Character(character) => write!(f, "{character}"),
            Self::Special(name) => f.write_str(name),
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
        Ok(Self::with(std::iter::once(SPACE).chain(characters).collect()))
    }

    fn with(characters: Vec<char>) -> Self {
        let indices = characters.iter().zip(BLANK + 1..).map(|(&character, index)| (character, index)).collect();
        Self { symbols: characters.into_iter().map(Symbol::Character).collect(), indices }
    }

    /// The vocabulary whose outputs have these names, the blank's first.
    ///
    /// # Errors
    /// Says which name is neither one visible character nor a word in brackets, or stands twice.
    pub fn of_symbols<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        if names.next() != Some(BLANK_SYMBOL) {
            return Err(format!("symbol 0 is not the blank {BLANK_SYMBOL}"));
        }
        let mut vocabulary = Self { symbols: Vec::new(), indices: BTreeMap::new() };
        let mut seen = BTreeSet::from([BLANK_SYMBOL]);
        for (name, index) in names.zip(BLANK + 1..) {
            let wrong = || format!("symbol {index} is neither one character nor a word in brackets: {name:?}");
            let symbol = Symbol::parse(name).ok_or_else(wrong)?;
            if !seen.insert(name) {
                return Err(format!("symbol {index} stands twice: {name:?}"));
            }
            if let Symbol::Character(character) = symbol {
                vocabulary.indices.insert(character, index);
            }
            vocabulary.symbols.push(symbol);
        }
        Ok(vocabulary)
    }

    /// The names of all outputs, the blank's first.
    pub fn symbols(&self) -> impl Iterator<Item = String> {
        std::iter::once(BLANK_SYMBOL.to_owned()).chain(self.symbols.iter().map(Symbol::to_string))
    }

    /// Number of symbols, the blank among them.
    pub fn size(&self) -> usize {
        self.symbols.len() + 1
    }

    /// The symbol of a character, [`SPACE`] for the space between words.
    pub fn index(&self, character: char) -> Option<i64> {
        self.indices.get(&character).copied()
    }

    /// The label of a transcript; any white space between two words is one space symbol.
    pub fn encode(&self, transcript: &str) -> Result<Vec<i64>, UnseenCharacter> {
        let mut label = Vec::with_capacity(transcript.len());
        for word in transcript.split_whitespace() {
            if !label.is_empty() {
                label.push(*self.indices.get(&SPACE).ok_or(UnseenCharacter(SPACE))?);
            }
            for character in word.chars() {
                // A transcript's own `|` is not a space: it is a character that no model can give.
                let index = self.indices.get(&character).filter(|_| character != SPACE);
                label.push(*index.ok_or(UnseenCharacter(character))?);
            }
        }
        Ok(label)
    }

    /// The text of symbols without blanks, with single spaces between words and none around them.
    ///
    /// # Panics
    /// When an index is not one of this vocabulary or is the blank: then the model and the vocabulary are not of one kind.
    pub fn decode(&self, symbols: &[i64]) -> String {
        let spelt = |&symbol: &i64| match self.symbols[(symbol - BLANK - 1) as usize] {
            Symbol::Character(character) => Some(character),
            Symbol::Special(_) => None,
        };
        let text: String = symbols.iter().filter_map(spelt).collect();
        text.split(SPACE).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
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
