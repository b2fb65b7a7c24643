use serde_json::json;

use super::{Places, load, print};
use crate::exit::{Exit, Failure};

/// List the runs of the store, newest first
#[derive(clap::Args)]
pub struct Args {
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let runs = load::store(places, None)?.runs()?;
    if args.json {
        let entries: Vec<_> = runs
            .iter()
            .map(|run| match &run.record {
                Ok(record) => json!({ "id": run.id, "status": run.seen(), "record": record }),
                Err(damage) => json!({ "id": run.id, "status": run.seen(), "damage": damage }),
            })
            .collect();
        print::json(&entries);
        return Ok(Exit::Fine);
    }
    if runs.is_empty() {
        print::message("no runs yet: `reprise run EXPERIMENT` makes one");
        return Ok(Exit::Fine);
    }
    let rows = runs
        .iter()
        .map(|run| match &run.record {
            Ok(record) => {
                let done = record.stages.iter().filter(|stage| stage.state.digest().is_some()).count();
                vec![
                    run.id.clone(),
                    record.experiment.clone(),
                    record.variant_name.clone(),
                    record.seed.to_string(),
                    print::word(&run.seen()),
                    format!("{done}/{}", record.stages.len()),
                    record.seconds().map_or("-".into(), print::duration),
                    record.variant.short(),
                ]
            }
            Err(damage) => {
                vec![run.id.clone(), format!("({damage})"), String::new(), String::new(), print::word(&run.seen())]
            }
        })
        .collect();
    print::line(print::table(
        &["run", "experiment", "variant", "seed", "status", "stages", "took", "identity"],
        &[3, 5, 6],
        rows,
    ));
    Ok(Exit::Fine)
}
