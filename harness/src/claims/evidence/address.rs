//! Where the number of a quantity stands in a run: the names that the plan gives stages, and stages their scores.

use reprise_spec::claims::{Errors, What};
use reprise_spec::experiment::Setting;
use reprise_spec::finetuning::Top;

use crate::measures::Address;

/// Steps of all iterations.
pub fn total(setting: &Setting) -> u64 {
    setting.iterations.iter().map(|iteration| u64::from(iteration.steps.get())).sum()
}

/// The address of a single number; `None` for what is made of several.
pub fn of(what: &What, setting: &Setting) -> Option<Address> {
    Some(match what {
        What::Errors { of, at } => errors(of, *at, setting),
        What::Units { score, iteration } => Address::new(format!("unit quality iteration {iteration}"), score.word()),
        What::MaskedAccuracy { iteration } => {
            Address::new(format!("pretrain iteration {iteration}"), "masked-accuracy")
        }
        What::Layer { metric, layer, at } => {
            // Of what compares layers with each other, the number with the input.
            let other = if metric == "cka" { ":0" } else { "" };
            Address::new(staged("layers", *at, setting), format!("{metric}@{layer}{other}"))
        }
        What::Curve { summary, metric, at } => {
            Address::new(staged("layers", *at, setting), format!("{metric}-{}", summary.word()))
        }
        What::Metric { stage, metric } => Address::new(stage, metric),
        What::Total(_) | What::Reach { .. } => return None,
    })
}

/// The last iteration whose model a quantity is of, where its words say so.
pub fn iteration(what: &What) -> Option<usize> {
    match what {
        // The units of an iteration are clusters of the model before it.
        What::Units { iteration, .. } => Some(*iteration as usize - 1),
        What::MaskedAccuracy { iteration } => Some(*iteration as usize),
        _ => None,
    }
}

/// The addresses of an error rate at every point of pretraining, with the cumulative steps, ascending.
pub fn on_the_way(of: &Errors, setting: &Setting) -> Vec<(u64, Address)> {
    let points = setting.evaluation.points(&setting.iterations);
    let fit = points.iter().filter(|point| of.top == Top::Kept || point.ends_iteration);
    fit.map(|point| (point.cumulative, errors(of, Some(point.cumulative), setting))).collect()
}

fn errors(of: &Errors, at: Option<u64>, setting: &Setting) -> Address {
    let top = if of.top == Top::Kept { String::new() } else { format!(", {}", of.top) };
    Address::new(staged(&format!("decode {}", of.split), at, setting) + &top, of.rate.word())
}

/// A stage at a point; at the last one it has a plain name.
fn staged(name: &str, at: Option<u64>, setting: &Setting) -> String {
    match at {
        Some(steps) if steps != total(setting) => format!("{name} at {steps}"),
        _ => name.to_owned(),
    }
}
