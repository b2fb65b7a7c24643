use super::recorded::Recorded;
use super::run::{SideBySide, follow};
use super::{Places, load, print};
use crate::exit::{Exit, Failure};
use crate::store::{ListedRun, Means, Seen, Store, Summarised};

/// Continue a run that was interrupted, killed or failed, as it was asked for
///
/// Goes on from the newest whole checkpoint with the experiment, device and threads that the run has recorded, whatever the experiment file
/// says by now. `reprise run` with an unchanged file does the same by itself. Refused when the corpus has changed meanwhile.
#[derive(clap::Args)]
pub struct Args {
    /// The run's id, or enough of its beginning to be unique; the newest run that can be continued if left out
    run: Option<String>,
    /// Threads that load audio while a stage trains; change no result [default: those of the run]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    loader_threads: Option<u32>,
    /// Compute layers again in the backward pass, for less memory [default: as the run]
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    jobs: SideBySide,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let store = load::store(places, None)?;
    let listed = match &args.run {
        Some(prefix) => store.run(prefix)?,
        None => newest(&store)?,
    };
    let (id, seen) = (listed.id.clone(), listed.seen());
    let record = Recorded::record(listed)?;
    match seen {
        Seen::Interrupted | Seen::Failed | Seen::Lost => {}
        Seen::Running => {
            let owner = record.attempts.last().map(|attempt| format!(" by {}", attempt.owner)).unwrap_or_default();
            return Err(Failure::user(
                format!("run {id} is being executed{owner}"),
                "wait for it, or stop that process",
            ));
        }
        Seen::Finished | Seen::Damaged => {
            let help = format!("`reprise show {id}` shows its results, `reprise rerun {id}` executes it again");
            return Err(Failure::user(format!("run {id} is finished: there is nothing to resume"), help));
        }
    }
    let recorded = Recorded::of(record, &store, places)?;
    print::message(format!("resuming run {id}  {}", recorded.record.title()));
    let before = recorded.means();
    let means = Means {
        loader_threads: args.loader_threads.unwrap_or(before.loader_threads),
        recompute: args.recompute || before.recompute,
        ..before
    };
    let job = recorded.job(String::new(), &store, means, Some(recorded.record.id.clone()))?;
    follow(&[job], args.jobs.at_once, args.json)
}

/// The newest run that ended without a result.
fn newest(store: &Store) -> Result<ListedRun, Failure> {
    let ended = |run: &Summarised| matches!(run.seen(), Seen::Interrupted | Seen::Failed | Seen::Lost);
    let newest = store.summaries(None)?.into_iter().find(ended);
    newest.map(|run| store.run(&run.id)).transpose()?.ok_or_else(|| {
        Failure::user(
            format!("nothing to resume: no run in {} was interrupted, killed or failed", store.root().display()),
            "`reprise list` shows its runs, `reprise run EXPERIMENT` makes one",
        )
    })
}
