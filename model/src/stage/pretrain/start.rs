//! The state before the first step: random weights, what is carried over of an earlier iteration, or where training was before.

use std::path::Path;

use reprise_spec::contract::Level;
use reprise_spec::stage::{PretrainStage, PretrainTargets, Role, Start};
use reprise_spec::strategy::{CarriedHead, CarriedOptimiser, CarriedWeights, Carry};
use serde::de::IgnoredAny;

use super::Work;
use super::model::Model;
use super::progress::Progress;
use crate::checkpoint::{Checkpoints, State};
use crate::failure::StageError;
use crate::layer_of::layer_of;
use crate::model_folder::{self, Output};
use crate::optimiser::Adam;
use crate::random::Draws;

/// Steps that led to the start since weights were last drawn at random.
pub fn trained(settings: &PretrainStage) -> u64 {
    match settings.start {
        Start::Random => 0,
        Start::Warm { trained, .. } => trained,
    }
}

const INITIAL: &str = "pretrain initial weights";

/// The draws of the weights that a first iteration starts from.
pub fn at_random(seed: u64) -> Draws {
    Draws::new(seed, INITIAL, &[], "")
}

/// The draws of initial weights. Under [`Start::Warm`] they are other ones in every iteration, so that a new head is not the one that was
/// thrown away.
pub fn initial(settings: &PretrainStage, seed: u64) -> Draws {
    match settings.start {
        Start::Random => at_random(seed),
        Start::Warm { trained, .. } => Draws::new(seed, INITIAL, &[trained], ""),
    }
}

/// Brings `model` and `adam` to where training goes on and says how far that is: the newest whole checkpoint, else the end of a stage that
/// trained the same for fewer steps, else the start.
pub fn restore(
    settings: &PretrainStage,
    model: &Model,
    adam: &mut Adam,
    checkpoints: &Checkpoints,
    work: &mut Work,
) -> Result<Progress, StageError> {
    if let Some(progress) = checkpoints.restore(&model.store, adam)? {
        return Ok(progress);
    }
    if let Some(prefix) = work.request.prefix.clone() {
        match after(&prefix.path, settings, model, adam) {
            Ok(progress) => {
                let message = format!("goes on after step {} of {}", progress.step, prefix.key);
                work.report.say(Level::Info, message);
                return Ok(progress);
            }
            Err(reason) => {
                let message = format!("starts from the beginning: nothing can go on from {}: {reason}", prefix.key);
                work.report.say(Level::Warning, message);
            }
        }
    }
    if let Start::Warm { carry, .. } = &settings.start {
        carry_over(carry, work.input(&Role::Start)?, settings, model, adam)?;
    }
    work.adopt_input_units(&model.hubert)?;
    Ok(Progress::default())
}

/// The state after the last step of the stage whose output is in `folder`; nothing is changed where it is of no use.
fn after(folder: &Path, settings: &PretrainStage, model: &Model, adam: &mut Adam) -> Result<Progress, String> {
    let state: State<Progress> = State::beside_model(folder).map_err(|error| error.to_string())?;
    let steps = u64::from(settings.steps.get());
    let last = settings.span.cool_down_after.map_or(steps, |last| last.min(steps));
    if state.progress.step > last {
        return Err(format!("it is at step {}, and parts from this stage after {last}", state.progress.step));
    }
    state.put(&model.store, adam)?;
    Ok(state.progress)
}

/// Takes over what `carry` says of the model and the training state in `folder`.
fn carry_over(
    carry: &Carry,
    folder: &Path,
    settings: &PretrainStage,
    model: &Model,
    adam: &mut Adam,
) -> Result<(), StageError> {
    let about = model_folder::about(folder)?;
    if about.network != settings.network {
        return Err(StageError::refused(
            format!("the model in {} is of another network than the one to train", folder.display()),
            "start from a model of the same network, or from random weights",
        ));
    }
    if carry.head == CarriedHead::Keep {
        same_targets(&about.output, &settings.targets)?;
    }
    let state: State<IgnoredAny> = State::beside_model(folder)?;
    let carried = |name: &str| match (&carry.weights, model.network.contains(name)) {
        (_, false) => carry.head == CarriedHead::Keep,
        (CarriedWeights::None, true) => false,
        (CarriedWeights::All, true) => true,
        (CarriedWeights::Layers(layers), true) => {
            let layer = layer_of(name, &settings.network);
            layers.iter().any(|carried| carried.get() == layer)
        }
    };
    let refused = |misfit: String| {
        let message = format!("the model in {} cannot be taken over: {misfit}", folder.display());
        StageError::refused(
            message,
            "set `carry.head: renew`, or keep `pretraining.head` and `predict-at` as they were",
        )
    };
    state.put_parameters(&model.store, carried).map_err(refused)?;
    if carry.optimiser == CarriedOptimiser::Keep {
        state.put_moments(adam, carried).map_err(refused)?;
    }
    Ok(())
}

/// Refuses to keep a head for other targets than it was trained for.
fn same_targets(before: &Output, now: &PretrainTargets) -> Result<(), StageError> {
    let same = match (before, now) {
        (Output::Pretrained { targets: PretrainTargets::Units(before), .. }, PretrainTargets::Units(now)) => {
            before == now
        }
        (Output::Pretrained { targets: PretrainTargets::Quantiser(_), .. }, PretrainTargets::Quantiser(_)) => true,
        _ => false,
    };
    if same {
        return Ok(());
    }
    let before = match before {
        Output::Pretrained { targets, .. } => said(targets),
        Output::Backbone => "nothing".into(),
        Output::Characters { .. } => "characters".into(),
    };
    Err(StageError::refused(
        format!("the head to keep predicts {before}, this iteration {}", said(now)),
        "set `carry.head: renew`, or cluster into as many units as in the iteration before",
    ))
}

fn said(targets: &PretrainTargets) -> String {
    match targets {
        PretrainTargets::Units(sets) => {
            let counts: Vec<String> = sets.iter().map(|clusters| clusters.get().to_string()).collect();
            format!("{} units", counts.join(" and "))
        }
        PretrainTargets::Quantiser(_) => "entries of a quantiser".into(),
    }
}
