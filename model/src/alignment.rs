//! Word and phone times: when each was said, as an aligner or a synthesiser says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use reprise_spec::arithmetic::SAMPLE_RATE;

use crate::failure::StageError;
use crate::phone::Phone;

/// The columns of `phones.tsv` and `words.tsv`; times are in seconds.
pub const HEADER: &str = "utt\tstart\tend\tlabel";
const SAMPLES_PER_MILLISECOND: u64 = SAMPLE_RATE as u64 / 1000;

/// A stretch of an utterance with its label, in samples; times are whole milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    pub start: u64,
    /// The first sample after it.
    pub end: u64,
    /// Empty for the silence between words.
    pub label: String,
}

/// The intervals of each utterance, in order of time, without overlap.
pub type Tier = BTreeMap<String, Vec<Interval>>;

/// The alignments of one split as a `corpus` stage left them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignments {
    phones: Tier,
    words: Tier,
}

impl Alignments {
    /// Reads what a `corpus` stage left in `dir`.
    pub fn read(dir: &Path) -> Result<Self, StageError> {
        let tier = |name: &str| {
            let path = dir.join(name);
            let text = fs::read_to_string(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
            parse(&text).map_err(|problem| StageError::Failed(format!("{}: {problem}", path.display())))
        };
        Ok(Self { phones: tier("phones.tsv")?, words: tier("words.tsv")? })
    }

    /// The phones of an utterance; `None` when it was not aligned.
    pub fn phones(&self, utterance: &str) -> Option<&[Interval]> {
        self.phones.get(utterance).map(Vec::as_slice)
    }

    /// The words of an utterance, silences between them included where the aligner gave any; `None` when it was not aligned.
    pub fn words(&self, utterance: &str) -> Option<&[Interval]> {
        self.words.get(utterance).map(Vec::as_slice)
    }

    /// The words of every utterance that was aligned.
    pub fn all_words(&self) -> &Tier {
        &self.words
    }

    /// The utterances whose phones are known, sorted.
    pub fn utterances(&self) -> impl Iterator<Item = &str> {
        self.phones.keys().map(String::as_str)
    }
}

/// The label of the interval that holds `sample`; `None` in a gap.
pub fn label_at(intervals: &[Interval], sample: u64) -> Option<&str> {
    let after = intervals.partition_point(|interval| interval.start <= sample);
    intervals[..after].last().filter(|interval| sample < interval.end).map(|interval| interval.label.as_str())
}

/// The phone at `sample`: silence in a gap, `None` where the aligner found no phone (`spn`). The labels are those of a tier that a
/// `corpus` stage checked, so that none is unknown.
pub fn phone_at(intervals: &[Interval], sample: u64) -> Option<Phone> {
    label_at(intervals, sample).map_or(Some(Phone::SILENCE), |label| Phone::parse(label).ok().flatten())
}

/// Reads seconds and rounds to the millisecond; an error when they are no finite number of zero or more.
pub fn samples(seconds: &str) -> Result<u64, String> {
    match seconds.trim().parse::<f64>() {
        Ok(number) if (0.0..1e6).contains(&number) => Ok((number * 1000.0).round() as u64 * SAMPLES_PER_MILLISECOND),
        _ => Err(format!("{seconds:?} is not a time in seconds")),
    }
}

/// Reads a table of `utt start end label` lines after a header line, in which the last column may have another name.
pub fn parse(text: &str) -> Result<Tier, String> {
    let mut tier = Tier::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let at = |problem: String| format!("line {}: {problem}", number + 1);
        let fields: Vec<&str> = line.split('\t').collect();
        let [utterance, start, end, label] = fields[..] else {
            return Err(at(format!("{} fields instead of 4", fields.len())));
        };
        if label.chars().any(char::is_control) {
            return Err(at(format!("the label {label:?} has a control character")));
        }
        let interval =
            Interval { start: samples(start).map_err(at)?, end: samples(end).map_err(at)?, label: label.to_owned() };
        tier.entry(utterance.to_owned()).or_default().push(interval);
    }
    match text.lines().next() {
        Some(header) if header.starts_with("utt\tstart\tend\t") => Ok(tier),
        _ => Err(format!("the first line is not {HEADER:?}")),
    }
}

/// The inverse of [`parse`], sorted by utterance.
pub fn table(tier: &Tier) -> String {
    let seconds = |samples: u64| samples as f64 / f64::from(SAMPLE_RATE);
    let mut text = format!("{HEADER}\n");
    for (utterance, intervals) in tier {
        for Interval { start, end, label } in intervals {
            text.push_str(&format!("{utterance}\t{:.3}\t{:.3}\t{label}\n", seconds(*start), seconds(*end)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "utt\tstart\tend\tlabel\na\t0.000\t0.030\tAH0\na\t0.050\t0.051\tspn\na\t0.051\t1.000\tK\n";

    #[test]
    fn a_table_comes_back_as_it_was() {
        assert_eq!(table(&parse(TEXT).unwrap()), TEXT);
    }

    #[test]
    fn a_sample_has_the_label_of_the_interval_that_holds_it() {
        let tier = parse(TEXT).unwrap();
        let labels = |sample| (label_at(&tier["a"], sample), phone_at(&tier["a"], sample).map(Phone::label));
        assert_eq!(labels(0), (Some("AH0"), Some("AH")));
        assert_eq!(labels(479), (Some("AH0"), Some("AH")));
        assert_eq!(labels(480), (None, Some("sil")));
        assert_eq!(labels(815), (Some("spn"), None));
        assert_eq!(labels(816), (Some("K"), Some("K")));
        assert_eq!(labels(16_000), (None, Some("sil")));
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        let problem = |text: &str| parse(text).unwrap_err();
        insta::assert_snapshot!(problem("a\t0\t1\tK\n"), @r#"the first line is not "utt\tstart\tend\tlabel""#);
        insta::assert_snapshot!(problem("utt\tstart\tend\tlabel\na\t0\t1\n"), @"line 2: 3 fields instead of 4");
        for time in ["NaN", "inf", "-1", "x", "1e300", ""] {
            assert!(problem(&format!("utt\tstart\tend\tlabel\na\t{time}\t1\tK")).ends_with("is not a time in seconds"));
        }
    }
}
