//! What the stages of a plan are expected to cost. Estimates from settings alone, never measurements; what is not known stays so.

use std::collections::BTreeMap;

use reprise_spec::arithmetic::{FEATURE_STRIDE, SAMPLE_RATE, Work, extraction_flops, recogniser_bytes, saved_bytes};
use reprise_spec::network::{FeatureKind, Network};
use reprise_spec::stage::{ProbeStage, Role, Stage, UnitSource, UnitsStage};
use serde::Serialize;

use crate::outlook::Outlook;
use crate::plan::{Node, Plan};
use crate::results::find;
use crate::store::Store;

/// Dimensions of the acoustic features and bytes of one number.
const MFCC: f64 = 39.0;
const LOG_MEL: f64 = 80.0;
const FLOAT: f64 = 4.0;
/// Bytes of a label.
const LABEL: f64 = 2.0;

/// What one stage is expected to cost. `None` is not known: it depends on files that are not here, or not read yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Estimate {
    /// Optimiser steps.
    pub steps: u64,
    /// Audio that goes through the stage, repetitions counted; of training at most, batches being counted as full.
    pub audio_seconds: Option<f64>,
    /// Floating-point operations on the accelerator. Acoustic features and the fitting of codebooks are left to the CPU and not counted.
    pub flops: Option<f64>,
    /// Bytes that the stage leaves in the store; tables and reports, which are small, are not counted.
    pub bytes: Option<f64>,
}

/// The cost of every node of a plan, in its order.
pub fn of(plan: &Plan, outlooks: &[Outlook], store: &Store) -> Vec<Estimate> {
    let lengths = lengths(plan, outlooks, store);
    plan.nodes.iter().map(|node| Estimating { plan, lengths: &lengths, node }.estimate()).collect()
}

/// Seconds of the splits whose `corpus` stage is stored, by the number of its node.
fn lengths(plan: &Plan, outlooks: &[Outlook], store: &Store) -> BTreeMap<usize, f64> {
    let length = |node: &Node, outlook: &Outlook| {
        let Outlook::Stored { digest } = outlook else { return None };
        let output = store.output(node.key.as_ref()?, digest)?;
        find(&output.manifest.summary, "seconds").map(|score| score.value)
    };
    let nodes = plan.nodes.iter().zip(outlooks).enumerate();
    nodes.filter_map(|(index, (node, outlook))| Some((index, length(node, outlook)?))).collect()
}

struct Estimating<'a> {
    plan: &'a Plan,
    lengths: &'a BTreeMap<usize, f64>,
    node: &'a Node,
}

