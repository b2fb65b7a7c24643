//! Phone discrimination in the manner of ABX, on vectors of whole segments.
//!
//! For each ordered pair of labels (a, b): how often X of a is nearer by cosine to another segment A of a than to a segment B of b, over all
//! triples; a tie counts half. The score is the mean over pairs. Unlike the ABX of the ZeroSpeech challenges (Schatz et al. 2013) it compares
//! means of segments instead of aligned frames, single phones instead of triphones, and neither matches nor separates speakers and contexts.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::failure::StageError;

/// The share of triples that are told apart, 0.5 by chance; `None` where no label has two segments or there is no other label.
///
/// # Errors
/// Not one label for each of the N × D vectors.
pub fn accuracy(vectors_nd: &Tensor, labels: &[u32]) -> Result<Option<f64>, StageError> {
    if vectors_nd.size().first() != Some(&(labels.len() as i64)) {
        return Err(StageError::Failed(format!("{} labels of vectors {:?}", labels.len(), vectors_nd.size())));
    }
    let mut by_label = BTreeMap::<u32, Vec<i64>>::new();
    for (segment, label) in (0..).zip(labels) {
        by_label.entry(*label).or_default().push(segment);
    }
    let unit_nd = vectors_nd.f_to_kind(Kind::Double)?;
    let norm = unit_nd.f_square()?.f_sum_dim_intlist([1].as_slice(), true, Kind::Double)?.f_sqrt()?;
    let unit_nd = unit_nd / norm.clamp_min(f64::MIN_POSITIVE);
    let (mut sum, mut pairs) = (0., 0u64);
    for (a, of_a) in by_label.iter().filter(|(_, of_a)| of_a.len() > 1) {
        let similar = unit_nd.f_index_select(0, &Tensor::from_slice(of_a))?.f_matmul(&unit_nd.tr())?;
        let rows = Vec::<Vec<f64>>::try_from(similar)?;
        for of_b in by_label.iter().filter(|(b, _)| *b != a).map(|(_, of_b)| of_b) {
            sum += told_apart(&rows, of_a, of_b);
            pairs += 1;
        }
    }
    Ok((pairs > 0).then(|| sum / pairs as f64))
}

/// Over all X and A of one label and B of another; `rows` has the similarities of each X to everything.
fn told_apart(rows: &[Vec<f64>], of_a: &[i64], of_b: &[i64]) -> f64 {
    let mut won = 0.;
    for (row, x) in rows.iter().zip(of_a) {
        let mut to_b: Vec<f64> = of_b.iter().map(|b| row[*b as usize]).collect();
        to_b.sort_by(f64::total_cmp);
        for a in of_a.iter().filter(|a| *a != x) {
            let to_a = row[*a as usize];
            let (below, upto) = (to_b.partition_point(|b| *b < to_a), to_b.partition_point(|b| *b <= to_a));
            won += (below + upto) as f64 / 2.;
        }
    }
    won / (of_a.len() * (of_a.len() - 1) * of_b.len()) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::Device;

    use super::*;
    use crate::random::Draws;

    fn vectors(rows: usize, seed: u64) -> Tensor {
        let mut draws = Draws::new(seed, "test", &[], "");
        let numbers: Vec<f64> = (0..rows * 3).map(|_| draws.unit() - 0.5).collect();
        Tensor::from_slice(&numbers).view([rows as i64, 3])
    }

    proptest! {
        /// By the definition, triple by triple.
        #[test]
        fn all_triples_are_counted(labels in prop::collection::vec(0u32..3, 2..14), seed in 0u64..1000) {
            let vectors = vectors(labels.len(), seed);
            let rows = Vec::<Vec<f64>>::try_from(&vectors).unwrap();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let cosine = |a: usize, b: usize| {
                let (a, b) = (&rows[a], &rows[b]);
                dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
            };
            let mut pairs = Vec::new();
            for (one, other) in (0..3u32).flat_map(|one| (0..3).map(move |other| (one, other))).filter(|(one, other)| one != other) {
                let of = |label| (0..labels.len()).filter(|segment| labels[*segment] == label).collect::<Vec<_>>();
                let (mut won, mut all) = (0., 0.);
                for &x in &of(one) {
                    for &a in of(one).iter().filter(|a| **a != x) {
                        for &b in &of(other) {
                            won += f64::from(u8::from(cosine(x, a) > cosine(x, b)));
                            all += 1.;
                        }
                    }
                }
                pairs.extend((all > 0.).then(|| won / all));
            }
            let expected = (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / pairs.len() as f64);
            let found = accuracy(&vectors, &labels).unwrap();
            prop_assert_eq!(found.is_some(), expected.is_some());
            prop_assert!((found.unwrap_or(0.) - expected.unwrap_or(0.)).abs() < 1e-12, "{:?} {:?}", found, expected);
        }
    }

    #[test]
    fn clear_groups_are_told_apart_and_unrelated_labels_are_not() {
        let labels: Vec<u32> = (0..300).map(|segment| segment % 3).collect();
        let groups = Tensor::eye(3, (Kind::Double, Device::Cpu)).repeat([100, 1]);
        assert_eq!(accuracy(&(groups + vectors(300, 1) * 0.01), &labels).unwrap(), Some(1.));
        let chance = accuracy(&vectors(300, 2), &labels).unwrap().unwrap();
        assert!((chance - 0.5).abs() < 0.03, "{chance}");
        let equal = Tensor::ones([30, 2], (Kind::Double, Device::Cpu));
        assert_eq!(accuracy(&equal, &labels[..30]).unwrap(), Some(0.5));
        assert_eq!(accuracy(&vectors(3, 1), &[0, 0, 0]).unwrap(), None);
        assert_eq!(accuracy(&vectors(2, 1), &[0, 1]).unwrap(), None);
        assert!(accuracy(&vectors(2, 1), &[0]).is_err());
    }
}
