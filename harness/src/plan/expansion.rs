//! One run on its way into a plan: a setting's iterations, points of evaluation and judgements as stages.

use std::collections::BTreeSet;

use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::experiment::Setting;
use reprise_spec::finetuning::Top;
use reprise_spec::probing::Codebooks;
use reprise_spec::stage::{FinetuneStage, PretrainStage, PretrainTargets, Role, Span, Stage, Start};
use reprise_spec::strategy::{CarriedWeights, Horizon, Iteration, Targets, UnitTargets};
use reprise_spec::training::Pretraining;
use reprise_spec::values::{SplitName, Steps};

use super::{Contents, Edge, Plan, PlanError, RunOf, transcribed};

mod decoding;
mod layers;
mod nodes;
mod units;

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
    /// The points whose layers were analysed, with the nodes of their models.
    analysed: Vec<(Point, usize)>,
}

/// The points within an iteration, ascending.
struct Points {
    /// Where its model is fine-tuned.
    judged: Vec<Point>,
    /// Where its layers are analysed.
    analysed: Vec<Point>,
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
        let [judged, analysed] = [evaluation.points(iterations), probing.points(iterations)];
        if !analysed.is_empty() {
            self.analyse_control();
        }
        let mut before = Before::default();
        for (index, iteration) in iterations.iter().enumerate() {
            let within =
                |points: &[Point]| points.iter().filter(|point| point.iteration == index + 1).copied().collect();
            let points = Points { judged: within(&judged), analysed: within(&analysed) };
            self.iteration(iteration, &points, &mut before)?;
        }
        if iterations.is_empty() {
            self.judge(None, None);
        }
        self.compare_steps(&before.analysed);
        for codebook in probing.codebooks.iter().flat_map(Codebooks::each) {
            self.codebook(&codebook, &before)?;
        }
        Ok(())
    }

    /// Units, their quality, the model of an iteration, and what looks at it at the points that lie within.
    fn iteration(&mut self, iteration: &Iteration, points: &Points, before: &mut Before) -> Result<(), PlanError> {
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
        let mut asked: BTreeSet<Point> = points.judged.iter().chain(&points.analysed).copied().collect();
        if !asked.iter().any(|point| point.ends_iteration) {
            asked.insert(end);
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
            if points.analysed.contains(&point) {
                self.analyse_point(point, node);
                before.analysed.push((point, node));
            }
            if points.judged.contains(&point) {
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

    /// Fine-tunes a model and decodes with it, where the corpus says on what; at the end of an iteration also without its top layers. The last
    /// point has plain names.
    fn judge(&mut self, pretrained: Option<usize>, point: Option<Point>) {
        if self.setting.corpus.finetune.is_empty() {
            return;
        }
        match point.is_some_and(|point| point.ends_iteration) {
            true => self.setting.finetuning.tops().into_iter().for_each(|top| self.finetune(pretrained, point, top)),
            false => self.finetune(pretrained, point, Top::Kept),
        }
    }

    fn finetune(&mut self, pretrained: Option<usize>, point: Option<Point>, top: Top) {
        let Setting { corpus, model, iterations, finetuning, .. } = self.setting;
        let last = point.is_none_or(|point| point.iteration == iterations.len() && point.ends_iteration);
        let named = |what: String| {
            let top = if top == Top::Kept { String::new() } else { format!(", {top}") };
            match point {
                Some(point) if !last => format!("{what} at {}{top}", point.cumulative),
                _ => what + &top,
            }
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
            finetuning: finetuning.alone(),
            top,
            train_on: corpus.finetune.clone(),
            validate_on: validate,
        };
        let told = |what: String| Told { name: named(what), point, continues: None };
        let finetuned = self.add(told("finetune".into()), Stage::Finetune(stage), inputs);
        self.decode(finetuned, told);
    }
}

/// A number of steps that lies within those of an iteration and a branch, which its type holds.
fn within(steps: u64) -> Steps {
    Steps::try_from(steps).unwrap_or_else(|_| unreachable!("an iteration and a branch of {steps} steps"))
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
