//! The numbers of a run, gathered from the manifests of its stages.

use std::collections::{BTreeMap, BTreeSet};

use reprise_spec::contract::Score;
use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::finetuning::Top;
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::stage::{PretrainTargets, ProbeStage, Role, Stage};
use serde::Serialize;

use crate::store::{Manifest, ManifestInput, RunRecord, StageRecord, Store, StoredOutput};

pub mod layers;

use layers::Layers;

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Results {
    /// First to last.
    pub iterations: Vec<Iteration>,
    /// Codebooks that were measured and that nothing was trained on, in the order of the experiment.
    pub codebooks: Vec<Codebook>,
    /// The points of pretraining at which a model was fine-tuned, in ascending order; one without a place where nothing was pretrained. Of a point
    /// the whole network comes first, then what was made of its top layers.
    pub judgements: Vec<Judgement>,
    /// What is found at every layer.
    pub layers: Layers,
}

/// One iteration of pretraining.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Iteration {
    /// What it predicted: one set of units as a rule, several for an ensemble; none where the stage of the units is no longer stored.
    pub targets: Vec<Units>,
    pub steps: u64,
    pub pretraining: Vec<Score>,
}

/// One set of units.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Units {
    /// What was clustered: `mfcc`, `log-mel`, `layer 6`; or `quantiser`.
    pub source: String,
    pub clusters: u32,
    pub scores: Vec<Score>,
    pub quality: Vec<Score>,
}

/// A codebook that was only measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Codebook {
    /// What it is of: source, clusters, share of the utterances that it was fitted on, and seed.
    pub name: String,
    #[serde(flatten)]
    pub units: Units,
}

/// What fine-tuning made of the model at a point.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Judgement {
    pub point: Option<Point>,
    pub top: Top,
    /// What pretraining took up to there.
    pub cost: Cost,
    pub finetuning: Vec<Score>,
    /// The weights of the decoding that were tuned, and the error rate that they were chosen for; none where they are fixed.
    pub tuning: Vec<Score>,
    /// One entry a decoded split.
    pub recognition: Vec<Recognition>,
}

/// What pretraining took up to a point, extraction and clustering included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cost {
    /// Audio trained on, repetitions counted.
    pub audio_seconds: f64,
    /// Time on the device of the stages that led there, each counted once, as far as they are stored. Of a stage that was killed and continued
    /// only its last attempt is known.
    pub device_seconds: f64,
}

/// The scores of one decoded split.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recognition {
    pub split: String,
    pub scores: Vec<Score>,
}

impl Judgement {
    /// Whether a claim may compare this point's numbers with those of others: not of a model in mid-schedule.
    pub fn compares(&self) -> bool {
        self.point.is_none_or(|point| point.rate != Rate::Running)
    }
}

impl Results {
    /// The results of a run as far as it came. Stages whose output is no longer stored are left out.
    pub fn of(run: &RunRecord, store: &Store) -> Self {
        let mut results = Self::default();
        let mut units: BTreeMap<StageKey, Units> = BTreeMap::new();
        let mut measured_alone: Vec<(String, StageKey)> = Vec::new();
        let mut tops: BTreeMap<StageKey, Top> = BTreeMap::new();
        for stage in &run.stages {
            let Some(output) = output(stage, store) else { continue };
            let manifest = &output.manifest;
            let (summary, inputs) = (&manifest.summary, &manifest.inputs);
            match &manifest.settings {
                Stage::Units(settings) => {
                    let (source, clusters) = (settings.source.to_string(), settings.clusters.get());
                    let found = Units { source, clusters, scores: summary.clone(), quality: Vec::new() };
                    units.insert(manifest.key, found);
                    if let Some(name) = stage.name.strip_prefix("units of ") {
                        measured_alone.push((name.to_owned(), manifest.key));
                    }
                }
                Stage::Probe(ProbeStage::UnitQuality(_)) => {
                    let measured = inputs.iter().find(|input| input.role == Role::Units);
                    if let Some(measured) = measured.and_then(|input| units.get_mut(&input.key)) {
                        measured.quality = summary.clone();
                    }
                }
                Stage::Probe(ProbeStage::Layers(_)) => results.layers.add(stage.point, &output),
                Stage::Pretrain(settings) if stage.point.is_none_or(ends_iteration) => {
                    let targets = match &settings.targets {
                        PretrainTargets::Units(_) => inputs
                            .iter()
                            .filter(|input| matches!(input.role, Role::Targets(_)))
                            .filter_map(|input| units.get(&input.key).cloned())
                            .collect(),
                        PretrainTargets::Quantiser(quantiser) => {
                            let clusters = quantiser.groups.get() * quantiser.entries.get();
                            vec![Units { source: "quantiser".into(), clusters, ..Units::default() }]
                        }
                    };
                    let steps = u64::from(settings.steps.get());
                    results.iterations.push(Iteration { targets, steps, pretraining: summary.clone() });
                }
                Stage::Finetune(settings) => {
                    tops.insert(manifest.key, settings.top);
                    let judgement = results.judgement(stage.point, settings.top);
                    judgement.finetuning = summary.clone();
                    judgement.cost = Cost::of(manifest, store);
                }
                Stage::Tune(_) => results.judgement(stage.point, top_of(&tops, inputs)).tuning = summary.clone(),
                Stage::Decode(decode) => {
                    let recognition = Recognition { split: decode.split.to_string(), scores: summary.clone() };
                    results.judgement(stage.point, top_of(&tops, inputs)).recognition.push(recognition);
                }
                Stage::Pretrain(_) | Stage::Corpus(_) | Stage::Checkpoint(_) | Stage::Features(_) => {}
                Stage::LanguageModel(_) | Stage::Lexicon(_) | Stage::WordVectors(_) | Stage::WordPairs(_) => {}
            }
        }
        let codebook = |(name, key)| Some(Codebook { name, units: units.get(&key).cloned()? });
        results.codebooks = measured_alone.into_iter().filter_map(codebook).collect();
        results.judgements.sort_by_key(|judgement| (judgement.point, judgement.top));
        results.layers.correlate(&results.judgements);
        results
    }

