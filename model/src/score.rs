//! Shortest alignments of references with hypotheses.

use reprise_spec::recognition::{Alignment, Operation};

/// The shortest alignment of two sequences.
///
/// Where several are equally short it is that of rapidfuzz, and so of jiwer: common ends are put aside, then going back from the end a
/// deletion is preferred, then an insertion after which the rest is shorter, then a substitution or match.
pub fn align<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Alignment {
    let (prefix, suffix) = common_ends(reference, hypothesis);
    let (source, target) =
        (&reference[prefix..reference.len() - suffix], &hypothesis[prefix..hypothesis.len() - suffix]);
    let distances = distances(source, target);
    let at = |row: usize, column: usize| distances[row * (target.len() + 1) + column];
    let mut operations = vec![Operation::Correct; suffix];
    let (mut row, mut column) = (source.len(), target.len());
    while row > 0 && column > 0 {
        operations.push(if at(row, column) == at(row - 1, column) + 1 {
            row -= 1;
            Operation::Deletion
        } else if at(row - 1, column - 1) == at(row, column - 1) + 1 {
            column -= 1;
            Operation::Insertion
        } else {
            row -= 1;
            column -= 1;
            if source[row] == target[column] { Operation::Correct } else { Operation::Substitution }
        });
    }
    operations.resize(operations.len() + row, Operation::Deletion);
    operations.resize(operations.len() + column, Operation::Insertion);
    operations.resize(operations.len() + prefix, Operation::Correct);
    operations.reverse();
    Alignment(operations)
}

/// How many units two sequences share at their beginnings, and of the rest at their ends.
fn common_ends<T: PartialEq>(left: &[T], right: &[T]) -> (usize, usize) {
    let prefix = left.iter().zip(right).take_while(|(l, r)| l == r).count();
    let (left, right) = (&left[prefix..], &right[prefix..]);
    (prefix, left.iter().rev().zip(right.iter().rev()).take_while(|(l, r)| l == r).count())
}

/// The Levenshtein distance of every prefix of `source` (rows) to every prefix of `target` (columns).
fn distances<T: PartialEq>(source: &[T], target: &[T]) -> Vec<u32> {
    let width = target.len() + 1;
    let mut distances = vec![0; width * (source.len() + 1)];
    distances[..width].iter_mut().zip(0..).for_each(|(distance, column)| *distance = column);
    for (row, unit) in source.iter().enumerate() {
        let (above, below) = distances[row * width..].split_at_mut(width);
        let mut insertion = row as u32 + 1;
        below[0] = insertion;
        for ((above, distance), other) in above.windows(2).zip(&mut below[1..]).zip(target) {
            let diagonal = above[0] + u32::from(unit != other);
            insertion = diagonal.min(above[1] + 1).min(insertion + 1);
            *distance = insertion;
        }
    }
    distances
}

/// The alignments of one utterance, in words and in characters.
///
/// Words are what white space separates. Characters are Unicode scalar values of the words with one space between two of them; nothing is
/// normalised, folded or left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UtteranceAlignment {
    pub words: Alignment,
    pub characters: Alignment,
}

impl UtteranceAlignment {
    /// Of `reference` with `hypothesis`; either may be empty.
    pub fn between(reference: &str, hypothesis: &str) -> Self {
        let (reference, hypothesis): (Vec<&str>, Vec<&str>) =
            (reference.split_whitespace().collect(), hypothesis.split_whitespace().collect());
        let characters = |words: &[&str]| words.join(" ").chars().collect::<Vec<_>>();
        Self {
            words: align(&reference, &hypothesis),
            characters: align(&characters(&reference), &characters(&hypothesis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::recognition::Edits;

    use super::*;

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..4, 0..12)
    }

    #[test]
    fn empty_references_and_hypotheses_are_scored() {
        let edits = |reference, hypothesis| UtteranceAlignment::between(reference, hypothesis).words.edits();
        assert_eq!(edits("", "").rate(), 0.0);
        assert_eq!(edits("", "one two").rate(), 2.0);
        assert_eq!(edits("one two", "").rate(), 1.0);
    }

    #[test]
    fn characters_are_unicode_scalar_values_and_count_single_spaces() {
        let edits = UtteranceAlignment::between("naïve  où", "naive ou").characters.edits();
        assert_eq!(edits, Edits { substitutions: 2, reference: 8, ..Edits::default() });
    }

    /// What the hypothesis is by the alignment; units that the reference lacks are taken from the hypothesis itself.
    fn replay(alignment: &Alignment, reference: &[u8], hypothesis: &[u8]) -> Vec<u8> {
        let (mut reference, mut told) = (reference.iter(), Vec::new());
        for operation in &alignment.0 {
            let unit = if *operation == Operation::Insertion { None } else { reference.next() };
            match operation {
                Operation::Correct => told.extend(unit),
                Operation::Substitution | Operation::Insertion => told.push(hypothesis[told.len()]),
                Operation::Deletion => {}
            }
        }
        assert_eq!(reference.next(), None);
        told
    }

    proptest! {
        #[test]
        fn an_alignment_leads_from_the_reference_to_the_hypothesis(a in text(), b in text()) {
            prop_assert_eq!(replay(&align(&a, &b), &a, &b), b);
        }

        #[test]
        fn distance_is_a_metric(a in text(), b in text(), c in text()) {
            let distance = |left: &[u8], right: &[u8]| align(left, right).edits().total();
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }

        #[test]
        fn counts_are_of_one_shortest_alignment(a in text(), b in text()) {
            let edits = align(&a, &b).edits();
            prop_assert_eq!(edits.total(), u64::from(*distances(&a, &b).last().unwrap()));
            prop_assert_eq!(a.len() as u64 + edits.insertions, b.len() as u64 + edits.deletions);
            prop_assert_eq!(edits.reference, a.len() as u64);
        }
    }
}
