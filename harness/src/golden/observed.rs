//! What an experiment's runs give now, as far as a check asks for it.

use std::collections::BTreeMap;

use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{SpecHash, StageKey};
use reprise_spec::values::Name;

use super::ALONE;
use crate::cohort::{Cohort, LeftOut};
use crate::measures::{self, Measures};
use crate::store::{RunId, RunRecord, Store};

/// The runs of an experiment as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub experiment: Name,
    pub spec: SpecHash,
    /// Declared by the experiment.
    pub seeds: Vec<u64>,
    /// In the order of the experiment.
    pub groups: Vec<ObservedGroup>,
    /// Finished runs whose numbers don't compare with those of the newest.
    pub left_out: Vec<LeftOut>,
}

/// The runs of one variant.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedGroup {
    /// As golden files call it.
    pub name: String,
    pub aliases: Vec<String>,
    /// By seed.
    pub runs: BTreeMap<u64, ObservedRun>,
}

/// One finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedRun {
    pub id: RunId,
    /// By name.
    pub stages: BTreeMap<String, ObservedStage>,
    pub measures: Measures,
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedStage {
    /// Kind and version.
    pub kind: String,
    pub key: StageKey,
    /// What decides bits of its output; `None` where that is no longer stored.
    pub made_with: Option<String>,
}

impl Observed {
    /// What the runs of a cohort of `experiment` give.
    pub fn of(experiment: &Experiment, cohort: &Cohort, store: &Store) -> Self {
        let groups = cohort.groups.iter().map(|group| ObservedGroup {
            name: if group.name.is_empty() { ALONE.into() } else { group.name.clone() },
            aliases: group.aliases.clone(),
            runs: group.runs.iter().map(|(seed, run)| (*seed, ObservedRun::of(run, store))).collect(),
        });
        Self {
            experiment: experiment.name.clone(),
            spec: experiment.spec_hash(),
            seeds: experiment.seeds.clone(),
            groups: groups.collect(),
            left_out: cohort.left_out.clone(),
        }
    }

    /// The runs of the variant that a golden file calls so.
    pub fn group(&self, name: &str) -> Option<&ObservedGroup> {
        let called = |group: &&ObservedGroup| group.name == name || group.aliases.iter().any(|alias| alias == name);
        self.groups.iter().find(called)
    }
}

impl ObservedRun {
    /// What one run gives, as far as its outputs are stored.
    pub fn of(run: &RunRecord, store: &Store) -> Self {
        let stages = run.stages.iter().map(|stage| {
            let output = stage.state.digest().and_then(|digest| store.output(&stage.key, &digest));
            let made_with = output.map(|output| made_with(&output.manifest.environment));
            (stage.name.clone(), ObservedStage { kind: stage.kind.clone(), key: stage.key, made_with })
        });
        Self { id: run.id.clone(), stages: stages.collect(), measures: measures::of(run, store) }
    }
}

/// What decides bits of an output, in one line.
fn made_with(environment: &BTreeMap<String, String>) -> String {
    let fact = |name: &str| environment.get(name).map(String::as_str);
    let parts = [
        fact("device").filter(|device| *device != "cpu").map(String::from),
        fact("cuda-driver").map(|driver| format!("driver {driver}")),
        fact("cpu-model").map(String::from),
        fact("cpu-capability").map(String::from),
        fact("libtorch-version").map(|version| format!("libtorch {version}")),
        fact("threads").map(|threads| format!("threads {threads}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "unknown".into() } else { parts.join(", ") }
}
