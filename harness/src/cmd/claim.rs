use std::path::PathBuf;

use serde_json::json;

use super::{Places, load, print};
use crate::claims::evidence::Side;
use crate::claims::span::{Span, number};
use crate::claims::weighing::probability;
use crate::claims::{self, Compared, Decided, Verdict};
use crate::cohort::Cohort;
use crate::exit::{Exit, Failure};

/// Decide what an experiment claims, from its finished runs
///
/// A claim is supported, contradicted or undecided; each verdict comes with the numbers of every seed, the test behind it, what the test could
/// have seen, and why it says nothing where it does. Needs no corpus, and executes nothing.
///
/// Exits 0 when every claim is supported, and 1 when one is contradicted or undecided.
#[derive(clap::Args)]
pub struct Args {
    /// The experiment file
    experiment: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let experiment = load::read(&args.experiment)?.experiment;
    if experiment.claims.is_empty() {
        return Err(Failure::user(
            format!("{} claims nothing", args.experiment.display()),
            "write what its runs shall decide under `claims`, such as `NAME: { holds: \"wer(test) < 0.3\" }`",
        ));
    }
    let store = load::store(places, Some(&args.experiment))?;
    let cohort = Cohort::of(&experiment, &store)?;
    let decided = claims::decide(&experiment, &cohort, &store);
    let among = |verdict| decided.iter().filter(|claim| claim.verdict == verdict).count();
    let [supported, contradicted, undecided] =
        [Verdict::Supported, Verdict::Contradicted, Verdict::Undecided].map(among);
    let exit = if supported == decided.len() { Exit::Fine } else { Exit::No };
    if args.json {
        print::json(&json!({
            "experiment": experiment.name,
            "spec": experiment.spec_hash().to_string(),
            "alpha": claims::ALPHA,
            "supported": supported,
            "contradicted": contradicted,
            "undecided": undecided,
            "claims": decided,
            "left-out": cohort.left_out,
        }));
        return Ok(exit);
    }
    let rows = decided.iter().map(|claim| {
        vec![claim.name.clone(), print::word(&claim.verdict), probability(claim.p), probability(claim.adjusted)]
    });
    print::line(print::table(&["claim", "verdict", "p", "among all"], &[2, 3], rows.collect()));
    for claim in &decided {
        print::line(format!("\n{}", shown(claim)));
    }
    for left_out in &cohort.left_out {
        print::line(format!("\nrun {} is left out: {}", left_out.run, left_out.because));
    }
    print::line(format!(
        "\n{supported} supported, {contradicted} contradicted, {undecided} undecided; two-sided tests at {:.0} %",
        100.0 * claims::ALPHA
    ));
    Ok(exit)
}

fn shown(claim: &Decided) -> String {
    let mut parts = vec![format!("{}: {}", claim.name, print::word(&claim.verdict))];
    if !claim.says.is_empty() {
        parts.push(format!("  {}", claim.says));
    }
    parts.extend(claim.comparisons.iter().map(compared));
    if let Some(source) = &claim.source {
        let confidence = print::word(&source.confidence);
        parts.push(format!("  after {}: {} ({confidence})", source.paper, source.statement));
    }
    parts.extend(claim.because.iter().map(|sentence| format!("  · {sentence}")));
    parts.join("\n")
}

/// A comparison with the numbers of both sides.
fn compared(compared: &Compared) -> String {
    let side = |side: &Side| {
        let seeds: Vec<String> = side.by_seed.iter().map(|(seed, value)| format!("{value} (seed {seed})")).collect();
        vec![format!("  {}", side.text), side.mean.map_or("-".into(), |mean| mean.to_string()), seeds.join(", ")]
    };
    let mut rows = vec![side(&compared.left), side(&compared.right)];
    for reached in &compared.reached {
        let variant = if reached.variant.is_empty() { String::new() } else { format!(" of {}", reached.variant) };
        let on =
            |axis: Option<Span>, unit: &str| axis.map_or(format!("unknown {unit}"), |span| format!("{span} {unit}"));
        rows.push(vec![
            format!("  seed {}{variant} reached {}", reached.seed, number(reached.level)),
            format!("{} steps", reached.steps),
            [on(reached.audio_seconds, "s of audio"), on(reached.device_seconds, "s on the device")].join(", "),
        ]);
    }
    format!("  {}\n{}", compared.holds, print::table(&["  side", "mean", "seeds"], &[], rows))
}
