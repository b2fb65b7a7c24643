//! What was recognised beside what was said: rates over a split, and alignments for people.

use std::collections::BTreeSet;

use reprise_spec::decoding::Bootstrap;
use reprise_spec::recognition::{Edits, ErrorRate, Operation, Recognised, Scores};

use crate::bootstrap::{self, Contribution};
use crate::corpus::Utterance;
use crate::random::Draws;
use crate::score::UtteranceAlignment;

/// One utterance with what was said and what was recognised.
#[derive(Debug)]
pub struct Scored {
    pub row: Recognised,
    /// Of the characters.
    characters: Edits,
}

impl Scored {
    pub fn new(utterance: &Utterance, reference: &str, hypothesis: String) -> Self {
        let UtteranceAlignment { words, characters } = UtteranceAlignment::between(reference, &hypothesis);
        let row = Recognised {
            id: utterance.id.clone(),
            speaker: utterance.speaker.clone(),
            reference: reference.to_owned(),
            hypothesis,
            alignment: words,
        };
        Self { row, characters: characters.edits() }
    }

    fn words(&self) -> Edits {
        self.row.alignment.edits()
    }
}

/// The scores of a split.
pub fn scores(scored: &[Scored], settings: &Bootstrap, threads: usize) -> Scores {
    let speakers = || scored.iter().map(|utterance| utterance.row.speaker.as_str());
    let resampled = bootstrap::resampling_unit(speakers(), settings.unit);
    let rate = |edits: fn(&Scored) -> Edits| {
        let contribution = |utterance| {
            let edits = edits(utterance);
            Contribution { speaker: &utterance.row.speaker, errors: edits.total(), units: edits.reference }
        };
        let contributions: Vec<Contribution> = scored.iter().map(contribution).collect();
        // A decode stage has no seed: its intervals are part of the measurement and the same for every run.
        let draws = Draws::new(0, "bootstrap", &[], "");
        let interval = bootstrap::interval(&contributions, resampled, settings, draws, threads);
        let edits: Edits = scored.iter().map(edits).sum();
        ErrorRate { rate: edits.rate(), interval, edits }
    };
    let share = |holds: fn(&Scored) -> bool| {
        scored.iter().filter(|utterance| holds(utterance)).count() as f64 / scored.len().max(1) as f64
    };
    Scores {
        wer: rate(Scored::words),
        cer: rate(|utterance| utterance.characters),
        ser: share(|utterance| utterance.words().total() > 0),
        empty_hypotheses: share(|utterance| utterance.row.hypothesis.is_empty()),
        utterances: scored.len(),
        speakers: speakers().collect::<BTreeSet<_>>().len(),
        resampled,
    }
}

/// The alignments as people read them, in the manner of sclite and ESPnet: words that were got wrong in capitals.
pub fn alignments<'a>(rows: impl IntoIterator<Item = &'a Recognised>) -> String {
    rows.into_iter().map(alignment).collect::<Vec<_>>().join("\n")
}

fn alignment(row: &Recognised) -> String {
    let edits = row.alignment.edits();
    let (mut reference, mut hypothesis) = (row.reference.split_whitespace(), row.hypothesis.split_whitespace());
    let mut lines = ["REF: ", "HYP: ", "Eval:"].map(String::from);
    for operation in &row.alignment.0 {
        let said = if *operation == Operation::Insertion { None } else { reference.next() };
        let heard = if *operation == Operation::Deletion { None } else { hypothesis.next() };
        let wrong = *operation != Operation::Correct;
        let shown = |word: Option<&str>| word.map(|word| if wrong { word.to_uppercase() } else { word.to_owned() });
        let (said, heard) = (shown(said), shown(heard));
        let width = [&said, &heard].into_iter().flatten().map(|word| word.chars().count()).max().unwrap_or(1);
        let mark = if wrong { operation.letter() } else { ' ' }.to_string();
        let blank = "*".repeat(width);
        let cells = [said.unwrap_or(blank.clone()), heard.unwrap_or(blank), mark];
        for (line, cell) in lines.iter_mut().zip(cells) {
            line.push_str(&format!(" {cell:width$}"));
        }
    }
    let Edits { substitutions, deletions, insertions, .. } = edits;
    let lines = lines.map(|line| line.trim_end().to_owned() + "\n").concat();
    let counts = format!("{} {substitutions} {deletions} {insertions}", edits.correct());
    format!("id: ({}-{})\nScores: (#C #S #D #I) {counts}\n{lines}", row.speaker, row.id)
}

#[cfg(test)]
mod tests {
    use reprise_spec::decoding::ResamplingUnit;

    use super::*;

    fn scored(rows: &[(&str, &str, &str)]) -> Vec<Scored> {
        let of = |(index, &(speaker, reference, hypothesis)): (usize, &(&str, &str, &str))| {
            let (id, path) = (format!("u{index}"), String::new());
            let utterance = Utterance { id, path, samples: 1, speaker: speaker.into(), transcript: None };
            Scored::new(&utterance, reference, hypothesis.into())
        };
        rows.iter().enumerate().map(of).collect()
    }

    #[test]
    fn rates_are_all_edits_over_all_units() {
        let scored = scored(&[("a", "one two three", "one too"), ("b", "four", ""), ("b", "five", "five")]);
        let Scores { wer, cer, ser, empty_hypotheses, utterances, speakers, resampled } =
            scores(&scored, &Bootstrap::default(), 1);
        assert_eq!(wer.edits, Edits { substitutions: 1, deletions: 2, insertions: 0, reference: 5 });
        assert_eq!((wer.rate, cer.edits.reference), (0.6, 21));
        assert_eq!((ser, empty_hypotheses), (2.0 / 3.0, 1.0 / 3.0));
        assert_eq!((utterances, speakers, resampled), (3, 2, ResamplingUnit::Speaker));
        assert!(wer.interval.0 <= wer.rate && wer.rate <= wer.interval.1);
    }

    #[test]
    fn a_single_speaker_is_recorded_as_resampled_by_utterance() {
        let scores = scores(&scored(&[("a", "one", "one"), ("a", "two", "to")]), &Bootstrap::default(), 1);
        assert_eq!(scores.resampled, ResamplingUnit::Utterance);
        assert_eq!(scores.wer.interval, (0.0, 1.0));
    }

    #[test]
    fn alignments_line_up() {
        let scored = scored(&[("a", "so where is the été", "so there is an the"), ("b", "four", "")]);
        insta::assert_snapshot!(alignments(scored.iter().map(|scored| &scored.row)), @r"
        id: (a-u0)
        Scores: (#C #S #D #I) 3 1 1 1
        REF:  so WHERE is ** the ÉTÉ
        HYP:  so THERE is AN the ***
        Eval:    S        I      D

        id: (b-u1)
        Scores: (#C #S #D #I) 0 0 1 0
        REF:  FOUR
        HYP:  ****
        Eval: D
        ");
    }
}
