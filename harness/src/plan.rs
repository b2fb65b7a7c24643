//! From an experiment to the graph of stages that its runs need. Pure: what the disk says comes in as [`Contents`].

use std::collections::{BTreeMap, BTreeSet};

use miette::Diagnostic;
use reprise_spec::corpus::Corpus;
use reprise_spec::evaluation::Point;
use reprise_spec::experiment::{Experiment, Setting, Variant};
use reprise_spec::identity::{ContentDigest, StageKey};
use reprise_spec::stage::{Role, Stage};
use reprise_spec::values::{Name, SplitName};
use serde::Serialize;
use thiserror::Error;

mod expansion;

use expansion::Expansion;

/// Which of a split's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Audio and transcripts.
    Utterances,
    /// Word and phone times.
    Alignments,
}

/// What is known about the files that an experiment reads; what is absent is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    pub splits: BTreeMap<(SplitName, Part), ContentDigest>,
    pub checkpoints: BTreeMap<Name, ContentDigest>,
    /// Language models, lexicons, and what words mean.
    pub files: BTreeMap<Name, ContentDigest>,
}

/// The files that decide the keys of an experiment's stages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    pub splits: BTreeSet<(SplitName, Part)>,
    pub checkpoints: BTreeSet<Name>,
    /// Language models, lexicons, and what words mean.
    pub files: BTreeSet<Name>,
}

/// The stages that the runs of one experiment need, inputs before their readers, shared stages once.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    pub nodes: Vec<Node>,
}

/// One stage of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Node {
    /// For people: `pretrain iteration 2`, as the first run that needs it calls it.
    pub name: String,
    /// Kind and version: `pretrain/1`.
    pub kind: &'static str,
    /// The settings; absent for a stage that reads files which are not known.
    pub stage: Option<Stage>,
    pub inputs: Vec<Edge>,
    /// Present exactly when the stage draws.
    pub seed: Option<u64>,
    /// Absent when files that it depends on are not known.
    pub key: Option<StageKey>,
    /// Who needs this stage, in the order of the experiment.
    pub runs: Vec<Need>,
}

/// A run that needs a stage, and what the stage is in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Need {
    #[serde(flatten)]
    pub run: RunOf,
    /// The stage's place in the run, whatever else is planned with it.
    pub place: usize,
    /// Unique among the stages of the run.
    pub name: String,
    /// Where in pretraining the stage lies, if it trains or judges a model of there.
    pub point: Option<Point>,
    /// The node that trains the same for fewer steps and from whose end this one goes on. It saves time and changes no bit, so it is no input
    /// and not part of the key.
    pub continues: Option<usize>,
}

/// One run of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunOf {
    /// The place of the variant in the experiment.
    pub variant: usize,
    pub seed: u64,
}

/// What a stage reads: the node at this index of [`Plan::nodes`], always an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Edge {
    pub role: Role,
    pub node: usize,
}

/// Why an experiment has no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum PlanError {
    #[error("iteration {0} predicts units of a layer, but no iteration comes before it")]
    #[diagnostic(help("let the first iteration predict units of `mfcc` or `log-mel`, or of a checkpoint"))]
    NothingToCluster(usize),
    #[error("iteration {iteration} clusters layer {height}, but the network has {layers} layers")]
    #[diagnostic(help("lower `height`, or raise `model.encoder.layers`"))]
    NoSuchLayer { iteration: usize, height: u32, layers: u32 },
    #[error("the strategy pretrains, but `corpus.pretrain` names no split")]
    #[diagnostic(help("name the splits to pretrain on, or use the strategy `scratch`"))]
    NothingToPretrainOn,
    #[error("the experiment executes nothing: it neither pretrains nor fine-tunes")]
    #[diagnostic(help("give it a strategy with iterations, or splits in `corpus.finetune`"))]
    Nothing,
}

impl Plan {
    /// The stages of every variant with every seed. A stage that runs share, because it has the same settings, inputs and seed, appears once.
    ///
    /// # Errors
    /// When a variant's parts don't fit together.
    pub fn new(experiment: &Experiment, contents: &Contents) -> Result<Self, PlanError> {
        let mut plan = Plan::default();
        for (variant, Variant { setting, .. }) in experiment.variants.iter().enumerate() {
            for &seed in &experiment.seeds {
                plan.add(setting, RunOf { variant, seed }, contents)?;
            }
        }
        Ok(plan)
    }

    /// The stages of one setting with one seed.
    ///
    /// # Errors
    /// When the setting's parts don't fit together.
    pub fn of(setting: &Setting, seed: u64, contents: &Contents) -> Result<Self, PlanError> {
        let mut plan = Plan::default();
        plan.add(setting, RunOf { variant: 0, seed }, contents)?;
        Ok(plan)
    }

    fn add(&mut self, setting: &Setting, run: RunOf, contents: &Contents) -> Result<(), PlanError> {
        Expansion::new(setting, run, contents, self).setting()
    }

    /// The stages of one run with their indices and what they are in it, inputs before their readers, in the order that the run alone has.
    pub fn run(&self, run: RunOf) -> Vec<(usize, &Node, &Need)> {
        let need = |(index, node): (usize, &'_ Node)| Some((index, node.runs.iter().position(|need| need.run == run)?));
        let needs = self.nodes.iter().enumerate().filter_map(need);
        let mut stages: Vec<_> =
            needs.map(|(index, at)| (index, &self.nodes[index], &self.nodes[index].runs[at])).collect();
        stages.sort_by_key(|(_, _, need)| need.place);
        stages
    }
}

/// The files that decide the keys of an experiment's stages.
pub fn needed(experiment: &Experiment) -> Needed {
    let mut needed = Needed::default();
    for Variant { setting, .. } in &experiment.variants {
        let Ok(plan) = Plan::of(setting, 0, &Contents::default()) else { continue };
        needed
            .splits
            .extend(plan.nodes.into_iter().flat_map(|node| node.inputs).filter_map(|edge| files_of(edge.role)));
        needed.checkpoints.extend(setting.checkpoints().cloned());
        needed.files.extend(setting.decoding.files().chain(setting.probing.files()).cloned());
    }
    needed
}

/// Which files of a corpus a role stands for.
fn files_of(role: Role) -> Option<(SplitName, Part)> {
    match role {
        Role::Corpus(split) => Some((split, Part::Utterances)),
        Role::Alignments(split) => Some((split, Part::Alignments)),
        _ => None,
    }
}

/// Whether a split has transcripts.
pub(crate) fn transcribed(corpus: &Corpus, split: &SplitName) -> bool {
    !corpus.untranscribed.contains(split)
}

#[cfg(test)]
mod tests;
