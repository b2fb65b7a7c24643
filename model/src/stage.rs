//! The kinds of stage, one file each, and what they are given.

use std::fs;
use std::path::{Path, PathBuf};

use reprise_spec::contract::{Input, Level, Request, Score};
use reprise_spec::stage::{Role, Stage};
use tch::Device;

use crate::failure::StageError;
use crate::finished::Finished;
use crate::front_end::FrontEnd;
use crate::hubert::Hubert;
use crate::labels::Codebook;
use crate::report::Reporter;

pub mod checkpoint;
pub mod corpus;
pub mod decode;
pub mod features;
pub mod finetune;
pub mod language_model;
pub mod lexicon;
pub mod pretrain;
pub mod probe;
pub mod tune;
pub mod units;
pub mod word_pairs;
pub mod word_vectors;

/// What a stage works with beside its settings.
pub struct Work {
    pub request: Request,
    pub report: Reporter,
    pub device: Device,
}

impl Work {
    /// The folder of an input.
    pub fn input(&self, role: &Role) -> Result<&Path, StageError> {
        self.find(role)
            .map(|input| input.path.as_path())
            .ok_or_else(|| StageError::Failed(format!("the request has no input {role}")))
    }

    /// An input, if the request has it.
    pub fn find(&self, role: &Role) -> Option<&Input> {
        self.request.inputs.iter().find(|input| &input.role == role)
    }

    /// Gives a new network the codebook that its front-end reads, where it reads one.
    pub fn adopt_input_units(&self, hubert: &Hubert) -> Result<(), StageError> {
        match &hubert.front_end {
            FrontEnd::Units(front_end) => {
                front_end.adopt(&Codebook::read(self.input(&Role::InputUnits)?, self.device)?)
            }
            FrontEnd::Wave(_) | FrontEnd::LogMel(_) => Ok(()),
        }
    }

    /// The folder that the paths of a corpus start from.
    pub fn data_root(&self) -> Result<&Path, StageError> {
        let data =
            self.request.data.as_ref().ok_or_else(|| StageError::Failed("the request names no data folder".into()))?;
        Ok(&data.root)
    }

    /// The seed of a stage that draws.
    pub fn seed(&self) -> Result<u64, StageError> {
        self.request.seed.ok_or_else(|| StageError::Failed("the request has no seed".into()))
    }

    /// A new file or folder name below `out/`.
    pub fn output(&self, name: &str) -> PathBuf {
        self.request.work.join("out").join(name)
    }

    /// What earlier attempts have finished of things of this name; says so where there is any.
    pub fn finished(&mut self, name: &str) -> Result<Finished, StageError> {
        let finished = Finished::open(&self.request.work, name)?;
        if finished.count() > 0 {
            self.report.say(
                Level::Info,
                format!("goes on with what an earlier attempt finished: {} {name}", finished.count()),
            );
        }
        Ok(finished)
    }

    /// Writes a whole output file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StageError> {
        let path = self.output(name);
        fs::write(&path, bytes).map_err(|error| StageError::io("cannot write", &path, &error))
    }
}

/// Executes the stage that the request names and returns the numbers that listings show.
pub fn execute(work: &mut Work) -> Result<Vec<Score>, StageError> {
    let out = work.request.work.join("out");
    fs::create_dir_all(&out).map_err(|error| StageError::io("cannot create", &out, &error))?;
    match work.request.stage.clone() {
        Stage::Corpus(settings) => corpus::run(&settings, work),
        Stage::Checkpoint(settings) => checkpoint::run(&settings, work),
        Stage::Features(settings) => features::run(&settings, work),
        Stage::Units(settings) => units::run(&settings, work),
        Stage::Pretrain(settings) => pretrain::run(&settings, work),
        Stage::Finetune(settings) => finetune::run(&settings, work),
        Stage::LanguageModel(settings) => language_model::run(&settings, work),
        Stage::Lexicon(settings) => lexicon::run(&settings, work),
        Stage::Tune(settings) => tune::run(&settings, work),
        Stage::Decode(settings) => decode::run(&settings, work),
        Stage::Probe(settings) => probe::run(&settings, work),
        Stage::WordVectors(settings) => word_vectors::run(&settings, work),
        Stage::WordPairs(settings) => word_pairs::run(&settings, work),
    }
}
