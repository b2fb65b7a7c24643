use std::path::{Path, PathBuf};

use super::{Places, load, print, progress};
use crate::estimate;
use crate::exit::{Exit, Failure};
use crate::golden::Files;
use crate::outlook;
use crate::report::checks::Checks;
use crate::report::render::{Templates, render};
use crate::report::subject::{Kind, Subject};
use crate::report::{Report, curves, planned, write};
use crate::store::{RunRecord, Store};

/// Write a report: a page that stands alone, the same in Markdown, its figures, and its numbers as CSV and JSON
///
/// Of an experiment it shows all variants over their seeds; of one run that run; of several runs each beside the others. The page needs no script
/// and no network. An experiment without finished runs gets its plan and what that is expected to cost, marked as not executed.
#[derive(clap::Args)]
pub struct Args {
    /// An experiment file, or the ids of runs, each enough of its beginning to be unique
    #[arg(required = true, value_name = "EXPERIMENT|RUN")]
    subjects: Vec<String>,
    /// The folder to write to [default: report/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Of an experiment: all its finished runs by when they were made, so that one sees numbers move between builds
    #[arg(long)]
    history: bool,
    /// A folder with templates of your own: any of report.html, report.md, report.css and figure.css
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Print the report as JSON and write nothing
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    let templates = Templates::with(args.templates.as_deref())?;
    let experiment = match args.subjects.as_slice() {
        [name] if Path::new(name).is_file() => Some(PathBuf::from(name)),
        _ if args.history => {
            return Err(Failure::user("--history is of an experiment", "name the experiment's file, and nothing else"));
        }
        _ => None,
    };
    let store = load::store(places, experiment.as_deref())?.remembering();
    let mut checks = Checks::default();
    let subject = match &experiment {
        Some(path) => {
            let resolved = load::read(path)?;
            let file = path.display().to_string();
            let subject = match args.history {
                true => Subject::history(resolved.experiment.clone(), &file, &store)?,
                false => Subject::experiment(resolved.experiment.clone(), &file, &store)?,
            };
            if subject.all().next().is_none() {
                let mut bar = progress::hashing();
                let files = load::survey(&resolved.experiment, path, places, false, &mut |state| bar.show(state))?;
                let plan = load::plan(&resolved.experiment, &files)?;
                let estimates = estimate::of(&plan, &outlook::of(&plan, &store), &store);
                checks.beside = planned::sections(&plan, &estimates);
            }
            subject
        }
        None => Subject::runs(records(&args.subjects, &store)?, &store),
    };
    if let (Some(path), Kind::Experiment) = (&experiment, subject.kind) {
        checks.claims(&subject);
        let name = subject.experiment.as_ref().map(|experiment| experiment.name.clone());
        let folder = super::golden::folder(Some(path))?;
        let goldens = name.map(|name| Files::of(&folder, name).golden()).transpose()?.flatten();
        checks.goldens(&subject, goldens.as_ref());
    }
    checks.reruns(&subject);
    checks.published(&subject);
    let logs = curves::logs(&subject);
    let report = Report::of(&subject, &logs, checks);
    if args.json {
        print::json(&report);
        return Ok(Exit::Fine);
    }
    let rendered = render(&report, &templates)?;
    let files = write::files(&report, rendered, &templates, &subject, &logs);
    let folder = args.out.unwrap_or_else(|| write::default_folder(&subject.title));
    write::write(&folder, &files).map_err(|message| Failure::user(message, "name another folder with --out DIR"))?;
    eprintln!("{}", report.verdict.headline);
    print::line(folder.join("report.html").display().to_string());
    Ok(Exit::Fine)
}

/// The records of these runs, in the order in which they are named.
fn records(prefixes: &[String], store: &Store) -> Result<Vec<RunRecord>, Failure> {
    let mut records: Vec<RunRecord> = Vec::new();
    for prefix in prefixes {
        let record = super::recorded::Recorded::record(store.run(prefix)?)?;
        if !records.iter().any(|known| known.id == record.id) {
            records.push(record);
        }
    }
    Ok(records)
}
