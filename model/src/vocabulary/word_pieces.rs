//! Pieces of words by byte-pair encoding over characters (Sennrich, Haddow and Birch 2016, section 3.2).

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::StageError;

/// Stands before every word and is a character to the pieces, as SentencePiece has it.
pub const WORD_START: char = '▁';

/// A word in symbols, and how often it stands in the transcripts.
struct Word {
    symbols: Vec<usize>,
    count: u64,
}

/// Neighbours, how often they stand beside each other, and in which words they have.
type Pairs = BTreeMap<(usize, usize), (u64, BTreeSet<usize>)>;

/// At most `most` pieces of the words of `transcripts`: [`WORD_START`], the characters in order of their code points, then what grew together,
/// the most frequent neighbours first and of equally frequent ones the pair whose spelling comes first. Ends early when no pair stands twice.
///
/// # Errors
/// Refuses transcripts without a character or with [`WORD_START`], and fewer pieces than characters.
pub fn learn<'a>(transcripts: impl IntoIterator<Item = &'a str>, most: usize) -> Result<Vec<String>, StageError> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for word in transcripts.into_iter().flat_map(str::split_whitespace) {
        *counts.entry(word).or_default() += 1;
    }
    let characters: BTreeSet<char> = counts.keys().flat_map(|word| word.chars()).collect();
    let refused = |what: String, help: &str| Err(StageError::refused(what, help));
    if characters.is_empty() {
        let help = "name splits with transcripts in `corpus.finetune`";
        return refused("the transcripts to fine-tune on hold no character".into(), help);
    }
    if characters.contains(&WORD_START) {
        let what = format!("a transcript to fine-tune on holds {WORD_START:?}, which stands for the start of a word");
        return refused(what, "take it out of the transcripts");
    }
    if characters.len() >= most {
        let what = format!(
            "{most} word pieces are too few for the {} characters of the transcripts and the start of a word",
            characters.len()
        );
        return refused(what, "raise `finetuning.symbols.word-pieces.count`, or use `symbols: characters`");
    }
    let mut pieces: Vec<String> = std::iter::once(WORD_START).chain(characters).map(String::from).collect();
    let index: BTreeMap<char, usize> =
        pieces.iter().enumerate().flat_map(|(i, piece)| Some((piece.chars().next()?, i))).collect();
    let symbols = |word: &str| std::iter::once(WORD_START).chain(word.chars()).map(|c| index[&c]).collect();
    let mut words: Vec<Word> = counts.into_iter().map(|(word, count)| Word { symbols: symbols(word), count }).collect();
    let mut pairs = Pairs::new();
    for (place, word) in words.iter().enumerate() {
        count(word, place, &mut pairs);
    }
    while pieces.len() < most {
        let spelling = |&(left, right): &(usize, usize)| format!("{}{}", pieces[left], pieces[right]);
        let best = pairs.iter().filter(|(_, (count, _))| *count > 1).max_by(|(a, (m, _)), (b, (n, _))| {
            m.cmp(n).then_with(|| spelling(b).cmp(&spelling(a))).then_with(|| b.cmp(a))
        });
        let Some((&pair, (_, places))) = best else { break };
        let (places, spelt) = (places.clone(), spelling(&pair));
        // Two pairs can spell the same piece.
        let piece = pieces.iter().position(|known| *known == spelt).unwrap_or_else(|| {
            pieces.push(spelt);
            pieces.len() - 1
        });
        for place in places {
            uncount(&words[place], &mut pairs);
            words[place].symbols = joined(&words[place].symbols, pair, piece);
            count(&words[place], place, &mut pairs);
        }
        pairs.remove(&pair);
    }
    Ok(pieces)
}

