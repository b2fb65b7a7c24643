//! One run on its way into a plan: a setting's iterations, points of evaluation and judgements as stages.

use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::experiment::Setting;
use reprise_spec::network::{FeatureKind, FrontEnd};
use reprise_spec::probing::{Codebook, Codebooks};
use reprise_spec::stage::{
    CheckpointStage, CorpusPart, CorpusStage, DecodeStage, FeaturesStage, FinetuneStage, PretrainStage,
    PretrainTargets, ProbeStage, Role, Span, Stage, Start, UnitSource, UnitsStage,
};
use reprise_spec::strategy::{CarriedWeights, Horizon, Iteration, LayerTargets, Origin, Targets, UnitTargets};
use reprise_spec::training::Pretraining;
use reprise_spec::values::{Clusters, Fraction, Name, SplitName, Steps};

use super::{Contents, Edge, Need, Node, Part, Plan, PlanError, RunOf, transcribed};

/// One run's stages on their way into a plan.
pub(super) struct Expansion<'a> {
    setting: &'a Setting,
    run: RunOf,
    contents: &'a Contents,
    plan: &'a mut Plan,
    /// Stages so far.
    places: usize,
}

/// What the iterations before one came to.
#[derive(Default)]
struct Before {
    /// The node of each iteration's model.
    models: Vec<usize>,
    /// Steps of all of them.
    cumulative: u64,
    /// Steps since weights were last drawn at random.
    trained: u64,
}

/// What is told of a node beside the stage that it is.
#[derive(Default)]
struct Told {
    name: String,
    point: Option<Point>,
    continues: Option<usize>,
}

impl From<String> for Told {
    fn from(name: String) -> Self {
        Self { name, ..Self::default() }
    }
}

impl<'a> Expansion<'a> {
    pub fn new(setting: &'a Setting, run: RunOf, contents: &'a Contents, plan: &'a mut Plan) -> Self {
        Self { setting, run, contents, plan, places: 0 }
    }

    pub fn setting(&mut self) -> Result<(), PlanError> {
        let Setting { corpus, iterations, evaluation, probing, .. } = self.setting;
        if iterations.is_empty() && corpus.finetune.is_empty() && probing.codebooks.is_empty() {
            return Err(PlanError::Nothing);
        }
        if !iterations.is_empty() && corpus.pretrain.is_empty() {
            return Err(PlanError::NothingToPretrainOn);
        }
        let points = evaluation.points(iterations);
        let mut before = Before::default();
        for (index, iteration) in iterations.iter().enumerate() {
            let points: Vec<Point> = points.iter().filter(|point| point.iteration == index + 1).copied().collect();
            self.iteration(iteration, &points, &mut before)?;
        }
        if iterations.is_empty() {
            self.judge(None, None);
        }
        for codebook in probing.codebooks.iter().flat_map(Codebooks::each) {
            self.codebook(&codebook, &before)?;
        }
        Ok(())
    }

    /// Units, their quality, the model of an iteration, and what judges it at the points that lie within.
    fn iteration(&mut self, iteration: &Iteration, points: &[Point], before: &mut Before) -> Result<(), PlanError> {
        let Setting { corpus, model, .. } = self.setting;
        let number = before.models.len() + 1;
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
        let carries = iteration.carry.weights != CarriedWeights::None;
        let start = match before.models.last() {
            Some(&node) if carries => {
                inputs.push(Edge { role: Role::Start, node });
                Start::Warm { carry: iteration.carry.clone(), trained: before.trained }
            }
            _ => {
                before.trained = 0;
                Start::Random
            }
        };
        let whole = PretrainStage {
            network: model.clone(),
            pretraining: self.pretraining(iteration),
            targets: match &iteration.targets {
                Targets::Quantiser(quantiser) => PretrainTargets::Quantiser(quantiser.clone()),
                _ => PretrainTargets::Units(sets.iter().map(UnitTargets::clusters).collect()),
            },
            steps: iteration.steps,
            start,
            span: self.span(iteration, before.cumulative),
            train_on: corpus.pretrain.clone(),
            validate_on: corpus.validate.clone(),
        };
        let steps = u64::from(iteration.steps.get());
        let end = Point {
            cumulative: before.cumulative + steps,
            iteration: number,
            step: steps,
            ends_iteration: true,
            rate: if iteration.schedule.horizon == Horizon::Iteration { Rate::Annealed } else { Rate::Running },
        };
        let mut asked = points.to_vec();
        if !asked.iter().any(|point| point.ends_iteration) {
            asked.push(end);
        }
        let mut continues = None;
        for point in asked {
            let stage = PretrainStage { steps: within(point.step), ..whole.clone() };
            let name = match point.ends_iteration {
                true => format!("pretrain iteration {number}"),
                false => format!("pretrain iteration {number} to step {}", point.step),
            };
            let told = Told { name, point: Some(point), continues };
            let node = self.add(told, Stage::Pretrain(stage), inputs.clone());
            if points.contains(&point) {
                self.point(point, node, &whole, &inputs);
            }
            continues = Some(node);
        }
        before.models.extend(continues);
        before.cumulative += steps;
        before.trained += steps;
        Ok(())
    }

