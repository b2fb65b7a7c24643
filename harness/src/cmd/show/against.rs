//! Two runs that recognised the same speech, with a test of whether they differ, and when one came to the other's level.

use std::collections::BTreeMap;
use std::fmt;

use reprise_spec::layers::Reached;
use reprise_spec::recognition::{Edits, Recognised};
use serde::Serialize;

use super::decoded;
use crate::cmd::print;
use crate::exit::Failure;
use crate::results::{Judgement, Recognition, Results, find};
use crate::significance::MatchedPairs;
use crate::store::{RunRecord, Store};

/// A run beside another.
#[derive(Serialize)]
pub struct Compared {
    run: String,
    against: String,
    decoded: Vec<Pair>,
    reached: Vec<Reaching>,
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

/// When a run came down to the word error rate that the other's last model has on a split.
#[derive(Serialize)]
struct Reaching {
    split: String,
    reference: f64,
    /// In steps of pretraining, of the points whose models compare.
    reached: Reached,
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
    let reached = reached(&Results::of(run, store), &Results::of(other, store));
    Ok(Compared { run: told(run), against: told(other), decoded: pairs, reached })
}

/// Of every split that the other's last model was judged on; nothing where this run was judged at one point alone.
fn reached(results: &Results, other: &Results) -> Vec<Reaching> {
    let wer = |recognition: &Recognition| find(&recognition.scores, "wer").map(|score| score.value);
    let on = |judgement: &Judgement, split: &str| {
        judgement.recognition.iter().find(|recognition| recognition.split == split).and_then(wer)
    };
    let references = other.last().into_iter().flat_map(|last| &last.recognition);
    let reaching = |recognition: &Recognition| {
        let compared = results.whole().filter(|judgement| judgement.compares());
        let rates: Vec<(u64, f64)> = compared
            .filter_map(|judgement| Some((judgement.point?.cumulative, on(judgement, &recognition.split)?)))
            .collect();
        let reference = wer(recognition)?;
        let reached = Reached::of(&rates, reference).filter(|_| rates.len() > 1)?;
        Some(Reaching { split: recognition.split.clone(), reference, reached })
    };
    references.filter_map(reaching).collect()
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
        let reached: String = self.reached.iter().map(|reaching| format!("{reaching}\n")).collect();
        let apart = if reached.is_empty() { "" } else { "\n" };
        write!(f, "run      {}\nagainst  {}\n\n{table}\n\n{reached}{apart}{note}", self.run, self.against)
    }
}

impl fmt::Display for Reaching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { split, reference, reached } = self;
        write!(f, "{split}: the other's last {:.1} % was ", 100.0 * reference)?;
        match reached {
            Reached::Within { last_miss, first_hit } => {
                write!(f, "reached after more than {last_miss} and at most {first_hit} steps")
            }
            Reached::Censored { last_miss } => write!(f, "not reached in {last_miss} steps"),
        }
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
        let reaching = |split: &str, reached| Reaching { split: split.into(), reference: 0.405, reached };
        let reached = vec![
            reaching("dev", Reached::Within { last_miss: 300, first_hit: 450 }),
            reaching("test", Reached::Censored { last_miss: 600 }),
        ];
        let compared = Compared {
            reached,
            run: "20261122-a (x, seed 1)".into(),
            against: "20261122-b (y, seed 1)".into(),
            decoded,
        };
        insta::assert_snapshot!(compared.to_string());
    }
}
