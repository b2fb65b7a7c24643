use super::{Places, load, print};
use crate::doctor::{self, Finding, Verdict};
use crate::exit::{Exit, Failure};

/// Check that this machine can execute stages, and say what to do where it can't
///
/// Looks at the trainer, libtorch, processor, memory, disk, store, data roots and git, and changes nothing. Exits 2 when a run would
/// fail.
#[derive(clap::Args)]
pub struct Args {
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let folder = load::here()?;
    let findings = doctor::examine(&load::store(places, None)?, &load::roots(places, None)?, &folder);
    if args.json {
        print::json(&findings);
    } else {
        findings.iter().for_each(|finding| print::line(shown(finding)));
    }
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Problem);
    Ok(if broken { Exit::User } else { Exit::Fine })
}

fn shown(finding: &Finding) -> String {
    let line = format!("{:<8} {:<10} {}", print::word(&finding.verdict), finding.check, finding.message);
    match &finding.help {
        Some(help) => format!("{line}\n{:19} help: {help}", ""),
        None => line,
    }
}
