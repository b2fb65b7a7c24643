//! Layer-wise analysis: what every layer of a network says about words, phones and the input.
//!
//! Each utterance passes through the network once. Means of segments and a bounded sample of frames are held, of every layer; the rest of the
//! features is gone with its utterance. Codebooks of frames are fitted between the utterances that are set apart for it and the others.

use std::collections::BTreeMap;
use std::time::Instant;

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
mod enough;
mod extraction;
mod material;
mod meaning;
mod scoring;
mod steps;
mod unlabelled;

use enough::enough;
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
        enough(settings, &hidden.settings, &material, sampling)?;
    }
    let depth = hidden.settings.encoder.layers.get();
    let curves = curves(settings, &hidden, &material, &samplings, work)?;
    let findings = Findings {
        splits: settings.layers.splits.clone(),
        seen_in_pretraining: settings.seen.clone(),
        depth,
        too_shallow: (depth as usize) < DEEP_ENOUGH,
        utterances: material.subjects.len() as u64,
        labels: samplings.first().map_or_else(BTreeMap::new, |sampling| sampling.labels(&material.meanings)),
        unaligned: material.unaligned,
        curves,
    };
    tell(&findings, work);
    let json = serde_json::to_vec_pretty(&findings).map_err(|error| StageError::Failed(error.to_string()))?;
    work.write(FILE, &json)?;
    work.write("layers.tsv", findings.table().as_bytes())?;
    Ok(findings.curves.iter().flat_map(scores).collect())
}

/// The curves of every analysis, in their order. Those that an earlier attempt finished are kept; what the others need is gathered anew.
fn curves(
    settings: &LayersStage,
    hidden: &HiddenStates,
    material: &Material,
    samplings: &[Sampling],
    work: &mut Work,
) -> Result<Vec<Curve>, StageError> {
    let damaged = |error: serde_json::Error| StageError::Failed(format!("finished analyses can't be used: {error}"));
    let mut finished = work.finished("analyses")?;
    let mut found: BTreeMap<Analysis, Vec<Curve>> = BTreeMap::new();
    for record in 0..finished.count() {
        let (analysis, curves) = serde_json::from_slice(&finished.read(record)?).map_err(damaged)?;
        found.insert(analysis, curves);
    }
    let mut left = settings.clone();
    left.analyses.retain(|analysis| !found.contains_key(analysis));
    let mut clock = Instant::now();
    let evidence = match left.analyses.iter().any(|analysis| *analysis != Analysis::CkaSteps) {
        true => Some(gather(&left, hidden, material, samplings, work)?),
        false => None,
    };
    if evidence.is_some() {
        took("gathering", &mut clock, work);
    }
    let progress = (found.len() as u64, settings.analyses.len() as u64);
    let layers = hidden.settings.encoder.layers.get() as usize + 1;
    let mut scorer = Scorer { control: settings.control.is_some(), layers, progress, work };
    for analysis in &left.analyses {
        let curves = match &evidence {
            Some(evidence) if *analysis != Analysis::CkaSteps => measure(*analysis, evidence, &mut scorer)?,
            _ => vec![steps::curve(hidden, material, samplings, &mut scorer)?],
        };
        took(analysis.word(), &mut clock, scorer.work);
        finished.push(&serde_json::to_vec(&(analysis, &curves)).map_err(damaged)?)?;
        found.insert(*analysis, curves);
        scorer.progress.0 += 1;
    }
    Ok(settings.analyses.iter().filter_map(|analysis| found.remove(analysis)).flatten().collect())
}

/// Lets every utterance pass through the network.
fn gather<'a>(
    settings: &'a LayersStage,
    hidden: &HiddenStates,
    material: &'a Material,
    samplings: &'a [Sampling],
    work: &mut Work,
) -> Result<Evidence<'a>, StageError> {
    let mut extraction = Extraction::new(settings, hidden, material, samplings, work.device);
    extraction.pass(true, work)?;
    extraction.fit_codebooks(work)?;
    extraction.pass(false, work)?;
    let (gathered, looks) = extraction.finish()?;
    let strides = hidden.states().iter().map(|state| hidden.stride(state)).collect();
    Ok(Evidence { settings, material, samplings, gathered, looks, strides })
}

/// Says how long something took, and starts the clock anew.
fn took(what: &str, clock: &mut Instant, work: &mut Work) {
    let seconds = clock.elapsed().as_secs_f64();
    work.report.say(Level::Info, format!("{what} took {seconds:.1} s"));
    *clock = Instant::now();
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
        Analysis::CcaSemantic => Ok(vec![correlations::semantic(evidence, scorer)?]),
        Analysis::WordSimilarity => Ok(vec![meaning::similarity(evidence, scorer)?]),
        Analysis::CkaSteps => Err(StageError::Failed("steps are compared by a pass of their own".into())),
    }
}

/// Says what was left out and what the numbers cannot show.
fn tell(findings: &Findings, work: &mut Work) {
    for (kind, labels) in &findings.labels {
        let (kept, segments) = (labels.analysed.len(), labels.segments);
        let message = format!("{kind}: {kept} labels, {segments} segments; {} dropped", labels.dropped.len());
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
