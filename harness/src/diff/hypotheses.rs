//! What two runs recognised of the same speech, utterance by utterance.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use reprise_spec::recognition::{Edits, Operation, Recognised};
use reprise_spec::stage::Stage;
use serde::Serialize;

use super::{Pair, Piece, Sides, Which};
use crate::significance::MatchedPairs;
use crate::store::StoredOutput;

/// One decoded split of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decoded {
    pub stage: String,
    pub seed: Sides<u64>,
    /// Utterances of both.
    pub utterances: usize,
    /// Utterances that one side has alone.
    pub only: Sides<usize>,
    /// Word errors of the utterances of both.
    pub errors: Sides<u64>,
    /// Words of their references, as either side has them.
    pub words: Sides<u64>,
    /// Utterances in which one side has fewer word errors.
    pub better: Sides<usize>,
    /// Whether the two differ (MAPSSWE); absent where they can't be paired, see `not_paired`.
    pub matched_pairs: Option<MatchedPairs>,
    pub not_paired: Option<String>,
    /// The utterances of both whose hypotheses differ, those with the greatest difference in errors first.
    pub changed: Vec<Utterance>,
}

/// One utterance in which the two recognised something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Utterance {
    pub id: String,
    /// As the first side has it.
    pub reference: String,
    pub errors: Sides<u64>,
    /// Both hypotheses word by word. A word is of one side where the other has something else at that place of the reference.
    pub words: Sides<Vec<Piece>>,
}

/// The decoded splits that differ, in the order of the plan and by seed.
pub fn compare(pairs: &[Pair<'_>]) -> Vec<Decoded> {
    let mut found = Vec::new();
    for pair in pairs {
        let decoded = |of: &Sides<&StoredOutput>| of.map(|output| matches!(output.manifest.settings, Stage::Decode(_)));
        for (stage, outputs) in pair.parted().filter(|(_, of)| decoded(of) == Sides::new(true, true)) {
            let read = |output: &StoredOutput| {
                let text = fs::read_to_string(output.out().join("hypotheses.tsv")).ok()?;
                Recognised::read(&text).ok()
            };
            let Some(rows) = outputs.map(read).both() else { continue };
            found.push(Decoded::of(stage, pair.runs.map(|run| run.seed), &rows.a, &rows.b));
        }
    }
    found
}

impl Decoded {
    pub fn of(stage: &str, seed: Sides<u64>, a: &[Recognised], b: &[Recognised]) -> Self {
        let by_id = |rows: &'_ [Recognised]| -> BTreeMap<String, usize> {
            rows.iter().enumerate().map(|(index, row)| (row.id.clone(), index)).collect()
        };
        let ids = Sides::new(by_id(a), by_id(b));
        let common: Vec<Sides<&Recognised>> =
            ids.a.iter().filter_map(|(id, index)| Some(Sides::new(&a[*index], &b[*ids.b.get(id)?]))).collect();
        let sum = |rows: &mut dyn Iterator<Item = &Recognised>| rows.map(|row| row.alignment.edits()).sum::<Edits>();
        let edits = Sides::new(sum(&mut common.iter().map(|pair| pair.a)), sum(&mut common.iter().map(|pair| pair.b)));
        let errors = |pair: &Sides<&Recognised>| pair.map(|row| row.alignment.edits().total());
        let paired = MatchedPairs::of(a, b);
        let mut changed: Vec<Utterance> =
            common.iter().filter(|pair| pair.a.hypothesis != pair.b.hypothesis).map(Utterance::of).collect();
        changed.sort_by_key(|utterance| std::cmp::Reverse(utterance.errors.a.abs_diff(utterance.errors.b)));
        Self {
            stage: stage.to_owned(),
            seed,
            utterances: common.len(),
            only: Sides::new(ids.a.len() - common.len(), ids.b.len() - common.len()),
            errors: edits.map(|edits| edits.total()),
            words: edits.map(|edits| edits.reference),
            better: Sides::new(
                common.iter().filter(|pair| errors(pair).a < errors(pair).b).count(),
                common.iter().filter(|pair| errors(pair).b < errors(pair).a).count(),
            ),
            not_paired: paired.as_ref().err().map(ToString::to_string),
            matched_pairs: paired.ok(),
            changed,
        }
    }
}

