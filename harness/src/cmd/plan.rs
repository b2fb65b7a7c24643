use std::path::PathBuf;

use reprise_spec::experiment::Experiment;
use serde_json::json;

use super::{Places, load, print, progress};
use crate::estimate;
use crate::exit::{Exit, Failure};
use crate::outlook::{self, Outlook};

mod costs;
mod stages;
mod strategies;

/// Show the iterations that an experiment's strategies stand for, the stages that it needs, which of them would execute, and about what they cost
///
/// Works without the corpus: keys of stages that depend on files that are nowhere to be found are unknown then.
#[derive(clap::Args)]
pub struct Args {
    /// The experiment file
    experiment: PathBuf,
    /// Only this variant; may be given several times
    #[arg(long = "variant", value_name = "NAME")]
    variants: Vec<String>,
    /// Sustained operations a second of one GPU, in 10¹², with which its hours are estimated
    #[arg(long, default_value_t = costs::TFLOPS, value_name = "N", value_parser = throughput)]
    tflops: f64,
    /// Print the graph as JSON
    #[arg(long)]
    json: bool,
}

fn throughput(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (1e-6..=1e9).contains(&value) => Ok(value),
        _ => Err("use a number above 0, such as 40".into()),
    }
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let whole = load::read(&args.experiment)?.experiment;
    let variants = load::chosen(&whole, &args.variants)?.into_iter().map(|(_, variant)| variant.clone()).collect();
    let experiment = Experiment { variants, ..whole.clone() };
    let mut bar = progress::hashing();
    let files = load::survey(&experiment, &args.experiment, places, false, &mut |state| bar.show(state))?;
    let plan = load::plan(&experiment, &files)?;
    let store = load::store(places, Some(&args.experiment))?;
    let outlooks = outlook::of(&plan, &store);
    let executed = outlooks.iter().filter(|outlook| !matches!(outlook, Outlook::Stored { .. })).count();
    let estimates = estimate::of(&plan, &outlooks, &store);
    let costs = costs::Costs { plan: &plan, outlooks: &outlooks, estimates: &estimates, tflops: args.tflops };
    if args.json {
        let nodes: Vec<_> = plan
            .nodes
            .iter()
            .zip(&outlooks)
            .zip(&estimates)
            .map(|((node, outlook), estimate)| json!({ "node": node, "outlook": outlook, "estimate": estimate }))
            .collect();
        let variants: Vec<_> = experiment
            .variants
            .iter()
            .map(|variant| {
                let (hash, setting) = (variant.setting.hash().to_string(), &variant.setting);
                json!({
                    "name": variant.name,
                    "aliases": variant.aliases,
                    "variant": hash,
                    "strategy": variant.strategy,
                    "reconstruction": variant.reconstruction,
                    "iterations": setting.iterations,
                    "points": setting.evaluation.points(&setting.iterations),
                })
            })
            .collect();
        print::json(&json!({
            "experiment": experiment.name,
            "spec": whole.spec_hash().to_string(),
            "claims": whole.claims,
            "variants": variants,
            "stages": nodes,
            "to-execute": executed,
            "estimate": costs.json(),
        }));
        return Ok(Exit::Fine);
    }
    print::line(format!("{}  spec:{}{}", experiment.name, whole.spec_hash().short(), print::claims(&whole)));
    print::line(format!("\n{}", strategies::shown(&experiment)));
    print::line(format!("\n{}", stages::shown(&experiment, &plan, &outlooks)));
    let runs = experiment.variants.len() * experiment.seeds.len();
    print::line(format!(
        "{} stages for {runs} {}, {executed} to execute",
        plan.nodes.len(),
        if runs == 1 { "run" } else { "runs" }
    ));
    print::line(format!("\n{}", costs.shown()));
    if let Err(missing) = files.complete() {
        print::message(missing.to_string());
    }
    Ok(Exit::Fine)
}
