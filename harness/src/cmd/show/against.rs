//! Two runs that recognised the same speech, with a test of whether they differ.

use std::collections::BTreeMap;
use std::fmt;

use reprise_spec::recognition::{Edits, Recognised};
use serde::Serialize;

use super::decoded;
use crate::cmd::print;
use crate::exit::Failure;
use crate::significance::MatchedPairs;
use crate::store::{RunRecord, Store};

/// A run beside another.
#[derive(Serialize)]
pub struct Compared {
    run: String,
    against: String,
    decoded: Vec<Pair>,
}

/// What both runs recognised of one split at one point.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Pair {
    decoded: String,
    /// Word error rates, the shown run's first.
    wer: [f64; 2],
    matched_pairs: MatchedPairs,
}

/// Compares what two runs decoded under the same name.
///
/// # Errors
/// When they decoded nothing under the same name, or other utterances.
pub fn compare(run: &RunRecord, other: &RunRecord, store: &Store) -> Result<Compared, Failure> {
    let of = |record| decoded(record, store, "hypotheses.tsv", Recognised::read);
    let theirs: BTreeMap<String, Vec<Recognised>> = of(other)?.into_iter().collect();
    let mut pairs = Vec::new();
    for (name, ours) in of(run)? {
        let Some(theirs) = theirs.get(&name) else { continue };
        let matched_pairs = MatchedPairs::of(&ours, theirs).map_err(|why| {
            Failure::user(format!("{name}: {why}"), "compare runs that decoded the same splits of the same corpus")
        })?;
        let wer = |rows: &[Recognised]| rows.iter().map(|row| row.alignment.edits()).sum::<Edits>().rate();
        pairs.push(Pair { wer: [wer(&ours), wer(theirs)], decoded: name, matched_pairs });
    }
    if pairs.is_empty() {
        let message = format!("run {} and run {} decoded nothing under the same name", run.id, other.id);
        return Err(Failure::user(message, "compare runs that decoded the same splits, and whose outputs are stored"));
    }
    Ok(Compared { run: told(run), against: told(other), decoded: pairs })
}

fn told(record: &RunRecord) -> String {
    format!("{} ({})", record.id, record.title())
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.decoded.iter().map(|Pair { decoded, wer, matched_pairs }| {
            let MatchedPairs { segments, w, p, .. } = *matched_pairs;
            let percent = |rate: f64| format!("{:.1} %", 100.0 * rate);
            let or_none = |number: Option<String>| number.unwrap_or_else(|| "-".into());
            let p = p.map(|p| if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") });
            let difference = format!("{:+.1}", 100.0 * (wer[0] - wer[1]));
            let w = w.map(|w| format!("{w:+.2}"));
            [
                decoded.clone(),
                percent(wer[0]),
                percent(wer[1]),
                difference,
                segments.to_string(),
                or_none(w),
                or_none(p),
            ]
            .into()
        });
        let header = ["decoded", "wer", "against", "difference", "segments", "w", "p"];
        let table = print::table(&header, &[1, 2, 3, 4, 5, 6], rows.collect());
        let note = "p is of the matched-pair test on segments (MAPSSWE), both sides. It takes segments for independent: with few speakers, or one seed a\nsystem, it says less than it seems.";
        write!(f, "run      {}\nagainst  {}\n\n{table}\n\n{note}", self.run, self.against)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_stands_beside_both_rates() {
        let pair = |decoded: &str, wer, segments, w, p| Pair {
            decoded: decoded.into(),
            wer,
            matched_pairs: MatchedPairs { segments, difference: 0.1, w, p },
        };
        let decoded = vec![
            pair("decode dev", [0.31, 0.405], 120, Some(-4.2), Some(0.000_03)),
            pair("decode test", [0.5, 0.5], 0, None, None),
            pair("decode test, top 1 reset", [0.52, 0.5], 61, Some(0.7), Some(0.484)),
        ];
        let compared =
            Compared { run: "20261122-a (x, seed 1)".into(), against: "20261122-b (y, seed 1)".into(), decoded };
        insta::assert_snapshot!(compared.to_string());
    }
}
