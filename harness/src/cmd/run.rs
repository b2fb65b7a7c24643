use std::path::PathBuf;

use reprise_spec::contract::Device;
use reprise_spec::experiment::Variant;
use serde_json::json;

use super::{Places, load, print, progress, show};
use crate::data::hashing;
use crate::execute::{self, Happening, Identity, Job, Machine, Outcome, Place};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::plan::RunOf;
use crate::provenance::Provenance;
use crate::results::Results;
use crate::store::{Means, Recipe, RunRecord, Store};

/// Execute an experiment: every stage whose result is not stored yet, for every variant and seed
///
/// A run that was stopped, killed or failed goes on where it was when the same command is given again; `reprise resume` does that without
/// the file. A stage that fails ends nothing but what depends on it.
#[derive(clap::Args)]
pub struct Args {
    /// The experiment file
    experiment: PathBuf,
    /// Only this variant; may be given several times
    #[arg(long = "variant", value_name = "NAME")]
    variants: Vec<String>,
    /// Where to compute: `cpu`, `cuda`, or `cuda:N`
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Threads inside one stage; part of what a result is recorded with, because bits depend on it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Threads that load audio while a stage trains; change no result
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    loader_threads: u32,
    /// Compute the layers of a network again in the backward pass instead of keeping what they computed (activation checkpointing): less
    /// memory, more time, the same result
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    jobs: SideBySide,
    /// Seconds between two checkpoints
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    checkpoint_every: u32,
    /// Read every file of the corpus again instead of trusting size and modification time
    #[arg(long)]
    verify_data: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn device(text: &str) -> Result<Device, String> {
    match text.split_once(':') {
        None if text == "cpu" => Ok(Device::Cpu),
        None if text == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", index)) => {
            index.parse().map(Device::Cuda).map_err(|_| format!("{index:?} is not the number of a device"))
        }
        _ => Err("use cpu, cuda, or cuda:N".into()),
    }
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let resolved = load::read(&args.experiment)?;
    let experiment = &resolved.experiment;
    let mut bar = progress::hashing();
    let files = load::survey(experiment, &args.experiment, places, args.verify_data, &mut |state| bar.show(state))?;
    let corpus = files.complete()?;
    let plan = load::plan(experiment, &files)?;
    let store = load::store(places, Some(&args.experiment))?;
    let machine = Machine {
        trainer: execute::find_trainer()?,
        means: Means {
            device: args.device,
            threads: args.threads,
            loader_threads: args.loader_threads,
            recompute: args.recompute,
            checkpoint_seconds: args.checkpoint_every,
        },
        cache: hashing::cache_folder(),
        verify_data: args.verify_data,
    };
    let recipe = Recipe::new(experiment.clone(), &args.experiment, Some(corpus));
    let text = load::texts(&resolved);
    let (many, several) = (experiment.seeds.len() > 1, experiment.variants.len() > 1);
    let job = |(place, variant): (usize, &Variant), seed: u64| Job {
        label: [(several, variant.name.clone()), (many, format!("seed {seed}"))]
            .into_iter()
            .filter_map(|(told, part)| told.then_some(part))
            .collect::<Vec<_>>()
            .join(", "),
        recipe: &recipe,
        text: &text,
        identity: Identity::of(experiment, variant),
        plan: &plan,
        run: RunOf { variant: place, seed },
        corpus: &files,
        store: &store,
        provenance: Provenance::of(&args.experiment),
        machine: machine.clone(),
        resume: None,
    };
    let variants = load::chosen(experiment, &args.variants)?;
    let jobs: Vec<Job<'_>> = experiment
        .seeds
        .iter()
        .flat_map(|&seed| variants.iter().map(move |&variant| (variant, seed)))
        .map(|(variant, seed)| job(variant, seed))
        .collect();
    follow(&jobs, args.jobs.at_once, args.json)
}

/// How many stages execute at a time, for every verb that executes runs.
#[derive(clap::Args)]
pub(super) struct SideBySide {
    /// Stages that may execute side by side; changes neither the threads of a stage nor any result
    #[arg(long = "jobs", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub at_once: u32,
}

/// Executes the jobs, shows what happens, and prints the results of each run as it ends; as JSON all together.
pub(super) fn follow(jobs: &[Job<'_>], at_once: u32, json: bool) -> Result<Exit, Failure> {
    let Some(store) = jobs.first().map(|job| job.store) else { return Ok(Exit::Fine) };
    let outcomes = execute_shown(jobs, at_once, |outcome| {
        if let Outcome::Unchanged(record) = outcome {
            print::message(format!("nothing to execute: run {} has every result", record.id));
        }
        if !json {
            print_results(outcome.record(), store);
        }
    })?;
    if json {
        let entry = |record| json!({ "record": record, "results": Results::of(record, store) });
        print::json(&outcomes.iter().map(Outcome::record).map(entry).collect::<Vec<_>>());
    }
    Ok(Exit::Fine)
}

/// Executes the jobs and shows what happens; `ended` is told of each run that ended well, when it does.
pub(super) fn execute_shown(
    jobs: &[Job<'_>],
    at_once: u32,
    mut ended: impl FnMut(&Outcome) + Send,
) -> Result<Vec<Outcome>, Failure> {
    let interrupt = Interrupt::install()
        .map_err(|error| Failure::new(Exit::Bug, format!("cannot handle signals: {error}"), None))?;
    let mut display = progress::Display::default();
    let mut observe = |place: Option<Place<'_>>, happening: Happening<'_>| match happening {
        Happening::Ended(outcome) => display.suspend(|| ended(outcome)),
        happening => display.show_at(place, happening),
    };
    let outcomes = execute::execute(jobs, at_once as usize, &interrupt, &mut observe);
    display.clear();
    Ok(outcomes?)
}

fn print_results(record: &RunRecord, store: &Store) {
    print::line(format!("\nrun {}  {}", record.id, record.title()));
    print::line(show::tables(&Results::of(record, store)));
    print::message(format!("\n`reprise show {}` shows its stages; they are in {}", record.id, store.root().display()));
}
