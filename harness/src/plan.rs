//! From an experiment to the graph of stages that its runs need. Pure: what the disk says comes in as [`Contents`].

use std::collections::{BTreeMap, BTreeSet};

use miette::Diagnostic;
use reprise_spec::corpus::Corpus;
use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{ContentDigest, StageKey};
use reprise_spec::network::{FeatureKind, FrontEnd};
use reprise_spec::stage::{
    CorpusPart, CorpusStage, DecodeStage, FeaturesStage, FinetuneStage, PretrainStage, PretrainTargets, ProbeStage,
    Role, Stage, UnitSource, UnitsStage,
};
use reprise_spec::strategy::{Iteration, Strategy, Targets, UnitTargets};
use reprise_spec::values::{Clusters, Fraction, SplitName};
use serde::Serialize;
use thiserror::Error;

/// Which of a split's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Audio and transcripts.
    Utterances,
    /// Word and phone times.
    Alignments,
}

/// What is known about the files of an experiment's corpus; a split that is absent is not known.
pub type Contents = BTreeMap<(SplitName, Part), ContentDigest>;

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
    /// For people: `pretrain iteration 2`. Unique among the stages of one seed.
    pub name: String,
    /// Kind and version: `pretrain/1`.
    pub kind: &'static str,
    /// The settings; absent for a `corpus` stage whose files are not known.
    pub stage: Option<Stage>,
    pub inputs: Vec<Edge>,
    /// Present exactly when the stage draws.
    pub seed: Option<u64>,
    /// Absent when the files of a corpus that it depends on are not known.
    pub key: Option<StageKey>,
    /// The seeds whose runs need this stage, in the order of the experiment.
    pub runs: Vec<u64>,
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
    #[diagnostic(help("let the first iteration predict units of `mfcc` or `log-mel`"))]
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
    /// The stages of every seed. A stage that seeds share, because it draws nothing and neither do its inputs, appears once.
    ///
    /// # Errors
    /// When the experiment's parts don't fit together.
    pub fn new(experiment: &Experiment, seeds: &[u64], contents: &Contents) -> Result<Self, PlanError> {
        let mut plan = Plan::default();
        for &seed in seeds {
            Expansion { experiment, seed, contents, plan: &mut plan }.experiment()?;
        }
        Ok(plan)
    }

    /// The stages of one seed's run with their indices, inputs before their readers.
    pub fn run(&self, seed: u64) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter(move |(_, node)| node.runs.contains(&seed))
    }
}

/// The splits whose files decide the keys of an experiment's stages.
pub fn splits_needed(experiment: &Experiment) -> BTreeSet<(SplitName, Part)> {
    let Ok(plan) = Plan::new(experiment, &[0], &Contents::new()) else { return BTreeSet::new() };
    plan.nodes.into_iter().flat_map(|node| node.inputs).filter_map(|edge| files_of(edge.role)).collect()
}

/// Which files of a corpus a role stands for.
fn files_of(role: Role) -> Option<(SplitName, Part)> {
    match role {
        Role::Corpus(split) => Some((split, Part::Utterances)),
        Role::Alignments(split) => Some((split, Part::Alignments)),
        Role::Features(_) | Role::Units | Role::Targets(_) | Role::InputUnits | Role::Pretrained | Role::Finetuned => {
            None
        }
    }
}

/// One seed's stages on their way into a plan.
struct Expansion<'a> {
    experiment: &'a Experiment,
    seed: u64,
    contents: &'a Contents,
    plan: &'a mut Plan,
}

