//! The words that a recogniser may give, as a tree over its symbols.

use std::collections::BTreeMap;

use crate::vocabulary::Vocabulary;

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
    #[error("the lexicon has no word")]
    Empty,
    #[error("the model has no symbol for the space between words")]
    NoSpace,
}

/// Words below the prefixes of their spellings. The root is node 0.
#[derive(Clone, Debug)]
pub struct Lexicon {
    words: Vec<String>,
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

impl Lexicon {
    /// Reads one word a line: either the word alone, spelt with its own characters, or the word and its symbols, all parted by white space;
    /// a last symbol `|` (wav2letter's convention) is left out, because the search puts spaces between words itself. Empty lines count as none.
    ///
    /// # Errors
    /// Names the line of a word with a letter that `vocabulary` lacks, without spelling or with one that it already has.
    pub fn read(text: &str, vocabulary: &Vocabulary) -> Result<Self, BadLexicon> {
        // Special symbols spell nothing.
        let symbols: BTreeMap<String, u32> =
            vocabulary.symbols().zip(0u32..).skip(1).filter(|(name, _)| name.chars().nth(1).is_none()).collect();
        let space = symbols.get("|").copied().ok_or(BadLexicon::NoSpace)?;
        let mut lexicon = Self { words: Vec::new(), nodes: vec![Node::default()], space };
        let mut places = BTreeMap::new();
        for (line, fields) in text.lines().zip(1..).map(|(text, line)| (line, text.split_whitespace())) {
            let mut fields = fields.peekable();
            let Some(word) = fields.next() else { continue };
            let mut spelling: Vec<String> = if fields.peek().is_some() {
                fields.map(str::to_owned).collect()
            } else {
                word.chars().map(String::from).collect()
            };
            spelling.pop_if(|last| last == "|");
            let word = word.to_owned();
            if spelling.is_empty() {
                return Err(BadLexicon::NoSpelling { line, word });
            }
            let mut node = 0;
            for name in &spelling {
                let symbol = symbols.get(name).copied().filter(|&symbol| symbol != space);
                let Some(symbol) = symbol else {
                    let letter = name.chars().next().unwrap_or_default();
                    return Err(BadLexicon::Letter { line, word, letter });
                };
                node = lexicon.below(node, symbol);
            }
            let place = *places.entry(word.clone()).or_insert(lexicon.words.len() as u32);
            if place as usize == lexicon.words.len() {
                lexicon.words.push(word.clone());
            }
            if lexicon.nodes[node as usize].words.contains(&place) {
                return Err(BadLexicon::Twice { line, word });
            }
            lexicon.nodes[node as usize].words.push(place);
        }
        if lexicon.words.is_empty() { Err(BadLexicon::Empty) } else { Ok(lexicon) }
    }

    fn below(&mut self, node: u32, symbol: u32) -> u32 {
        let next = self.nodes.len() as u32;
        let child = *self.nodes[node as usize].children.entry(symbol).or_insert(next);
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// A node by its place.
    pub fn node(&self, place: u32) -> &Node {
        &self.nodes[place as usize]
    }

    /// A word by its place in the order of first lines.
    pub fn word(&self, place: u32) -> &str {
        &self.words[place as usize]
    }

    /// All words in the order of their first lines.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The symbol of the space between words.
    pub fn space(&self) -> u32 {
        self.space
    }
}
