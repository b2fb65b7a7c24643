//! Work beside stages: models from and for other programs, and what trained models say of any audio.

use reprise_spec::contract::{Score, ToolRequest};
use tch::Device;

use crate::failure::StageError;
use crate::report::Reporter;

/// What a tool works with.
pub struct ToolWork {
    pub request: ToolRequest,
    pub report: Reporter,
    pub device: Device,
}

/// Does what the request asks for and returns the numbers that it found.
pub fn execute(work: &mut ToolWork) -> Result<Vec<Score>, StageError> {
    match work.request.tool {}
}