impl Expansion<'_> {
    fn experiment(&mut self) -> Result<(), PlanError> {
        let corpus = &self.experiment.corpus;
        let iterations: &[Iteration] = match &self.experiment.strategy {
            Strategy::Scratch => &[],
            Strategy::Baseline(baseline) => &baseline.iterations,
        };
        if iterations.is_empty() && corpus.finetune.is_empty() {
            return Err(PlanError::Nothing);
        }
        if !iterations.is_empty() && corpus.pretrain.is_empty() {
            return Err(PlanError::NothingToPretrainOn);
        }
        let mut pretrained = None;
        for (index, iteration) in iterations.iter().enumerate() {
            pretrained = Some(self.iteration(index + 1, iteration, pretrained)?);
        }
        if !corpus.finetune.is_empty() {
            let finetuned = self.finetune(pretrained);
            for split in &corpus.test {
                self.decode(split, finetuned);
            }
        }
        Ok(())
    }

    /// Units, their quality and the model of one iteration; the node of the model.
    fn iteration(&mut self, number: usize, iteration: &Iteration, before: Option<usize>) -> Result<usize, PlanError> {
        let Experiment { corpus, model, pretraining, .. } = self.experiment;
        let sets = iteration.targets.sets();
        let mut inputs = Vec::new();
        for (index, set) in sets.iter().enumerate() {
            let targets = self.targets(number, set, before)?;
            let of = if sets.len() == 1 {
                format!("iteration {number}")
            } else {
                format!("iteration {number}.{}", index + 1)
            };
            let units = self.units(&of, &targets);
            self.unit_quality(&of, &targets, units);
            inputs.push(Edge { role: Role::Targets(index as u32), node: units });
        }
        inputs.extend(self.input_units());
        for split in union(&corpus.pretrain, &corpus.validate) {
            inputs.push(self.corpus(&split));
        }
        let stage = PretrainStage {
            network: model.clone(),
            pretraining: pretraining.clone(),
            targets: match &iteration.targets {
                Targets::Quantiser(quantiser) => PretrainTargets::Quantiser(quantiser.clone()),
                _ => PretrainTargets::Units(sets.iter().map(UnitTargets::clusters).collect()),
            },
            steps: iteration.steps,
            train_on: corpus.pretrain.clone(),
            validate_on: corpus.validate.clone(),
        };
        Ok(self.add(format!("pretrain iteration {number}"), Stage::Pretrain(stage), inputs))
    }

    fn targets(&self, number: usize, targets: &UnitTargets, before: Option<usize>) -> Result<Clustered, PlanError> {
        let source = match targets {
            UnitTargets::Mfcc(_) => Source::Features(UnitSource::Features(FeatureKind::Mfcc), FeatureKind::Mfcc),
            UnitTargets::LogMel(_) => Source::Features(UnitSource::Features(FeatureKind::LogMel), FeatureKind::LogMel),
            UnitTargets::MfccSubspace(of) => {
                Source::Features(UnitSource::MfccSubspace { order: of.order, splice: of.splice }, FeatureKind::Mfcc)
            }
            UnitTargets::Layer(of) => {
                let pretrained = before.ok_or(PlanError::NothingToCluster(number))?;
                let (height, layers) = (of.height.get(), self.experiment.model.encoder.layers.get());
                if height > layers {
                    return Err(PlanError::NoSuchLayer { iteration: number, height, layers });
                }
                let source = UnitSource::Layer { height: of.height, after_final_norm: of.after_final_norm };
                Source::Layer { source, pretrained }
            }
        };
        Ok(Clustered { source, clusters: targets.clusters(), fit: targets.fit() })
    }

    /// The codebook that the network's front-end reads, where it reads one.
    fn input_units(&mut self) -> Option<Edge> {
        let FrontEnd::Units(units) = &self.experiment.model.front_end else { return None };
        let source = Source::Features(UnitSource::Features(units.of), units.of);
        let clustered = Clustered { source, clusters: units.clusters, fit: units.fit };
        Some(Edge { role: Role::InputUnits, node: self.units("input", &clustered) })
    }

    fn units(&mut self, of: &str, targets: &Clustered) -> usize {
        let Experiment { corpus, clustering, .. } = self.experiment;
        let mut inputs = Vec::new();
        for split in union(&corpus.pretrain, &corpus.validate) {
            inputs.extend(self.clustered(&split, targets));
        }
        let stage = UnitsStage {
            source: targets.source.unit_source(),
            clusters: targets.clusters,
            clustering: clustering.clone(),
            fit: targets.fit,
            fit_on: corpus.pretrain.clone(),
            label: corpus.validate.iter().filter(|split| !corpus.pretrain.contains(split)).cloned().collect(),
        };
        let name = format!("units {of} ({}, {})", targets.source.unit_source(), targets.clusters.get());
        self.add(name, Stage::Units(stage), inputs)
    }

    fn unit_quality(&mut self, of: &str, targets: &Clustered, units: usize) {
        let Some(quality) = &self.experiment.probing.unit_quality else { return };
        let mut inputs = vec![Edge { role: Role::Units, node: units }];
        for split in &quality.splits {
            inputs.push(self.corpus(split));
            inputs.push(self.alignments(split));
            inputs.extend(self.clustered(split, targets));
        }
        let stage = Stage::Probe(ProbeStage::UnitQuality(quality.clone()));
        self.add(format!("unit quality {of}"), stage, inputs);
    }

    /// What a stage needs to see the frames of a split that are clustered.
    fn clustered(&mut self, split: &SplitName, targets: &Clustered) -> Vec<Edge> {
        match targets.source {
            Source::Features(_, kind) => vec![self.features(split, kind)],
            Source::Layer { pretrained, .. } => {
                vec![Edge { role: Role::Pretrained, node: pretrained }, self.corpus(split)]
            }
        }
    }

    fn finetune(&mut self, pretrained: Option<usize>) -> usize {
        let Experiment { corpus, model, finetuning, .. } = self.experiment;
        let validate: Vec<_> = corpus.validate.iter().filter(|split| transcribed(corpus, split)).cloned().collect();
        let before = match pretrained {
            Some(node) => Some(Edge { role: Role::Pretrained, node }),
            None => self.input_units(),
        };
        let mut inputs: Vec<Edge> = before.into_iter().collect();
        for split in union(&corpus.finetune, &validate) {
            inputs.push(self.corpus(&split));
        }
        let stage = FinetuneStage {
            network: model.clone(),
            finetuning: finetuning.clone(),
            train_on: corpus.finetune.clone(),
            validate_on: validate,
        };
        self.add("finetune".into(), Stage::Finetune(stage), inputs)
    }

    fn decode(&mut self, split: &SplitName, finetuned: usize) {
        let inputs = vec![Edge { role: Role::Finetuned, node: finetuned }, self.corpus(split)];
        let stage = DecodeStage { split: split.clone(), decoding: self.experiment.decoding.clone() };
        self.add(format!("decode {split}"), Stage::Decode(stage), inputs);
    }

    fn features(&mut self, split: &SplitName, kind: FeatureKind) -> Edge {
        let inputs = vec![self.corpus(split)];
        let stage = Stage::Features(FeaturesStage { kind });
        let node = self.add(format!("features {split} ({})", UnitSource::Features(kind)), stage, inputs);
        Edge { role: Role::Features(split.clone()), node }
    }

    fn corpus(&mut self, split: &SplitName) -> Edge {
        let corpus = &self.experiment.corpus;
        let part = CorpusPart::Utterances {
            transcribed: transcribed(corpus, split),
            conversion: corpus.conversion,
            exclude_at_most: corpus.exclude_at_most,
        };
        let node = self.add_corpus(format!("corpus {split}"), split, Part::Utterances, part, Vec::new());
        Edge { role: Role::Corpus(split.clone()), node }
    }

    fn alignments(&mut self, split: &SplitName) -> Edge {
        let inputs = vec![self.corpus(split)];
        let name = format!("alignments {split}");
        let node = self.add_corpus(name, split, Part::Alignments, CorpusPart::Alignments, inputs);
        Edge { role: Role::Alignments(split.clone()), node }
    }

    fn add_corpus(
        &mut self,
        name: String,
        split: &SplitName,
        files: Part,
        part: CorpusPart,
        inputs: Vec<Edge>,
    ) -> usize {
        let content = self.contents.get(&(split.clone(), files));
        let stage = content.map(|&content| Stage::Corpus(CorpusStage { split: split.clone(), content, part }));
        self.insert(Node { name, kind: "corpus/1", stage, inputs, seed: None, key: None, runs: Vec::new() })
    }

    fn add(&mut self, name: String, stage: Stage, inputs: Vec<Edge>) -> usize {
        let seed = stage.draws().then_some(self.seed);
        self.insert(Node { name, kind: stage.kind(), stage: Some(stage), inputs, seed, key: None, runs: Vec::new() })
    }

    /// The index of an equal node that the plan has, or of this one, appended.
    fn insert(&mut self, mut node: Node) -> usize {
        node.inputs.sort();
        node.inputs.dedup();
        let nodes = &mut self.plan.nodes;
        // Equal stages are one, whatever iterations they are of; unknown ones are told apart by their names.
        let same = |n: &Node| {
            n.stage == node.stage
                && n.inputs == node.inputs
                && n.seed == node.seed
                && (node.stage.is_some() || n.name == node.name)
        };
        let index = nodes.iter().position(same).unwrap_or_else(|| {
            let inputs: Option<Vec<_>> =
                node.inputs.iter().map(|edge| nodes[edge.node].key.map(|key| (edge.role.clone(), key))).collect();
            node.key = node.stage.as_ref().zip(inputs).map(|(stage, inputs)| stage.key(&inputs, node.seed));
            nodes.push(node);
            nodes.len() - 1
        });
        if !nodes[index].runs.contains(&self.seed) {
            nodes[index].runs.push(self.seed);
        }
        index
    }
}

/// What an iteration clusters, into how many clusters, fitted on how much.
struct Clustered {
    source: Source,
    clusters: Clusters,
    fit: Fraction,
}

/// Where clustered frames come from, with the features or the node of the model that gives them.
#[derive(Clone, Copy)]
enum Source {
    Features(UnitSource, FeatureKind),
    Layer { source: UnitSource, pretrained: usize },
}

impl Source {
    fn unit_source(self) -> UnitSource {
        match self {
            Source::Features(source, _) | Source::Layer { source, .. } => source,
        }
    }
}

/// Whether a split has transcripts.
pub(crate) fn transcribed(corpus: &Corpus, split: &SplitName) -> bool {
    !corpus.untranscribed.contains(split)
}

/// Both lists in their order, each split once.
fn union(first: &[SplitName], second: &[SplitName]) -> Vec<SplitName> {
    let mut splits: Vec<SplitName> = Vec::new();
    for split in first.iter().chain(second) {
        if !splits.contains(split) {
            splits.push(split.clone());
        }
    }
    splits
}

#[cfg(test)]
mod tests;
