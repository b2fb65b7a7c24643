//! Watches a training for what its guards name, and says what is to be done.
//!
//! All that a judgement depends on lies in [`Watch`], which is part of the training state: a run that was stopped and continued judges alike.

use std::collections::{BTreeMap, VecDeque};

use reprise_spec::contract::{Level, Score};
use reprise_spec::guards::{Guards, StateResponse, StepGuards, StepResponse};
use reprise_spec::values::Factor;
use serde::{Deserialize, Serialize};

use crate::failure::StageError;
use crate::report::Reporter;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    NonFinite,
    Exploding,
    DeadCodebook,
    Collapse,
}

impl Guard {
    /// Its word in the experiment language.
    pub fn word(self) -> &'static str {
        match self {
            Self::NonFinite => "non-finite",
            Self::Exploding => "exploding",
            Self::DeadCodebook => "dead-codebook",
            Self::Collapse => "collapse",
        }
    }
}

/// What a guard found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub guard: Guard,
    /// Values and what they were compared with.
    pub reason: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Good,
    /// Training goes on, and a step moves nothing.
    Answered(Vec<Finding>),
    /// Training ends here; the watch is as it was before.
    Stop(Finding),
}

/// What guards have seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// What the learning rate of the schedule is multiplied by.
    rate: f64,
    /// Of the last good steps, the oldest first.
    norms: VecDeque<f64>,
    bad_steps: u32,
    dead: u32,
    collapsed: u32,
    good_until: u64,
    answered: BTreeMap<Guard, u64>,
}

impl Default for Watch {
    fn default() -> Self {
        let (norms, answered) = Default::default();
        Self { rate: 1.0, norms, bad_steps: 0, dead: 0, collapsed: 0, good_until: 0, answered }
    }
}

/// What a validation tells of a model's health.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    pub loss: f64,
    /// Units or entries in use in effect, from 1.
    pub in_use: f64,
    /// Standard deviation of the output's frames as a share of their root mean square.
    pub spread: f64,
}

impl Watch {
    /// What the learning rate of the schedule is multiplied by: 1 until a guard lowers it.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The last step whose validation showed nothing bad.
    pub fn good_until(&self) -> u64 {
        self.good_until
    }

    /// Forgets norms that are of other parameters than those to come.
    pub fn forget_norms(&mut self) {
        self.norms.clear();
    }

    /// Judges a step by its loss and by the norm of its gradient before clipping.
    pub fn step(&mut self, guards: &StepGuards, loss: f64, norm: f64) -> Verdict {
        let over = guards.exploding.over.get() as usize;
        let mean = self.norms.iter().sum::<f64>() / self.norms.len().max(1) as f64;
        let (guard, then, reason) = if !loss.is_finite() || !norm.is_finite() {
            (Guard::NonFinite, guards.non_finite, format!("the loss is {loss}, the norm of the gradient {norm}"))
        } else if self.norms.len() >= over && mean > 0.0 && norm > guards.exploding.factor.get() * mean {
            let times = norm / mean;
            let reason = format!(
                "the norm of the gradient is {norm:.4e}, {times:.1} times its mean over {over} steps of {mean:.4e}"
            );
            (Guard::Exploding, guards.exploding.then, reason)
        } else {
            self.bad_steps = 0;
            self.norms.push_back(norm);
            self.norms.drain(..self.norms.len().saturating_sub(over));
            return Verdict::Good;
        };
        if self.bad_steps >= guards.in_a_row.get() {
            let reason = format!("{reason}, and the {} steps before it were bad too", self.bad_steps);
            return Verdict::Stop(Finding { guard, reason });
        }
        let finding = match then {
            StepResponse::Stop => return Verdict::Stop(Finding { guard, reason }),
            StepResponse::SkipStep => Finding { guard, reason: format!("{reason}: nothing is moved") },
            StepResponse::LowerRate(by) => {
                let lowered = self.lower(by);
                Finding { guard, reason: format!("{reason}: nothing is moved, and {lowered}") }
            }
        };
        self.bad_steps += 1;
        self.count(guard);
        Verdict::Answered(vec![finding])
    }

