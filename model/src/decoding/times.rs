//! When the words of a hypothesis were said: the most likely path of its label.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::beam::LogProbabilities;

/// Frames from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// The most likely of a label's paths.
#[derive(Clone, Debug, PartialEq)]
pub struct BestPath {
    /// In nats.
    pub score: f64,
    /// The frames of every symbol.
    pub spans: Vec<Span>,
}

/// The most likely of the paths of `label`; `None` where none has a probability above zero.
///
/// A span covers the frames that give the symbol itself; blanks belong to none. Among equally likely paths the
/// choice is fixed: staying comes before stepping. Computed as the Viterbi search over the label with blanks between (Graves et al. 2006 section 4.1, maximum for sum).
pub fn best_path(scores_tv: LogProbabilities, label: &[i64]) -> Option<BestPath> {
    let spelt: Vec<usize> = std::iter::once(0).chain(label.iter().flat_map(|&symbol| [symbol as usize, 0])).collect();
    let states = spelt.len();
    let mut best = vec![f64::NEG_INFINITY; states];
    // Before the first frame the path stands at the first blank, which it may skip.
    best[0] = 0.0;
    let mut back: Vec<u8> = Vec::with_capacity(states * scores_tv.frames().len());
    for (time, frame) in scores_tv.frames().enumerate() {
        let before = best.clone();
        for state in 0..states {
            let skips = state >= 2 && state % 2 == 1 && spelt[state] != spelt[state - 2];
            let steps = if time == 0 { 1 } else { 1 + usize::from(skips) };
            let (step, score) = (1..=steps.min(state)).fold((0, before[state]), |kept, step| {
                if before[state - step] > kept.1 { (step, before[state - step]) } else { kept }
            });
            best[state] = score + f64::from(frame[spelt[state]]);
            back.push(step as u8);
        }
    }
    let mut state = states - 1;
    if states > 1 && best[state - 1] >= best[state] {
        state -= 1;
    }
    let score = best[state];
    if score == f64::NEG_INFINITY {
        return None;
    }
    let mut spans = vec![Span { start: usize::MAX, end: 0 }; label.len()];
    for time in (0..scores_tv.frames().len()).rev() {
        if state % 2 == 1 {
            let span = &mut spans[state / 2];
            *span = Span { start: time, end: span.end.max(time + 1) };
        }
        state -= usize::from(back[time * states + state]);
    }
    Some(BestPath { score, spans })
}

impl BestPath {
    /// The frames of every word of `label`, the label of this path, whose words lie where `words` says: from the first frame of a word's first
    /// symbol to the last of its last. With each the word's symbols.
    pub fn words<'l>(&self, label: &'l [i64], words: &[Range<usize>]) -> Vec<(&'l [i64], Span)> {
        let span = |word: &Range<usize>| match &self.spans[word.clone()] {
            [first, .., last] => Some(Span { start: first.start, end: last.end }),
            [only] => Some(*only),
            [] => None,
        };
        words.iter().filter_map(|word| Some((&label[word.clone()], span(word)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::beam::tests::{by_enumeration, scores};
    use super::*;

    #[test]
    fn words_last_from_their_first_symbol_to_their_last() {
        let path = [0usize, 2, 0, 2, 2, 1, 0, 3, 0];
        let values: Vec<f32> =
            path.iter().flat_map(|&symbol| (0..4).map(move |v| if v == symbol { -0.1 } else { -5.0 })).collect();
        let scores = LogProbabilities::new(&values, 4).unwrap();
        let label = [2, 2, 1, 3];
        let path = best_path(scores, &label).unwrap();
        let words = path.words(&label, &[0..2, 3..4]);
        assert_eq!(words, [(&label[..2], Span { start: 1, end: 5 }), (&label[3..], Span { start: 7, end: 8 })]);
        assert!((path.score + 0.9).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn every_possible_label_and_no_other_has_times_in_order(values in scores(3), other in prop::collection::vec(1i64..3, 0..5)) {
            let scores = LogProbabilities::new(&values, 3).unwrap();
            let possible = by_enumeration(&values, 3);
            for label in possible.keys() {
                let BestPath { spans, score } = best_path(scores, label).unwrap();
                prop_assert!(score <= possible[label] + 1e-9);
                prop_assert!(spans.iter().all(|span| span.start < span.end && span.end <= scores.frames().len()));
                prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
            }
            prop_assert_eq!(best_path(scores, &other).is_some(), possible.contains_key(&other));
        }
    }
}