impl Estimating<'_> {
    fn estimate(&self) -> Estimate {
        let nothing = Estimate { steps: 0, audio_seconds: Some(0.0), flops: Some(0.0), bytes: Some(0.0) };
        let Some(stage) = &self.node.stage else { return nothing };
        match stage {
            Stage::Corpus(_) | Stage::Checkpoint(_) | Stage::Lexicon(_) => nothing,
            Stage::WordVectors(_) | Stage::WordPairs(_) => nothing,
            Stage::LanguageModel(_) => Estimate { bytes: None, ..nothing },
            Stage::Features(features) => {
                let audio_seconds = self.audio(is_corpus);
                let per_second = f64::from(SAMPLE_RATE) / FEATURE_STRIDE as f64 * dimensions(features.kind) * FLOAT;
                Estimate { audio_seconds, bytes: audio_seconds.map(|seconds| seconds * per_second), ..nothing }
            }
            Stage::Units(units) => self.units(units, nothing),
            Stage::Pretrain(pretrain) => {
                let after = self.node.runs.iter().find_map(|need| need.continues);
                let after = after.map_or(0, |prefix| trained(&self.plan.nodes[prefix]));
                let bytes = Some(saved_bytes(pretrain) as f64);
                Estimate { bytes, ..training(Work::of_pretraining(pretrain, after)) }
            }
            Stage::Finetune(finetune) => {
                let bytes = Some(recogniser_bytes(&finetune.network) as f64);
                Estimate { bytes, ..training(Work::of_finetuning(finetune)) }
            }
            // The search itself is the CPU's work.
            Stage::Decode(_) | Stage::Tune(_) => self.pass(self.model(&Role::Finetuned), nothing),
            Stage::Probe(ProbeStage::Layers(layers)) => {
                self.pass(layers.control.as_ref().or_else(|| self.model(&Role::Pretrained)), nothing)
            }
            Stage::Probe(ProbeStage::UnitQuality(_)) => {
                let units = self.input(&Role::Units).map(|node| self.plan.nodes[node].stage.as_ref());
                let Some(Some(Stage::Units(units))) = units else { return nothing };
                Estimate { bytes: Some(0.0), ..self.units(units, nothing) }
            }
        }
    }

    /// Labelling with a codebook: what gives the frames, and the nearest centroid of each.
    fn units(&self, units: &UnitsStage, nothing: Estimate) -> Estimate {
        let clusters = f64::from(units.clusters.get());
        match units.source {
            UnitSource::Layer { height, .. } => {
                let audio_seconds = self.audio(is_corpus);
                let Some((network, seconds)) = self.model(&Role::Pretrained).zip(audio_seconds) else {
                    return Estimate { audio_seconds, flops: None, bytes: None, ..nothing };
                };
                let frames = seconds * f64::from(SAMPLE_RATE) / network.layer_stride(height.get()) as f64;
                let width = f64::from(network.encoder.width.get());
                let nearest = 2.0 * frames * clusters * width;
                Estimate {
                    audio_seconds,
                    flops: Some(extraction_flops(network, height.get(), seconds) + nearest),
                    bytes: Some(frames * LABEL + clusters * width * FLOAT),
                    ..nothing
                }
            }
            UnitSource::Features(_) | UnitSource::MfccSubspace { .. } => {
                let audio_seconds = self.audio(|role| matches!(role, Role::Features(_)));
                let labels = |seconds: f64| seconds * f64::from(SAMPLE_RATE) / FEATURE_STRIDE as f64 * LABEL;
                Estimate { audio_seconds, bytes: audio_seconds.map(labels), ..nothing }
            }
        }
    }

    /// All audio once through a whole network.
    fn pass(&self, network: Option<&Network>, nothing: Estimate) -> Estimate {
        let audio_seconds = self.audio(is_corpus);
        let whole = |network: &Network, seconds| extraction_flops(network, network.encoder.layers.get(), seconds);
        let flops = network.zip(audio_seconds).map(|(network, seconds)| whole(network, seconds));
        Estimate { audio_seconds, flops, ..nothing }
    }

    /// The network of the model that is read in this role.
    fn model(&self, role: &Role) -> Option<&Network> {
        self.input(role).and_then(|node| network(&self.plan.nodes[node]))
    }

    fn input(&self, role: &Role) -> Option<usize> {
        self.node.inputs.iter().find(|edge| edge.role == *role).map(|edge| edge.node)
    }

    /// Seconds of all splits among the inputs of these roles: of the splits themselves, or of those that their features are of.
    fn audio(&self, wanted: impl Fn(&Role) -> bool) -> Option<f64> {
        let split = |edge: &crate::plan::Edge| match &edge.role {
            Role::Features(_) => self.plan.nodes[edge.node].inputs.first().map(|edge| edge.node),
            _ => Some(edge.node),
        };
        let edges = self.node.inputs.iter().filter(|edge| wanted(&edge.role));
        edges.map(|edge| self.lengths.get(&split(edge)?).copied()).sum()
    }
}

fn is_corpus(role: &Role) -> bool {
    matches!(role, Role::Corpus(_))
}

fn training(work: Work) -> Estimate {
    Estimate { steps: work.steps, audio_seconds: Some(work.audio_seconds), flops: Some(work.flops), bytes: None }
}

fn dimensions(kind: FeatureKind) -> f64 {
    match kind {
        FeatureKind::Mfcc => MFCC,
        FeatureKind::LogMel => LOG_MEL,
    }
}

fn trained(node: &Node) -> u64 {
    if let Some(Stage::Pretrain(stage)) = &node.stage { stage.steps.into() } else { 0 }
}

/// The network of a stage that gives a model.
fn network(node: &Node) -> Option<&Network> {
    match node.stage.as_ref()? {
        Stage::Pretrain(stage) => Some(&stage.network),
        Stage::Finetune(stage) => Some(&stage.network),
        _ => None,
    }
}

/// Stages of one kind together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sum {
    pub stages: usize,
    pub steps: u64,
    pub audio_seconds: Amount,
    pub flops: Amount,
    pub bytes: Amount,
}

