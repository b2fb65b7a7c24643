//! Hypotheses against references, independently of the program that aligned them.

use reprise_spec::recognition::{Operation, Recognised};

/// The most pairs of units of two texts that are compared.
const MOST_PAIRS: usize = 100_000_000;

/// The least edits between two sequences (Levenshtein); `None` for more than [`MOST_PAIRS`].
pub fn distance<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Option<u64> {
    if reference.len().checked_mul(hypothesis.len())? > MOST_PAIRS {
        return None;
    }
    let mut above: Vec<u64> = (0..=hypothesis.len() as u64).collect();
    let mut row = above.clone();
    for (index, unit) in reference.iter().enumerate() {
        row[0] = index as u64 + 1;
        for (column, other) in hypothesis.iter().enumerate() {
            let replaced = above[column] + u64::from(unit != other);
            row[column + 1] = replaced.min(above[column + 1] + 1).min(row[column] + 1);
        }
        std::mem::swap(&mut above, &mut row);
    }
    above.last().copied()
}

/// Whether the alignment of a row leads from its reference to its hypothesis, with as few edits as can be; why not, else.
pub fn wrong(row: &Recognised) -> Option<String> {
    let (mut said, mut heard) = (row.reference.split_whitespace(), row.hypothesis.split_whitespace());
    let fits = row.alignment.0.iter().all(|operation| match operation {
        Operation::Correct => matches!((said.next(), heard.next()), (Some(a), Some(b)) if a == b),
        Operation::Substitution => matches!((said.next(), heard.next()), (Some(a), Some(b)) if a != b),
        Operation::Deletion => said.next().is_some(),
        Operation::Insertion => heard.next().is_some(),
    });
    if !fits || said.next().is_some() || heard.next().is_some() {
        return Some(format!("the alignment of {:?} doesn't lead from its reference to its hypothesis", row.id));
    }
    let (said, heard): (Vec<&str>, Vec<&str>) =
        (row.reference.split_whitespace().collect(), row.hypothesis.split_whitespace().collect());
    match distance(&said, &heard) {
        Some(least) if least != row.alignment.edits().total() => {
            Some(format!("the alignment of {:?} has more edits than are needed", row.id))
        }
        _ => None,
    }
}

/// Edits and units of the characters of a row, one space between two words; `None` where its texts are too long to compare.
pub fn characters(row: &Recognised) -> Option<(u64, u64)> {
    let characters = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect::<Vec<_>>();
    let (reference, hypothesis) = (characters(&row.reference), characters(&row.hypothesis));
    Some((distance(&reference, &hypothesis)?, reference.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(reference: &str, hypothesis: &str, alignment: &str) -> Recognised {
        let (id, speaker) = ("u".into(), "s".into());
        let (reference, hypothesis) = (reference.into(), hypothesis.into());
        Recognised { id, speaker, reference, hypothesis, alignment: alignment.parse().unwrap() }
    }

    #[test]
    fn an_alignment_has_to_fit_its_texts() {
        assert_eq!(wrong(&row("a b c", "a x", "CSD")), None);
        assert_eq!(wrong(&row("", "", "")), None);
        for alignment in ["CCD", "CS", "CSDD", "CSDI", "CDD"] {
            assert!(wrong(&row("a b c", "a x", alignment)).unwrap().contains("doesn't lead"), "{alignment}");
        }
        assert!(wrong(&row("a b", "a b", "CDI")).unwrap().contains("more edits"));
    }

    #[test]
    fn distances_are_levenshtein_s() {
        let of = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>()).unwrap();
        assert_eq!((of("kitten", "sitting"), of("", "abc"), of("abc", ""), of("abc", "abc")), (3, 3, 3, 0));
        assert_eq!(characters(&row("a  b", "a", "CD")), Some((2, 3)));
        assert_eq!(distance(&vec![0u8; 20_000], &vec![0u8; 20_000]), None);
    }
}