    /// Judges a validation after `step`; before the warm-up's end nothing but numbers that aren't finite counts.
    pub fn validation(&mut self, guards: &Guards, step: u64, warm: bool, health: Health) -> Verdict {
        let Health { loss, in_use, spread } = health;
        if ![loss, in_use, spread].iter().all(|value| value.is_finite()) {
            let reason = format!("the validation loss is {loss}, units in use {in_use}, the spread of frames {spread}");
            return Verdict::Stop(Finding { guard: Guard::NonFinite, reason });
        }
        let (dead, collapse) = (&guards.dead_codebook, &guards.collapse);
        let mut after = self.clone();
        let mut findings = Vec::new();
        for (guard, bad, patience, then, reason) in [
            (
                Guard::DeadCodebook,
                in_use < dead.perplexity.get(),
                dead.patience,
                dead.then,
                format!("masked frames are given {in_use:.4} units in effect, less than {}", dead.perplexity.get()),
            ),
            (
                Guard::Collapse,
                spread < collapse.spread.get(),
                collapse.patience,
                collapse.then,
                format!("frames spread by {spread:.3e} of their size, less than {}", collapse.spread.get()),
            ),
        ] {
            let patience = patience.get();
            let row = after.row(guard);
            *row = if bad && warm { *row + 1 } else { 0 };
            if *row < patience {
                continue;
            }
            *row = 0;
            let reason = format!("{reason}, at {patience} validations in a row");
            let reason = match then {
                StateResponse::Stop => return Verdict::Stop(Finding { guard, reason }),
                StateResponse::Warn => reason,
                StateResponse::LowerRate(by) => format!("{reason}: {}", after.lower(by)),
            };
            after.count(guard);
            findings.push(Finding { guard, reason });
        }
        if findings.is_empty() && after.dead == 0 && after.collapsed == 0 {
            after.good_until = step;
        }
        *self = after;
        if findings.is_empty() { Verdict::Good } else { Verdict::Answered(findings) }
    }

    /// Says and logs what was answered at `step`.
    pub fn tell(&self, findings: &[Finding], step: u64, report: &mut Reporter) -> Result<(), StageError> {
        for Finding { guard, reason } in findings {
            report.say(Level::Warning, format!("step {step}: {reason}"));
            let times = self.answered.get(guard).copied().unwrap_or(0);
            report.metric(&format!("guard-{}", guard.word()), step, times as f64)?;
        }
        Ok(())
    }

    /// How often each guard was answered; those that never were are left out.
    pub fn scores(&self) -> impl Iterator<Item = Score> {
        self.answered.iter().map(|(guard, &times)| Score {
            name: format!("guard-{}", guard.word()),
            value: times as f64,
            interval: None,
        })
    }

    fn row(&mut self, guard: Guard) -> &mut u32 {
        match guard {
            Guard::DeadCodebook => &mut self.dead,
            Guard::Collapse => &mut self.collapsed,
            Guard::NonFinite | Guard::Exploding => &mut self.bad_steps,
        }
    }

    fn count(&mut self, guard: Guard) {
        *self.answered.entry(guard).or_default() += 1;
    }

    fn lower(&mut self, by: Factor) -> String {
        self.rate *= by.get();
        format!("the learning rate is {:.3e} times the schedule's from now on", self.rate)
    }
}

impl Finding {
    /// What a stage that ends at `step` says; `section` is where its settings stand, `so_far` how training went, and `left` what is on disk.
    pub fn diagnosis(&self, section: &str, step: u64, so_far: &str, left: &str) -> String {
        let Self { guard, reason } = self;
        let word = guard.word();
        let advice = match guard {
            Guard::NonFinite | Guard::Exploding => format!(
                "lower `{section}.schedule.peak`, lengthen its warm-up, clip gradients with `{section}.optimiser.clip`, or say what \
                 `{section}.guards.{word}` does instead of stopping"
            ),
            Guard::DeadCodebook | Guard::Collapse => format!(
                "lower `{section}.schedule.peak`, lengthen its warm-up, look at what is predicted, or let `{section}.guards.{word}` \
                 warn only"
            ),
        };
        format!("training went wrong at step {step}: {reason}, {so_far}. To go on, {advice}. {left}")
    }
}

#[cfg(test)]
mod tests;
