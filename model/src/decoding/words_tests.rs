use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::beam::tests::{EVERYTHING, by_enumeration, scores};
use super::super::beam::{LogProbabilities, Width, ln_add, search};
use super::super::lexicon::BadLexicon;
use super::super::lm::arpa;
use super::*;
use crate::vocabulary::Vocabulary;

const ARPA: &str = "\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0 <unk>
-99 <s> -0.3
-0.7 </s>
-0.5 a -0.2
-0.6 ab -0.1

\\2-grams:
-0.4 <s> a
-0.3 a ab
-0.2 ab </s>

\\end\\
";

/// Symbols: blank, space, a, b. `ba` is unknown to the language model; A is spelt as a is.
fn lexicon() -> Lexicon {
    Lexicon::read("a\nab\nba b a |\nA a\n", &Vocabulary::of(["ab"]).unwrap()).unwrap()
}

/// All word sequences that a label can be, by splitting it at the spaces.
fn readings(label: &[i64]) -> Vec<Vec<&'static str>> {
    let mut parts: Vec<&[i64]> = label.split(|&symbol| symbol == 1).collect();
    if parts.len() > 1 && parts[0].is_empty() {
        parts.remove(0);
    }
    parts.pop_if(|part| part.is_empty());
    parts.into_iter().fold(vec![vec![]], |readings, part| {
        let words: &[&str] = match part {
            [2] => &["a", "A"],
            [2, 3] => &["ab"],
            [3, 2] => &["ba"],
            _ => &[],
        };
        readings.iter().flat_map(|reading| words.iter().map(|&word| [reading.as_slice(), &[word]].concat())).collect()
    })
}

proptest! {
    #[test]
    fn a_beam_that_keeps_everything_scores_as_the_formula(
        values in scores(4),
        lm in 0.0f64..3.0,
        word in -2.0f64..2.0,
        unknown in -3.0f64..0.0,
        silence in -1.0f64..1.0,
    ) {
        let (lexicon, model) = (lexicon(), arpa::read(ARPA.as_bytes(), None).unwrap());
        let asked = Model::new(&lexicon, arpa::read(ARPA.as_bytes(), None).unwrap());
        let mut grammar = WordSequences::new(&lexicon, Some(&asked), Weights { lm, word, unknown, silence });
        let found = search(LogProbabilities::new(&values, 4).unwrap(), &mut grammar, EVERYTHING, usize::MAX);
        let mut expected = BTreeMap::new();
        for (label, mass) in by_enumeration(&values, 4) {
            for words in readings(&label) {
                let sentence = model.sentence(words.iter().copied());
                let score = mass
                    + lm * sentence.log10
                    + word * words.len() as f64
                    + unknown * sentence.unknown as f64
                    + silence * label.iter().filter(|&&symbol| symbol == 1).count() as f64;
                let sum = expected.entry(words).or_insert(f64::NEG_INFINITY);
                *sum = ln_add(*sum, score);
            }
        }
        // Where no label is of words, what was begun is left out instead.
        prop_assert_eq!(found.len(), if expected.is_empty() { found.len() } else { expected.len() });
        for hypothesis in found.into_iter().filter(|_| !expected.is_empty()) {
            let words: Vec<&str> = hypothesis.label.iter().map(|&word| lexicon.word(word)).collect();
            prop_assert!((expected[&words] - hypothesis.score).abs() < 1e-9, "{:?} against {}", hypothesis, expected[&words]);
        }
    }
}

#[test]
fn where_no_kept_prefix_ends_in_a_word_the_words_before_are_found() {
    let (lexicon, weights) = (lexicon(), Weights { lm: 0.0, word: 0.0, unknown: 0.0, silence: 0.0 });
    // `a`, a space, and `b`, which begins `ba` and ends nothing.
    let path = [2usize, 1, 3];
    let values: Vec<f32> =
        path.iter().flat_map(|&symbol| (0..4).map(move |v| if v == symbol { -0.1 } else { -9.0 })).collect();
    let scores = LogProbabilities::new(&values, 4).unwrap();
    let narrow = Width { prefixes: 2, threshold: 5.0 };
    let found = search(scores, &mut WordSequences::new(&lexicon, None, weights), narrow, 1);
    assert_eq!(found.iter().map(|hypothesis| hypothesis.label.as_slice()).collect::<Vec<_>>(), [[0]]);
}

#[test]
fn a_narrow_beam_keeps_the_beginning_of_the_likelier_word() {
    let lexicon = Lexicon::read("ab\nba\n", &Vocabulary::of(["ab"]).unwrap()).unwrap();
    let model = Model::new(&lexicon, arpa::read(ARPA.as_bytes(), None).unwrap());
    // `ba` sounds a little likelier than `ab`, which the language model prefers.
    let values: Vec<f32> = [[-9.0, -9.0, -0.8, -0.7], [-9.0, -9.0, -0.9, -0.7]].concat();
    let scores = LogProbabilities::new(&values, 4).unwrap();
    let weights = Weights { lm: 2.0, word: 0.0, unknown: 0.0, silence: 0.0 };
    for prefixes in [1, 100] {
        let width = Width { prefixes, threshold: f64::INFINITY };
        let found = search(scores, &mut WordSequences::new(&lexicon, Some(&model), weights), width, 1);
        // ab after <s>: back-off -0.3 and -0.6; </s> after ab: -0.2.
        assert_eq!((&found[0].label[..], (found[0].score - (-1.5 - 2.0 * 1.1)).abs() < 1e-6), (&[0][..], true));
    }
}

#[test]
fn words_that_the_model_cannot_spell_are_left_out_and_counted() {
    let vocabulary = Vocabulary::of(["ab"]).unwrap();
    let (lexicon, left_out) = Lexicon::of(["a", "cab", "a|b", "ba"], &vocabulary).unwrap();
    assert_eq!((lexicon.words(), left_out), (&["a".to_owned(), "ba".to_owned()][..], 2));
    assert_eq!(Lexicon::of(["A"], &vocabulary).unwrap_err(), BadLexicon::Empty);
}

#[test]
fn lexicons_that_the_model_cannot_spell_are_refused_with_the_line() {
    let read = |text| Lexicon::read(text, &Vocabulary::of(["ab"]).unwrap()).unwrap_err();
    assert_eq!(read("a\nabc\n"), BadLexicon::Letter { line: 2, word: "abc".into(), letter: 'c' });
    assert_eq!(read("a|b\n"), BadLexicon::Letter { line: 1, word: "a|b".into(), letter: '|' });
    assert_eq!(read("a |\n"), BadLexicon::NoSpelling { line: 1, word: "a".into() });
    assert_eq!(read("a\n\na a\n"), BadLexicon::Twice { line: 3, word: "a".into() });
    assert_eq!(read("\n"), BadLexicon::Empty);
}
