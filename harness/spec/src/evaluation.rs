//! `evaluation`: at which points of pretraining a model is judged.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::strategy::{Horizon, Iteration};
use crate::values::{Count, Steps};

/// The points of pretraining at which the model is fine-tuned and decoded: the last step, and what is asked for here. Steps are cumulative
/// over iterations. Adding a point leaves every trained thing what it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Evaluation {
    /// A grid: a point each time that so many steps have been made.
    pub every: Option<Count>,
    /// Further points.
    pub at: Vec<Steps>,
    /// Whether the end of every iteration is a point.
    pub iteration_ends: bool,
    /// Steps of a branch that is trained from each point that lies in mid-schedule, with the learning rate falling to zero; the branch is
    /// fine-tuned in place of the model at the point. Without it such a point is marked, because an annealed model and one that isn't
    /// don't compare.
    pub cool_down: Option<Count>,
}

/// Where in pretraining a model is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Point {
    /// Steps of all iterations up to here.
    pub cumulative: u64,
    /// The iteration, counted from 1.
    pub iteration: usize,
    /// Steps within it.
    pub step: u64,
    /// Whether the iteration ends here.
    pub ends_iteration: bool,
    pub rate: Rate,
}

/// What has become of the learning rate at a point. Models of different states don't compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// It has fallen to zero, as the iteration's schedule has it.
    Annealed,
    /// It has fallen to zero in a branch from the point.
    CooledDown,
    /// It is somewhere in its schedule.
    Running,
}

impl Evaluation {
    /// The points of these iterations in ascending order, the last step being the last.
    pub fn points(&self, iterations: &[Iteration]) -> Vec<Point> {
        let total: u64 = iterations.iter().map(|iteration| u64::from(iteration.steps.get())).sum();
        let every = self.every.map_or(u64::MAX, |every| u64::from(every.get()));
        let grid = (1..=total / every).map(|point| point * every);
        let at = self.at.iter().map(|at| u64::from(at.get()));
        let asked: BTreeSet<u64> = grid.chain(at).collect();
        let (mut before, mut points) = (0, Vec::new());
        for (index, iteration) in iterations.iter().enumerate() {
            let end = before + u64::from(iteration.steps.get());
            let within = asked.range(before + 1..end).copied();
            let ends = self.iteration_ends || end == total || asked.contains(&end);
            points.extend(within.chain(ends.then_some(end)).map(|cumulative| Point {
                cumulative,
                iteration: index + 1,
                step: cumulative - before,
                ends_iteration: cumulative == end,
                rate: match cumulative == end && (iteration.schedule.horizon == Horizon::Iteration || end == total) {
                    true => Rate::Annealed,
                    false => Rate::Running,
                },
            }));
            before = end;
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::count;

    #[test]
    fn points_lie_on_the_grid_at_the_ends_and_where_they_are_asked_for() {
        let iteration = |steps: u64, horizon: &str| {
            let targets = json!({ "mfcc": { "clusters": 10 } });
            serde_json::from_value(json!({ "targets": targets, "steps": steps, "schedule": { "horizon": horizon } }))
                .unwrap()
        };
        let iterations: Vec<Iteration> = vec![iteration(250, "iteration"), iteration(400, "whole")];
        let points = |evaluation: serde_json::Value| -> Vec<String> {
            let evaluation: Evaluation = serde_json::from_value(evaluation).unwrap();
            let told = |point: Point| {
                let Point { cumulative, iteration, step, ends_iteration, rate } = point;
                let marks = [(ends_iteration, " end"), (rate == Rate::Annealed, " annealed")];
                let marks: String = marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| *mark).collect();
                format!("{cumulative}: {iteration}/{step}{marks}")
            };
            evaluation.points(&iterations).into_iter().map(told).collect()
        };
        assert_eq!(points(json!({})), ["650: 2/400 end annealed"]);
        assert_eq!(points(json!({ "iteration-ends": true })), ["250: 1/250 end annealed", "650: 2/400 end annealed"]);
        let grid = ["160: 1/160", "320: 2/70", "480: 2/230", "640: 2/390", "650: 2/400 end annealed"];
        assert_eq!(points(json!({ "every": 160 })), grid);
        assert_eq!(
            points(json!({ "at": [250, 1000, 0, 1] })),
            ["1: 1/1", "250: 1/250 end annealed", "650: 2/400 end annealed"]
        );
        let evaluation = Evaluation { every: Some(count(10)), ..Evaluation::default() };
        assert_eq!(evaluation.points(&[]), []);
    }
}
