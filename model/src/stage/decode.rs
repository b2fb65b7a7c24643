//! `decode`: what a fine-tuned model recognises in a split, and how wrong it is.
//!
//! Utterances are decoded one by one. In a padded batch the arithmetic of the same frames is carried out in another order, which can turn
//! a close call between two symbols.

use reprise_spec::contract::Score;
use reprise_spec::recognition::Recognised;
use reprise_spec::stage::{DecodeStage, Role};

use super::Work;
use crate::corpus::Corpora;
use crate::failure::StageError;
use crate::recogniser::{self, Recogniser};

mod scored;

use scored::Scored;

/// Writes `hypotheses.tsv` ([`Recognised`]), `alignments.txt` for people, and `scores.json` ([`reprise_spec::recognition::Scores`]).
pub fn run(settings: &DecodeStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let recogniser = Recogniser::read(work.input(&Role::Finetuned)?, work.device)?;
    let corpora = Corpora::read(work, std::slice::from_ref(&settings.split))?;
    let total = corpora.iter().count() as u64;
    let mut finished = work.finished("hypotheses")?;
    let mut scored = Vec::new();
    for (index, (split, corpus, utterance)) in corpora.iter().enumerate() {
        work.report.check_stop()?;
        let reference = recogniser::transcript(split, utterance)?;
        if index >= finished.count() {
            finished.push(recogniser.transcribe(&corpus.wave(utterance)?).as_bytes())?;
        }
        let hypothesis = String::from_utf8_lossy(&finished.read(index)?).into_owned();
        scored.push(Scored::new(utterance, reference, hypothesis));
        work.report.progress(scored.len() as u64, total, "utterances", "");
    }
    let rows = || scored.iter().map(|scored| &scored.row);
    let scores = scored::scores(&scored, &settings.decoding.bootstrap);
    work.write("hypotheses.tsv", Recognised::table(rows()).as_bytes())?;
    work.write("alignments.txt", scored::alignments(rows()).as_bytes())?;
    let json = serde_json::to_vec_pretty(&scores).map_err(|error| StageError::Failed(error.to_string()))?;
    work.write("scores.json", &json)?;
    let plain = |name: &str, value| Score { name: name.into(), value, interval: None };
    Ok(vec![
        scores.wer.score("wer"),
        scores.cer.score("cer"),
        plain("ser", scores.ser),
        plain("empty-hypotheses", scores.empty_hypotheses),
    ])
}
