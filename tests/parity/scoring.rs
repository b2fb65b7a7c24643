//! Edits against jiwer's (tests/fixtures/generate/scoring.py).

use reprise_model::score::UtteranceAlignment;
use reprise_spec::recognition::Alignment;

#[test]
fn edits_are_those_of_jiwer() {
    let pairs = include_str!("../fixtures/scoring/pairs.tsv");
    let mut checked = 0;
    for line in pairs.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [reference, hypothesis, alignment, counts @ ..] = fields.as_slice() else { panic!("{line:?}") };
        let ours = UtteranceAlignment::between(reference, hypothesis);
        assert_eq!(ours.words.to_string(), *alignment, "{reference:?} {hypothesis:?}");
        let counted = |alignment: Alignment| {
            let edits = alignment.edits();
            [edits.substitutions, edits.deletions, edits.insertions]
        };
        let theirs: Vec<u64> = counts.iter().map(|count| count.parse().unwrap()).collect();
        assert_eq!([counted(ours.words), counted(ours.characters)].concat(), theirs, "{reference:?} {hypothesis:?}");
        checked += 1;
    }
    assert_eq!(checked, 1000);
}
