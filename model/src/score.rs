//! Edits between a reference and a hypothesis, and the error rates made of them.

use reprise_spec::contract::Score;
use serde::{Deserialize, Serialize};

/// Edits that turn references into hypotheses, and how many units the references have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Edits {
    pub substitutions: u64,
    pub deletions: u64,
    pub insertions: u64,
    /// Words or characters of the references.
    pub reference: u64,
}

impl Edits {
    /// The fewest edits between two sequences.
    ///
    /// Where several alignments are equally short the counts are those of rapidfuzz, and so of jiwer: common ends are put aside, then going
    /// back from the end a deletion is preferred, then an insertion after which the rest is shorter, then a substitution or match.
    pub fn between<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Self {
        let (source, target) = without_common_ends(reference, hypothesis);
        let distances = distances(source, target);
        let at = |row: usize, column: usize| distances[row * (target.len() + 1) + column];
        let mut edits = Self { reference: reference.len() as u64, ..Self::default() };
        let (mut row, mut column) = (source.len(), target.len());
        while row > 0 && column > 0 {
            if at(row, column) == at(row - 1, column) + 1 {
                edits.deletions += 1;
                row -= 1;
            } else if at(row - 1, column - 1) == at(row, column - 1) + 1 {
                edits.insertions += 1;
                column -= 1;
            } else {
                edits.substitutions += u64::from(source[row - 1] != target[column - 1]);
                row -= 1;
                column -= 1;
            }
        }
        edits.deletions += row as u64;
        edits.insertions += column as u64;
        edits
    }

    /// Substitutions, deletions and insertions together.
    pub fn total(&self) -> u64 {
        self.substitutions + self.deletions + self.insertions
    }

    /// Edits for each unit of the references; for references without any unit the number of insertions, as jiwer has it.
    pub fn rate(&self) -> f64 {
        self.total() as f64 / self.reference.max(1) as f64
    }
}

impl std::iter::Sum for Edits {
    fn sum<I: Iterator<Item = Self>>(edits: I) -> Self {
        edits.fold(Self::default(), |sum, edits| Self {
            substitutions: sum.substitutions + edits.substitutions,
            deletions: sum.deletions + edits.deletions,
            insertions: sum.insertions + edits.insertions,
            reference: sum.reference + edits.reference,
        })
    }
}

fn without_common_ends<'a, T: PartialEq>(left: &'a [T], right: &'a [T]) -> (&'a [T], &'a [T]) {
    let prefix = left.iter().zip(right).take_while(|(l, r)| l == r).count();
    let (left, right) = (&left[prefix..], &right[prefix..]);
    let suffix = left.iter().rev().zip(right.iter().rev()).take_while(|(l, r)| l == r).count();
    (&left[..left.len() - suffix], &right[..right.len() - suffix])
}

/// The Levenshtein distance of every prefix of `source` (rows) to every prefix of `target` (columns).
fn distances<T: PartialEq>(source: &[T], target: &[T]) -> Vec<u32> {
    let width = target.len() + 1;
    let mut distances: Vec<u32> = (0..width as u32).collect();
    distances.reserve(width * source.len());
    for (row, unit) in source.iter().enumerate() {
        let above = row * width;
        distances.push(row as u32 + 1);
        for (column, other) in target.iter().enumerate() {
            let diagonal = distances[above + column] + u32::from(unit != other);
            let deletion = distances[above + column + 1] + 1;
            let insertion = distances[above + width + column] + 1;
            distances.push(diagonal.min(deletion).min(insertion));
        }
    }
    distances
}

/// The edits of one utterance, in words and in characters.
///
/// Words are what white space separates. Characters are Unicode scalar values of the words with one space between two of them; nothing is
/// normalised, folded or left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtteranceEdits {
    pub words: Edits,
    pub characters: Edits,
}

impl UtteranceEdits {
    /// The edits from `reference` to `hypothesis`; either may be empty.
    pub fn between(reference: &str, hypothesis: &str) -> Self {
        let (reference, hypothesis): (Vec<&str>, Vec<&str>) =
            (reference.split_whitespace().collect(), hypothesis.split_whitespace().collect());
        let characters = |words: &[&str]| words.join(" ").chars().collect::<Vec<_>>();
        Self {
            words: Edits::between(&reference, &hypothesis),
            characters: Edits::between(&characters(&reference), &characters(&hypothesis)),
        }
    }
}

/// An error rate over a set: all edits over all units of the references.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ErrorRate {
    pub rate: f64,
    /// The ends of the bootstrap interval.
    pub interval: (f64, f64),
    pub edits: Edits,
}

impl ErrorRate {
    /// The number as listings show it.
    pub fn score(&self, name: &str) -> Score {
        Score { name: name.into(), value: self.rate, interval: Some(self.interval) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..4, 0..12)
    }

    #[test]
    fn empty_references_and_hypotheses_are_scored() {
        let edits = |reference, hypothesis| UtteranceEdits::between(reference, hypothesis).words;
        assert_eq!(edits("", "").rate(), 0.0);
        assert_eq!(edits("", "one two").rate(), 2.0);
        assert_eq!(edits("one two", "").rate(), 1.0);
    }

    #[test]
    fn characters_are_unicode_scalar_values_and_count_single_spaces() {
        let edits = UtteranceEdits::between("naïve  où", "naive ou").characters;
        assert_eq!(edits, Edits { substitutions: 2, reference: 8, ..Edits::default() });
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in text(), b in text(), c in text()) {
            let distance = |left: &[u8], right: &[u8]| Edits::between(left, right).total();
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }

        #[test]
        fn counts_are_of_one_shortest_alignment(a in text(), b in text()) {
            let edits = Edits::between(&a, &b);
            prop_assert_eq!(edits.total(), u64::from(*distances(&a, &b).last().unwrap()));
            prop_assert_eq!(a.len() as u64 + edits.insertions, b.len() as u64 + edits.deletions);
            prop_assert!(edits.substitutions + edits.deletions <= a.len() as u64);
        }
    }
}
