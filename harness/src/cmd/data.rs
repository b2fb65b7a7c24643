use std::path::PathBuf;

use clap::Subcommand;
use reprise_spec::values::{Name, SplitName};
use serde_json::json;

use super::{Places, load, print};
use crate::data::hashing::{self, Hasher};
use crate::data::{FileList, walk};
use crate::exit::{Exit, Failure};

/// Show where corpora are looked for, and what their files are
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// The data roots and the corpora in them (the default)
    Roots,
    /// The files of a split with sizes and checksums, as `corpus.lists` of an experiment takes them
    Files {
        /// The corpus, by name
        corpus: String,
        /// The split
        split: String,
    },
    /// Compare the files of an experiment's corpus with its committed lists, reading every byte
    Check {
        /// The experiment file
        experiment: PathBuf,
    },
}

pub fn run(args: Args, places: &Places) -> Result<Exit, Failure> {
    match args.what.unwrap_or(What::Roots) {
        What::Roots => roots(args.json, places),
        What::Files { corpus, split } => files(&corpus, &split, args.json, places),
        What::Check { experiment } => check(experiment, args.json, places),
    }
}

fn roots(json: bool, places: &Places) -> Result<Exit, Failure> {
    let mut found = Vec::new();
    for root in load::roots(places, None)?.0 {
        let mut corpora: Vec<String> = std::fs::read_dir(&root)
            .map(|entries| {
                entries
                    .flatten()
                    .filter(|entry| entry.path().is_dir())
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .collect()
            })
            .unwrap_or_default();
        corpora.retain(|name| Name::try_from(name.clone()).is_ok());
        corpora.sort();
        found.push((root, corpora));
    }
    if json {
        print::json(
            &found.iter().map(|(root, corpora)| json!({ "root": root, "corpora": corpora })).collect::<Vec<_>>(),
        );
    } else if found.is_empty() {
        print::message(
            "no data roots: pass --data DIR, set REPRISE_DATA, or write `data = [\"DIR\"]` into reprise.toml",
        );
    } else {
        for (root, corpora) in found {
            print::line(format!(
                "{}: {}",
                root.display(),
                if corpora.is_empty() { "no corpora".into() } else { corpora.join(", ") }
            ));
        }
    }
    Ok(Exit::Fine)
}

fn files(corpus: &str, split: &str, json: bool, places: &Places) -> Result<Exit, Failure> {
    let name =
        Name::try_from(corpus.to_owned()).map_err(|error| Failure::user(error, "name a folder below a data root"))?;
    let split =
        SplitName::try_from(split.to_owned()).map_err(|error| Failure::user(error, "name a folder of the corpus"))?;
    let roots = load::roots(places, None)?;
    let root = roots
        .find(&name)
        .ok_or_else(|| Failure::from(crate::data::DataError::NotFound { name: name.clone(), roots }))?;
    let mut paths = walk::utterances(&name, &root, &split, true)?;
    paths.extend(walk::alignments(&name, &root, &split).unwrap_or_default());
    let mut quiet = |_| {};
    let mut hasher = Hasher::new(hashing::cache_folder(), false, &mut quiet);
    let list = FileList::new(hasher.entries(&root, &paths.iter().collect::<Vec<_>>())?);
    if json {
        let entries: Vec<_> = list
            .entries()
            .iter()
            .map(|entry| json!({ "path": entry.path, "size": entry.size, "sha256": hex::encode(entry.sha256) }))
            .collect();
        print::json(&json!({ "corpus": name, "split": split, "files": entries }));
    } else {
        print::line(list.to_string().trim_end());
    }
    Ok(Exit::Fine)
}

fn check(path: PathBuf, json: bool, places: &Places) -> Result<Exit, Failure> {
    let experiment = load::read(&path)?.experiment;
    let mut bar = super::progress::hashing();
    let files = load::survey(&experiment, &path, places, true, &mut |state| bar.show(state))?;
    files.located()?;
    let mut quiet = |_| {};
    files.check(&mut Hasher::new(hashing::cache_folder(), true, &mut quiet))?;
    let rows: Vec<_> = files.lists.iter().map(|((split, part), list)| (split, part, list)).collect();
    if json {
        print::json(&rows.iter().map(|(split, part, list)| json!({ "split": split, "part": part, "files": list.entries().len(), "bytes": list.size(), "content": list.digest().to_string() })).collect::<Vec<_>>());
    } else {
        let rows = rows
            .iter()
            .map(|(split, part, list)| {
                vec![
                    split.to_string(),
                    print::word(part),
                    list.entries().len().to_string(),
                    print::bytes(list.size()),
                    list.digest().short(),
                ]
            })
            .collect();
        print::line(print::table(&["split", "part", "files", "size", "content"], &[2, 3], rows));
    }
    Ok(Exit::Fine)
}
