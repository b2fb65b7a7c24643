//! What layer-wise analyses found at the points of a run.

use std::collections::BTreeMap;

use reprise_spec::evaluation::Point;
use reprise_spec::layers::{Correlation, Curve, FILE, Findings, LayerCurve};
use serde::Serialize;

use super::{Judgement, find};
use crate::store::StoredOutput;

/// What the layers of a run's models say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layers {
    /// Of random weights.
    pub control: Option<Findings>,
    /// In ascending order.
    pub points: Vec<Analysed>,
    /// How scores of layers go with word error rates after fine-tuning, over the points that have both.
    pub with_errors: Vec<WithErrors>,
}

/// What was found at one point of pretraining.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Analysed {
    pub point: Point,
    pub findings: Findings,
    /// By metric; without those of which a layer's number supports nothing.
    pub summaries: BTreeMap<String, LayerCurve>,
}

/// How the score of one layer goes with the word error rate on one split.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WithErrors {
    pub metric: String,
    pub layer: u32,
    pub split: String,
    #[serde(flatten)]
    pub correlation: Correlation,
}

impl Layers {
    /// Adds what a stage found: of the control, which lies at no point, or of a model. What several stages found of one goes together. An output
    /// that can't be read is left out.
    pub fn add(&mut self, point: Option<Point>, output: &StoredOutput) {
        let text = std::fs::read(output.out().join(FILE));
        let Some(findings) = text.ok().and_then(|text| serde_json::from_slice::<Findings>(&text).ok()) else { return };
        let Some(point) = point else {
            match &mut self.control {
                Some(control) => control.curves.extend(findings.curves),
                None => self.control = Some(findings),
            }
            return;
        };
        let summary = |curve: &Curve| Some((curve.metric.clone(), curve.summary()?));
        let summaries: BTreeMap<String, LayerCurve> = findings.curves.iter().filter_map(summary).collect();
        match self.points.iter_mut().find(|analysed| analysed.point == point) {
            Some(analysed) => {
                analysed.findings.curves.extend(findings.curves);
                analysed.summaries.extend(summaries);
            }
            None => self.points.push(Analysed { point, findings, summaries }),
        }
        self.points.sort_by_key(|analysed| analysed.point);
    }

    /// The last curve of each metric: of what is compared with the last point, that of the point before.
    pub fn last_curves(&self) -> Vec<&Curve> {
        let mut curves: Vec<&Curve> = Vec::new();
        for curve in self.points.iter().rev().flat_map(|analysed| &analysed.findings.curves) {
            if curves.iter().all(|known| known.metric != curve.metric) {
                curves.push(curve);
            }
        }
        curves
    }

    /// Correlates the scores of layers with the word error rates of the same models.
    pub fn correlate(&mut self, judgements: &[Judgement]) {
        /// Metric, layer and split.
        type Of<'a> = (&'a str, u32, &'a str);
        let mut pairs: BTreeMap<Of, Vec<(f64, f64)>> = BTreeMap::new();
        for Analysed { point, findings, .. } in &self.points {
            let of_point = |judgement: &&Judgement| judgement.point == Some(*point) && judgement.compares();
            let Some(judgement) = judgements.iter().find(of_point) else { continue };
            for recognition in &judgement.recognition {
                let Some(wer) = find(&recognition.scores, "wer") else { continue };
                for curve in &findings.curves {
                    for score in curve.by_layer().filter(|score| score.refused.is_none()) {
                        let key = (curve.metric.as_str(), score.layer, recognition.split.as_str());
                        pairs.entry(key).or_default().extend(score.mean.map(|mean| (mean, wer.value)));
                    }
                }
            }
        }
        let correlated = pairs.into_iter().filter_map(|((metric, layer, split), pairs)| {
            let correlation = Correlation::of(&pairs)?;
            Some(WithErrors { metric: metric.to_owned(), layer, split: split.to_owned(), correlation })
        });
        self.with_errors = correlated.collect();
    }
}
