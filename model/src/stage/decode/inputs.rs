//! What a decoding reads beside its model and its split: words, and what weighs them.

use std::fs;

use reprise_spec::contract::Level;
use reprise_spec::decoding::Weights;
use reprise_spec::stage::{DecodeStage, Role};

use crate::decoding::decoder::Words;
use crate::decoding::lexicon::{BadLexicon, Lexicon, WORDS};
use crate::decoding::lm::{NgramModel, TABLE};
use crate::failure::StageError;
use crate::stage::{Work, tune};
use crate::vocabulary::Vocabulary;

/// The lexicon and the language model among the inputs; `None` without a lexicon.
///
/// # Errors
/// Refuses a lexicon with letters that `vocabulary` lacks, and one of a language model of whose words it can spell none.
pub fn words(work: &mut Work, vocabulary: &Vocabulary) -> Result<Option<Words>, StageError> {
    let Some(lexicon) = work.find(&Role::Lexicon).cloned() else { return Ok(None) };
    let model = work.find(&Role::LanguageModel).cloned();
    let of_model = model.as_ref().is_some_and(|model| model.key == lexicon.key);
    let path = lexicon.path.join(WORDS);
    let text = fs::read_to_string(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
    let refused = |error: BadLexicon| {
        let help = "a lexicon spells with the letters of the transcripts that were fine-tuned on";
        StageError::refused(error.to_string(), help)
    };
    let lexicon = if of_model {
        let (lexicon, left_out) = Lexicon::of(text.lines(), vocabulary).map_err(refused)?;
        if left_out > 0 {
            let message = format!("{left_out} words of the language model have letters that the model doesn't have");
            work.report.say(Level::Warning, message);
        }
        lexicon
    } else {
        Lexicon::read(&text, vocabulary).map_err(refused)?
    };
    let model = model.map(|model| NgramModel::open(&model.path.join(TABLE))).transpose();
    Ok(Some(Words::new(lexicon, model.map_err(|error| StageError::Failed(error.to_string()))?)))
}

/// The weights of the settings, or those among the inputs that were tuned.
pub fn weights(settings: &DecodeStage, work: &Work) -> Result<Option<Weights>, StageError> {
    let Some(tuned) = work.find(&Role::Weights) else { return Ok(settings.weights) };
    let path = tuned.path.join(tune::WEIGHTS);
    let bytes = fs::read(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| StageError::Failed(format!("{}: {error}", path.display())))
}