impl Utterance {
    fn of(pair: &Sides<&Recognised>) -> Self {
        let words = match (pair.a.reference == pair.b.reference, places(pair.a), places(pair.b)) {
            (true, Some(a), Some(b)) => {
                let of = |which, ours: &Vec<Vec<&str>>, theirs: &Vec<Vec<&str>>| {
                    let places = ours.iter().zip(theirs);
                    let marked = places.flat_map(|(ours, theirs)| {
                        let of = (ours != theirs).then_some(which);
                        ours.iter().map(move |word| Piece { of, text: (*word).to_owned() })
                    });
                    marked.collect()
                };
                Sides::new(of(Which::A, &a, &b), of(Which::B, &b, &a))
            }
            // Alignments that don't fit say nothing of places: a word is common where the other has it at all.
            _ => {
                let all = pair.map(|row| row.hypothesis.split_whitespace().collect::<BTreeSet<&str>>());
                let of = |which, row: &Recognised, theirs: &BTreeSet<&str>| {
                    let piece = |word: &str| Piece { of: (!theirs.contains(word)).then_some(which), text: word.into() };
                    row.hypothesis.split_whitespace().map(piece).collect()
                };
                Sides::new(of(Which::A, pair.a, &all.b), of(Which::B, pair.b, &all.a))
            }
        };
        let errors = pair.map(|row| row.alignment.edits().total());
        Self { id: pair.a.id.clone(), reference: pair.a.reference.clone(), errors, words }
    }
}

/// The recognised words at every place of the reference in turn: the gap before its first word, that word, the next gap, …; `None` when the
/// alignment doesn't fit.
fn places(row: &Recognised) -> Option<Vec<Vec<&str>>> {
    let mut words = row.hypothesis.split_whitespace();
    let mut places = vec![Vec::new()];
    for operation in &row.alignment.0 {
        match operation {
            Operation::Insertion => places.last_mut()?.push(words.next()?),
            Operation::Correct | Operation::Substitution => places.extend([vec![words.next()?], Vec::new()]),
            Operation::Deletion => places.extend([Vec::new(), Vec::new()]),
        }
    }
    let fits = words.next().is_none() && places.len() == 2 * row.reference.split_whitespace().count() + 1;
    fits.then_some(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(id: usize, reference: &str, hypothesis: &str, alignment: &str) -> Recognised {
        let [id, speaker, reference, hypothesis] = [&format!("u{id}"), "s", reference, hypothesis].map(str::to_owned);
        Recognised { id, speaker, reference, hypothesis, alignment: alignment.parse().unwrap() }
    }

    fn told(words: &[Piece]) -> Vec<(bool, &str)> {
        words.iter().map(|word| (word.of.is_some(), word.text.as_str())).collect()
    }

    #[test]
    fn words_are_marked_where_the_other_has_another_one() {
        let (a, b) = (row(0, "x y z", "x w z", "CSC"), row(0, "x y z", "x y a z", "CCIC"));
        let found = Decoded::of("decode test", Sides::new(1, 1), &[a], &[b]);
        let words = &found.changed[0].words;
        assert_eq!(told(&words.a), [(false, "x"), (true, "w"), (false, "z")]);
        assert_eq!(told(&words.b), [(false, "x"), (true, "y"), (true, "a"), (false, "z")]);
        assert_eq!((found.errors, found.better), (Sides::new(1, 1), Sides::new(0, 0)));
    }

    #[test]
    fn an_alignment_that_fits_nothing_does_no_harm() {
        let (a, b) = (row(0, "x y", "x z", "CCCCCC"), row(0, "x y", "x y", "CC"));
        let found = Decoded::of("decode test", Sides::new(1, 1), &[a], &[b]);
        assert_eq!(told(&found.changed[0].words.a), [(false, "x"), (true, "z")]);
        assert!(found.not_paired.is_some());
    }

    #[test]
    fn utterances_of_one_side_are_counted() {
        let rows = |ids: &[usize]| ids.iter().map(|id| row(*id, "x", "x", "C")).collect::<Vec<_>>();
        let found = Decoded::of("decode test", Sides::new(1, 1), &rows(&[0, 1, 2]), &rows(&[2, 3]));
        assert_eq!((found.utterances, found.only, found.changed.len()), (1, Sides::new(2, 1), 0));
    }

    proptest! {
        #[test]
        fn sides_can_be_changed(pairs in prop::collection::vec((0usize..4, 0usize..4), 1..20)) {
            let forms = [("x y", "CC"), ("x", "CD"), ("x z", "CS"), ("x w y", "CIC")];
            let side = |pick: fn(&(usize, usize)) -> usize| -> Vec<Recognised> {
                let form = |(id, pair): (usize, &(usize, usize))| row(id, "x y", forms[pick(pair)].0, forms[pick(pair)].1);
                pairs.iter().enumerate().map(form).collect()
            };
            let (a, b) = (side(|pair| pair.0), side(|pair| pair.1));
            let (one, other) = (Decoded::of("d", Sides::new(1, 2), &a, &b), Decoded::of("d", Sides::new(2, 1), &b, &a));
            prop_assert_eq!((one.errors.a, one.better.a, one.changed.len()), (other.errors.b, other.better.b, other.changed.len()));
            for (one, other) in one.changed.iter().zip(&other.changed) {
                prop_assert_eq!(told(&one.words.a), told(&other.words.b));
                prop_assert_eq!(told(&one.words.b), told(&other.words.a));
            }
            prop_assert!(Decoded::of("d", Sides::new(1, 1), &a, &a).changed.is_empty());
        }
    }
}
