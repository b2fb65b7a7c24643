//! Whether two systems that recognised the same speech differ: the matched-pair test on segments (Gillick and Cox 1989), as in NIST's
//! scoring toolkit.

use reprise_spec::recognition::{Alignment, Operation, Recognised};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

/// Words that both systems got right, so many side by side, part two segments: errors before and after them are taken for independent.
const BETWEEN: usize = 2;

/// What the matched-pair sentence-segment word error test (MAPSSWE) found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MatchedPairs {
    /// Segments in which at least one system errs.
    pub segments: usize,
    /// Mean over the segments of the first system's errors less the second's.
    pub difference: f64,
    /// The mean over its standard error; absent where every segment has the same difference or there are fewer than two.
    pub w: Option<f64>,
    /// The probability of a mean as far from zero, on either side, if the systems were equally good: of a standard normal, which wants some fifty
    /// segments or more.
    pub p: Option<f64>,
}

/// Why two sets of hypotheses can't be paired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPaired {
    #[error("{0} is in one of the two alone")]
    Missing(String),
    #[error("the references of {0} differ")]
    OtherReference(String),
    #[error("the alignment of {0} doesn't fit its reference")]
    Alignment(String),
}

/// Errors of both systems at one place of a reference: a word, or the gap before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    errors: [u32; 2],
    word: bool,
}

impl MatchedPairs {
    /// Compares two systems' hypotheses of the same utterances, in whichever order.
    ///
    /// # Errors
    /// When an utterance is missing in one of the two, or its references differ.
    pub fn of(first: &[Recognised], second: &[Recognised]) -> Result<Self, NotPaired> {
        let sorted = |rows: &[Recognised]| {
            let mut rows: Vec<Recognised> = rows.to_vec();
            rows.sort_by(|a, b| a.id.cmp(&b.id));
            rows
        };
        let (first, second) = (sorted(first), sorted(second));
        let pairs = first.iter().zip(&second);
        if let Some((a, b)) = pairs.clone().find(|(a, b)| a.id != b.id) {
            return Err(NotPaired::Missing(a.id.clone().min(b.id.clone())));
        }
        if let Some(alone) = first.get(second.len()).or(second.get(first.len())) {
            return Err(NotPaired::Missing(alone.id.clone()));
        }
        let mut differences = Vec::new();
        for (a, b) in pairs {
            if a.reference != b.reference {
                return Err(NotPaired::OtherReference(a.id.clone()));
            }
            let words = a.reference.split_whitespace().count();
            let errors = [&a.alignment, &b.alignment].map(|alignment| errors(alignment, words));
            let [Some(ours), Some(theirs)] = errors else { return Err(NotPaired::Alignment(a.id.clone())) };
            differences.extend(segments(&ours, &theirs));
        }
        Ok(Self::over(&differences))
    }

    fn over(differences: &[f64]) -> Self {
        let segments = differences.len();
        let difference = differences.iter().sum::<f64>() / segments.max(1) as f64;
        let squares: f64 = differences.iter().map(|one| (one - difference).powi(2)).sum();
        let deviation =
            (segments > 1).then(|| (squares / (segments - 1) as f64).sqrt()).filter(|&deviation| deviation > 0.0);
        let w = deviation.map(|deviation| difference / (deviation / (segments as f64).sqrt()));
        let p = w.map(|w| 2.0 * Normal::standard().cdf(-w.abs()));
        Self { segments, difference, w, p }
    }
}

/// Errors in every gap and at every word of the reference in turn, the gap after the last word included; `None` when the alignment is of another
/// number of words.
fn errors(alignment: &Alignment, words: usize) -> Option<Vec<u32>> {
    let mut errors = vec![0];
    for operation in &alignment.0 {
        match operation {
            Operation::Insertion => *errors.last_mut()? += 1,
            Operation::Correct => errors.extend([0, 0]),
            Operation::Substitution | Operation::Deletion => errors.extend([1, 0]),
        }
    }
    (errors.len() == 2 * words + 1).then_some(errors)
}

