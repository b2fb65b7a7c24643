use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use reprise_spec::experiment::Experiment;
use serde_json::json;

use super::{Places, load, print};
use crate::bundle::about::{Licence, Licences, Missing};
use crate::bundle::experiment::Files;
use crate::bundle::names::portable;
use crate::bundle::part::Part;
use crate::bundle::publish::{Draft, Publication, Target};
use crate::bundle::report;
use crate::cmd::recorded::Recorded;
use crate::cohort::Cohort;
use crate::exit::{Exit, Failure};
use crate::store::{RunRecord, Status, Store};

/// How files that say on which terms something may be used begin their names.
const LICENCE_FILES: [&str; 3] = ["LICENSE", "LICENCE", "COPYING"];

/// The most bytes of a licence or of goldens.
const SMALL: u64 = 1 << 20;

/// Make a bundle of an experiment's runs that others can verify and replay
///
/// It holds the experiment, its plan, every number and what it was computed from (transcripts and hypotheses among it), the chosen models, the
/// report, and what the runs were made with; never audio. Paths, hosts and what looks like a secret stay here. `reprise verify` checks it,
/// `reprise replay` executes it again, and its `store/` is a store for every other verb. The same store gives the same bundle.
#[derive(clap::Args)]
pub struct Args {
    /// An experiment file, for its newest finished run of every variant and seed, or ids of runs of one experiment
    #[arg(required = true, value_name = "EXPERIMENT|RUN")]
    what: Vec<String>,
    /// Where it goes: a new folder, or a new file that ends in .tar [default: NAME-bundle]
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// Which large files go in
    #[arg(long, value_delimiter = ',', value_name = "PARTS", default_values = ["codebooks", "recogniser"])]
    with: Vec<With>,
    /// The licence of what comes from the corpus: an SPDX expression such as CC-BY-4.0, or a file
    #[arg(long, value_name = "SPDX|FILE")]
    data_licence: Option<String>,
    /// The licence of models and codebooks
    #[arg(long, value_name = "SPDX|FILE")]
    model_licence: Option<String>,
    /// Say what would go in, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A choice of large files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Part(Part),
    All,
    Nothing,
}

impl ValueEnum for With {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [With; 10] = [
            With::Part(Part::Codebooks),
            With::Part(Part::Recogniser),
            With::Part(Part::Finetuned),
            With::Part(Part::Pretrained),
            With::Part(Part::States),
            With::Part(Part::Labels),
            With::Part(Part::Features),
            With::Part(Part::LanguageModels),
            With::All,
            With::Nothing,
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            Self::Part(part) => part.to_possible_value(),
            Self::All => Some(clap::builder::PossibleValue::new("all").help("All of these")),
            Self::Nothing => Some(clap::builder::PossibleValue::new("nothing").help("None of these")),
        }
    }
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let file = match args.what.as_slice() {
        [name] if Path::new(name).is_file() => Some(Path::new(name)),
        _ => None,
    };
    let store = load::store(places, file)?;
    let (experiment, runs, missing) = match file {
        Some(file) => of_experiment(file, &store)?,
        None => of_runs(&args.what, &store)?,
    };
    let mut beside = BTreeMap::new();
    goldens(&experiment.experiment, file, &mut beside)?;
    let licences = Licences {
        data: licence(args.data_licence.as_deref(), "data", &mut beside)?,
        models: licence(args.model_licence.as_deref(), "models", &mut beside)?,
        corpus: of_corpus(&experiment.experiment, places, file, &runs, &store, &mut beside)?,
        program: env!("CARGO_PKG_LICENSE").into(),
    };
    let name = experiment.experiment.name.to_string();
    let publication =
        Publication { store: &store, experiment, runs, missing, parts: parts(&args.with), licences, beside };
    let draft = Draft::new(publication)?;
    let target = Target::of(args.to.unwrap_or_else(|| PathBuf::from(format!("{name}-bundle"))));
    let (about, size, count) = (draft.about.clone(), draft.size()?, draft.count());
    let path = target.path().display().to_string();
    let id = if args.dry_run { None } else { Some(draft.write(&target, &report::render)?) };
    if args.json {
        let whole = json!({ "bundle": id, "path": path, "files": count, "bytes": size, "about": about });
        print::json(&whole);
        return Ok(Exit::Fine);
    }
    let word = if args.dry_run { "would hold" } else { "holds" };
    print::message(format!("{path} {word} {} of {}", counted(about.runs.len() as u64, "run"), about.experiment.name));
    print::message(format!("{}, {} before report and metadata", counted(count as u64, "file"), print::bytes(size)));
    if about.left_out.files > 0 {
        let files = counted(about.left_out.files, "large file");
        print::message(format!("left out: {files}, {} (--with chooses)", print::bytes(about.left_out.bytes)));
    }
    for withheld in &about.withheld {
        print::message(format!("withheld, because it looks as if it held a secret: {withheld}"));
    }
    for Missing { variant_name, seed } in &about.missing {
        print::message(format!("not there: {variant_name} seed {seed} was never finished"));
    }
    if about.licences.data.is_none() || about.licences.models.is_none() {
        print::message("no licence is stated for all of it: --data-licence and --model-licence say what others may do");
    }
    id.iter().for_each(|id| print::line(id.to_string()));
    Ok(Exit::Fine)
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// An experiment as files, the runs of it that go in, and those that are missing.
type Chosen = (Files, Vec<RunRecord>, Vec<Missing>);

