use serde_json::json;

use super::{Of, change, today};
use crate::cmd::{Places, load, print};
use crate::cohort::Cohort;
use crate::exit::{Exit, Failure};
use crate::golden::proposal::Wanted;
use crate::golden::{Observed, Pattern, Proposal, Tolerance};
use crate::inert;

/// Propose what an experiment's finished runs give now, where that isn't what was accepted
///
/// Looks at error rates, unit quality, masked accuracy and the summaries of layer-wise analyses, and at every metric that has a golden. What
/// passes is not proposed: a value that moves within its tolerance doesn't move its golden. Nothing is accepted.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// Look at these metrics instead, written STAGE/METRIC with `*` for any characters; may be given several times
    #[arg(long, value_name = "PATTERN")]
    metric: Vec<Pattern>,
    /// The tolerance of what is proposed: `exact`, `absolute: 0.01`, `relative: 0.02`, or
    /// `statistical: { seeds: 3, test: { equivalence: { margin: 0.01 } } }` [default: that of the golden, else what reruns are judged by]
    #[arg(long, value_name = "TOLERANCE", value_parser = tolerance)]
    tolerance: Option<Tolerance>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let (experiment, files) = args.of.read()?;
    let (golden, pending) = (files.golden()?, files.proposal()?);
    let store = load::store(places, Some(&args.of.file))?;
    let cohort = Cohort::of(&experiment, &store)?;
    if cohort.groups.iter().all(|group| group.runs.is_empty()) {
        let message = format!("the store has no finished run of `{}` as it is now", experiment.name);
        return Err(Failure::user(message, format!("make one with `reprise run {}`", args.of.file.display())));
    }
    let wanted = if args.metric.is_empty() { Wanted::Usual } else { Wanted::Fitting(args.metric) };
    let observed = Observed::of(&experiment, &cohort, &store);
    let (proposal, skipped) = Proposal::of(golden.as_ref(), &observed, &wanted, args.tolerance, today());
    let found = proposal.changes().count();
    let proposal = match &pending {
        Some(pending) => pending.renewed(proposal, &wanted),
        None => proposal,
    };
    files.write_proposal(&proposal)?;
    if args.json {
        print::json(&json!({ "file": files.proposal_path(), "proposal": proposal, "skipped": skipped }));
        return Ok(Exit::Fine);
    }
    for (variant, address, change) in proposal.changes() {
        let before = golden.as_ref().and_then(|golden| golden.entry(variant, address));
        print::line(change::shown(variant, address, before, change) + "\n");
    }
    for skipped in &skipped {
        let name = change::name(&skipped.variant, &skipped.address);
        print::message(format!("not proposed: {name}: {}", inert::terminal(&skipped.because)));
    }
    let (path, file) = (files.proposal_path(), args.of.file.display());
    match (found, proposal.changes().count()) {
        (0, 0) => print::message("nothing to propose: every metric that was looked at passes, or has a reason above"),
        (_, waiting) => print::message(format!(
            "{found} proposed, {waiting} waiting in {}; `reprise golden review {file}` goes through them",
            path.display()
        )),
    }
    Ok(Exit::Fine)
}

/// A tolerance as a golden file has it.
fn tolerance(text: &str) -> Result<Tolerance, String> {
    let value = serde_yaml::Deserializer::from_str(text);
    serde_yaml::with::singleton_map_recursive::deserialize(value).map_err(|error| error.to_string())
}