    /// Judges the model of a point, cooled down first where that is asked for.
    fn point(&mut self, point: Point, model: usize, whole: &PretrainStage, inputs: &[Edge]) {
        match self.setting.evaluation.cool_down {
            Some(steps) if point.rate == Rate::Running => {
                let stage = PretrainStage {
                    steps: within(point.step + u64::from(steps.get())),
                    span: Span { cool_down_after: Some(point.step), ..whole.span.clone() },
                    ..whole.clone()
                };
                let point = Point { rate: Rate::CooledDown, ..point };
                let name = format!("cool down at {}", point.cumulative);
                let told = Told { name, point: Some(point), continues: Some(model) };
                let branch = self.add(told, Stage::Pretrain(stage), inputs.to_vec());
                self.judge(Some(branch), Some(point));
            }
            _ => self.judge(Some(model), Some(point)),
        }
    }

    /// The pretraining of an iteration, with the learning rate that it says itself.
    fn pretraining(&self, iteration: &Iteration) -> Pretraining {
        let mut pretraining = self.setting.pretraining.clone();
        let schedule = &mut pretraining.schedule;
        schedule.peak = iteration.schedule.peak.unwrap_or(schedule.peak);
        schedule.warm_up = iteration.schedule.warm_up.unwrap_or(schedule.warm_up);
        pretraining
    }

    fn span(&self, iteration: &Iteration, before: u64) -> Span {
        let steps = |iteration: &Iteration| u64::from(iteration.steps.get());
        let (before, total) = match iteration.schedule.horizon {
            Horizon::Iteration => (0, steps(iteration)),
            Horizon::Whole => (before, self.setting.iterations.iter().map(steps).sum()),
        };
        Span { before, total, cool_down_after: None }
    }

    fn targets(&mut self, number: usize, targets: &UnitTargets, before: &Before) -> Result<Clustered, PlanError> {
        let source = match targets {
            UnitTargets::Mfcc(_) => Source::Features(UnitSource::Features(FeatureKind::Mfcc), FeatureKind::Mfcc),
            UnitTargets::LogMel(_) => Source::Features(UnitSource::Features(FeatureKind::LogMel), FeatureKind::LogMel),
            UnitTargets::MfccSubspace(of) => {
                Source::Features(UnitSource::MfccSubspace { order: of.order, splice: of.splice }, FeatureKind::Mfcc)
            }
            UnitTargets::Layer(of) => {
                let source = UnitSource::Layer { height: of.height, after_final_norm: of.after_final_norm };
                let pretrained = match (&of.of, of.of.iteration(number)) {
                    (Origin::Checkpoint(name), _) => self.checkpoint(name),
                    (_, Some(iteration)) => {
                        let (height, layers) = (of.height.get(), self.setting.model.encoder.layers.get());
                        if height > layers {
                            return Err(PlanError::NoSuchLayer { iteration: number, height, layers });
                        }
                        let model = iteration.checked_sub(1).and_then(|index| before.models.get(index));
                        *model.ok_or(PlanError::NothingToCluster(number))?
                    }
                    (_, None) => return Err(PlanError::NothingToCluster(number)),
                };
                Source::Layer { source, pretrained }
            }
        };
        Ok(Clustered { source, clusters: targets.clusters(), fit: targets.fit() })
    }

    fn checkpoint(&mut self, name: &Name) -> usize {
        let content = self.contents.checkpoints.get(name);
        let stage = content.map(|&content| Stage::Checkpoint(CheckpointStage { content }));
        self.insert("checkpoint/1", stage, Vec::new(), None, format!("checkpoint {name}").into())
    }

    /// The codebook that the network's front-end reads, where it reads one.
    fn input_units(&mut self) -> Option<Edge> {
        let FrontEnd::Units(units) = &self.setting.model.front_end else { return None };
        let source = Source::Features(UnitSource::Features(units.of), units.of);
        let clustered = Clustered { source, clusters: units.clusters, fit: units.fit };
        Some(Edge { role: Role::InputUnits, node: self.units("input", &clustered) })
    }

    fn units(&mut self, of: &str, targets: &Clustered) -> usize {
        let name = format!("units {of} ({}, {})", targets.source.unit_source(), targets.clusters.get());
        self.units_drawn(name, targets, self.run.seed)
    }

    fn units_drawn(&mut self, name: String, targets: &Clustered, seed: u64) -> usize {
        let Setting { corpus, clustering, .. } = self.setting;
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
        let stage = Stage::Units(stage);
        self.insert(stage.kind(), Some(stage), inputs, Some(seed), name.into())
    }

    fn unit_quality(&mut self, of: &str, targets: &Clustered, units: usize) {
        let Some(quality) = &self.setting.probing.unit_quality else { return };
        let mut inputs = vec![Edge { role: Role::Units, node: units }];
        for split in &quality.splits {
            inputs.push(self.corpus(split));
            inputs.push(self.alignments(split));
            inputs.extend(self.clustered(split, targets));
        }
        let stage = Stage::Probe(ProbeStage::UnitQuality(quality.clone()));
        self.add(format!("unit quality {of}"), stage, inputs);
    }

