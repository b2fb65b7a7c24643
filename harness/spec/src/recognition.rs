//! What decoding leaves: hypotheses with their alignments, and the error rates made of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::contract::Score;
use crate::decoding::ResamplingUnit;

/// One step of an alignment of a reference with a hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Correct,
    Substitution,
    Deletion,
    Insertion,
}

impl Operation {
    /// The letter that stands for it, as in the scoring tables of NIST.
    pub fn letter(self) -> char {
        match self {
            Self::Correct => 'C',
            Self::Substitution => 'S',
            Self::Deletion => 'D',
            Self::Insertion => 'I',
        }
    }
}

/// A reference aligned with a hypothesis, first to last. Written as one letter a step: `CCSDI`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alignment(pub Vec<Operation>);

impl Alignment {
    /// The edits of the alignment.
    pub fn edits(&self) -> Edits {
        let mut edits = Edits::default();
        for operation in &self.0 {
            match operation {
                Operation::Correct => {}
                Operation::Substitution => edits.substitutions += 1,
                Operation::Deletion => edits.deletions += 1,
                Operation::Insertion => edits.insertions += 1,
            }
            edits.reference += u64::from(*operation != Operation::Insertion);
        }
        edits
    }
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|operation| write!(f, "{}", operation.letter()))
    }
}

impl FromStr for Alignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let operation = |letter| match letter {
            'C' => Ok(Operation::Correct),
            'S' => Ok(Operation::Substitution),
            'D' => Ok(Operation::Deletion),
            'I' => Ok(Operation::Insertion),
            other => Err(format!("an alignment is made of C, S, D and I, not {other:?}")),
        };
        text.chars().map(operation).collect::<Result<_, _>>().map(Self)
    }
}

/// Edits that turn references into hypotheses, and how many units the references have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Edits {
    pub substitutions: u64,
    pub deletions: u64,
    pub insertions: u64,
    /// Words or characters of the references.
    pub reference: u64,
}

impl Edits {
    /// Substitutions, deletions and insertions together.
    pub fn total(&self) -> u64 {
        self.substitutions + self.deletions + self.insertions
    }

    /// Units of the references that were recognised.
    pub fn correct(&self) -> u64 {
        self.reference - self.substitutions - self.deletions
    }

    /// Edits for each unit of the references; for references without any unit the number of insertions, as jiwer has it.
    pub fn rate(&self) -> f64 {
        self.total() as f64 / self.reference.max(1) as f64
    }
}

impl std::iter::Sum for Edits {
    fn sum<I: Iterator<Item = Self>>(edits: I) -> Self {
        edits.fold(Self::default(), |sum, edits| Self {
            substitutions: sum.substitutions + edits.substitutions,
            deletions: sum.deletions + edits.deletions,
            insertions: sum.insertions + edits.insertions,
            reference: sum.reference + edits.reference,
        })
    }
}

/// An error rate over a set: all edits over all units of the references.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ErrorRate {
    pub rate: f64,
    /// The ends of the bootstrap interval.
    pub interval: (f64, f64),
    pub edits: Edits,
}

impl ErrorRate {
    /// The number as listings show it.
    pub fn score(&self, name: &str) -> Score {
        Score { name: name.into(), value: self.rate, interval: Some(self.interval) }
    }
}

/// The scores of one split, which `scores.json` holds.
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

/// One row of `hypotheses.tsv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    pub id: String,
    pub speaker: String,
    pub reference: String,
    pub hypothesis: String,
    /// Of the words.
    pub alignment: Alignment,
}

const HEADER: [&str; 5] = ["id", "speaker", "reference", "hypothesis", "alignment"];

impl Recognised {
    /// The rows as `hypotheses.tsv` holds them.
    pub fn table<'a>(rows: impl IntoIterator<Item = &'a Self>) -> String {
        let mut text = HEADER.join("\t") + "\n";
        for Self { id, speaker, reference, hypothesis, alignment } in rows {
            text.push_str(&format!("{id}\t{speaker}\t{reference}\t{hypothesis}\t{alignment}\n"));
        }
        text
    }

    /// Reads what [`Recognised::table`] wrote.
    ///
    /// # Errors
    /// Names the line that is none.
    pub fn read(text: &str) -> Result<Vec<Self>, String> {
        let mut lines = text.lines();
        if lines.next().is_none_or(|first| !first.split('\t').eq(HEADER)) {
            return Err(format!("line 1 isn't the header {}", HEADER.join(", ")));
        }
        let row = |(index, line): (usize, &str)| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [id, speaker, reference, hypothesis, alignment] = fields[..] else {
                return Err(format!("line {}: {} fields, not {}", index + 2, fields.len(), HEADER.len()));
            };
            let alignment = alignment.parse().map_err(|why| format!("line {}: {why}", index + 2))?;
            let [id, speaker, reference, hypothesis] = [id, speaker, reference, hypothesis].map(str::to_owned);
            Ok(Self { id, speaker, reference, hypothesis, alignment })
        };
        lines.enumerate().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let row = |id: &str, hypothesis: &str, alignment: &str| Recognised {
            id: id.into(),
            speaker: "s".into(),
            reference: "a b".into(),
            hypothesis: hypothesis.into(),
            alignment: alignment.parse().unwrap(),
        };
        let rows = [row("u1", "a c d", "CSI"), row("u2", "", "DD")];
        let text = Recognised::table(&rows);
        assert_eq!(Recognised::read(&text).unwrap(), rows);
        assert_eq!(rows[0].alignment.edits(), Edits { substitutions: 1, insertions: 1, reference: 2, deletions: 0 });
        for (damaged, why) in [
            (text.replace("alignment", "words"), "line 1"),
            (text.replace("CSI", "CXI"), "line 2"),
            (text.replace("\tDD", ""), "line 3"),
            (String::new(), "line 1"),
        ] {
            assert!(Recognised::read(&damaged).unwrap_err().contains(why), "{damaged:?}");
        }
    }
}
