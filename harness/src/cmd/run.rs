use std::path::PathBuf;

use reprise_spec::contract::Device;
use serde_json::json;

use super::{Places, load, print, progress, show};
use crate::data::hashing;
use crate::execute::{self, Identity, Job, Machine, Outcome};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::provenance::Provenance;
use crate::results::Results;

/// Execute an experiment: every stage whose result is not stored yet, for every seed
///
/// A run that was stopped, killed or failed goes on where it was when the same command is given again.
#[derive(clap::Args)]
pub struct Args {
    /// The experiment file
    experiment: PathBuf,
    /// Where to compute: `cpu`, `cuda`, or `cuda:N`
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Threads inside one stage; part of what a result is recorded with, because bits depend on it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
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
    files.located()?;
    let plan = load::plan(experiment, &files)?;
    let store = load::store(places, Some(&args.experiment))?;
    let machine = Machine {
        trainer: execute::find_trainer()?,
        device: args.device,
        threads: args.threads,
        checkpoint_seconds: args.checkpoint_every,
        cache: hashing::cache_folder(),
        verify_data: args.verify_data,
    };
    let identity = Identity {
        spec: experiment.spec_hash(),
        variant: experiment.variant_hash(),
        canonical: experiment.meaning().to_bytes(),
    };
    let text = load::texts(&resolved);
    let interrupt = Interrupt::install()
        .map_err(|error| Failure::new(Exit::Bug, format!("cannot handle signals: {error}"), None))?;
    let mut finished = Vec::new();
    for &seed in &experiment.seeds {
        let job = Job {
            experiment: experiment.name.as_str(),
            text: &text,
            identity: identity.clone(),
            plan: &plan,
            seed,
            corpus: &files,
            store: &store,
            provenance: Provenance::of(&args.experiment),
            machine: machine.clone(),
        };
        let mut display = progress::Display::default();
        let outcome = execute::execute(&job, &interrupt, &mut |happening| display.show(happening));
        display.clear();
        let record = match outcome? {
            Outcome::Finished(record) => record,
            Outcome::Unchanged(record) => {
                eprintln!("nothing to execute: run {} has every result", record.id);
                record
            }
        };
        let results = Results::of(&record, &store);
        if !args.json {
            print::line(format!("\nrun {}  {}  seed {seed}", record.id, record.experiment));
            print::line(show::tables(&results));
            eprintln!("\n`reprise show {}` shows its stages; they are in {}", record.id, store.root().display());
        }
        finished.push(json!({ "record": record, "results": results }));
    }
    if args.json {
        print::json(&finished);
    }
    Ok(Exit::Fine)
}
