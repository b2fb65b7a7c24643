//! The words that a recogniser may give, as a tree over its symbols.

use std::collections::{BTreeMap, HashMap};

use crate::vocabulary::{SPACE, Vocabulary};

/// The file of words among the outputs of a lexicon and of a language model.
pub const WORDS: &str = "words.txt";

/// Why words make no lexicon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLexicon {
    #[error(
        "line {line} of the lexicon: {word} is spelt with {letter:?}, which the model doesn't have; take the word out or spell it otherwise"
    )]
    Letter { line: usize, word: String, letter: char },
    #[error("line {line} of the lexicon: {word} has no spelling")]
    NoSpelling { line: usize, word: String },
    #[error("line {line} of the lexicon: {word} stands there a second time with this spelling")]
    Twice { line: usize, word: String },
    #[error("the lexicon has no word that the model can spell")]
    Empty,
    #[error("the model has no symbol for the space between words")]
    NoSpace,
}

/// Words below the prefixes of their spellings. The root is node 0.
#[derive(Clone, Debug)]
pub struct Lexicon {
    words: Vec<String>,
    /// Of every word.
    spellings: Vec<Vec<Vec<u32>>>,
    nodes: Vec<Node>,
    space: u32,
}

/// A prefix of spellings.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Nodes one symbol further, by that symbol.
    pub children: BTreeMap<u32, u32>,
    /// Words that end here, as places in [`Lexicon::word`].
    pub words: Vec<u32>,
}

/// What words are spelt with: symbols of one character, the space aside.
struct Letters(BTreeMap<char, u32>);

impl Letters {
    /// The letters and the space.
    fn of(vocabulary: &Vocabulary) -> Result<(Self, u32), BadLexicon> {
        let single = |(name, symbol): (String, u32)| {
            let mut characters = name.chars();
            characters.next().filter(|_| characters.next().is_none()).map(|character| (character, symbol))
        };
        // Special symbols spell nothing.
        let mut letters: BTreeMap<char, u32> = vocabulary.symbols().zip(0u32..).skip(1).filter_map(single).collect();
        let space = letters.remove(&SPACE).ok_or(BadLexicon::NoSpace)?;
        Ok((Self(letters), space))
    }

    /// The symbols of `names`; refuses the first that is none.
    fn spell<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<u32>, char> {
        let symbol = |name: &str| {
            let mut characters = name.chars();
            let first = characters.next().unwrap_or_default();
            self.0.get(&first).copied().filter(|_| characters.next().is_none()).ok_or(first)
        };
        names.into_iter().map(symbol).collect()
    }

    /// The symbols of a word that is spelt as it is written.
    fn spell_out(&self, word: &str) -> Result<Vec<u32>, char> {
        word.chars().map(|letter| self.0.get(&letter).copied().ok_or(letter)).collect()
    }
}

impl Lexicon {
    /// Reads one word a line: either the word alone, spelt with its own characters, or the word and its symbols, all parted by white space;
    /// a last symbol `|` (wav2letter's convention) is left out, because the search puts spaces between words itself. Empty lines count as none.
    ///
    /// # Errors
    /// Names the line of a word with a letter that `vocabulary` lacks, without spelling or with one that it already has.
    pub fn read(text: &str, vocabulary: &Vocabulary) -> Result<Self, BadLexicon> {
        let (letters, space) = Letters::of(vocabulary)?;
        let mut building = Building::new(space);
        for (text, line) in text.lines().zip(1..) {
            let mut fields = text.split_whitespace();
            let Some(word) = fields.next() else { continue };
            let mut names: Vec<&str> = fields.collect();
            let spelling = match names.is_empty() {
                true => letters.spell_out(word),
                false => {
                    names.pop_if(|last| *last == "|");
                    letters.spell(names)
                }
            };
            let spelling = spelling.map_err(|letter| BadLexicon::Letter { line, word: word.into(), letter })?;
            if spelling.is_empty() {
                return Err(BadLexicon::NoSpelling { line, word: word.into() });
            }
            if !building.add(word, spelling) {
                return Err(BadLexicon::Twice { line, word: word.into() });
            }
        }
        building.whole()
    }

    /// Those of `words` that `vocabulary` can spell as they are written, and how many it can't.
    ///
    /// # Errors
    /// When there is none that it can spell.
    pub fn of<'a>(
        words: impl IntoIterator<Item = &'a str>,
        vocabulary: &Vocabulary,
    ) -> Result<(Self, usize), BadLexicon> {
        let (letters, space) = Letters::of(vocabulary)?;
        let (mut building, mut left_out) = (Building::new(space), 0);
        for word in words {
            match letters.spell_out(word) {
                Ok(spelling) => _ = building.add(word, spelling),
                Err(_) => left_out += 1,
            }
        }
        Ok((building.whole()?, left_out))
    }

    /// A node by its place.
    pub fn node(&self, place: u32) -> &Node {
        &self.nodes[place as usize]
    }

    /// The number of nodes.
    #[allow(clippy::len_without_is_empty)] // the root is always there
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A word by its place in the order of first lines.
    pub fn word(&self, place: u32) -> &str {
        &self.words[place as usize]
    }

    /// All words in the order of their first lines.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The spellings of a word, in the order of their lines.
    pub fn spellings(&self, place: u32) -> &[Vec<u32>] {
        &self.spellings[place as usize]
    }

    /// The symbol of the space between words.
    pub fn space(&self) -> u32 {
        self.space
    }
}

/// A lexicon under way.
struct Building {
    lexicon: Lexicon,
    places: HashMap<String, u32>,
}

impl Building {
    fn new(space: u32) -> Self {
        let lexicon = Lexicon { words: Vec::new(), spellings: Vec::new(), nodes: vec![Node::default()], space };
        Self { lexicon, places: HashMap::new() }
    }

    /// Adds a word, or another spelling of one; false where it has this spelling.
    fn add(&mut self, word: &str, spelling: Vec<u32>) -> bool {
        let Self { lexicon, places } = self;
        let next = lexicon.words.len() as u32;
        let place = *places.entry(word.to_owned()).or_insert(next);
        if place == next {
            lexicon.words.push(word.to_owned());
            lexicon.spellings.push(Vec::new());
        }
        let node = spelling.iter().fold(0, |node, &symbol| lexicon.below(node, symbol));
        let words = &mut lexicon.nodes[node as usize].words;
        if words.contains(&place) {
            return false;
        }
        words.push(place);
        lexicon.spellings[place as usize].push(spelling);
        true
    }

    fn whole(self) -> Result<Lexicon, BadLexicon> {
        if self.lexicon.words.is_empty() { Err(BadLexicon::Empty) } else { Ok(self.lexicon) }
    }
}

impl Lexicon {
    fn below(&mut self, node: u32, symbol: u32) -> u32 {
        let next = self.nodes.len() as u32;
        let child = *self.nodes[node as usize].children.entry(symbol).or_insert(next);
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }
}
