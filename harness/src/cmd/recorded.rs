//! What verbs that execute a recorded run again do first: read what it was asked for, find its corpus, and plan it as it was.

use reprise_spec::experiment::{Experiment, Variant};

use super::{Places, load, progress};
use crate::data::hashing;
use crate::data::{CorpusFiles, Roots};
use crate::execute::{self, Identity, Job, Machine};
use crate::exit::Failure;
use crate::plan::{Need, Node, Plan, RunOf};
use crate::provenance::Provenance;
use crate::store::{ListedRun, Means, Recipe, RunId, RunRecord, StageRecord, Store};

/// A recorded run with all that is needed to execute its stages.
pub struct Recorded {
    pub record: RunRecord,
    recipe: Recipe,
    variant: Variant,
    text: String,
    files: CorpusFiles,
    plan: Plan,
}

impl Recorded {
    /// The run as it was asked for, on the corpus that lies where `--data` says, else where it lay then, else where any root has it.
    pub fn of(record: RunRecord, store: &Store, places: &Places) -> Result<Self, Failure> {
        let id = &record.id;
        let recipe = store.recipe(&record)?.ok_or_else(|| {
            Failure::user(
                format!("run {id} has no recipe: it was made by a program that recorded none"),
                "give its experiment to `reprise run`, which picks up by itself",
            )
        })?;
        let mut roots = load::roots(places, Some(&recipe.file))?;
        let before = recipe.corpus.as_deref().and_then(|corpus| corpus.parent());
        roots.0.splice(places.data.len()..places.data.len(), before.map(Into::into));
        let text = store.experiment_text(id)?;
        Self::planned(record, recipe, text, &roots, &mut |_| Ok(()))
    }

    /// The run with this recipe, on the corpus that one of the roots has, when `fits` has nothing against its files.
    pub fn planned(
        record: RunRecord,
        recipe: Recipe,
        text: String,
        roots: &Roots,
        fits: &mut dyn FnMut(&CorpusFiles) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let id = &record.id;
        let mut bar = progress::hashing();
        let variant = recipe.experiment.variants.iter().find(|variant| variant.setting.hash() == record.variant);
        let variant = variant.cloned().ok_or_else(|| {
            Failure::user(
                format!("the recipe of run {id} doesn't have its variant"),
                "give its experiment to `reprise run` for a new one",
            )
        })?;
        let experiment = Experiment { variants: vec![variant.clone()], ..recipe.experiment.clone() };
        let files = load::survey_in(&experiment, &recipe.file, roots, false, &mut |state| bar.show(state))?;
        files.complete()?;
        fits(&files)?;
        let plan = Plan::of(&variant.setting, record.seed, &files.contents())?;
        unchanged(&record, &plan)?;
        Ok(Self { record, recipe, variant, text, files, plan })
    }

    /// The record of a run, which must not be damaged.
    pub fn record(listed: ListedRun) -> Result<RunRecord, Failure> {
        let help = "its stages are not: run the experiment again";
        listed.record.map_err(|damage| Failure::user(format!("run {} is damaged: {damage}", listed.id), help))
    }

    /// What the latest attempt was asked to execute its stages with.
    pub fn means(&self) -> Means {
        self.record.attempts.iter().rev().find_map(|attempt| attempt.means).unwrap_or_default()
    }

    /// The run as a job for `store`: a further attempt at the run `resume`, or a run of its own.
    pub fn job<'a>(
        &'a self,
        label: String,
        store: &'a Store,
        means: Means,
        resume: Option<RunId>,
    ) -> Result<Job<'a>, Failure> {
        let (trainer, cache) = (execute::find_trainer()?, hashing::cache_folder());
        Ok(Job {
            label,
            recipe: &self.recipe,
            text: &self.text,
            identity: Identity::of(&self.recipe.experiment, &self.variant),
            plan: &self.plan,
            run: run_of(&self.record),
            corpus: &self.files,
            store,
            provenance: Provenance::of(&self.recipe.file),
            machine: Machine { trainer, means, cache, verify_data: false },
            resume,
        })
    }
}

/// The only run of a plan that was made for it.
fn run_of(record: &RunRecord) -> RunOf {
    RunOf { variant: 0, seed: record.seed }
}

/// Whether the plan has the stages of the run under their keys.
fn unchanged(record: &RunRecord, plan: &Plan) -> Result<(), Failure> {
    let id = &record.id;
    let nodes: Vec<(&Node, &Need)> = plan.run(run_of(record)).into_iter().map(|(_, node, need)| (node, need)).collect();
    let differs = |((node, _), stage): &(&(&Node, &Need), &StageRecord)| node.key != Some(stage.key);
    let Some(((node, need), stage)) = nodes.iter().zip(&record.stages).find(differs) else {
        return match nodes.len() == record.stages.len() {
            true => Ok(()),
            false => Err(Failure::user(
                format!("run {id} has {} stages, this program plans {}", record.stages.len(), nodes.len()),
                "use the program that made the run, or give its experiment to `reprise run` for a new one",
            )),
        };
    };
    let name = &stage.name;
    Err(match node.kind == stage.kind && need.name == *name {
        true => Failure::user(
            format!("the corpus has changed: `{name}` of run {id} read other files than are there now"),
            "restore the files, name their folder with --data DIR, or give the experiment to `reprise run` for a new run",
        ),
        false => Failure::user(
            format!("run {id} has the stage `{name}` ({}), this program `{}` ({})", stage.kind, need.name, node.kind),
            "use the program that made the run, or give its experiment to `reprise run` for a new one",
        ),
    })
}
