//! What can be said of layers without labels: effective rank, and CKA between layers.

use reprise_spec::layers::Curve;
use reprise_spec::probing::Analysis;

use super::extraction::Gathered;
use super::material::Sampling;
use super::scoring::{One, Scorer};
use crate::analysis::similarity::Features;
use crate::failure::StageError;
use crate::quality::{Spread, Verdict};
use crate::random::Draws;

/// Effective rank of every layer.
pub fn effective_rank(gathered: &[Gathered], scorer: &mut Scorer) -> Result<Curve, StageError> {
    let analysis = Analysis::EffectiveRank;
    scorer.curve(analysis, analysis.word(), &|layer, sampling| {
        let frames_nd = &gathered[sampling].frames[layer];
        let size = frames_nd.size();
        Ok(One {
            samples: size[0] as u64,
            sizes: vec![size[1] as u64],
            values: vec![Features::new(frames_nd)?.effective_rank()?],
            null: None,
            verdict: Verdict::Sound,
        })
    })
}

/// CKA of every layer with itself and those below it; the null shuffles the other layer's frames.
pub fn cka(samplings: &[Sampling], gathered: &[Gathered], scorer: &mut Scorer) -> Result<Curve, StageError> {
    let pairs: Vec<(usize, Option<usize>)> =
        (0..scorer.layers).flat_map(|layer| (0..=layer).map(move |other| (layer, Some(other)))).collect();
    let features: Vec<Vec<Option<Features>>> =
        gathered.iter().map(|gathered| gathered.frames.iter().map(|rows| Features::new(rows).ok()).collect()).collect();
    let orders: Vec<Vec<i64>> = samplings
        .iter()
        .zip(gathered)
        .map(|(sampling, gathered)| {
            let mut order: Vec<i64> = (0..gathered.frames[0].size()[0]).collect();
            Draws::new(sampling.seed, "analysis null", &[], "").shuffle(&mut order);
            order
        })
        .collect();
    scorer.curve_of(Analysis::Cka, Analysis::Cka.word(), &pairs, &|(layer, other), sampling| {
        let still = || StageError::Failed("features do not vary or are not finite".into());
        let features = |layer: usize| features[sampling][layer].as_ref().ok_or_else(still);
        let (x, y) = (features(layer)?, features(other.unwrap_or(layer))?);
        let null = x.cka(&y.select(&orders[sampling]))?;
        let size = gathered[sampling].frames[layer].size();
        Ok(One {
            samples: size[0] as u64,
            sizes: vec![size[1] as u64, size[1] as u64],
            values: vec![x.cka(y)?],
            null: Some(Spread::of(&[null])),
            verdict: Verdict::Sound,
        })
    })
}