    /// The judgements of whole networks.
    pub fn whole(&self) -> impl DoubleEndedIterator<Item = &Judgement> {
        self.judgements.iter().filter(|judgement| judgement.top == Top::Kept)
    }

    /// The judgement of the last step of pretraining, or of the model that was never pretrained.
    pub fn last(&self) -> Option<&Judgement> {
        self.whole().next_back()
    }

    fn judgement(&mut self, point: Option<Point>, top: Top) -> &mut Judgement {
        let index =
            self.judgements.iter().position(|known| (known.point, known.top) == (point, top)).unwrap_or_else(|| {
                self.judgements.push(Judgement { point, top, ..Judgement::default() });
                self.judgements.len() - 1
            });
        &mut self.judgements[index]
    }
}

impl Cost {
    /// What led to a fine-tuning, without the fine-tuning itself.
    fn of(finetuning: &Manifest, store: &Store) -> Self {
        let mut cost = Self::default();
        let mut seen: BTreeSet<(StageKey, OutputDigest)> = BTreeSet::new();
        let of_model = |role: &Role| *role == Role::Pretrained;
        let mut open: Vec<(StageKey, OutputDigest)> = read(finetuning, of_model).collect();
        while let Some((key, digest)) = open.pop() {
            if !seen.insert((key, digest)) {
                continue;
            }
            let Some(output) = store.output(&key, &digest) else { continue };
            let manifest = output.manifest;
            // Reading a corpus is no part of pretraining, and a checkpoint from elsewhere took its time elsewhere.
            if !matches!(manifest.settings, Stage::Corpus(_) | Stage::Checkpoint(_)) {
                cost.device_seconds += manifest.seconds;
            }
            let longer = manifest.continued.map(|continued| (continued.key, continued.digest));
            if let Stage::Pretrain(_) = manifest.settings {
                let seen = find(&manifest.summary, "audio-seconds").map_or(0.0, |score| score.value);
                // A stage that goes on from another counts the audio of both.
                let before = longer.and_then(|(key, digest)| store.output(&key, &digest));
                let before = before.and_then(|output| find(&output.manifest.summary, "audio-seconds").cloned());
                cost.audio_seconds += seen - before.map_or(0.0, |score| score.value);
            }
            open.extend(read(&manifest, |_| true));
            open.extend(longer);
        }
        cost
    }
}

fn read(manifest: &Manifest, wanted: impl Fn(&Role) -> bool) -> impl Iterator<Item = (StageKey, OutputDigest)> {
    manifest.inputs.iter().filter(move |input| wanted(&input.role)).map(|input| (input.key, input.digest))
}

/// What was done with the top layers of the fine-tuned model among these inputs.
fn top_of(tops: &BTreeMap<StageKey, Top>, inputs: &[ManifestInput]) -> Top {
    let finetuned = inputs.iter().find(|input| input.role == Role::Finetuned);
    finetuned.and_then(|input| tops.get(&input.key)).copied().unwrap_or_default()
}

fn ends_iteration(point: Point) -> bool {
    point.ends_iteration && point.rate != Rate::CooledDown
}

fn output(stage: &StageRecord, store: &Store) -> Option<StoredOutput> {
    store.output(&stage.key, &stage.state.digest()?)
}

/// The score of this name.
pub fn find<'a>(scores: &'a [Score], name: &str) -> Option<&'a Score> {
    scores.iter().find(|score| score.name == name)
}
