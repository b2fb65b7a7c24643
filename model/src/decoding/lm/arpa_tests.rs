use std::collections::HashMap;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::*;

const TINY: &str = "\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-0.7\t</s>
-0.5\ta\t-0.2
-0.6\tb\t-0.1

\\2-grams:
-0.4\t<s> a\t-0.05
-0.3\ta b\t-0.15
-0.2\tb a
-0.9\tb </s>

\\3-grams:
-0.1\t<s> a b
-0.25\ta b a

\\end\\
";

/// The definition, word by word.
fn by_definition(entries: &HashMap<Vec<&str>, (f64, f64)>, history: &[&str], word: &str) -> f64 {
    if let Some((log10, _)) = entries.get(&[history, &[word]].concat()) {
        return *log10;
    }
    entries.get(history).map_or(0.0, |entry| entry.1) + by_definition(entries, &history[1..], word)
}

fn entries() -> HashMap<Vec<&'static str>, (f64, f64)> {
    let lines = TINY.lines().map(|line| line.split('\t').collect::<Vec<_>>()).filter(|fields| fields.len() > 1);
    let number = |field: &&str| f64::from(field.parse::<f32>().unwrap());
    lines
        .map(|fields| (fields[1].split(' ').collect(), (number(&fields[0]), fields.get(2).map_or(0.0, number))))
        .collect()
}

proptest! {
    #[test]
    fn sentences_have_the_score_of_the_definition(words in prop::collection::vec(prop::sample::select(vec!["a", "b", "<unk>"]), 0..8)) {
        let model = read(TINY.as_bytes(), None).unwrap();
        let entries = entries();
        let text = [&["<s>"], words.as_slice(), &["</s>"]].concat();
        let expected: f64 =
            (1..text.len()).map(|at| by_definition(&entries, &text[at.saturating_sub(2)..at], text[at])).sum();
        let found = model.sentence(words);
        prop_assert!((found.log10 - expected).abs() < 1e-12, "{} against {}", found.log10, expected);
    }

    #[test]
    fn damaged_tables_are_refused(at in 0usize..1000, byte in 1u8.., cut in prop::bool::ANY) {
        let mut bytes = Vec::new();
        convert_from(TINY.as_bytes(), &mut bytes, None).unwrap();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] ^= byte }
        prop_assert!(NgramModel::of(Box::new(bytes)).is_err());
    }
}

/// The padding after the words doesn't become part of them.
#[test]
fn a_larger_size_of_the_words_is_refused() {
    let mut bytes = Vec::new();
    convert_from(TINY.as_bytes(), &mut bytes, None).unwrap();
    assert_eq!(bytes[24], 14);
    bytes[24] = 16;
    assert!(NgramModel::of(Box::new(bytes)).is_err());
}

#[test]
fn gzip_is_read_and_a_converted_file_is_mapped() {
    let folder = tempfile::tempdir().unwrap();
    let (arpa, table) = (folder.path().join("lm.arpa.gz"), folder.path().join("lm.table"));
    let mut gzip = GzEncoder::new(File::create(&arpa).unwrap(), Compression::default());
    gzip.write_all(TINY.as_bytes()).unwrap();
    gzip.finish().unwrap();
    convert(&arpa, &table, None).unwrap();
    let (mapped, read) = (NgramModel::open(&table).unwrap(), read(TINY.as_bytes(), None).unwrap());
    assert_eq!((mapped.order(), mapped.word_count()), (3, 5));
    assert_eq!(mapped.sentence(["a", "b", "x"]), read.sentence(["a", "b", "x"]));
    assert_eq!(mapped.sentence(["x"]).unknown, 1);
}

#[test]
fn bad_files_are_refused_with_the_line() {
    let refused = |from: &str, to: &str| read(TINY.replacen(from, to, 1).as_bytes(), None).unwrap_err().to_string();
    for (from, to, reason) in [
        ("-0.5\ta\t-0.2", "-0.5\ta", "line 15 of the ARPA file: its context `a` has no back-off weight"),
        ("ngram 2=4", "ngram 2=5", "line 19 of the ARPA file: fewer 2-grams than their count"),
        ("ngram 2=4", "ngram 2=3", "line 17 of the ARPA file: \\3-grams: should stand here"),
        ("-0.6\tb", "0.6\tb", "line 11 of the ARPA file: log10"),
        ("-0.6\tb", "nan\tb", "line 11 of the ARPA file: \"nan\""),
        ("-0.6\tb", "-0.6\ta", "line 11 of the ARPA file: a stands twice"),
        ("-0.2\tb a", "-0.2\ta b", "line 16 of the ARPA file: the 2-gram of line 15 stands twice"),
        ("b a\n", "b c\n", "line 16 of the ARPA file: c is not among the 1-grams"),
        ("<s> a b", "a a b", "line 20 of the ARPA file: its context `a a` is not among the 2-grams"),
        ("<unk>", "c", "lack <unk>"),
        ("\\end\\", "", "the file ends before"),
        ("ngram 3=2", "ngram 4=2", "line 4 of the ARPA file: not `ngram 3=COUNT`"),
        ("-0.1\t<s> a b", "-0.1\t<s> a b\t-1", "line 20 of the ARPA file: not a probability, 3 words"),
    ] {
        let message = refused(from, to);
        assert!(message.contains(reason), "{message} for {to}");
    }
    let latin = TINY.replace("b", "\u{fffd}").into_bytes();
    let at = latin.windows(3).position(|bytes| bytes == "\u{fffd}".as_bytes()).unwrap();
    let bytes = [&latin[..at], &[0xe9], &latin[at + 3..]].concat();
    assert_eq!(read(&bytes[..], None).unwrap_err().to_string(), "line 11 of the ARPA file: it is not UTF-8");
    assert!(read(TINY.replace("-1.0\t<unk>\n", "").replace("1=5", "1=4").as_bytes(), Some(-100.0)).is_ok());
}

#[test]
fn capitals_are_the_unknown_word_too() {
    let capitals = TINY
        .replace("<unk>", "<UNK>")
        .replace("-0.2\tb a", "-0.2\tb <UNK>")
        .replace("-0.25\ta b a", "-0.25\ta b <UNK>");
    let model = read(capitals.as_bytes(), None).unwrap();
    assert_eq!(model.word(model.unknown()), "<unk>");
    let found = model.sentence(["a", "b", "heard"]).log10;
    assert!((found - (-0.4 - 0.1 - 0.25 - 0.7)).abs() < 1e-6, "{found}");
}
