//! Speech to text: a CTC model with its vocabulary.

use std::path::Path;

use reprise_spec::arithmetic;
use reprise_spec::recognition::Edits;
use reprise_spec::values::SplitName;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::corpus::{Corpora, Utterance};
use crate::ctc::{self, CtcModel, Frames};
use crate::encoder::Mode;
use crate::failure::StageError;
use crate::greedy;
use crate::hubert::Masks;
use crate::model_folder::{self, Output};
use crate::score::UtteranceAlignment;
use crate::vocabulary::{Vocabulary, frames_needed};

/// The file of a fine-tuned model that names its symbols.
pub const VOCABULARY: &str = "vocabulary.txt";

/// What turns samples into text.
#[derive(Debug)]
pub struct Recogniser {
    pub model: CtcModel,
    pub vocabulary: Vocabulary,
    /// Samples from one frame to the next.
    pub stride: u64,
}

/// How well a model does on utterances that it doesn't learn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// CTC loss in nats, the mean over the utterances whose transcripts the vocabulary can spell in the frames that there are.
    pub loss: Option<f64>,
    pub words: Edits,
    pub characters: Edits,
}

impl Recogniser {
    /// Reads what a `finetune` stage left in `folder`.
    pub fn read(folder: &Path, device: Device) -> Result<Self, StageError> {
        let vocabulary = Vocabulary::read(&folder.join(VOCABULARY))?;
        let about = model_folder::about(folder)?;
        let symbols = vocabulary.size();
        if about.output != (Output::Characters { symbols: symbols as u32 }) {
            let output = about.output;
            return Err(StageError::Failed(format!(
                "{}: {symbols} symbols, but the model gives {output:?}",
                folder.display()
            )));
        }
        let store = VarStore::new(device);
        let model = CtcModel::new(&store.root(), &about.network, symbols, 0.0);
        model_folder::load_into(folder, &store)?;
        Ok(Self { model, vocabulary, stride: about.network.frame_stride() })
    }

    /// The scores of every symbol at every frame, T × V, without masks and dropout; `None` for fewer samples than one frame needs.
    fn logits(&self, wave: &[f32]) -> Option<Tensor> {
        if arithmetic::frames(wave.len() as u64) == 0 {
            return None;
        }
        let _no_grad = tch::no_grad_guard();
        let frames = Frames::side_by_side(&[self.model.features(wave)]);
        Some(self.model.logits(&frames, &Masks::default(), Mode::Evaluate).squeeze_dim(0))
    }

    /// Natural logarithms of the probabilities of every symbol at every frame, T × V; none for fewer samples than one frame needs.
    pub fn log_probabilities(&self, wave: &[f32]) -> Result<Vec<f32>, StageError> {
        let Some(logits_tv) = self.logits(wave) else { return Ok(Vec::new()) };
        Ok(Vec::try_from(logits_tv.log_softmax(-1, Kind::Float).to_device(Device::Cpu).reshape(-1))?)
    }

    /// Recognises every utterance of `corpora`, one by one, and compares with the transcripts.
    ///
    /// `between` is called before each utterance and may end the work.
    pub fn validate(
        &self,
        corpora: &Corpora,
        mut between: impl FnMut() -> Result<(), StageError>,
    ) -> Result<Validation, StageError> {
        let (mut losses, mut aligned) = (Vec::new(), Vec::new());
        for (split, corpus, utterance) in corpora.iter() {
            between()?;
            let reference = transcript(split, utterance)?;
            let Some(logits_tv) = self.logits(&corpus.wave(utterance)?) else {
                aligned.push(UtteranceAlignment::between(reference, ""));
                continue;
            };
            aligned.push(UtteranceAlignment::between(reference, &greedy::decode(&logits_tv, &self.vocabulary)));
            let frames = logits_tv.size()[0] as u64;
            if let Ok(label) = self.vocabulary.encode(reference)
                && frames_needed(&label) <= frames
            {
                losses.push(ctc::loss(&logits_tv.unsqueeze(0), &[frames], &[&label]).double_value(&[]));
            }
        }
        Ok(Validation {
            loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
            words: aligned.iter().map(|aligned| aligned.words.edits()).sum(),
            characters: aligned.iter().map(|aligned| aligned.characters.edits()).sum(),
        })
    }
}

/// What was said in `utterance`.
///
/// # Errors
/// Refuses utterances of splits without transcripts.
pub fn transcript<'a>(split: &SplitName, utterance: &'a Utterance) -> Result<&'a str, StageError> {
    utterance.transcript.as_deref().ok_or_else(|| {
        StageError::refused(
            format!("{split} has no transcripts, so nothing can be learnt from it or scored on it"),
            "take it out of `corpus.finetune`, `validate` and `test`, or out of `corpus.untranscribed` if it has them",
        )
    })
}
