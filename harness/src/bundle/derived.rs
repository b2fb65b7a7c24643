//! Files of a bundle that say over again what its store says: the plan, and every number.

use std::collections::BTreeSet;
use std::fmt::Write;

use reprise_spec::identity::{OutputDigest, StageKey, VariantHash};
use reprise_spec::stage::{Role, Stage};
use serde::{Deserialize, Serialize};

use crate::inert::csv;
use crate::measures::{self, Address};
use crate::store::{RunId, RunRecord, Store};

/// The resolved plan: every stage once, and what each run calls it.
pub const PLAN: &str = "plan.json";

/// Every number.
pub const METRICS: &str = "metrics.json";

/// The same as a table.
pub const METRICS_TABLE: &str = "metrics.csv";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PlanOfRuns {
    stages: Vec<PlannedStage>,
    runs: Vec<PlannedRun>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PlannedStage {
    key: StageKey,
    kind: String,
    seed: Option<u64>,
    settings: Stage,
    inputs: Vec<PlannedInput>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PlannedInput {
    role: Role,
    key: StageKey,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PlannedRun {
    run: RunId,
    variant: VariantHash,
    variant_name: String,
    seed: u64,
    stages: Vec<PlannedName>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PlannedName {
    name: String,
    key: StageKey,
}

/// The numbers of one run.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunMetrics {
    pub run: RunId,
    pub variant_name: String,
    pub seed: u64,
    pub metrics: Vec<Metric>,
}

/// One number.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metric {
    pub address: Address,
    /// Absent where it is not finite.
    pub value: Option<f64>,
    pub interval: Option<(f64, f64)>,
    pub key: StageKey,
    pub digest: OutputDigest,
    /// Why it supports nothing, where the stage says so.
    pub refused: Option<String>,
}

/// The text of [`PLAN`].
pub fn plan(runs: &[RunRecord], store: &Store) -> Vec<u8> {
    let mut seen = BTreeSet::new();
    let mut stages = Vec::new();
    for stage in runs.iter().flat_map(|run| &run.stages).filter(|stage| seen.insert(stage.key)) {
        let output = stage.state.digest().and_then(|digest| store.output(&stage.key, &digest));
        let Some(manifest) = output.map(|output| output.manifest) else { continue };
        let inputs =
            manifest.inputs.into_iter().map(|input| PlannedInput { role: input.role, key: input.key }).collect();
        let (key, kind, seed, settings) = (manifest.key, manifest.kind, manifest.seed, manifest.settings);
        stages.push(PlannedStage { key, kind, seed, settings, inputs });
    }
    let planned = |run: &RunRecord| PlannedRun {
        run: run.id.clone(),
        variant: run.variant,
        variant_name: run.variant_name.clone(),
        seed: run.seed,
        stages: run.stages.iter().map(|stage| PlannedName { name: stage.name.clone(), key: stage.key }).collect(),
    };
    json(&PlanOfRuns { stages, runs: runs.iter().map(planned).collect() })
}

/// Every number of every run.
pub fn metrics(runs: &[RunRecord], store: &Store) -> Vec<RunMetrics> {
    let of_run = |run: &RunRecord| {
        let metric = |(address, measure): (Address, measures::Measure)| Metric {
            address,
            value: Some(measure.value).filter(|value| value.is_finite()),
            interval: measure.interval,
            key: measure.key,
            digest: measure.digest,
            refused: measure.refused,
        };
        let metrics = measures::of(run, store).into_iter().map(metric).collect();
        RunMetrics { run: run.id.clone(), variant_name: run.variant_name.clone(), seed: run.seed, metrics }
    };
    runs.iter().map(of_run).collect()
}

/// The text of [`METRICS_TABLE`]: one row a number.
pub fn table(metrics: &[RunMetrics]) -> String {
    let mut text = "run,variant,seed,stage,metric,value,low,high,refused\n".to_owned();
    for RunMetrics { run, variant_name, seed, metrics } in metrics {
        for Metric { address, value, interval, refused, .. } in metrics {
            let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let value = value.map_or_else(|| "not finite".to_owned(), |value| value.to_string());
            let (low, high) = (number(interval.map(|ends| ends.0)), number(interval.map(|ends| ends.1)));
            let (variant, stage, metric) = (csv(variant_name), csv(&address.stage), csv(&address.metric));
            let refused = csv(refused.as_deref().unwrap_or_default());
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{run},{variant},{seed},{stage},{metric},{value},{low},{high},{refused}");
        }
    }
    text
}

/// A record as a file.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // Records hold no maps with keys that JSON can't spell, so this can't fail.
    let mut bytes = serde_json::to_vec_pretty(value).expect("a record that JSON can spell");
    bytes.push(b'\n');
    bytes
}
