//! `decode`: what a fine-tuned model recognises in a split, and how wrong it is.
//!
//! Utterances are decoded one by one. In a padded batch the arithmetic of the same frames is carried out in another order, which can turn
//! a close call between two symbols.

use reprise_spec::contract::Score;
use reprise_spec::decoding::Search;
use reprise_spec::recognition::Recognised;
use reprise_spec::stage::{DecodeStage, Role};

use super::Work;
use crate::corpus::Corpora;
use crate::decoding::beam::LogProbabilities;
use crate::decoding::decoder::Decoder;
use crate::decoding::heard::{Heard, nbest_table, words_table};
use crate::failure::StageError;
use crate::recogniser::{self, Recogniser};

pub mod inputs;
mod scored;

use scored::Scored;

/// Writes `hypotheses.tsv` ([`Recognised`]), `alignments.txt` for people, `words.tsv`, `scores.json` ([`reprise_spec::recognition::Scores`]) and,
/// where several hypotheses are asked for, `nbest.tsv`.
pub fn run(settings: &DecodeStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let recogniser = Recogniser::read(work.input(&Role::Finetuned)?, work.device)?;
    let vocabulary = &recogniser.vocabulary;
    let words = inputs::words(work, vocabulary)?;
    let weights = inputs::weights(settings, work)?;
    let decoder = Decoder::new(&settings.search, vocabulary, words.as_ref().zip(weights.as_ref()));
    let corpora = Corpora::read(work, std::slice::from_ref(&settings.split))?;
    let total = corpora.iter().count() as u64;
    let mut finished = work.finished("heard")?;
    let (mut scored, mut all_heard) = (Vec::new(), Vec::new());
    for (index, (split, corpus, utterance)) in corpora.iter().enumerate() {
        work.report.check_stop()?;
        let reference = recogniser::transcript(split, utterance)?;
        if index >= finished.count() {
            let scores = recogniser.log_probabilities(&corpus.wave(utterance)?)?;
            let scores_tv = LogProbabilities::new(&scores, vocabulary.size())
                .map_err(|error| StageError::Failed(format!("{}: {error}", utterance.id)))?;
            finished.push(&serde_json::to_vec(&decoder.hear(scores_tv)).map_err(damaged)?)?;
        }
        let heard: Heard = serde_json::from_slice(&finished.read(index)?).map_err(damaged)?;
        scored.push(Scored::new(utterance, reference, heard.best().to_owned()));
        all_heard.push((utterance.id.as_str(), heard));
        work.report.progress(scored.len() as u64, total, "utterances", "");
    }
    let rows = || scored.iter().map(|scored| &scored.row);
    let scores = scored::scores(&scored, &settings.bootstrap, work.request.threads as usize);
    work.write("hypotheses.tsv", Recognised::table(rows()).as_bytes())?;
    work.write("alignments.txt", scored::alignments(rows()).as_bytes())?;
    let heard = || all_heard.iter().map(|(id, heard)| (*id, heard));
    work.write("words.tsv", words_table(heard(), recogniser.stride).as_bytes())?;
    if matches!(&settings.search, Search::Beam(beam) if beam.n_best.get() > 1) {
        work.write("nbest.tsv", nbest_table(heard()).as_bytes())?;
    }
    work.write("scores.json", &serde_json::to_vec_pretty(&scores).map_err(damaged)?)?;
    let plain = |name: &str, value| Score { name: name.into(), value, interval: None };
    Ok(vec![
        scores.wer.score("wer"),
        scores.cer.score("cer"),
        plain("ser", scores.ser),
        plain("empty-hypotheses", scores.empty_hypotheses),
    ])
}

fn damaged(error: serde_json::Error) -> StageError {
    StageError::Failed(format!("what was heard cannot be written and read: {error}"))
}