    /// Fits a codebook that nothing is trained on, and measures it.
    fn codebook(&mut self, codebook: &Codebook, before: &Before) -> Result<(), PlanError> {
        let targets = self.targets(before.models.len() + 1, &codebook.targets, before)?;
        let of = match &codebook.targets {
            UnitTargets::Layer(LayerTargets { of: Origin::Checkpoint(name), .. }) => format!(" of {name}"),
            UnitTargets::Layer(LayerTargets { of: Origin::Iteration(number), .. }) => {
                format!(" of iteration {}", number.get())
            }
            UnitTargets::Layer(LayerTargets { of: Origin::Previous, .. }) => {
                format!(" of iteration {}", before.models.len())
            }
            UnitTargets::Mfcc(_) | UnitTargets::LogMel(_) | UnitTargets::MfccSubspace(_) => String::new(),
        };
        let seed = codebook.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        let (source, clusters, fit) = (targets.source.unit_source(), targets.clusters.get(), targets.fit.get());
        let told = format!("{source}{of}, {clusters} clusters on {fit}{seed}");
        let units = self.units_drawn(format!("units of {told}"), &targets, codebook.seed.unwrap_or(self.run.seed));
        self.unit_quality(&format!("of {told}"), &targets, units);
        Ok(())
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

    /// Fine-tunes a model and decodes with it, where the corpus says on what. The last point has plain names.
    fn judge(&mut self, pretrained: Option<usize>, point: Option<Point>) {
        let Setting { corpus, model, iterations, finetuning, decoding, .. } = self.setting;
        if corpus.finetune.is_empty() {
            return;
        }
        let last = point.is_none_or(|point| point.iteration == iterations.len() && point.ends_iteration);
        let named = |what: String| match point {
            Some(point) if !last => format!("{what} at {}", point.cumulative),
            _ => what,
        };
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
        let told = |name| Told { name, point, continues: None };
        let finetuned = self.add(told(named("finetune".into())), Stage::Finetune(stage), inputs);
        for split in &corpus.test {
            let inputs = vec![Edge { role: Role::Finetuned, node: finetuned }, self.corpus(split)];
            let stage = DecodeStage { split: split.clone(), decoding: decoding.clone() };
            self.add(told(named(format!("decode {split}"))), Stage::Decode(stage), inputs);
        }
    }

    fn features(&mut self, split: &SplitName, kind: FeatureKind) -> Edge {
        let inputs = vec![self.corpus(split)];
        let stage = Stage::Features(FeaturesStage { kind });
        let node = self.add(format!("features {split} ({})", UnitSource::Features(kind)), stage, inputs);
        Edge { role: Role::Features(split.clone()), node }
    }

    fn corpus(&mut self, split: &SplitName) -> Edge {
        let corpus = &self.setting.corpus;
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
        let content = self.contents.splits.get(&(split.clone(), files));
        let stage = content.map(|&content| Stage::Corpus(CorpusStage { split: split.clone(), content, part }));
        self.insert("corpus/1", stage, inputs, None, name.into())
    }

    fn add(&mut self, told: impl Into<Told>, stage: Stage, inputs: Vec<Edge>) -> usize {
        let seed = stage.draws().then_some(self.run.seed);
        self.insert(stage.kind(), Some(stage), inputs, seed, told.into())
    }

    /// The index of an equal node that the plan has, or of a new one.
    fn insert(
        &mut self,
        kind: &'static str,
        stage: Option<Stage>,
        mut inputs: Vec<Edge>,
        seed: Option<u64>,
        told: Told,
    ) -> usize {
        inputs.sort();
        inputs.dedup();
        let Told { name, point, continues } = told;
        let nodes = &mut self.plan.nodes;
        // Equal stages are one, whatever they are to their runs; unknown ones are told apart by their names.
        let same =
            |n: &Node| n.stage == stage && n.inputs == inputs && n.seed == seed && (stage.is_some() || n.name == name);
        let index = nodes.iter().position(same).unwrap_or_else(|| {
            let read: Option<Vec<_>> =
                inputs.iter().map(|edge| nodes[edge.node].key.map(|key| (edge.role.clone(), key))).collect();
            let key = stage.as_ref().zip(read).map(|(stage, inputs)| stage.key(&inputs, seed));
            nodes.push(Node { name: name.clone(), kind, stage, inputs, seed, key, runs: Vec::new() });
            nodes.len() - 1
        });
        if !nodes[index].runs.iter().any(|need| need.run == self.run) {
            nodes[index].runs.push(Need { run: self.run, place: self.places, name, point, continues });
            self.places += 1;
        }
        index
    }
}

/// A number of steps that lies within those of an iteration and a branch, which its type holds.
fn within(steps: u64) -> Steps {
    Steps::try_from(steps).unwrap_or_else(|_| unreachable!("an iteration and a branch of {steps} steps"))
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
