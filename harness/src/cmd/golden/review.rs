use std::io::{self, BufRead};

use super::decide::Decision;
use super::{Of, change};
use crate::cmd::print;
use crate::exit::{Exit, Failure};

/// Go through proposed changes one by one
///
/// Shows what was accepted beside what is proposed, with runs and machines, and reads an answer for each from standard input: `a` accepts, `r`
/// rejects, `s` skips, `q` or the end of input stops. Every answer is written at once.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
}

/// What a person says of one change.
enum Answer {
    Decided(Decision),
    Skip,
    Quit,
}

pub fn run(args: Args) -> Result<Exit, Failure> {
    let (_, files) = args.of.read()?;
    let mut proposal = files.pending()?;
    let waiting: Vec<_> = proposal
        .changes()
        .map(|(variant, address, change)| (variant.to_owned(), address.clone(), change.clone()))
        .collect();
    let mut lines = io::stdin().lock().lines();
    let (mut accepted, mut rejected) = (0, 0);
    for (index, (variant, address, change)) in waiting.iter().enumerate() {
        let golden = files.golden()?;
        let before = golden.as_ref().and_then(|golden| golden.entry(variant, address));
        print::line(format!("{} of {}  {}", index + 1, waiting.len(), change::shown(variant, address, before, change)));
        let decision = match ask(&mut lines)? {
            Answer::Decided(decision) => decision,
            Answer::Skip => continue,
            Answer::Quit => break,
        };
        decision.carry_out(&files, &mut proposal, variant, address)?;
        match decision {
            Decision::Accept => accepted += 1,
            Decision::Reject => rejected += 1,
        }
    }
    let left = proposal.changes().count();
    print::line(format!("{accepted} accepted, {rejected} rejected, {left} left"));
    Ok(Exit::Fine)
}

fn ask(lines: &mut impl Iterator<Item = io::Result<String>>) -> Result<Answer, Failure> {
    loop {
        print::message("accept (a), reject (r), skip (s), quit (q)?");
        let Some(line) = lines.next() else { return Ok(Answer::Quit) };
        let line = line.map_err(|error| {
            Failure::user(format!("cannot read the answer: {error}"), "decide with `reprise golden accept` or `reject`")
        })?;
        match line.trim() {
            "a" | "accept" => return Ok(Answer::Decided(Decision::Accept)),
            "r" | "reject" => return Ok(Answer::Decided(Decision::Reject)),
            "s" | "skip" => return Ok(Answer::Skip),
            "q" | "quit" => return Ok(Answer::Quit),
            _ => {}
        }
    }
}
