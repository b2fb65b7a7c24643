use super::{Of, change, today};
use crate::cmd::print;
use crate::exit::{Exit, Failure};
use crate::golden::{Files, GoldenError, Pattern, Proposal};
use crate::measures::Address;

/// Which proposed changes are decided on.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// Only these metrics, written STAGE/METRIC with `*` for any characters; may be given several times
    #[arg(long, value_name = "PATTERN")]
    only: Vec<Pattern>,
    /// Only this variant
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Accept,
    Reject,
}

impl Decision {
    /// Makes the change of one metric, or lets it go; files that were edited meanwhile keep their edits.
    pub fn carry_out(
        self,
        files: &Files,
        proposal: &mut Proposal,
        variant: &str,
        address: &Address,
    ) -> Result<(), GoldenError> {
        if self == Self::Accept {
            files.write_golden(&proposal.accepted(files.golden()?, variant, address, today()))?;
        }
        proposal.withdraw(variant, address);
        files.write_proposal(proposal)
    }
}

pub fn accept(args: Args) -> Result<Exit, Failure> {
    decide(args, Decision::Accept, "accepted")
}

pub fn reject(args: Args) -> Result<Exit, Failure> {
    decide(args, Decision::Reject, "rejected")
}

fn decide(args: Args, decision: Decision, past: &str) -> Result<Exit, Failure> {
    let (_, files) = args.of.read()?;
    let mut proposal = files.pending()?;
    let chosen = |variant: &str, address: &Address| {
        args.variant.as_ref().is_none_or(|wanted| wanted == variant)
            && (args.only.is_empty() || args.only.iter().any(|pattern| pattern.fits(address)))
    };
    let changes = proposal.changes().map(|(variant, address, _)| (variant.to_owned(), address.clone()));
    let chosen: Vec<_> = changes.filter(|(variant, address)| chosen(variant, address)).collect();
    if chosen.is_empty() {
        let help = format!("`reprise golden review {}` shows what waits", args.of.file.display());
        return Err(Failure::user("no proposed change is one of these", help));
    }
    for (variant, address) in chosen {
        decision.carry_out(&files, &mut proposal, &variant, &address)?;
        print::line(format!("{past}: {}", change::name(&variant, &address)));
    }
    Ok(Exit::Fine)
}
