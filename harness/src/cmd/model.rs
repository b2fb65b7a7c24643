//! What verbs that take a model share: which one, and asking the trainer for work beside stages.

use std::path::Path;

use reprise_spec::contract::{Device, Score, Tool};

use super::progress;
use crate::execute::{self, Machine};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::named::Which;
use crate::store::Means;

/// Which of a run's models is meant.
#[derive(clap::Args)]
pub struct Choice {
    /// Which iteration of a run [default: the last; the fine-tuned model where nothing was pretrained]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "fine_tuned")]
    iteration: Option<u32>,
    /// The fine-tuned model of a run
    #[arg(long)]
    fine_tuned: bool,
}

impl From<Choice> for Which {
    fn from(choice: Choice) -> Self {
        match (choice.iteration, choice.fine_tuned) {
            (Some(number), _) => Self::Iteration(number),
            (None, true) => Self::FineTuned,
            (None, false) => Self::Last,
        }
    }
}

/// What the trainer is started with for work beside stages.
pub fn machine(device: Device, threads: u32) -> Result<Machine, Failure> {
    let trainer = execute::find_trainer()?;
    let means = Means { device, threads, ..Means::default() };
    Ok(Machine { trainer, means, cache: None, verify_data: false })
}

/// Has the trainer do `tool`, shown under `name`; request and log lie in `work`, if any.
pub fn use_tool(name: &str, tool: Tool, machine: &Machine, work: Option<&Path>) -> Result<Vec<Score>, Failure> {
    let interrupt = Interrupt::install()
        .map_err(|error| Failure::new(Exit::Bug, format!("cannot handle signals: {error}"), None))?;
    let mut display = progress::Display::of(name);
    let outcome = execute::run_tool(machine, tool, work, &interrupt, &mut |happening| display.show(happening));
    display.clear();
    Ok(outcome?)
}