/// A sum of numbers of which some may not be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Amount {
    /// Of those that are known.
    pub known: f64,
    /// How many are not.
    pub unknown: usize,
}

impl Amount {
    fn add(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.known += value,
            None => self.unknown += 1,
        }
    }
}

impl Sum {
    /// All of these.
    pub fn of<'a>(estimates: impl IntoIterator<Item = &'a Estimate>) -> Self {
        let mut sum = Self::default();
        for estimate in estimates {
            sum.stages += 1;
            sum.steps += estimate.steps;
            sum.audio_seconds.add(estimate.audio_seconds);
            sum.flops.add(estimate.flops);
            sum.bytes.add(estimate.bytes);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use reprise_spec::experiment::Written;
    use serde_json::json;

    use super::*;
    use crate::plan::Contents;

    /// BASE on splits of which train has 1 h and dev 36 s; how long test is isn't known.
    fn estimates() -> Vec<(String, Estimate)> {
        let written: Written = serde_json::from_value(json!({
            "version": 1, "name": "toy", "question": "What does it cost?", "seeds": [1],
            "corpus": { "name": "toy", "pretrain": ["train"], "finetune": ["train"], "validate": ["dev"], "test": ["test", "dev"] },
            "strategy": { "baseline": { "iterations": [
                { "targets": { "mfcc": { "clusters": 100 } }, "steps": 300 },
                { "targets": { "layer": { "height": 3, "clusters": 100 } }, "steps": 400 } ] } },
            "evaluation": { "at": [400], "cool-down": 10 },
        }))
        .unwrap();
        let digest = |byte| reprise_spec::identity::ContentDigest([byte; 32]);
        let splits = ["train", "dev", "test"].into_iter().enumerate();
        let splits = splits.map(|(index, name)| {
            ((name.to_owned().try_into().unwrap(), crate::plan::Part::Utterances), digest(index as u8))
        });
        let contents = Contents { splits: splits.collect(), ..Contents::default() };
        let plan = Plan::new(&written.into(), &contents).unwrap();
        let place = |name: &str| plan.nodes.iter().position(|node| node.name == name).unwrap();
        let lengths = BTreeMap::from([(place("corpus train"), 3600.0), (place("corpus dev"), 36.0)]);
        let estimate = |node: usize| {
            (
                plan.nodes[node].name.clone(),
                Estimating { plan: &plan, lengths: &lengths, node: &plan.nodes[node] }.estimate(),
            )
        };
        (0..plan.nodes.len()).map(estimate).collect()
    }

    #[test]
    fn what_depends_on_audio_is_known_where_the_audio_is() {
        let all = estimates();
        let of = |name: &str| all.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}")).1;
        assert_eq!(of("features train (mfcc)").bytes, Some(3600.0 * 100.0 * 39.0 * 4.0));
        let first = of("units iteration 1 (mfcc, 100)");
        assert_eq!((first.audio_seconds, first.bytes, first.flops), (Some(3636.0), Some(727_200.0), Some(0.0)));
        let second = of("units iteration 2 (layer 3, 100)");
        let frames = 3636.0 * 50.0;
        assert_eq!(second.bytes, Some(frames * 2.0 + 100.0 * 768.0 * 4.0));
        let flops = extraction_flops(&Network::default(), 3, 3636.0) + 2.0 * frames * 100.0 * 768.0;
        assert!((second.flops.unwrap() / flops - 1.0).abs() < 1e-12);
        assert_eq!((of("decode test").flops, of("decode test").audio_seconds), (None, None));
        assert_eq!(of("decode dev").flops, Some(extraction_flops(&Network::default(), 12, 36.0)));
    }

    #[test]
    fn trainings_that_go_on_from_shorter_ones_count_what_they_add() {
        let all = estimates();
        let steps =
            |name: &str| all.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}")).1.steps;
        let names =
            ["pretrain iteration 1", "pretrain iteration 2 to step 100", "cool down at 400", "pretrain iteration 2"];
        assert_eq!(names.map(steps), [300, 100, 10, 300]);
        let sum = Sum::of(all.iter().map(|(_, estimate)| estimate));
        assert_eq!(sum.steps, 300 + 100 + 10 + 300 + 2 * 25_000);
        assert_eq!((sum.audio_seconds.unknown, sum.flops.unknown, sum.bytes.unknown), (2, 2, 0));
    }
}
