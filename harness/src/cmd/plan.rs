use std::path::PathBuf;

use serde_json::json;

use super::{Places, load, print, progress};
use crate::exit::{Exit, Failure};
use crate::outlook::{self, Outlook};

/// Show the stages that an experiment needs, and which of them would execute
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
        print::json(&json!({
            "experiment": experiment.name,
            "spec": experiment.spec_hash().to_string(),
            "variant": experiment.variant_hash().to_string(),
            "stages": nodes,
            "to-execute": executed,
        }));
        return Ok(Exit::Fine);
    }
    print::line(format!(
        "{}  spec:{}  variant:{}",
        experiment.name,
        experiment.spec_hash().short(),
        experiment.variant_hash().short()
    ));
    let many = experiment.seeds.len() > 1;
    let rows = plan
        .nodes
        .iter()
        .zip(&outlooks)
        .enumerate()
        .map(|(index, (node, outlook))| {
            let inputs: Vec<String> = node.inputs.iter().map(|edge| (edge.node + 1).to_string()).collect();
            let seed = node.seed.map_or(String::new(), |seed| seed.to_string());
            let mut row = vec![
                (index + 1).to_string(),
                node.name.clone(),
                seed,
                inputs.join(" "),
                node.key.map_or("unknown".into(), |key| key.short()),
                outlook.to_string(),
            ];
            if !many {
                row.remove(2);
            }
            row
        })
        .collect();
    let header: &[&str] = if many {
        &["#", "stage", "seed", "reads", "key", "outlook"]
    } else {
        &["#", "stage", "reads", "key", "outlook"]
    };
    print::line(print::table(header, &[0], rows));
    print::line(format!("{} stages, {executed} to execute", plan.nodes.len()));
    if files.located().is_err() {
        eprintln!("corpus {} was not found: pass --data DIR to run", experiment.corpus.name);
    }
    Ok(Exit::Fine)
}
