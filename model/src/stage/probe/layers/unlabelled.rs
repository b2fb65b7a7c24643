//! What can be said of layers without labels: effective rank, CKA between layers, and where heads look.

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::layers::Curve;
use reprise_spec::probing::Analysis;

use super::Evidence;
use super::extraction::Look;
use super::scoring::{One, Scorer};
use crate::analysis::similarity::{Attention, Features};
use crate::failure::StageError;
use crate::quality::{Spread, Verdict};
use crate::random::Draws;

/// Effective rank of every layer.
pub fn effective_rank(evidence: &Evidence, scorer: &mut Scorer) -> Result<Curve, StageError> {
    let gathered = &evidence.gathered;
    let analysis = Analysis::EffectiveRank;
    scorer.curve(analysis, analysis.word(), gathered.len(), &|layer, sampling| {
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
pub fn cka(evidence: &Evidence, scorer: &mut Scorer) -> Result<Curve, StageError> {
    let Evidence { samplings, gathered, .. } = evidence;
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
    scorer.curve_of(Analysis::Cka, Analysis::Cka.word(), &pairs, gathered.len(), &|(layer, other), sampling| {
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

/// How far the heads of every layer look, in milliseconds, and how near to the diagonal; the values are those of utterances, and the null is
/// that of heads which look everywhere alike.
pub fn attention(evidence: &Evidence, scorer: &mut Scorer) -> Result<Vec<Curve>, StageError> {
    let Evidence { looks, strides, .. } = evidence;
    let layers: Vec<(usize, Option<usize>)> = (1..=looks.len()).map(|layer| (layer, None)).collect();
    /// Of an utterance's attention, at so many milliseconds a frame.
    type Number = fn(Attention, f64) -> f64;
    let metrics: [(&str, Number); 2] = [
        ("attention-distance", |attention, milliseconds| attention.distance * milliseconds),
        ("attention-diagonality", |attention, _| attention.diagonality),
    ];
    let curve = |(metric, number): (&str, Number)| {
        scorer.curve_of(Analysis::Attention, metric, &layers, 1, &|(layer, _), _| {
            let (looks, milliseconds) = (&looks[layer - 1], strides[layer] as f64 * 1e3 / f64::from(SAMPLE_RATE));
            let numbers =
                |of: fn(&Look) -> Attention| looks.iter().map(|look| number(of(look), milliseconds)).collect();
            let nulls: Vec<f64> = numbers(|look| look.uniform);
            Ok(One {
                samples: looks.len() as u64,
                sizes: Vec::new(),
                values: numbers(|look| look.found),
                null: Some(Spread::of(&nulls)),
                verdict: Verdict::Sound,
            })
        })
    };
    metrics.into_iter().map(curve).collect()
}
