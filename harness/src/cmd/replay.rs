use std::path::{Path, PathBuf};

use reprise_spec::read::beside;
use serde_json::json;

use super::recorded::Recorded;
use super::rerun::{details, scores_table};
use super::run::{SideBySide, execute_shown};
use super::{Places, load, print, verify as verifying};
use crate::bundle::replay::{Place, other_files};
use crate::bundle::{About, Bundle, BundleError, report, verify};
use crate::data::{CorpusFiles, Roots};
use crate::exit::{Exit, Failure};
use crate::rerun::grade::{self, Verdict};
use crate::rerun::{self, Comparison};
use crate::store::{Recipe, RunRecord, Store};

/// Execute the runs of a bundle again and grade how equal the results are
///
/// Needs this program and the corpus: it is found by its name (--data DIR), and another one than the bundle's is refused. The bundle is verified
/// first. Every stage is executed anew, with the device and the threads of the original, in a folder of its own, and compared as `reprise rerun`
/// does. An interrupted replay goes on when the same command is given again.
///
/// Exits 1 when the results are different, or it is undecided, or the bundle doesn't hold what it says.
#[derive(clap::Args)]
pub struct Args {
    /// A folder or an archive that `reprise publish` made
    bundle: PathBuf,
    /// The folder to execute in: a new one, or that of an interrupted replay [default: NAME-replay here]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    #[command(flatten)]
    jobs: SideBySide,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let bundle = Bundle::open(&args.bundle)?;
    let verification = verify::verify(&bundle, &report::render)?;
    if !verification.holds() {
        print::message(verifying::shown(&verification));
        return Ok(Exit::No);
    }
    let (about, published) = (bundle.about()?, bundle.store());
    let records = bundle.runs(&about)?;
    let roots = load::roots(places, None)?;
    let recorded: Vec<Recorded> = records
        .iter()
        .map(|record| recorded(record.clone(), &bundle, &about, &published, &roots))
        .collect::<Result<_, _>>()?;
    let into = args.into.unwrap_or_else(|| default_folder(&args.bundle));
    let place = Place::open(&into, verification.bundle)?;
    let store = place.store();
    print::message(format!("executing {} of {} in {}", runs(&records), about.experiment.name, into.display()));
    let label = |record: &RunRecord| match records.len() {
        1 => String::new(),
        _ => format!("{} seed {}", record.variant_name, record.seed).trim_start().to_owned(),
    };
    let jobs: Vec<_> = recorded
        .iter()
        .map(|recorded| recorded.job(label(&recorded.record), &store, recorded.means(), None))
        .collect::<Result<_, _>>()?;
    let outcomes = execute_shown(&jobs, args.jobs.at_once, |_| {})?;
    let mut graded: Vec<(Verdict, Comparison)> = Vec::new();
    for (record, outcome) in records.iter().zip(&outcomes) {
        let comparison = rerun::compare((record, &published), (outcome.record(), &store));
        let siblings = rerun::siblings(record, &published)?;
        let seeds: Vec<_> = siblings.iter().map(|run| rerun::scores(run, &published)).collect();
        graded.push((grade::one(&comparison, &seeds), comparison));
    }
    let entry = |(verdict, comparison): &(Verdict, Comparison)| json!({ "run": comparison.original, "verdict": verdict, "comparison": comparison });
    let whole = json!({
        "bundle": verification.bundle, "folder": into, "runs": graded.iter().map(entry).collect::<Vec<_>>(),
    });
    place.close(&whole)?;
    if args.json {
        print::json(&whole);
    } else {
        for (verdict, comparison) in &graded {
            print::line(format!("run {}, replayed: {}\n{}", comparison.original, verdict.grade, verdict.because));
            details(comparison).iter().for_each(|details| print::line(format!("\n{details}")));
            if !verdict.scores.is_empty() {
                print::line(format!("\n{}", scores_table(verdict)));
            }
        }
    }
    let holds = graded.iter().all(|(verdict, _)| verdict.grade.holds());
    Ok(if holds { Exit::Fine } else { Exit::No })
}

fn runs(records: &[RunRecord]) -> String {
    format!("{} run{}", records.len(), if records.len() == 1 { "" } else { "s" })
}

/// The bundle's name with `-replay` behind it, in the current folder.
fn default_folder(bundle: &Path) -> PathBuf {
    let bundle = std::path::absolute(bundle).unwrap_or_else(|_| bundle.to_path_buf());
    let name = bundle.file_stem().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("{name}-replay"))
}

/// A run of the bundle, on the corpus that is here.
fn recorded(
    record: RunRecord,
    bundle: &Bundle,
    about: &About,
    store: &Store,
    roots: &Roots,
) -> Result<Recorded, Failure> {
    let missing = || BundleError::Refused { reason: format!("run {} has no recipe", record.id) };
    let recipe = store.recipe(&record)?.ok_or_else(missing)?;
    // The recipe may name any list, so a list is looked for among the bundle's own files alone.
    for list in recipe.experiment.corpus().into_iter().flat_map(|corpus| corpus.lists.into_values()) {
        let name = format!("experiment/{}", beside(&about.experiment.file, list.as_str()));
        if !bundle.files().contains_key(&name) {
            let reason = format!("the experiment names the list {:?}, which is not in the bundle", list.as_str());
            return Err(BundleError::Refused { reason }.into());
        }
    }
    let recipe = Recipe { file: bundle.root().join("experiment").join(&about.experiment.file), ..recipe };
    let text = store.experiment_text(&record.id)?;
    let original = record.clone();
    let mut fits = |files: &CorpusFiles| {
        let differences = other_files(&original, store, files)?;
        if differences.is_empty() {
            return Ok(());
        }
        let lines: String = differences.iter().map(|line| format!("\n  {line}")).collect();
        Err(Failure::user(
            format!("the corpus {} here is not the one that run {} read:{lines}", files.name, original.id),
            "restore these files, or name the folder that holds the right one with --data DIR",
        ))
    };
    Recorded::planned(record, recipe, text, roots, &mut fits)
}
