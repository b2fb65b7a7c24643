//! `decode`: what a fine-tuned model recognises in a split, and how wrong it is.
//!
//! Utterances are decoded one by one. In a padded batch the arithmetic of the same frames is carried out in another order, which can turn
//! a close call between two symbols.

use reprise_spec::contract::Score;
use reprise_spec::decoding::{Bootstrap, ResamplingUnit, Search};
use reprise_spec::stage::{DecodeStage, Role};
use serde::{Deserialize, Serialize};

use super::Work;
use crate::bootstrap::{self, Contribution};
use crate::corpus::Corpora;
use crate::decoding::beam::LogProbabilities;
use crate::decoding::decoder::Decoder;
use crate::decoding::heard::{Heard, nbest_table, words_table};
use crate::failure::StageError;
use crate::random::Draws;
use crate::recogniser::{self, Recogniser};
use crate::score::{Edits, ErrorRate, UtteranceEdits};

pub mod inputs;

/// Writes `hypotheses.tsv`, `words.tsv`, `scores.json` ([`Scores`]) and, where several hypotheses are asked for, `nbest.tsv`.
pub fn run(settings: &DecodeStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let recogniser = Recogniser::read(work.input(&Role::Finetuned)?, work.device)?;
    let vocabulary = &recogniser.vocabulary;
    let words = inputs::words(work, vocabulary)?;
    let weights = inputs::weights(settings, work)?;
    let decoder = Decoder::new(&settings.search, vocabulary, words.as_ref().zip(weights.as_ref()));
    let corpora = Corpora::read(work, std::slice::from_ref(&settings.split))?;
    let total = corpora.iter().count() as u64;
    let mut finished = work.finished("heard")?;
    let (mut decoded, mut all_heard) = (Vec::new(), Vec::new());
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
        decoded.push(Decoded {
            id: &utterance.id,
            speaker: &utterance.speaker,
            edits: UtteranceEdits::between(reference, heard.best()),
            reference,
            hypothesis: heard.best().to_owned(),
        });
        all_heard.push((utterance.id.as_str(), heard));
        work.report.progress(decoded.len() as u64, total, "utterances", "");
    }
    let scores = Scores::of(&decoded, &settings.bootstrap);
    work.write("hypotheses.tsv", table(&decoded).as_bytes())?;
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

/// One utterance with what was said and what was recognised.
struct Decoded<'a> {
    id: &'a str,
    speaker: &'a str,
    reference: &'a str,
    hypothesis: String,
    edits: UtteranceEdits,
}

/// What `scores.json` holds: the scores of one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scores {
    /// Word error rate.
    pub wer: ErrorRate,
    /// Character error rate, spaces between words among the characters.
    pub cer: ErrorRate,
    /// Sentence error rate: the share of utterances with any word wrong.
    pub ser: f64,
    /// The share of utterances in which nothing but blanks and spaces was recognised.
    pub empty_hypotheses: f64,
    pub utterances: usize,
    pub speakers: usize,
    /// What the intervals resample: utterances too where the settings say speakers but there is a single one.
    pub resampled: ResamplingUnit,
}

impl Scores {
    fn of(decoded: &[Decoded], settings: &Bootstrap) -> Self {
        let speakers = || decoded.iter().map(|utterance| utterance.speaker);
        let resampled = bootstrap::resampling_unit(speakers(), settings.unit);
        let rate = |edits: fn(&Decoded) -> Edits| {
            let contributions: Vec<Contribution> = decoded
                .iter()
                .map(|utterance| Contribution {
                    speaker: utterance.speaker,
                    errors: edits(utterance).total(),
                    units: edits(utterance).reference,
                })
                .collect();
            let edits: Edits = decoded.iter().map(edits).sum();
            // A decode stage has no seed: its intervals are part of the measurement and the same for every run.
            let draws = Draws::new(0, "bootstrap", &[], "");
            ErrorRate {
                rate: edits.rate(),
                interval: bootstrap::interval(&contributions, resampled, settings, draws),
                edits,
            }
        };
        let share = |holds: fn(&Decoded) -> bool| {
            decoded.iter().filter(|utterance| holds(utterance)).count() as f64 / decoded.len().max(1) as f64
        };
        Self {
            wer: rate(|utterance| utterance.edits.words),
            cer: rate(|utterance| utterance.edits.characters),
            ser: share(|utterance| utterance.edits.words.total() > 0),
            empty_hypotheses: share(|utterance| utterance.hypothesis.is_empty()),
            utterances: decoded.len(),
            speakers: speakers().collect::<std::collections::BTreeSet<_>>().len(),
            resampled,
        }
    }
}

fn table(decoded: &[Decoded]) -> String {
    let mut text = String::from("id\tspeaker\treference\thypothesis\twords\tsubstitutions\tdeletions\tinsertions\n");
    for Decoded { id, speaker, reference, hypothesis, edits } in decoded {
        let Edits { substitutions, deletions, insertions, reference: words } = edits.words;
        text.push_str(&format!(
            "{id}\t{speaker}\t{reference}\t{hypothesis}\t{words}\t{substitutions}\t{deletions}\t{insertions}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(rows: &[(&'static str, &'static str, &'static str)]) -> Vec<Decoded<'static>> {
        rows.iter()
            .map(|&(speaker, reference, hypothesis)| Decoded {
                id: "u",
                speaker,
                reference,
                hypothesis: hypothesis.into(),
                edits: UtteranceEdits::between(reference, hypothesis),
            })
            .collect()
    }

    #[test]
    fn rates_are_all_edits_over_all_units() {
        let decoded = decoded(&[("a", "one two three", "one too"), ("b", "four", ""), ("b", "five", "five")]);
        let scores = Scores::of(&decoded, &Bootstrap::default());
        let Scores { wer, cer, ser, empty_hypotheses, utterances, speakers, resampled } = scores;
        assert_eq!(wer.edits, Edits { substitutions: 1, deletions: 2, insertions: 0, reference: 5 });
        assert_eq!((wer.rate, cer.edits.reference), (0.6, 21));
        assert_eq!((ser, empty_hypotheses), (2.0 / 3.0, 1.0 / 3.0));
        assert_eq!((utterances, speakers, resampled), (3, 2, ResamplingUnit::Speaker));
        assert!(wer.interval.0 <= wer.rate && wer.rate <= wer.interval.1);
        insta::assert_snapshot!(table(&decoded).replace('\t', ","), @r"
        id,speaker,reference,hypothesis,words,substitutions,deletions,insertions
        u,a,one two three,one too,3,1,1,0
        u,b,four,,1,0,1,0
        u,b,five,five,1,0,0,0
        ");
    }

    #[test]
    fn a_single_speaker_is_recorded_as_resampled_by_utterance() {
        let scores = Scores::of(&decoded(&[("a", "one", "one"), ("a", "two", "to")]), &Bootstrap::default());
        assert_eq!(scores.resampled, ResamplingUnit::Utterance);
        assert_eq!(scores.wer.interval, (0.0, 1.0));
    }
}
