//! `features`: MFCC or log-mel of every utterance of a split, in the order of the corpus.

use reprise_spec::contract::Score;
use reprise_spec::stage::{FeatureKind, FeaturesStage, Role};
use tch::{Device, Kind, Tensor};

use super::Work;
use crate::corpus::Corpus;
use crate::failure::StageError;
use crate::features::{LogMel, Mfcc};
use crate::npy;

/// Bins of log-mel features.
const MEL_BINS: usize = 80;

/// What computes one kind of features.
pub enum Extractor {
    Mfcc(Mfcc),
    LogMel(LogMel),
}

impl Extractor {
    /// Prepares for `kind` on `device`.
    pub fn new(kind: FeatureKind, device: Device) -> Self {
        match kind {
            FeatureKind::Mfcc => Self::Mfcc(Mfcc::new(device)),
            FeatureKind::LogMel => Self::LogMel(LogMel::new(MEL_BINS, device)),
        }
    }

    /// Numbers a frame.
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Mfcc(_) => Mfcc::DIMENSIONS,
            Self::LogMel(_) => MEL_BINS,
        }
    }

    /// Features of waves (B × S, on the extractor's device) as B × T × D.
    pub fn forward(&self, wave_bs: &Tensor) -> Tensor {
        match self {
            Self::Mfcc(mfcc) => mfcc.with_deltas(wave_bs),
            Self::LogMel(log_mel) => log_mel.forward(wave_bs),
        }
    }
}

/// Executes the stage. Each utterance is computed by itself, so that its numbers do not depend on its neighbours.
pub fn run(settings: &FeaturesStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let dir = work.request.inputs.iter().find(|input| matches!(input.role, Role::Corpus(_)));
    let dir = &dir.ok_or_else(|| StageError::Failed("the request has no corpus".into()))?.path;
    let corpus = Corpus::read_once(dir, work.data_root()?)?;
    let extractor = Extractor::new(settings.kind, work.device);
    let mut file = npy::Writer::create(&work.output("features.npy"), Some(extractor.dimensions()))?;
    let mut lengths = "id\tframes\n".to_owned();
    for (index, utterance) in corpus.utterances.iter().enumerate() {
        work.report.check_stop()?;
        let wave_bs = Tensor::f_from_slice(&corpus.wave(utterance)?)?.f_to_device(work.device)?.unsqueeze(0);
        let features_td = tch::no_grad(|| extractor.forward(&wave_bs)).squeeze_dim(0);
        let frames = features_td.size()[0];
        let features: Vec<f32> = Vec::try_from(features_td.to_device(Device::Cpu).to_kind(Kind::Float).reshape([-1]))?;
        if let Some(at) = features.iter().position(|number| !number.is_finite()) {
            let frame = at / extractor.dimensions();
            return Err(StageError::Failed(format!("frame {frame} of {} is not finite", utterance.id)));
        }
        file.write(&features)?;
        lengths.push_str(&format!("{}\t{frames}\n", utterance.id));
        work.report.progress(index as u64 + 1, corpus.utterances.len() as u64, "utterances", &utterance.id);
    }
    let frames = file.finish()?;
    work.write("utterances.tsv", lengths.as_bytes())?;
    let score = |name: &str, value: f64| Score { name: name.into(), value, interval: None };
    Ok(vec![score("frames", frames as f64), score("dimensions", extractor.dimensions() as f64)])
}
