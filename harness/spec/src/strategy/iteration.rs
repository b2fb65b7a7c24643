//! An iteration: what is predicted, for how long, from which start and under which learning rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Targets;
use crate::values::{Fraction, Height, Positive, Steps};

/// One iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Iteration {
    /// What is predicted.
    pub targets: Targets,
    /// Optimiser steps.
    pub steps: Steps,
    /// What is taken over from the iteration before; nothing by default, so that it starts from random weights.
    #[serde(default)]
    pub carry: Carry,
    /// The learning rate.
    #[serde(default)]
    pub schedule: IterationSchedule,
}

/// What an iteration takes over from the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Carry {
    /// Weights of the network below the head.
    pub weights: CarriedWeights,
    /// Moments of the optimiser, for the weights that are taken over, and its count of steps.
    pub optimiser: CarriedOptimiser,
    /// Projections and unit embeddings.
    pub head: CarriedHead,
}

/// Which weights an iteration takes over from the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CarriedWeights {
    /// None: all are drawn at random, as in every published recipe.
    #[default]
    None,
    /// All.
    All,
    /// Those of these blocks of the encoder; 0 is everything below the first block. The others are drawn at random.
    Layers(Vec<Height>),
}

/// Whether an iteration takes over the state of the optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CarriedOptimiser {
    /// It starts from zero.
    #[default]
    Reset,
    /// It goes on.
    Keep,
}

/// Whether an iteration takes over the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CarriedHead {
    /// It is drawn at random.
    #[default]
    Renew,
    /// It goes on, although its rows may come to stand for other units; needs equal cluster counts.
    Keep,
}

/// The learning rate of an iteration. What is left out is that of `pretraining.schedule`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct IterationSchedule {
    /// Which steps warm-up and decay span.
    pub horizon: Horizon,
    /// The highest learning rate.
    pub peak: Option<Positive>,
    /// Share of the horizon's steps that warm up.
    pub warm_up: Option<Fraction>,
}

/// Which steps warm-up and decay span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Horizon {
    /// Those of the iteration: the rate rises and falls in each.
    #[default]
    Iteration,
    /// Those of all iterations together: one rise and one fall.
    Whole,
}
