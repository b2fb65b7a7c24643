use std::path::PathBuf;

use serde_json::json;

use super::{load, print};
use crate::exit::{Exit, Failure};

/// Check experiment files, and say everything that is wrong with them
///
/// Exits 2 when a file is not valid.
#[derive(clap::Args)]
pub struct Args {
    /// Experiment files
    #[arg(required = true, value_name = "EXPERIMENT")]
    files: Vec<PathBuf>,
    /// Print a JSON list with one entry a file
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<Exit, Failure> {
    let mut exit = Exit::Fine;
    let mut entries = Vec::new();
    for file in &args.files {
        let read = load::read(file);
        match &read {
            Ok(resolved) => {
                let hash = resolved.experiment.spec_hash();
                let claims = print::claims(&resolved.experiment);
                entries.push(json!({ "file": file, "valid": true, "spec": hash.to_string(), "claims": resolved.experiment.claims.len(), "problems": [] }));
                if !args.json {
                    print::line(format!("{}: valid, spec:{}{claims}", file.display(), hash.short()));
                }
            }
            Err(failure) => {
                exit = Exit::User;
                entries.push(json!({ "file": file, "valid": false, "spec": null, "claims": null, "problems": failure.problems() }));
                if !args.json {
                    print::failure(failure);
                }
            }
        }
    }
    if args.json {
        print::json(&entries);
    }
    Ok(exit)
}
