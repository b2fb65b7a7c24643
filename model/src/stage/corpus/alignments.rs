//! Word and phone times of a split, as two tables or as one TextGrid an utterance, checked against its utterances.

use std::collections::BTreeSet;

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::contract::Score;
use reprise_spec::stage::Role;
use reprise_spec::values::SplitName;

use super::files::{self, Listed};
use super::{named, score};
use crate::alignment::{self, Interval, Tier};
use crate::corpus::Corpus;
use crate::failure::StageError;
use crate::phone::Phone;
use crate::stage::Work;
use crate::textgrid;

/// How far an aligner may run past the end of the audio: 50 ms.
const TOLERANCE: u64 = SAMPLE_RATE as u64 / 20;

/// Reads and checks; gives `phones.tsv` and `words.tsv`.
pub fn run(split: &SplitName, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let dir = work.input(&Role::Corpus(split.clone()))?.to_owned();
    let corpus = Corpus::read_once(&dir, work.data_root()?)?;
    let excluded = excluded(&dir)?;
    let files = files::listed(work)?;
    let texts =
        files::read_all(&files, work, |_, bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()))?;
    let mut problems = Vec::new();
    let (mut phones, mut words) = (Tier::new(), Tier::new());
    for (file, text) in files.iter().zip(texts) {
        if let Err(problem) = text.and_then(|text| add(file, &text, &mut phones, &mut words)) {
            problems.push(format!("{}: {problem}", file.path));
        }
    }
    for (name, tier) in [("phones", &mut phones), ("words", &mut words)] {
        tier.retain(|utterance, _| !excluded.contains(utterance));
        for (utterance, intervals) in tier {
            let checked = check(&corpus, utterance, intervals);
            problems.extend(checked.err().map(|problem| format!("{name} of {utterance}: {problem}")));
        }
    }
    for (utterance, intervals) in &phones {
        let unknown = intervals.iter().find_map(|interval| Phone::parse(&interval.label).err());
        problems.extend(unknown.map(|unknown| format!("phones of {utterance}: {unknown}")));
    }
    if !problems.is_empty() {
        let message = format!("the alignments of {split} cannot be used:{}", named(problems.into_iter()));
        return Err(StageError::refused(message, "mend the alignments, or take them away to measure without them"));
    }
    work.write("phones.tsv", alignment::table(&phones).as_bytes())?;
    work.write("words.tsv", alignment::table(&words).as_bytes())?;
    let count = |tier: &Tier| tier.values().flatten().filter(|interval| !interval.label.is_empty()).count() as f64;
    Ok(vec![score("aligned", phones.len() as f64), score("phones", count(&phones)), score("words", count(&words))])
}

/// Adds a file's intervals to the tiers.
fn add(file: &Listed, text: &str, phones: &mut Tier, words: &mut Tier) -> Result<(), String> {
    let name = file.name();
    if name.ends_with(".phones.tsv") {
        return merge(phones, alignment::parse(text)?);
    }
    if name.ends_with(".words.tsv") {
        return merge(words, alignment::parse(text)?);
    }
    let Some(utterance) = name.strip_suffix(".TextGrid") else {
        return Err("neither .phones.tsv nor .words.tsv nor .TextGrid".into());
    };
    let mut tiers = textgrid::parse(text)?;
    for (name, into) in [("phones", phones), ("words", words)] {
        let tier = tiers.remove(name).ok_or_else(|| format!("it has no tier {name:?}"))?;
        merge(into, Tier::from([(utterance.to_owned(), tier)]))?;
    }
    Ok(())
}

fn merge(into: &mut Tier, tier: Tier) -> Result<(), String> {
    for (utterance, intervals) in tier {
        if into.contains_key(&utterance) {
            return Err(format!("{utterance} is aligned twice"));
        }
        into.insert(utterance, intervals);
    }
    Ok(())
}

fn check(corpus: &Corpus, utterance: &str, intervals: &[Interval]) -> Result<(), String> {
    let samples = corpus.find(utterance).ok_or("the split has no such utterance")?.samples;
    let seconds = |samples: u64| samples as f64 / f64::from(SAMPLE_RATE);
    let mut last = 0;
    for &Interval { start, end, ref label } in intervals {
        let at = format!("{label:?} from {:.3} to {:.3} s", seconds(start), seconds(end));
        if start >= end {
            return Err(format!("{at} has no length"));
        }
        if start < last {
            return Err(format!("{at} begins before the label ahead of it ends at {:.3} s", seconds(last)));
        }
        if end > samples + TOLERANCE {
            return Err(format!("{at} lies beyond the audio of {:.3} s", seconds(samples)));
        }
        last = end;
    }
    Ok(())
}

/// The ids that the split's utterances were left without.
fn excluded(dir: &std::path::Path) -> Result<BTreeSet<String>, StageError> {
    let path = dir.join("excluded.tsv");
    let text = std::fs::read_to_string(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
    Ok(text.lines().skip(1).filter_map(|line| line.split('\t').next()).map(str::to_owned).collect())
}