/// The differences of the segments of one utterance.
fn segments(first: &[u32], second: &[u32]) -> Vec<f64> {
    let place = |(index, (&a, &b)): (usize, (&u32, &u32))| Place { errors: [a, b], word: index % 2 == 1 };
    let mut found = Vec::new();
    let (mut open, mut right): (Option<f64>, usize) = (None, 0);
    for Place { errors: [a, b], word } in first.iter().zip(second).enumerate().map(place) {
        if a + b > 0 {
            right = 0;
            *open.get_or_insert(0.0) += f64::from(a) - f64::from(b);
        } else if word {
            right += 1;
        }
        if right >= BETWEEN {
            found.extend(open.take());
        }
    }
    found.extend(open);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(id: usize, alignment: &str) -> Recognised {
        let alignment: Alignment = alignment.parse().unwrap();
        let words = alignment.edits().reference as usize;
        let (id, speaker, hypothesis) = (format!("u{id}"), "s".into(), String::new());
        Recognised { id, speaker, reference: vec!["w"; words].join(" "), hypothesis, alignment }
    }

    #[test]
    fn two_words_that_both_got_right_part_segments() {
        let differences = |a: &str, b: &str| {
            let errors = [a, b].map(|text| {
                let alignment: Alignment = text.parse().unwrap();
                errors(&alignment, alignment.edits().reference as usize).unwrap()
            });
            segments(&errors[0], &errors[1])
        };
        assert!(differences("CCCC", "CCCC").is_empty());
        assert_eq!(differences("SCCD", "CCCC"), [1.0, 1.0]);
        // One word is too few, and so are two with an insertion between them or with an error of the other system.
        assert_eq!(differences("SCD", "CCC"), [2.0]);
        assert_eq!(differences("SCICD", "CCCC"), [3.0]);
        assert_eq!(differences("SCCD", "CCSC"), [1.0]);
        assert_eq!(differences("IICCCC", "CCDS"), [2.0, -2.0]);
    }

    #[test]
    fn the_statistic_is_the_paper_s() {
        // Differences 1, 1, 0, −1, 2: mean 0.6, deviation √1.3.
        let first = [row(0, "SCCSCCSCCCCCSD"), row(1, "")];
        let second = [row(1, ""), row(0, "CCCCCCSCCSCCCC")];
        let found = MatchedPairs::of(&first, &second).unwrap();
        let w = 0.6 / (1.3f64 / 5.0).sqrt();
        assert_eq!((found.segments, found.difference), (5, 0.6));
        assert!((found.w.unwrap() - w).abs() < 1e-12);
        // Of a table of the normal distribution: P(Z > 1.17670) = 0.11966.
        assert!((found.p.unwrap() - 2.0 * 0.119_66).abs() < 2e-5, "{found:?}");
    }

    #[test]
    fn what_is_no_pair_is_named() {
        let of = |a: &[Recognised], b: &[Recognised]| MatchedPairs::of(a, b).unwrap_err().to_string();
        assert_eq!(of(&[row(0, "C")], &[]), "u0 is in one of the two alone");
        assert_eq!(of(&[row(0, "C")], &[row(1, "C")]), "u0 is in one of the two alone");
        assert_eq!(of(&[row(0, "C")], &[row(0, "CC")]), "the references of u0 differ");
        let bent = [Recognised { reference: "a b".into(), ..row(0, "C") }];
        assert_eq!(of(&bent, &bent), "the alignment of u0 doesn't fit its reference");
    }

    proptest! {
        #[test]
        fn a_system_is_as_good_as_itself_and_sides_can_be_changed(
            pairs in prop::collection::vec((0usize..4, 0usize..4), 1..60), words in 1usize..8,
        ) {
            let letters = ["C", "S", "D", "CI"];
            let side = |pick: fn(&(usize, usize)) -> usize| -> Vec<Recognised> {
                let texts = pairs.chunks(words).map(|chunk| chunk.iter().map(|pair| letters[pick(pair)]).collect::<String>());
                texts.enumerate().map(|(id, text)| row(id, &text)).collect()
            };
            let (a, b) = (side(|pair| pair.0), side(|pair| pair.1));
            let (one, other) = (MatchedPairs::of(&a, &b).unwrap(), MatchedPairs::of(&b, &a).unwrap());
            prop_assert_eq!((one.segments, one.difference, one.p), (other.segments, -other.difference, other.p));
            prop_assert_eq!(MatchedPairs::of(&a, &a).unwrap().difference, 0.0);
            let errors = |rows: &[Recognised]| rows.iter().map(|row| row.alignment.edits().total() as f64).sum::<f64>();
            prop_assert!((one.difference * one.segments as f64 - (errors(&a) - errors(&b))).abs() < 1e-9);
        }
    }
}
