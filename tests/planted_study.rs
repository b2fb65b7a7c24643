//! Stores with finished runs that nothing was executed for: every number is a function of variant, seed, step and name.

use std::fs;
use std::path::Path;

use reprise::plan::{self, Contents, Edge, Node, Plan, RunOf};
use reprise::store::{ManifestInput, Store};
use reprise_spec::contract::Score;
use reprise_spec::decoding::ResamplingUnit;
use reprise_spec::evaluation::Point;
use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{ContentDigest, OutputDigest};
use reprise_spec::read::LoadError;
use reprise_spec::recognition::{Edits, ErrorRate, Recognised, Scores};
use reprise_spec::stage::{ProbeStage, Stage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::planted::{self, Output, score};

/// How much there is of everything, and what it is called.
#[derive(Clone, Debug)]
pub struct Planting {
    /// Metrics that a training logs beside its loss.
    pub curves: usize,
    /// Every so many steps.
    pub every: u64,
    /// What the second utterance of every split was recognised as.
    pub heard: &'static str,
    /// The id and the speaker of that utterance.
    pub named: [&'static str; 2],
    /// The name of a fact of every run's environment, and its value.
    pub fact: [&'static str; 2],
    /// What every probe found for its PNMI.
    pub pnmi: f64,
    /// What every training logged as its loss in the end.
    pub end: f64,
}

impl Default for Planting {
    fn default() -> Self {
        let [heard, named, fact] = ["THE WHITE BUS", "301-1-0001 301", "libtorch-version 2.11.0"];
        let two = |text: &'static str| text.split_once(' ').expect("two words").into();
        Self { curves: 2, every: 10, heard, named: two(named), fact: two(fact), pnmi: 0.5, end: 2.0 }
    }
}

/// Reads an experiment that extends nothing.
pub fn experiment(text: &str) -> Experiment {
    let mut load = |_: &str| Err(LoadError::Missing);
    reprise_spec::read::experiment("planted.yaml", text, &mut load).expect("an experiment").experiment
}

impl Planting {
    /// Makes the runs of every variant and seed in a store at `root`.
    pub fn plant(&self, experiment: &Experiment, root: &Path) {
        let needed = plan::needed(experiment);
        let digest = |text: &str| ContentDigest(Sha256::digest(text).into());
        let splits = needed.splits.into_iter().map(|part| (part.clone(), digest(&format!("{part:?}"))));
        let contents = Contents { splits: splits.collect(), ..Contents::default() };
        let plan = Plan::new(experiment, &contents).expect("a plan");
        let store = Store::at(root);
        for node in &plan.nodes {
            let need = &node.runs[0];
            self.output(&plan, node, need.point, need.run, &store);
        }
        let mut number = 0;
        for variant in 0..experiment.variants.len() {
            for &seed in &experiment.seeds {
                number += 1;
                self.run(experiment, &plan, RunOf { variant, seed }, number, &store);
            }
        }
    }

    /// One output, by the run that needs it first.
    fn output(&self, plan: &Plan, node: &Node, point: Option<Point>, run: RunOf, store: &Store) {
        let (key, stage) = (node.key.expect("a key"), node.stage.as_ref().expect("settings"));
        let at = run.variant as f64 / 50.0 + run.seed as f64 / 400.0;
        let late = point.map_or(0.0, |point| point.cumulative as f64 / 10_000.0);
        let mut output = Output { log: self.log(stage, at), ..Output::default() };
        match stage {
            Stage::Decode(_) => {
                let rows = self.recognised(run);
                let edits: Edits = rows.iter().map(|row| row.alignment.edits()).sum();
                let (wer, cer) = ((0.5 + at - late).max(0.05), (0.25 + at / 2.0).max(0.02));
                let around = |rate: f64| (rate - 0.05, rate + 0.06);
                let rate = |rate: f64| ErrorRate { rate, interval: around(rate), edits };
                let scores = Scores {
                    wer: rate(wer),
                    cer: rate(cer),
                    ser: 0.75,
                    empty_hypotheses: 0.0,
                    utterances: rows.len(),
                    speakers: 1,
                    resampled: ResamplingUnit::Utterance,
                };
                output.files.push(("hypotheses.tsv", Recognised::table(&rows)));
                output.files.push(("scores.json", serde_json::to_string(&scores).expect("JSON")));
                let interval = |name: &str, value: f64| Score { interval: Some(around(value)), ..score(name, value) };
                output.summary = vec![interval("wer", wer), interval("cer", cer), score("ser", 0.75)];
            }
            Stage::Probe(ProbeStage::UnitQuality(_)) => {
                output.summary = vec![
                    score("pnmi", self.pnmi),
                    score("pnmi-null", 0.03),
                    score("pnmi-corrected", self.pnmi - 0.03),
                    score("phone-purity", 0.5 - at),
                    score("cluster-purity", 0.3 - at),
                ];
            }
            Stage::Probe(ProbeStage::Layers(_)) => {
                output.files.push(("layers.json", layers(at, late, point.is_none())));
            }
            Stage::Pretrain(_) => {
                output.summary = vec![
                    score("masked-accuracy", 0.2 + at),
                    score("most-frequent-unit", 0.05),
                    score("trained", 1.0),
                    score("audio-seconds", 3600.0 * (1.0 + late)),
                ];
            }
            Stage::Finetune(_) => output.summary.push(score("validation-wer", 0.4 + at)),
            _ => output.summary.push(score("utterances", 2.0)),
        }
        let input = |edge: &Edge| {
            let read = &plan.nodes[edge.node];
            ManifestInput { role: edge.role.clone(), key: read.key.expect("a key"), digest: digest_of(read) }
        };
        let mut inputs: Vec<ManifestInput> = node.inputs.iter().map(input).collect();
        inputs.sort();
        planted::keep(store, stage, node.seed, key, digest_of(node), inputs, &output);
    }

    fn run(&self, experiment: &Experiment, plan: &Plan, run: RunOf, number: usize, store: &Store) {
        let variant = &experiment.variants[run.variant];
        let id = format!("20260101-{number:06}-{number:06x}");
        let stages: Vec<Value> = plan
            .run(run)
            .into_iter()
            .map(|(_, node, need)| {
                let state = match node.runs[0].run == run {
                    true => json!({ "executed": { "digest": digest_of(node), "seconds": 1.5 } }),
                    false => json!({ "reused": { "digest": digest_of(node) } }),
                };
                let mut stage = json!({ "name": need.name, "kind": node.kind, "key": node.key, "state": state });
                if let Some(point) = need.point {
                    stage["point"] = json!(point);
                }
                stage
            })
            .collect();
        let [fact, value] = self.fact;
        let record = json!({
            "format": 1, "id": id, "experiment": experiment.name, "spec": experiment.spec_hash(), "variant": variant.setting.hash(),
            "variant-name": variant.name, "seed": run.seed, "status": "finished", "stages": stages, "error": null,
            "environment": { fact: value, "cpu-capability": "avx2", "libtorch-path": "/somewhere/of/this/machine" },
            "attempts": [{
                "owner": { "host": "planted", "boot": null, "namespace": null, "process": { "pid": 1, "start": 1 } },
                "means": { "device": "cpu", "threads": 2, "loader-threads": 1, "checkpoint-seconds": 60 },
                "started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:10:00Z",
            }],
            "provenance": {
                "build": "planted", "experiment": { "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main", "dirty": false },
            },
        });
        let folder = store.root().join("runs").join(&id);
        fs::create_dir_all(&folder).expect("a folder");
        let recipe = json!({ "format": 2, "experiment": experiment, "file": "/of/this/machine/experiments/planted.yaml", "corpus": null });
        for (name, value) in [("run.json", record), ("recipe.json", recipe)] {
            fs::write(folder.join(name), value.to_string()).expect("a record");
        }
    }

    fn recognised(&self, run: RunOf) -> Vec<Recognised> {
        let row = |id: &str, speaker: &str, hypothesis: &str, alignment: &str| Recognised {
            id: id.into(),
            speaker: speaker.into(),
            reference: "THE WHITE BUS".into(),
            hypothesis: hypothesis.into(),
            alignment: alignment.parse().expect("an alignment"),
        };
        let first = if run.variant == 0 {
            row("301-1-0000", "301", "A WHITE", "SCD")
        } else {
            row("301-1-0000", "301", "THE BITE BUS", "CSC")
        };
        let [id, speaker] = self.named;
        vec![first, row(id, speaker, self.heard, "SSS")]
    }

    /// A falling loss, and curves that wave.
    fn log(&self, stage: &Stage, at: f64) -> Vec<(String, u64, f64)> {
        let steps = match stage {
            Stage::Pretrain(stage) => u64::from(stage.steps.get()),
            Stage::Finetune(stage) => u64::from(stage.finetuning.steps.get()),
            _ => return Vec::new(),
        };
        let mut points = Vec::new();
        for step in (self.every..=steps).step_by(self.every as usize) {
            let x = step as f64 / steps as f64;
            let loss = if step + self.every > steps { self.end } else { 2.0 + at + 3.0 * (-4.0 * x).exp() };
            points.push(("loss".to_owned(), step, loss));
            for curve in 0..self.curves {
                points.push((format!("curve-{curve}"), step, (x * (curve + 1) as f64 + at).sin()));
            }
        }
        points
    }
}

fn digest_of(node: &Node) -> OutputDigest {
    OutputDigest(Sha256::digest(node.key.expect("a key").0).into())
}

/// Nine layers whose words fade towards the top, the more the later.
fn layers(at: f64, late: f64, control: bool) -> String {
    let curve = |metric: &str, analysis: &str, height: f64| {
        let score = |layer: u32| {
            let x = f64::from(layer) / 8.0;
            let mean = if control { 0.2 } else { height + 0.3 * (3.0 * x).sin() - late * 20.0 * x + at };
            json!({
                "layer": layer, "other": null, "samples": 500, "sizes": [20, 40], "values": 3, "mean": mean, "deviation": 0.01, "null": 0.02,
                "null-deviation": 0.001, "refused": if metric == "cca-phone" && layer == 8 { json!("too few samples") } else { json!(null) },
            })
        };
        json!({ "metric": metric, "analysis": analysis, "layers": (0..=8).map(score).collect::<Vec<_>>() })
    };
    let words = json!({ "analysed": ["BUS", "WHITE"], "segments": 500, "dropped": { "THE": 3 } });
    json!({
        "splits": ["dev"], "seen-in-pretraining": [], "depth": 8, "too-shallow": false, "utterances": 40, "unaligned": ["301-1-0007"],
        "labels": { "words": words }, "curves": [curve("cca-word", "cca-word", 0.4), curve("cca-phone", "cca-phone", 0.5)],
    })
    .to_string()
}
