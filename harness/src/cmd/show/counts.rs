//! Words and characters that were recognised and that were not, in the manner of ESPnet's result tables.

use reprise_spec::recognition::{Edits, Scores};
use serde::Serialize;

use super::decoded;
use crate::cmd::print;
use crate::exit::Failure;
use crate::store::{RunRecord, Store};

/// The scores of one decoded split.
#[derive(Serialize)]
pub struct Counted {
    decoded: String,
    #[serde(flatten)]
    scores: Scores,
}

/// Of every split that the run decoded.
pub fn of(record: &RunRecord, store: &Store) -> Result<Vec<Counted>, Failure> {
    let read = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
    let all: Vec<(String, Scores)> = decoded(record, store, "scores.json", read)?;
    Ok(all.into_iter().map(|(decoded, scores)| Counted { decoded, scores }).collect())
}

/// One row for words and one for characters of each split; all but counts in percent.
pub fn table(counted: &[Counted]) -> String {
    let rows = counted.iter().flat_map(|Counted { decoded, scores }| {
        [("words", &scores.wer), ("characters", &scores.cer)].map(|(unit, rate)| {
            let edits = rate.edits;
            let Edits { substitutions, deletions, insertions, reference } = edits;
            let percent = |count: u64| format!("{:.1}", 100.0 * count as f64 / reference.max(1) as f64);
            let mut row = vec![decoded.clone(), unit.into(), scores.utterances.to_string(), reference.to_string()];
            row.extend([edits.correct(), substitutions, deletions, insertions, edits.total()].map(percent));
            row.push(format!("{:.1}", 100.0 * scores.ser));
            row
        })
    });
    let header = ["decoded", "in", "sentences", "units", "corr", "sub", "del", "ins", "err", "s.err"];
    print::table(&header, &[2, 3, 4, 5, 6, 7, 8, 9], rows.collect())
}

#[cfg(test)]
mod tests {
    use reprise_spec::decoding::ResamplingUnit;
    use reprise_spec::recognition::ErrorRate;

    use super::*;

    #[test]
    fn shares_are_of_the_reference() {
        let rate = |substitutions, deletions, insertions, reference| {
            let edits = Edits { substitutions, deletions, insertions, reference };
            ErrorRate { rate: edits.rate(), interval: (0.0, 1.0), edits }
        };
        let scores = Scores {
            wer: rate(3, 2, 1, 20),
            cer: rate(10, 5, 40, 100),
            ser: 0.75,
            empty_hypotheses: 0.0,
            utterances: 4,
            speakers: 2,
            resampled: ResamplingUnit::Speaker,
        };
        insta::assert_snapshot!(table(&[Counted { decoded: "decode test".into(), scores }]), @r"
        DECODED      IN          SENTENCES  UNITS  CORR   SUB   DEL   INS   ERR  S.ERR
        decode test  words               4     20  75.0  15.0  10.0   5.0  30.0   75.0
        decode test  characters          4    100  85.0  10.0   5.0  40.0  55.0   75.0
        ");
    }
}