/// The symbols of one word after growing together: of all neighbours that `joined` has a symbol for, those with the lowest first, the
/// leftmost of equal ones first.
pub fn merge(mut symbols: Vec<i64>, joined: impl Fn(i64, i64) -> Option<i64>) -> Vec<i64> {
    loop {
        let pairs = symbols.windows(2).enumerate();
        let found = pairs.filter_map(|(place, pair)| Some((joined(pair[0], pair[1])?, place))).min();
        let Some((symbol, place)) = found else { return symbols };
        symbols[place] = symbol;
        symbols.remove(place + 1);
    }
}

fn count(word: &Word, place: usize, pairs: &mut Pairs) {
    for pair in word.symbols.windows(2) {
        let (count, places) = pairs.entry((pair[0], pair[1])).or_default();
        *count += word.count;
        places.insert(place);
    }
}

fn uncount(word: &Word, pairs: &mut Pairs) {
    for pair in word.symbols.windows(2) {
        if let Some((count, _)) = pairs.get_mut(&(pair[0], pair[1])) {
            *count -= word.count;
        }
    }
}

/// `symbols` with every `pair`, from the left, in one piece.
fn joined(symbols: &[usize], pair: (usize, usize), piece: usize) -> Vec<usize> {
    let mut after = Vec::with_capacity(symbols.len());
    let mut rest = symbols;
    while let Some((&first, others)) = rest.split_first() {
        let matches = first == pair.0 && others.first() == Some(&pair.1);
        after.push(if matches { piece } else { first });
        rest = if matches { &others[1..] } else { others };
    }
    after
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vocabulary::Vocabulary;

    #[test]
    fn the_most_frequent_neighbours_grow_together_first() {
        // The words of the paper's example: low 5, lower 2, newest 6, widest 3. `es` and `st` stand 9 times each, and then `est`.
        let text = ["low ".repeat(5), "lower ".repeat(2), "newest ".repeat(6), "widest ".repeat(3)].concat();
        let pieces = learn([text.as_str()], 16).unwrap();
        assert_eq!(pieces.join(" "), "▁ d e i l n o r s t w es est lo low ▁low");
        let vocabulary = Vocabulary::of_pieces([text.as_str()], 16).unwrap();
        let spelt = |text: &str| vocabulary.encode(text).unwrap();
        assert_eq!(spelt("lowest low").len(), 3);
        assert_eq!(vocabulary.words(&spelt("lowest low")), [0..2, 2..3]);
        assert_eq!(vocabulary.decode(&spelt(" lowest  low")), "lowest low");
        assert!(vocabulary.encode("xylo").is_err() && vocabulary.encode("▁low").is_err());
    }

    #[test]
    fn pieces_end_when_nothing_stands_twice() {
        assert_eq!(learn(["ab cd"], 100).unwrap().join(" "), "▁ a b c d");
    }

    #[test]
    fn too_few_pieces_and_the_mark_itself_are_refused() {
        for (text, most) in [("abc", 3), ("a▁b", 10), (" ", 10)] {
            assert!(matches!(learn([text], most), Err(StageError::Refused { .. })), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_spell_every_text_of_their_characters(
            words in prop::collection::vec("[abé|]{1,6}", 1..8), others in prop::collection::vec("[abé|]{1,6}", 1..8), more in 1usize..12,
        ) {
            let text = words.join(" ") + " abé|";
            let vocabulary = Vocabulary::of_pieces([text.as_str()], 5 + more).unwrap();
            prop_assert!(vocabulary.size() <= 6 + more);
            let unseen = others.join(" ");
            prop_assert_eq!(vocabulary.decode(&vocabulary.encode(&unseen).unwrap()), unseen);
        }

        #[test]
        fn files_keep_pieces(words in prop::collection::vec("[abc]{1,5}", 1..20), more in 1usize..12) {
            let text = words.join(" ");
            let vocabulary = Vocabulary::of_pieces([text.as_str()], 4 + more).unwrap();
            prop_assert_eq!(Vocabulary::of_symbols(vocabulary.to_text().lines()).unwrap(), vocabulary);
        }
    }
}
