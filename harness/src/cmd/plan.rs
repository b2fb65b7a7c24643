use std::collections::BTreeSet;
use std::path::PathBuf;

use reprise_spec::experiment::Experiment;
use serde_json::json;

use super::{Places, load, print, progress};
use crate::exit::{Exit, Failure};
use crate::outlook::{self, Outlook};
use crate::plan::{Node, Plan};

mod strategies;

/// Show the iterations that an experiment's strategies stand for, the stages that it needs, and which of them would execute
///
/// Works without the corpus: keys of stages that depend on files that are nowhere to be found are unknown then.
#[derive(clap::Args)]
pub struct Args {
    /// The experiment file
    experiment: PathBuf,
    /// Print the graph as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let experiment = load::read(&args.experiment)?.experiment;
    let mut bar = progress::hashing();
    let files = load::survey(&experiment, &args.experiment, places, false, &mut |state| bar.show(state))?;
    let plan = load::plan(&experiment, &files)?;
    let store = load::store(places, Some(&args.experiment))?;
    let outlooks = outlook::of(&plan, &store);
    let executed = outlooks.iter().filter(|outlook| !matches!(outlook, Outlook::Stored { .. })).count();
    if args.json {
        let nodes: Vec<_> = plan
            .nodes
            .iter()
            .zip(&outlooks)
            .map(|(node, outlook)| json!({ "node": node, "outlook": outlook }))
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
            "spec": experiment.spec_hash().to_string(),
            "variants": variants,
            "stages": nodes,
            "to-execute": executed,
        }));
        return Ok(Exit::Fine);
    }
    print::line(format!("{}  spec:{}", experiment.name, experiment.spec_hash().short()));
    print::line(format!("\n{}", strategies::shown(&experiment)));
    print::line(format!("\n{}", stages(&experiment, &plan, &outlooks)));
    let runs = experiment.variants.len() * experiment.seeds.len();
    print::line(format!("{} stages for {runs} {}, {executed} to execute", plan.nodes.len(), if runs == 1 { "run" } else { "runs" }));
    if let Err(missing) = files.complete() {
        eprintln!("{missing}");
    }
    Ok(Exit::Fine)
}

fn stages(experiment: &Experiment, plan: &Plan, outlooks: &[Outlook]) -> String {
    let (many, several) = (experiment.seeds.len() > 1, experiment.variants.len() > 1);
    let mut header = vec!["#", "stage"];
    header.extend(several.then_some("of"));
    header.extend(many.then_some("seed"));
    header.extend(["reads", "key", "outlook"]);
    let rows = plan
        .nodes
        .iter()
        .zip(outlooks)
        .enumerate()
        .map(|(index, (node, outlook))| {
            let inputs: Vec<String> = node.inputs.iter().map(|edge| (edge.node + 1).to_string()).collect();
            let mut row = vec![(index + 1).to_string(), node.name.clone()];
            row.extend(several.then(|| variants_of(node, experiment)));
            row.extend(many.then(|| node.seed.map_or(String::new(), |seed| seed.to_string())));
            row.push(inputs.join(" "));
            row.push(node.key.map_or("unknown".into(), |key| key.short()));
            row.push(outlook.to_string());
            row
        })
        .collect();
    print::table(&header, &[0], rows)
}

/// The variants that need a stage.
fn variants_of(node: &Node, experiment: &Experiment) -> String {
    let needing: BTreeSet<usize> = node.runs.iter().map(|need| need.run.variant).collect();
    match needing.len() == experiment.variants.len() {
        true => "all".into(),
        false => needing.iter().map(|&at| experiment.variants[at].name.as_str()).collect::<Vec<_>>().join(", "),
    }
}