fn of_experiment(file: &Path, store: &Store) -> Result<Chosen, Failure> {
    let resolved = load::read(file)?;
    let here = format!("{}/.", load::here()?.display());
    let absolute = |name: &str| match name.starts_with('/') {
        true => name.to_owned(),
        false => reprise_spec::read::beside(&here, name),
    };
    let sources: Vec<_> = resolved.sources.iter().map(|source| (absolute(&source.name), source.text.clone())).collect();
    let cohort = Cohort::of(&resolved.experiment, store)?;
    let missing = |group: &crate::cohort::Group| {
        let name = group.name.clone();
        group.missing.clone().into_iter().map(move |seed| Missing { variant_name: name.clone(), seed })
    };
    let missing: Vec<Missing> = cohort.groups.iter().flat_map(missing).collect();
    let runs: Vec<RunRecord> = cohort.groups.into_iter().flat_map(|group| group.runs.into_values()).collect();
    if runs.is_empty() {
        let message = format!("no run of {} is finished in {}", file.display(), store.root().display());
        return Err(Failure::user(message, "run it first, or name its store with --store DIR"));
    }
    Ok((Files::new(&sources, resolved.experiment)?, runs, missing))
}

fn of_runs(ids: &[String], store: &Store) -> Result<Chosen, Failure> {
    let mut runs: Vec<RunRecord> = Vec::new();
    for id in ids {
        let record = Recorded::record(store.run(id)?)?;
        if record.status != Status::Finished {
            let help = format!("`reprise resume {}` continues it", record.id);
            return Err(Failure::user(format!("run {} is not finished", record.id), help));
        }
        if !runs.iter().any(|known| known.id == record.id) {
            runs.push(record);
        }
    }
    let Some(first) = runs.first() else { return Err(Failure::user("no run is named", "name one")) };
    if let Some(other) = runs.iter().find(|run| run.spec != first.spec) {
        return Err(Failure::user(
            format!("runs {} and {} are of two experiments", first.id, other.id),
            "publish each apart, or give an experiment file that both belong to",
        ));
    }
    let recipe = store.recipe(first)?.ok_or_else(|| {
        Failure::user(format!("run {} has no recipe", first.id), "give the experiment's file in its place")
    })?;
    let files = Files::of_run(&store.experiment_text(&first.id)?, &recipe)?;
    Ok((files, runs, Vec::new()))
}

