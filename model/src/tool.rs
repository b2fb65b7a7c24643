//! Work beside stages: models from and for other programs, and what trained models say of any audio.

use reprise_spec::contract::{Score, Tool, ToolRequest};
use tch::Device;

use crate::exchange::{fairseq, hugging_face, torchaudio};
use crate::failure::StageError;
use crate::report::Reporter;

pub mod extract;
pub mod label;
pub mod ledger;
pub mod lm;
pub mod states;
pub mod waves;

/// What a tool works with.
pub struct ToolWork {
    pub request: ToolRequest,
    pub report: Reporter,
    pub device: Device,
}

/// Does what the request asks for and returns the numbers that it found.
pub fn execute(work: &mut ToolWork) -> Result<Vec<Score>, StageError> {
    match work.request.tool.clone() {
        Tool::ImportHf(exchange) => hugging_face::open(&exchange.from)?.adopt(&exchange.to, &mut work.report),
        Tool::ImportTorchaudio(exchange) => torchaudio::open(&exchange.from)?.adopt(&exchange.to, &mut work.report),
        Tool::ImportFairseq(exchange) => fairseq::open(&exchange.from)?.adopt(&exchange.to, &mut work.report),
        Tool::ExportHf(exchange) => hugging_face::export(&exchange.from, &exchange.to, &mut work.report),
        Tool::Extract(settings) => extract::run(&settings, work),
        Tool::Label(settings) => label::run(&settings, work),
        Tool::Lm(tool) => lm::run(&tool),
    }
}
