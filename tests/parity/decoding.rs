//! Best hypotheses against those of flashlight's lexicon decoder (tests/fixtures/generate/decoding.py).

use reprise_model::decoding::beam::{LogProbabilities, Width, search};
use reprise_model::decoding::lexicon::Lexicon;
use reprise_model::decoding::lm::arpa;
use reprise_model::decoding::words::{Model, Weights, WordSequences};
use reprise_model::vocabulary::Vocabulary;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    symbols: Vec<String>,
    lexicon: Vec<String>,
    utterances: Vec<Utterance>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Utterance {
    log_probabilities: Vec<Vec<f32>>,
    decodings: Vec<Decoding>,
}

#[derive(Deserialize)]
struct Decoding {
    lm: f64,
    word: f64,
    best: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    words: Vec<String>,
    score: f64,
}

#[test]
fn hypotheses_and_scores_are_flashlights() {
    let fixture: Fixture = serde_json::from_str(include_str!("../fixtures/decoding/flashlight.json")).unwrap();
    let model = arpa::read(&include_bytes!("../fixtures/language-model/model.arpa")[..], None).unwrap();
    let vocabulary = Vocabulary::of_symbols(fixture.symbols.iter().map(String::as_str)).unwrap();
    let lexicon = Lexicon::read(&fixture.lexicon.join("\n"), &vocabulary).unwrap();
    let unknown = lexicon.words().iter().any(|word| model.id(word).is_none());
    assert!(unknown, "some words are unknown to the language model");
    let model = Model::new(&lexicon, model);
    let mut compared = 0;
    for utterance in &fixture.utterances {
        let values = utterance.log_probabilities.concat();
        let scores_tv = LogProbabilities::new(&values, vocabulary.size()).unwrap();
        for Decoding { lm, word, best } in &utterance.decodings {
            let weights = Weights { lm: *lm, word: *word, unknown: 0.0, silence: 0.0 };
            let mut grammar = WordSequences::new(&lexicon, Some(&model), weights);
            let width = Width { prefixes: 5000, threshold: 1e4 };
            let found = search(scores_tv, &mut grammar, width, best.len());
            for (ours, theirs) in found.iter().zip(best) {
                let words: Vec<&str> = ours.label.iter().map(|&word| lexicon.word(word)).collect();
                assert_eq!(words, theirs.words, "lm {lm}, word {word}");
                assert!((ours.score - theirs.score).abs() < 1e-3, "{words:?}: {} against {}", ours.score, theirs.score);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 5 * 4 * 8);
}
