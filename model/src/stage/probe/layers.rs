//! Layer-wise analysis: what every layer of a network says about words, phones and the input.
//!
//! Each utterance passes through the network once. Means of segments and a bounded sample of frames are held, of every layer; the rest of the
//! features is gone with its utterance. Codebooks of frames are fitted between the utterances that are set apart for it and the others.

use std::collections::BTreeMap;

use reprise_spec::contract::{Level, Score};
use reprise_spec::layers::{Curve, DEEP_ENOUGH, FILE, Findings};
use reprise_spec::probing::Analysis;
use reprise_spec::stage::{LayersStage, Role};
use tch::nn::VarStore;

use crate::failure::StageError;
use crate::hidden_states::{HiddenStates, every_layer};
use crate::hubert::Hubert;
use crate::stage::{Work, pretrain};

mod codebooks;
mod correlations;
mod discrimination;
mod extraction;
mod material;
mod scoring;
mod unlabelled;

use extraction::{Extraction, Gathered, Look};
use material::{Material, Sampling};
use scoring::Scorer;

/// What layers are measured by.
struct Evidence<'a> {
    settings: &'a LayersStage,
    material: &'a Material,
    samplings: &'a [Sampling],
    /// Of each sampling.
    gathered: Vec<Gathered>,
    /// Of every layer from the first on, in each utterance.
    looks: Vec<Vec<Look>>,
    /// Samples from one frame of each layer to the next.
    strides: Vec<u64>,
}

/// Writes `layers.json` ([`Findings`]) and `layers.tsv`.
pub fn run(settings: &LayersStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let seed = work.seed()?;
    let hidden = network(settings, seed, work)?;
    let material = Material::read(settings, seed, work)?;
    let samplings = material.draw(settings, &hidden.settings, seed)?;
    for sampling in &samplings {
        correlations::enough_samples(settings, &hidden.settings, sampling)?;
    }
    let mut extraction = Extraction::new(settings, &hidden, &material, &samplings, work.device);
    extraction.pass(true, work)?;
    extraction.fit_codebooks(work)?;
    extraction.pass(false, work)?;
    let (gathered, looks) = extraction.finish()?;
    let strides = hidden.states().iter().map(|state| hidden.stride(state)).collect();
    let evidence = Evidence { settings, material: &material, samplings: &samplings, gathered, looks, strides };

    let depth = hidden.settings.encoder.layers.get();
    let mut scorer = Scorer {
        control: settings.control.is_some(),
        layers: depth as usize + 1,
        progress: (0, settings.analyses.len() as u64),
        work,
    };
    let mut curves = Vec::new();
    for analysis in &settings.analyses {
        curves.extend(measure(*analysis, &evidence, &mut scorer)?);
        scorer.progress.0 += 1;
    }
    let findings = Findings {
        splits: settings.layers.splits.clone(),
        seen_in_pretraining: settings.seen.clone(),
        depth,
        too_shallow: (depth as usize) < DEEP_ENOUGH,
        utterances: material.subjects.len() as u64,
        labels: samplings.first().map_or_else(BTreeMap::new, Sampling::labels),
        unaligned: material.unaligned,
        curves,
    };
    tell(&findings, work);
    let json = serde_json::to_vec_pretty(&findings).map_err(|error| StageError::Failed(error.to_string()))?;
    work.write(FILE, &json)?;
    work.write("layers.tsv", findings.table().as_bytes())?;
    Ok(findings.curves.iter().flat_map(scores).collect())
}

/// Every layer of the pretrained model, or of one with the weights that pretraining starts from.
fn network(settings: &LayersStage, seed: u64, work: &Work) -> Result<HiddenStates, StageError> {
    let Some(network) = &settings.control else {
        return HiddenStates::load(work.input(&Role::Pretrained)?, work.device, |network| Ok(every_layer(network)));
    };
    tch::manual_seed(pretrain::at_random(seed).torch_seed());
    let hubert = Hubert::new(&VarStore::new(work.device).root(), network);
    work.adopt_input_units(&hubert)?;
    Ok(HiddenStates::of_network(hubert, network.clone(), work.device))
}

fn measure(analysis: Analysis, evidence: &Evidence, scorer: &mut Scorer) -> Result<Vec<Curve>, StageError> {
    match analysis {
        Analysis::CcaWord | Analysis::CcaPhone | Analysis::CcaMel | Analysis::CcaIntra => {
            Ok(vec![correlations::curve(analysis, evidence, scorer)?])
        }
        Analysis::MiWord | Analysis::MiPhone => codebooks::of_segments(analysis, evidence, scorer),
        Analysis::Pnmi => codebooks::of_frames(evidence, scorer),
        Analysis::Abx => Ok(vec![discrimination::curve(evidence, scorer)?]),
        Analysis::EffectiveRank => Ok(vec![unlabelled::effective_rank(evidence, scorer)?]),
        Analysis::Cka => Ok(vec![unlabelled::cka(evidence, scorer)?]),
        Analysis::Attention => unlabelled::attention(evidence, scorer),
    }
}

/// Says what was left out and what the numbers cannot show.
fn tell(findings: &Findings, work: &mut Work) {
    for (kind, labels) in &findings.labels {
        let (kept, segments) = (labels.analysed.len(), labels.segments);
        let message =
            format!("{kind}: {kept} labels, {segments} segments; {} rare labels dropped", labels.dropped.len());
        work.report.say(Level::Info, message);
    }
    if !findings.unaligned.is_empty() {
        let message = format!("{} utterances without alignment left out", findings.unaligned.len());
        work.report.say(Level::Warning, message);
    }
    if findings.too_shallow {
        let message = format!("{} layers are too shallow to show what top layers do", findings.depth);
        work.report.say(Level::Warning, message);
    }
}

/// What listings show of a curve; nothing where a layer's number supports nothing.
fn scores(curve: &Curve) -> Vec<Score> {
    let Some(summary) = curve.summary() else { return Vec::new() };
    let numbers = [
        ("best", summary.best),
        ("best-layer", summary.best_layer.into()),
        ("top-drop", summary.top_drop),
        ("area", summary.area),
    ];
    let score = |(name, value)| Score { name: format!("{}-{name}", curve.metric), value, interval: None };
    numbers.into_iter().map(score).collect()
}
