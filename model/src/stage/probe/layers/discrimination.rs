//! Discrimination of phones by ABX.

use reprise_spec::layers::Curve;
use reprise_spec::probing::Analysis;

use super::Evidence;
use super::scoring::{One, Scorer};
use crate::analysis::abx;
use crate::failure::StageError;
use crate::quality::{Spread, Verdict};
use crate::random::Draws;

/// The share of triples of phone segments that every layer tells apart; the null shuffles the labels.
pub fn curve(evidence: &Evidence, scorer: &mut Scorer) -> Result<Curve, StageError> {
    let Evidence { samplings, gathered, .. } = evidence;
    scorer.curve(Analysis::Abx, Analysis::Abx.word(), samplings.len(), &|layer, index| {
        let (sampling, vectors) = (&samplings[index], &gathered[index].phones[layer]);
        let mut labels = sampling.phones.as_ref().map_or_else(Vec::new, |phones| phones.strata());
        let few = || StageError::refused("no phone has two segments", "allow more tokens a label");
        let value = abx::accuracy(vectors, &labels)?.ok_or_else(few)?;
        Draws::new(sampling.seed, "analysis null", &[], "").shuffle(&mut labels);
        let null = abx::accuracy(vectors, &labels)?.ok_or_else(few)?;
        let size = vectors.size();
        Ok(One {
            samples: size[0] as u64,
            sizes: vec![size[1] as u64, sampling.phones.as_ref().map_or(0, |phones| phones.labels.len() as u64)],
            values: vec![value],
            null: Some(Spread::of(&[null])),
            verdict: Verdict::Sound,
        })
    })
}
