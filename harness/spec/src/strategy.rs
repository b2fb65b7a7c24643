//! `strategy`: how the model is pretrained. Every strategy is a list of iterations; the named ones are ways to write such a list.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::fraction;
use crate::training::steps;
use crate::values::{Clusters, Count, Fraction, Height, Steps};

mod clustering;
mod expand;
mod iteration;
mod targets;

pub use clustering::{Algorithm, Clustering, Lloyd, MiniBatch};
pub use expand::Expanded;
pub use iteration::{CarriedHead, CarriedOptimiser, CarriedWeights, Carry, Horizon, Iteration, IterationSchedule};
pub use targets::{
    FeatureTargets, GumbelTemperature, LayerTargets, Origin, Quantiser, SubspaceTargets, Targets, UnitTargets,
};

/// How the model is pretrained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// No pretraining: fine-tuning starts from random weights. The control.
    Scratch,
    /// Any list of iterations, first to last.
    Iterations(Vec<Iteration>),
    /// The published one (HuBERT section II.B): each iteration starts from random weights and has a learning-rate schedule of its own.
    Baseline(Baseline),
    /// The published targets in shorter and more iterations.
    ShortIterations(ShortIterations),
    /// Short iterations that predict ever higher layers, each going on from the one before.
    Progressive(Progressive),
    /// The published iterations with the clustered layer as what is studied: one variant a height, the first iteration shared by all.
    ClusterHeight(ClusterHeight),
}

/// The published strategy. Its defaults are BASE's: 250k steps on MFCC with 100 clusters, 400k on layer 6 with 500.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Baseline {
    /// First to last; the first predicts units of acoustic features.
    pub iterations: Vec<BaselineIteration>,
}

/// One iteration of the published strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BaselineIteration {
    /// What is predicted.
    pub targets: Targets,
    /// Optimiser steps.
    pub steps: Steps,
}

impl Default for Baseline {
    fn default() -> Self {
        let second = Targets::Layer(layer(published_height(), published_clusters(), tenth()));
        let second = BaselineIteration { targets: second, steps: second_steps() };
        Self { iterations: vec![BaselineIteration { targets: mfcc(), steps: first_steps() }, second] }
    }
}

/// `iterations` iterations of `every` steps, each from random weights: the first predicts `first`, all others `then`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShortIterations {
    /// How many iterations there are.
    pub iterations: Count,
    /// Steps of an iteration.
    pub every: Count,
    /// Steps in all, of which the last iteration takes what is left; `iterations` times `every` where it isn't said.
    #[serde(default)]
    pub steps: Option<Count>,
    /// What the first iteration predicts.
    #[serde(default = "mfcc")]
    pub first: Targets,
    /// What every later one predicts: units of the model before it.
    #[serde(default = "published_layer")]
    pub then: Targets,
    /// The learning rate of every iteration.
    #[serde(default)]
    pub schedule: IterationSchedule,
}

/// One iteration of `every` steps for each rung of the ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Progressive {
    /// Steps of an iteration.
    pub every: Count,
    /// Steps in all, of which the last iteration takes what is left; as many times `every` as there are rungs where it isn't said.
    #[serde(default)]
    pub steps: Option<Count>,
    /// What each iteration predicts: targets are renewed at each rung from the model as it is then.
    pub ladder: Vec<Targets>,
    /// What is taken over at each rung.
    #[serde(default = "warm")]
    pub carry: Carry,
    /// The learning rate of every iteration.
    #[serde(default)]
    pub schedule: IterationSchedule,
}

/// One variant for each height: a shared first iteration, then one on units of that layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClusterHeight {
    /// The layers of the first iteration's model that are clustered, one a variant.
    pub heights: Vec<Height>,
    /// The first iteration.
    #[serde(default = "published_first")]
    pub first: BaselineIteration,
    /// Clusters of the second iteration's codebook.
    #[serde(default = "published_clusters")]
    pub clusters: Clusters,
    /// Share of the utterances that the second iteration's codebook is fitted on.
    #[serde(default = "tenth")]
    pub fit: Fraction,
    /// Steps of the second iteration.
    #[serde(default = "second_steps")]
    pub steps: Steps,
}

fn mfcc() -> Targets {
    Targets::Mfcc(FeatureTargets { clusters: clusters(100), fit: fraction(1.0) })
}

fn layer(height: Height, clusters: Clusters, fit: Fraction) -> LayerTargets {
    LayerTargets { height, after_final_norm: false, clusters, fit, of: Origin::Previous }
}

fn published_layer() -> Targets {
    Targets::Layer(layer(published_height(), published_clusters(), tenth()))
}

fn published_first() -> BaselineIteration {
    BaselineIteration { targets: mfcc(), steps: first_steps() }
}

fn published_height() -> Height {
    Height::try_from(6).expect("a default inside its range")
}

fn published_clusters() -> Clusters {
    clusters(500)
}

fn first_steps() -> Steps {
    steps(250_000)
}

fn second_steps() -> Steps {
    steps(400_000)
}

/// The share of the utterances whose layers are clustered in HuBERT section III.B, for lack of memory.
fn tenth() -> Fraction {
    fraction(0.1)
}

fn warm() -> Carry {
    Carry { weights: CarriedWeights::All, ..Carry::default() }
}

fn clusters(value: u64) -> Clusters {
    Clusters::try_from(value).expect("a default inside its range")
}
