use super::{Of, change, today};
use crate::cmd::print;
use crate::exit::{Exit, Failure};
use crate::golden::{Bypass, Golden};
use crate::measures::Address;

/// Let a golden fail nothing for now, and say why; or end that
///
/// The bypass is written into the golden file, and every check and report tells it with its reason. It ends with `--end`, or when a proposed
/// change of the metric is accepted.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: Of,
    /// The metric: STAGE/METRIC
    #[arg(value_name = "METRIC")]
    address: Address,
    /// Why
    #[arg(long, value_name = "TEXT", required_unless_present = "end", conflicts_with = "end")]
    because: Option<String>,
    /// Who decides it
    #[arg(long, value_name = "NAME", requires = "because")]
    by: Option<String>,
    /// The variant, where several have a golden of the metric
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// End the bypass
    #[arg(long)]
    end: bool,
}

pub fn run(args: Args) -> Result<Exit, Failure> {
    let (_, files) = args.of.read()?;
    let mut golden = files.existing()?;
    let variant = variant(&golden, &args.address, args.variant)?;
    let bypass = match args.because {
        Some(because) if because.trim().is_empty() => {
            return Err(Failure::user("a bypass says why", "give the reason with --because TEXT"));
        }
        because => because.map(|because| Bypass { because, since: today(), by: args.by }),
    };
    // `variant` named one that has the entry.
    if let Some(entry) = golden.variants.get_mut(&variant).and_then(|entries| entries.get_mut(&args.address)) {
        entry.bypass = bypass;
    }
    files.write_golden(&golden)?;
    let name = change::name(&variant, &args.address);
    print::line(if args.end { format!("the bypass of {name} has ended") } else { format!("bypassed: {name}") });
    Ok(Exit::Fine)
}

/// The variant whose golden is meant.
fn variant(golden: &Golden, address: &Address, wanted: Option<String>) -> Result<String, Failure> {
    let having = golden.entries().filter(|(_, known, _)| *known == address).map(|(variant, ..)| variant.to_owned());
    let having: Vec<String> = having.filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == name)).collect();
    match having.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::user(
            format!("there is no golden of {address}"),
            "`reprise check EXPERIMENT` lists those there are",
        )),
        several => Err(Failure::user(
            format!("several variants have a golden of {address}: {}", several.join(", ")),
            "say which with --variant NAME",
        )),
    }
}
