//! How alike people find two words: two words and a number a line, separated by tabs.

use std::collections::BTreeSet;
use std::io::BufRead;

use super::lines;

/// The longest line, in bytes.
const LONGEST: u64 = 1 << 12;
/// As many pairs are read at most; the largest published list has 3,500.
pub const MOST: usize = 100_000;

/// Two words, in lower case.
#[derive(Clone, Debug, PartialEq)]
pub struct WordPair {
    pub words: [String; 2],
    /// Higher for words that are more alike.
    pub score: f64,
}

/// The pairs of a text, in its order.
///
/// # Errors
/// What is wrong, with the line: not three fields, an empty word, a number that is none or not finite, a pair that comes twice in either order,
/// no UTF-8; or more than [`MOST`] pairs, or none.
pub fn parse(text: impl BufRead) -> Result<Vec<WordPair>, String> {
    let (mut pairs, mut known) = (Vec::new(), BTreeSet::new());
    for line in lines(text, LONGEST) {
        let (number, line) = line?;
        let at = |problem: String| format!("line {number}: {problem}");
        let fields: Vec<&str> = line.split('\t').collect();
        let [first, second, score] = fields[..] else {
            return Err(at(format!("{} fields, not two words and a number", fields.len())));
        };
        let words = [first, second].map(|word| word.trim().to_lowercase());
        if words.iter().any(String::is_empty) {
            return Err(at("a word is empty".to_owned()));
        }
        let finite = score.trim().parse().ok().filter(|score: &f64| score.is_finite());
        let score = finite.ok_or_else(|| at(format!("{score:?} is no finite number")))?;
        let mut sorted = words.clone();
        sorted.sort();
        if !known.insert(sorted) {
            return Err(at(format!("{} and {} stand together already", words[0], words[1])));
        }
        if pairs.len() == MOST {
            return Err(at(format!("more than {MOST} pairs")));
        }
        pairs.push(WordPair { words, score });
    }
    if pairs.is_empty() { Err("no pairs".to_owned()) } else { Ok(pairs) }
}

/// The inverse of [`parse`].
pub fn table(pairs: &[WordPair]) -> String {
    pairs.iter().map(|WordPair { words: [first, second], score }| format!("{first}\t{second}\t{score}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_in_lower_case_and_written_as_they_are_read() {
        let pairs = parse("Tiger\tcat\t7.35\r\nsea\tsea\t10\n".as_bytes()).unwrap();
        assert_eq!(table(&pairs), "tiger\tcat\t7.35\nsea\tsea\t10\n");
        assert_eq!(parse(table(&pairs).as_bytes()).unwrap(), pairs);
    }

    #[test]
    fn what_no_pairs_are_is_told_by_line() {
        let many: String = (0..=MOST).map(|n| format!("a\tb{n}\t1\n")).collect();
        let told: Vec<String> = [
            &b"word1\tword2\tscore\n"[..],
            b"a\tb\t1\na b 2\n",
            b"a\tb\tNaN\n",
            b"a\t \t1\n",
            b"a\tb\t1\nB\tA\t2\n",
            b"a\t\xff\t1\n",
            &[b'x'; 1 << 13],
            many.as_bytes(),
            b"",
        ]
        .iter()
        .map(|text| parse(*text).unwrap_err())
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
