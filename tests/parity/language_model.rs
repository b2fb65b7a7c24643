//! Scores of sentences against kenlm's (tests/fixtures/generate/language_model.py).

use reprise_model::decoding::lm::arpa;

#[test]
fn sentences_score_as_in_kenlm() {
    let model = arpa::read(&include_bytes!("../fixtures/language-model/model.arpa")[..], None).unwrap();
    let mut checked = 0;
    for line in include_str!("../fixtures/language-model/scores.tsv").lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [sentence, log10, perplexity, tokens] = fields[..] else { panic!("{line:?}") };
        let number = |field: &str| field.parse::<f64>().unwrap();
        let found = model.sentence(sentence.split(' ').filter(|word| !word.is_empty()));
        assert!((found.log10 - number(log10)).abs() < 1e-4, "{sentence:?}: {found:?} against {log10}");
        let relative = (found.perplexity() / number(perplexity) - 1.0).abs();
        assert!(relative < 1e-4, "{sentence:?}: perplexity {} against {perplexity}", found.perplexity());
        let (mut state, mut ids) = (model.begin(), Vec::new());
        ids.extend(sentence.split_whitespace().map(|word| model.id(word).unwrap_or(model.unknown())));
        ids.push(model.sentence_end());
        for (id, expected) in ids.into_iter().zip(tokens.split(' ')) {
            let (log10, next) = model.score(state, id);
            assert!((log10 - number(expected)).abs() < 1e-5, "{sentence:?}: {log10} against {expected}");
            state = next;
        }
        checked += 1;
    }
    assert_eq!(checked, 200);
}
