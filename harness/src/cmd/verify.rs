use std::collections::BTreeMap;
use std::path::PathBuf;

use reprise_spec::identity::BundleId;

use super::print;
use crate::bundle::verify::{self, Finding, Verification};
use crate::bundle::{Bundle, report};
use crate::exit::{Exit, Failure};

/// The most findings of a kind that are printed; `--json` has all.
const SHOWN: usize = 20;

/// Check a bundle against itself, without executing anything
///
/// Every file has its checksum and every output its digest; hashes and keys follow from what they are of; every score follows from the data
/// that it summarises; the report, the numbers and the metadata are what this program makes of the bundle's store. What can't be checked is
/// said, with the reason, and is no pass. Takes a folder, or the archive.
///
/// Exits 1 when anything fails.
#[derive(clap::Args)]
pub struct Args {
    /// A folder or an archive that `reprise publish` made
    bundle: PathBuf,
    /// The id that the bundle has to have, as `reprise publish` printed it
    #[arg(long, value_name = "BUNDLE-ID")]
    expect: Option<BundleId>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<Exit, Failure> {
    let bundle = Bundle::open(&args.bundle)?;
    let verification = verify::verify(&bundle, &report::render)?;
    let expected = args.expect.is_none_or(|expected| expected == verification.bundle);
    if args.json {
        print::json(&verification);
    } else {
        print::line(shown(&verification));
    }
    if let Some(other) = args.expect.filter(|_| !expected) {
        print::message(format!("this is another bundle than {other}"));
    }
    Ok(if expected && verification.holds() { Exit::Fine } else { Exit::No })
}

/// The whole as people read it.
pub(super) fn shown(verification: &Verification) -> String {
    let row = |(area, tally): (&verify::Area, &verify::Tally)| {
        let counts = [tally.passed, tally.failed.len() as u64, tally.not_checked.len() as u64];
        std::iter::once(area.to_string()).chain(counts.map(|count| count.to_string())).collect()
    };
    let rows = verification.areas.iter().map(row).collect();
    let mut parts = vec![verification.bundle.to_string()];
    parts.push(print::table(&["check", "passed", "failed", "not checked"], &[1, 2, 3], rows));
    let failed: Vec<&Finding> = verification.areas.values().flat_map(|tally| &tally.failed).collect();
    if !failed.is_empty() {
        let row = |finding: &&Finding| vec![finding.of.clone(), finding.says.clone()];
        parts.push(print::table(&["failed", "because"], &[], failed.iter().take(SHOWN).map(row).collect()));
        if failed.len() > SHOWN {
            parts.push(format!("and {} more", failed.len() - SHOWN));
        }
    }
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for finding in verification.areas.values().flat_map(|tally| &tally.not_checked) {
        reasons.entry(&finding.says).or_default().push(&finding.of);
    }
    if !reasons.is_empty() {
        let row = |(reason, of): (&&str, &Vec<&str>)| {
            let more = if of.len() > 3 { format!(" and {} more", of.len() - 3) } else { String::new() };
            vec![(*reason).to_owned(), format!("{}{more}", of[..of.len().min(3)].join("; "))]
        };
        parts.push(print::table(&["not checked because", "of"], &[], reasons.iter().take(SHOWN).map(row).collect()));
    }
    let word = if verification.holds() { "nothing failed" } else { "the bundle doesn't hold what it says" };
    parts.push(word.into());
    parts.join("\n\n")
}
