//! The numbers of a run, gathered from the manifests of its stages.

use std::collections::BTreeMap;

use reprise_spec::contract::Score;
use reprise_spec::identity::StageKey;
use reprise_spec::stage::{PretrainTargets, ProbeStage, Role, Stage};
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
    /// What it predicted: one set of units as a rule, several for an ensemble; none where the stage of the units is no longer stored.
    pub targets: Vec<Units>,
    pub pretraining: Vec<Score>,
}

/// One set of units.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Units {
    /// What was clustered: `mfcc`, `log-mel`, `layer 6`; or `quantiser`.
    pub source: String,
    pub clusters: u32,
    pub scores: Vec<Score>,
    pub quality: Vec<Score>,
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
        let mut units: BTreeMap<StageKey, Units> = BTreeMap::new();
        for stage in &run.stages {
            let Some(output) = stage.state.digest().and_then(|digest| store.output(&stage.key, &digest)) else {
                continue;
            };
            let manifest = output.manifest;
            let (summary, inputs) = (manifest.summary, manifest.inputs);
            match manifest.settings {
                Stage::Units(settings) => {
                    let (source, clusters) = (settings.source.to_string(), settings.clusters.get());
                    units.insert(manifest.key, Units { source, clusters, scores: summary, quality: Vec::new() });
                }
                Stage::Probe(ProbeStage::UnitQuality(_)) => {
                    let measured = inputs.iter().find(|input| input.role == Role::Units);
                    if let Some(measured) = measured.and_then(|input| units.get_mut(&input.key)) {
                        measured.quality = summary;
                    }
                }
                Stage::Pretrain(settings) => {
                    let targets = match settings.targets {
                        PretrainTargets::Units(_) => inputs
                            .iter()
                            .filter(|input| matches!(input.role, Role::Targets(_)))
                            .filter_map(|input| units.get(&input.key).cloned())
                            .collect(),
                        PretrainTargets::Quantiser(quantiser) => {
                            let clusters = quantiser.groups.get() * quantiser.entries.get();
                            vec![Units { source: "quantiser".into(), clusters, ..Units::default() }]
                        }
                    };
                    results.iterations.push(Iteration { targets, pretraining: summary });
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

/// The score of this name.
pub fn find<'a>(scores: &'a [Score], name: &str) -> Option<&'a Score> {
    scores.iter().find(|score| score.name == name)
}
