//! `probe`: measures trained things without changing them.

use reprise_spec::contract::Score;
use reprise_spec::stage::ProbeStage;

use super::Work;
use crate::failure::StageError;

mod layers;
mod unit_quality;

/// Executes the stage.
pub fn run(settings: &ProbeStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    match settings {
        ProbeStage::UnitQuality(settings) => unit_quality::run(settings, work),
        ProbeStage::Layers(settings) => layers::run(settings, work),
    }
}
