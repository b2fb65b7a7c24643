//! What verbs that take an experiment do first: read it, find its corpus, plan it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use reprise_spec::experiment::{Experiment, Variant};
use reprise_spec::problem::SpecErrors;
use reprise_spec::read::{LoadError, Resolved};
use reprise_spec::source;

use super::Places;
use crate::bundle::experiment;
use crate::data::hashing::{self, Hasher, Hashing};
use crate::data::{CorpusFiles, Roots};
use crate::exit::Failure;
use crate::plan::{self, Contents, Plan};
use crate::project::Project;
use crate::store::Store;

/// Reads an experiment file and what it extends.
pub fn read(path: &Path) -> Result<Resolved, Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::user(
            format!("cannot read {name}: {error}"),
            "name an experiment file, such as experiments/quickstart/baseline.yaml",
        )
    })?;
    let text = source::text(&name, bytes)?;
    let mut load = |path: &str| {
        let bytes = std::fs::read(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => LoadError::Missing,
            _ => LoadError::Other(error.to_string()),
        })?;
        String::from_utf8(bytes).map_err(|_| LoadError::NotText)
    };
    let resolved = reprise_spec::read::experiment(&name, &text, &mut load)?;
    let problems = resolved.unknown_stages(&stages);
    if problems.is_empty() { Ok(resolved) } else { Err(SpecErrors { file: name, problems }.into()) }
}

/// The names of the stages that a run of this variant has.
fn stages(variant: &Variant) -> BTreeSet<String> {
    // A variant that has no plan is refused when it is planned.
    let plan = Plan::of(&variant.setting, 0, &Contents::default()).unwrap_or_default();
    plan.nodes.into_iter().map(|node| node.name).collect()
}

/// The texts that an experiment was read from, each under a comment with its name.
pub fn texts(resolved: &Resolved) -> String {
    experiment::joined(resolved.sources.iter().map(|file| (file.name.as_str(), file.text.as_str())))
}

/// The store that `places` and the current folder name.
pub fn store(places: &Places, experiment: Option<&Path>) -> Result<Store, Failure> {
    let project = project(experiment)?;
    Ok(Store::locate(places.store.as_deref(), None, project.as_ref(), &here()?))
}

/// The data roots that `places` and the current folder name.
pub fn roots(places: &Places, experiment: Option<&Path>) -> Result<Roots, Failure> {
    let project = project(experiment)?;
    Ok(Roots::new(&places.data, std::env::var_os("REPRISE_DATA").as_deref(), project.as_ref()))
}

/// The project of the current folder, else that of an experiment.
pub fn project(experiment: Option<&Path>) -> Result<Option<Project>, Failure> {
    Ok(Project::find(&here()?, experiment)?)
}

/// The current folder.
pub fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::user(format!("cannot tell the current folder: {error}"), "change to a folder that exists")
    })
}

/// The files of the experiment's corpus as they are on disk or in committed lists.
pub fn survey(
    experiment: &Experiment,
    path: &Path,
    places: &Places,
    verify: bool,
    progress: &mut dyn FnMut(Hashing),
) -> Result<CorpusFiles, Failure> {
    survey_in(experiment, path, &roots(places, Some(path))?, verify, progress)
}

/// [`survey`] in these data roots.
pub fn survey_in(
    experiment: &Experiment,
    path: &Path,
    roots: &Roots,
    verify: bool,
    progress: &mut dyn FnMut(Hashing),
) -> Result<CorpusFiles, Failure> {
    let mut hasher = Hasher::new(hashing::cache_folder(), verify, progress);
    let folder = path.parent().unwrap_or(Path::new(""));
    let needed = plan::needed(experiment);
    let corpus = experiment
        .corpus()
        .ok_or_else(|| Failure::user("the experiment has no variant", "give its `matrix` an axis"))?;
    Ok(CorpusFiles::survey(&corpus, &needed, folder, roots, &mut hasher)?)
}

/// The graph of stages of all variants and seeds.
pub fn plan(experiment: &Experiment, files: &CorpusFiles) -> Result<Plan, Failure> {
    Ok(Plan::new(experiment, &files.contents())?)
}

/// The variants of these names with their places, in the order of the experiment; all of them where no name is given.
pub fn chosen<'e>(experiment: &'e Experiment, names: &[String]) -> Result<Vec<(usize, &'e Variant)>, Failure> {
    let called = |variant: &Variant, name: &String| variant.name == *name || variant.aliases.contains(name);
    if let Some(unknown) = names.iter().find(|name| !experiment.variants.iter().any(|variant| called(variant, name))) {
        let known: Vec<&str> = experiment.variants.iter().map(|variant| variant.name.as_str()).collect();
        let help = format!("its variants: {}", known.join(", "));
        return Err(Failure::user(format!("the experiment has no variant {unknown:?}"), help));
    }
    let wanted = |variant: &Variant| names.is_empty() || names.iter().any(|name| called(variant, name));
    Ok(experiment.variants.iter().enumerate().filter(|(_, variant)| wanted(variant)).collect())
}