/// The accepted numbers of the experiment, where its project has any.
fn goldens(
    experiment: &Experiment,
    file: Option<&Path>,
    beside: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), Failure> {
    let name = format!("golden/{}.yaml", experiment.name);
    let Some(path) = load::project(file)?.map(|project| project.root.join(&name)).filter(|path| path.is_file()) else {
        return Ok(());
    };
    beside.insert(name, small(&path)?);
    Ok(())
}

/// The large files that these words choose.
fn parts(with: &[With]) -> BTreeSet<Part> {
    with.iter()
        .flat_map(|with| match with {
            With::Part(part) => vec![*part],
            With::All => Part::value_variants().to_vec(),
            With::Nothing => Vec::new(),
        })
        .collect()
}

/// A licence as it was given: the text of a file goes in.
fn licence(
    given: Option<&str>,
    what: &str,
    beside: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Option<Licence>, Failure> {
    let Some(given) = given else { return Ok(None) };
    let path = Path::new(given);
    if path.is_file() {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("txt");
        let name = format!("licences/{what}.{extension}");
        beside.insert(name.clone(), small(path)?);
        return Ok(Some(Licence::File(name)));
    }
    let spdx = |c: char| c.is_ascii_alphanumeric() || ".-+() ".contains(c);
    match !given.trim().is_empty() && given.len() <= 200 && given.chars().all(spdx) {
        true => Ok(Some(Licence::Spdx(given.trim().into()))),
        false => Err(Failure::user(
            format!("{given:?} is neither a file nor an SPDX expression"),
            "write CC-BY-4.0, or name the file with the licence's text",
        )),
    }
}

/// A text file that goes in as it is.
fn small(path: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |why: String| Failure::user(format!("cannot read {}: {why}", path.display()), "name a text file");
    let size = fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    match size <= SMALL {
        true => fs::read(path).map_err(|error| fail(error.to_string())),
        false => Err(fail(format!("it has {}", print::bytes(size)))),
    }
}

/// The licence files that lie beside the corpus, where it is found.
fn of_corpus(
    experiment: &Experiment,
    places: &Places,
    file: Option<&Path>,
    runs: &[RunRecord],
    store: &Store,
    beside: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Vec<String>, Failure> {
    let Some(corpus) = experiment.corpus() else { return Ok(Vec::new()) };
    let lay = runs.first().and_then(|run| store.recipe(run).ok()?).and_then(|recipe| recipe.corpus);
    let Some(folder) = load::roots(places, file)?.find(&corpus.name).or(lay) else { return Ok(Vec::new()) };
    let names = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let is_licence = |name: &&String| LICENCE_FILES.iter().any(|begin| name.to_ascii_uppercase().starts_with(begin));
    let mut found = Vec::new();
    for name in names.iter().filter(is_licence).filter(|name| portable(name).is_ok()) {
        let inside = format!("licences/corpus-{}/{name}", corpus.name);
        beside.insert(inside.clone(), small(&folder.join(name))?);
        found.push(inside);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::part;

    #[test]
    fn what_goes_in_is_what_was_chosen() {
        assert_eq!(parts(&[With::Part(Part::Codebooks), With::Part(Part::Recogniser)]), part::DEFAULT.into());
        assert_eq!(parts(&[With::All]).len(), 8);
        assert!(parts(&[With::Nothing]).is_empty());
    }

    #[test]
    fn a_licence_is_an_expression_or_a_file() {
        let mut beside = BTreeMap::new();
        let spdx = licence(Some("CC-BY-4.0"), "data", &mut beside).unwrap();
        assert_eq!(spdx, Some(Licence::Spdx("CC-BY-4.0".into())));
        assert!(licence(Some("<script>"), "data", &mut beside).is_err() && beside.is_empty());
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("terms.txt");
        fs::write(&file, "as you like").unwrap();
        let given = licence(file.to_str(), "models", &mut beside).unwrap();
        assert_eq!(given, Some(Licence::File("licences/models.txt".into())));
        assert_eq!(beside["licences/models.txt"], b"as you like");
    }
}
