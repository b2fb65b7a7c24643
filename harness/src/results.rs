//! The numbers of a run, gathered from the manifests of its stages.

use reprise_spec::contract::Score;
use reprise_spec::stage::{FeatureKind, ProbeStage, Stage, UnitSource};
use serde::Serialize;

use crate::store::{RunRecord, Store};

/// What a run found: one entry an iteration, one for fine-tuning, one a decoded split.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Results {
    pub iterations: Vec<Iteration>,
    pub finetuning: Vec<Score>,
    pub recognition: Vec<Recognition>,
}

/// One iteration of pretraining.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Iteration {
    /// What was clustered: `mfcc`, `log-mel`, `layer 6`.
    pub source: String,
    pub clusters: u32,
    pub units: Vec<Score>,
    pub quality: Vec<Score>,
    pub pretraining: Vec<Score>,
}

/// The scores of one decoded split.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recognition {
    pub split: String,
    pub scores: Vec<Score>,
}

impl Results {
    /// The results of a run as far as it came. Stages whose output is no longer stored are left out.
    pub fn of(run: &RunRecord, store: &Store) -> Self {
        let mut results = Self::default();
        for stage in &run.stages {
            let Some(output) = stage.state.digest().and_then(|digest| store.output(&stage.key, &digest)) else {
                continue;
            };
            let summary = output.manifest.summary;
            match output.manifest.settings {
                Stage::Units(units) => results.iterations.push(Iteration {
                    source: source(units.source),
                    clusters: units.clusters.get(),
                    units: summary,
                    ..Iteration::default()
                }),
                Stage::Probe(ProbeStage::UnitQuality(_)) => {
                    if let Some(iteration) = results.iterations.last_mut() {
                        iteration.quality = summary;
                    }
                }
                Stage::Pretrain(_) => {
                    if let Some(iteration) = results.iterations.last_mut() {
                        iteration.pretraining = summary;
                    }
                }
                Stage::Finetune(_) => results.finetuning = summary,
                Stage::Decode(decode) => {
                    results.recognition.push(Recognition { split: decode.split.to_string(), scores: summary })
                }
                Stage::Corpus(_) | Stage::Features(_) => {}
            }
        }
        results
    }
}

fn source(source: UnitSource) -> String {
    match source {
        UnitSource::Features(FeatureKind::Mfcc) => "mfcc".into(),
        UnitSource::Features(FeatureKind::LogMel) => "log-mel".into(),
        UnitSource::Layer(height) => format!("layer {}", height.get()),
    }
}

/// The score of this name.
pub fn find<'a>(scores: &'a [Score], name: &str) -> Option<&'a Score> {
    scores.iter().find(|score| score.name == name)
}
