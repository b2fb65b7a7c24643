//! From a strategy to its iterations.

use super::{BaselineIteration, Carry, ClusterHeight, Iteration, IterationSchedule, Origin, Strategy, Targets, layer};
use crate::training::steps;
use crate::values::{Count, Height, Steps};

/// One variant of a strategy as the iterations that it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Expanded {
    /// What tells it from the strategy's other variants; empty where there is one alone.
    pub name: String,
    pub iterations: Vec<Iteration>,
}

impl Strategy {
    /// The word of the language.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Scratch => "scratch",
            Self::Iterations(_) => "iterations",
            Self::Baseline(_) => "baseline",
            Self::ShortIterations(_) => "short-iterations",
            Self::Progressive(_) => "progressive",
            Self::ClusterHeight(_) => "cluster-height",
        }
    }

    /// What the strategy assumes where the text of Vielzeuf 2024 that can be had doesn't say it.
    pub fn reconstruction(&self) -> Option<&'static str> {
        match self {
            Self::Scratch | Self::Iterations(_) | Self::Baseline(_) => None,
            Self::ShortIterations(_) => Some(
                "short-iterations: the paper names the iteration structure as a factor; that iterations are equal, start from random \
                 weights and keep the published heights is assumed",
            ),
            Self::Progressive(_) => Some(
                "progressive: the paper names the strategy; iteration length, ladder of heights and cluster counts, what is carried over \
                 and the learning-rate schedule are assumed",
            ),
            Self::ClusterHeight(_) => Some(
                "cluster-height: the paper names the clustered layer as a factor; which heights, and that all else is the baseline's, is \
                 assumed",
            ),
        }
    }

    /// The variants, in the order of the file: one, except for `cluster-height`.
    pub fn expand(&self) -> Vec<Expanded> {
        match self {
            Self::ClusterHeight(strategy) => strategy.expand(),
            _ => vec![Expanded { name: String::new(), iterations: self.iterations() }],
        }
    }

    /// The iterations of a strategy with one variant.
    fn iterations(&self) -> Vec<Iteration> {
        match self {
            Self::Scratch | Self::ClusterHeight(_) => Vec::new(),
            Self::Iterations(iterations) => iterations.clone(),
            Self::Baseline(strategy) => {
                strategy.iterations.iter().map(BaselineIteration::with_random_weights).collect()
            }
            Self::ShortIterations(strategy) => {
                let targets = |index| if index == 0 { &strategy.first } else { &strategy.then };
                let count = strategy.iterations.get();
                stretches(strategy.every, strategy.steps, count as usize)
                    .zip(0..count)
                    .map(|(steps, index)| Iteration {
                        targets: targets(index).clone(),
                        steps,
                        carry: Carry::default(),
                        schedule: strategy.schedule.clone(),
                    })
                    .collect()
            }
            Self::Progressive(strategy) => stretches(strategy.every, strategy.steps, strategy.ladder.len())
                .zip(&strategy.ladder)
                .enumerate()
                .map(|(index, (steps, targets))| Iteration {
                    targets: targets.clone(),
                    steps,
                    carry: if index == 0 { Carry::default() } else { strategy.carry.clone() },
                    schedule: strategy.schedule.clone(),
                })
                .collect(),
        }
    }

    /// Where the targets of an iteration are written, as a path into the experiment.
    pub(crate) fn targets_at(&self, iteration: usize) -> String {
        let word = format!("strategy.{}", self.word());
        match self {
            Self::Scratch => word,
            Self::Iterations(_) => format!("{word}[{iteration}].targets"),
            Self::Baseline(_) => format!("{word}.iterations[{iteration}].targets"),
            Self::Progressive(_) => format!("{word}.ladder[{iteration}]"),
            Self::ShortIterations(_) => format!("{word}.{}", if iteration == 0 { "first" } else { "then" }),
            Self::ClusterHeight(_) if iteration == 0 => format!("{word}.first.targets"),
            Self::ClusterHeight(_) => format!("{word}.heights"),
        }
    }

    /// Where another setting of an iteration is written.
    pub(crate) fn setting_at(&self, iteration: usize, setting: &str) -> String {
        let word = format!("strategy.{}", self.word());
        match self {
            Self::Iterations(_) => format!("{word}[{iteration}].{setting}"),
            Self::Baseline(_) => format!("{word}.iterations[{iteration}].{setting}"),
            Self::ClusterHeight(_) if iteration == 0 => format!("{word}.first.{setting}"),
            Self::Scratch | Self::ShortIterations(_) | Self::Progressive(_) | Self::ClusterHeight(_) => {
                format!("{word}.{setting}")
            }
        }
    }
}

impl BaselineIteration {
    fn with_random_weights(&self) -> Iteration {
        let Self { targets, steps } = self.clone();
        Iteration { targets, steps, carry: Carry::default(), schedule: IterationSchedule::default() }
    }
}

impl ClusterHeight {
    fn expand(&self) -> Vec<Expanded> {
        let Self { heights, first, clusters, fit, steps } = self;
        let variant = |height: &Height| {
            let targets = Targets::Layer(layer(*height, *clusters, *fit));
            let second = BaselineIteration { targets, steps: *steps };
            let iterations = vec![first.with_random_weights(), second.with_random_weights()];
            Expanded { name: format!("height {}", height.get()), iterations }
        };
        heights.iter().map(variant).collect()
    }
}

/// The lengths of `count` iterations of `every` steps, the last of which takes what is left of `total`.
fn stretches(every: Count, total: Option<Count>, count: usize) -> impl Iterator<Item = Steps> {
    let every = u64::from(every.get());
    let before = every * (count as u64).saturating_sub(1);
    let last = total.map_or(every, |total| u64::from(total.get()).saturating_sub(before));
    // Both are at most a million, which a number of steps holds.
    (0..count).map(move |index| if index + 1 == count { last } else { every }).map(steps)
}

impl Origin {
    /// The iteration, counted from 1, whose model is meant in iteration `number`; `None` for a checkpoint.
    pub fn iteration(&self, number: usize) -> Option<usize> {
        match self {
            Self::Previous => Some(number.saturating_sub(1)),
            Self::Iteration(of) => Some(of.get() as usize),
            Self::Checkpoint(_) => None,
        }
    }
}
