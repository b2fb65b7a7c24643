use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

pub(crate) const EVERYTHING: Width = Width { prefixes: usize::MAX, threshold: f64::INFINITY };

/// Up to 5 frames of 4 symbols: values from a small set, so that many are equal, some −∞.
pub(crate) fn scores(symbols: usize) -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![2 => Just(f32::NEG_INFINITY), 3 => Just(-1.0), 3 => Just(-2.5), 4 => -9.0f32..0.0];
    (0usize..=5).prop_flat_map(move |frames| prop::collection::vec(value.clone(), frames * symbols))
}

/// ln of the mass of every label that has any, over all paths.
pub(crate) fn by_enumeration(values_tv: &[f32], symbols: usize) -> BTreeMap<Vec<i64>, f64> {
    let mut labels = BTreeMap::new();
    let frames: Vec<&[f32]> = values_tv.chunks(symbols).collect();
    for mut code in 0..symbols.pow(frames.len() as u32) {
        let (mut path, mut score) = (Vec::new(), 0.0);
        for frame in &frames {
            path.push((code % symbols) as i64);
            score += f64::from(frame[code % symbols]);
            code /= symbols;
        }
        if score > f64::NEG_INFINITY {
            path.dedup();
            path.retain(|&symbol| symbol != i64::from(BLANK));
            let sum = labels.entry(path).or_insert(f64::NEG_INFINITY);
            *sum = ln_add(*sum, score);
        }
    }
    labels
}

proptest! {
    #[test]
    fn a_beam_that_keeps_everything_is_exhaustive(values in scores(4)) {
        let scores = LogProbabilities::new(&values, 4).unwrap();
        let found = search(scores, &mut AnySymbols::new(4), EVERYTHING, usize::MAX);
        prop_assert!(found.is_sorted_by(|left, right| left.score >= right.score));
        let expected = by_enumeration(&values, 4);
        prop_assert_eq!(found.len(), expected.len());
        for Hypothesis { label, score } in found {
            prop_assert!((expected[&label] - score).abs() < 1e-9, "{:?}: {} against {}", label, score, expected[&label]);
        }
    }

    #[test]
    fn a_narrow_beam_finds_labels_with_at_most_their_score(values in scores(4), prefixes in 1usize..4, threshold in 0.5f64..8.0) {
        let scores = LogProbabilities::new(&values, 4).unwrap();
        let found = search(scores, &mut AnySymbols::new(4), Width { prefixes, threshold }, 2);
        prop_assert!(found.len() <= prefixes.min(2));
        let expected = by_enumeration(&values, 4);
        for Hypothesis { label, score } in found {
            prop_assert!(score <= expected[&label] + 1e-9);
        }
    }
}

#[test]
fn the_best_label_is_not_the_best_path() {
    let frame = [0.4f32.ln(), 0.3f32.ln(), 0.3f32.ln()];
    let values = [frame, frame].concat();
    let found = search(LogProbabilities::new(&values, 3).unwrap(), &mut AnySymbols::new(3), EVERYTHING, 1);
    assert_eq!(found[0].label, [1]);
    assert!((found[0].score.exp() - 0.33).abs() < 1e-6);
}

#[test]
fn no_frames_are_the_empty_label_and_wrong_scores_are_named() {
    let found = search(LogProbabilities::new(&[], 3).unwrap(), &mut AnySymbols::new(3), EVERYTHING, 5);
    assert_eq!(found, [Hypothesis { label: vec![], score: 0.0 }]);
    let wrong = |values: &[f32]| LogProbabilities::new(values, 2).unwrap_err();
    assert_eq!(wrong(&[0.0; 3]), WrongScores::Shape { values: 3, symbols: 2 });
    assert_eq!(wrong(&[0.0, 0.0, 0.0, f32::NAN]), WrongScores::Value { frame: 1, symbol: 1 });
}
