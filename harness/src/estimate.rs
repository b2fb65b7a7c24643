//! What the stages of a plan are expected to cost. Estimates from settings alone, never measurements; what is not known stays so.

use std::collections::BTreeMap;
use std::fs;

use reprise_spec::arithmetic::{FEATURE_STRIDE, SAMPLE_RATE, Work, extraction_flops, recogniser_bytes, saved_bytes};
use reprise_spec::network::{FeatureKind, Network};
use reprise_spec::stage::{ProbeStage, Role, Stage, UnitSource, UnitsStage};
use serde::Serialize;

use crate::outlook::Outlook;
use crate::plan::{Node, Plan};
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
        let table = fs::read_to_string(output.out().join("utterances.tsv")).ok()?;
        let mut lines = table.lines();
        let column = lines.next()?.split('\t').position(|name| name == "samples")?;
        let samples = lines.map(|line| line.split('\t').nth(column)?.parse::<u64>().ok()).sum::<Option<u64>>()?;
        Some(samples as f64 / f64::from(SAMPLE_RATE))
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
            Stage::Corpus(_) | Stage::Checkpoint(_) => nothing,
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
            Stage::Decode(_) => {
                let network = self.input(&Role::Finetuned).and_then(|node| network(&self.plan.nodes[node]));
                let audio_seconds = self.audio(is_corpus);
                let whole =
                    |network: &Network, seconds| extraction_flops(network, network.encoder.layers.get(), seconds);
                let flops = network.zip(audio_seconds).map(|(network, seconds)| whole(network, seconds));
                Estimate { audio_seconds, flops, ..nothing }
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
                let pretrained = self.input(&Role::Pretrained).and_then(|node| network(&self.plan.nodes[node]));
                let audio_seconds = self.audio(is_corpus);
                let Some((network, seconds)) = pretrained.zip(audio_seconds) else {
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
