//! `word-vectors`: what words mean, from a file that was made elsewhere, for the words that a corpus has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;

use reprise_spec::contract::{Level, Score};
use reprise_spec::stage::{Role, WordVectorsStage};

use super::Work;
use super::corpus::files::listed;
use crate::alignment::Alignments;
use crate::analysis::sample::word_label;
use crate::failure::StageError;
use crate::meaning::vectors::WordVectors;

/// Writes `words.txt`, `vectors.npy` and `lacking.tsv` (word, tokens).
///
/// # Errors
/// Refuses a file that changed since it was listed, one that is no list of vectors, and one with none of the corpus's words.
pub fn run(_: &WordVectorsStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let mut tokens: BTreeMap<String, u64> = BTreeMap::new();
    for input in work.request.inputs.iter().filter(|input| matches!(input.role, Role::Alignments(_))) {
        let alignments = Alignments::read(&input.path)?;
        let labels = alignments.all_words().values().flatten().filter_map(|interval| word_label(&interval.label));
        labels.for_each(|label| *tokens.entry(label).or_default() += 1);
    }
    let files = listed(work)?;
    let [file] = files.as_slice() else { return Err(StageError::Failed("vectors of words are one file".into())) };
    let path = file.check(work.data_root()?)?;
    let open = File::open(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
    let wanted: BTreeSet<String> = tokens.keys().cloned().collect();
    let vectors = WordVectors::of(BufReader::new(open), &wanted).map_err(|problem| {
        let help = "every line is a word and as many numbers as the first line has, and nothing comes before: take away a line that counts words";
        StageError::refused(format!("{} has no vectors of words: {problem}", path.display()), help)
    })?;
    vectors.write(&work.output(""))?;
    let lacking: Vec<_> = tokens.iter().filter(|(word, _)| vectors.row(word).is_none()).collect();
    let table: String = lacking.iter().map(|(word, tokens)| format!("{word}\t{tokens}\n")).collect();
    work.write("lacking.tsv", format!("word\ttokens\n{table}").as_bytes())?;
    let message = format!("{} of {} words have a vector", vectors.words.len(), tokens.len());
    work.report.say(Level::Info, message);
    let score = |name: &str, value: usize| Score { name: name.into(), value: value as f64, interval: None };
    let counts = [("words", vectors.words.len()), ("lacking", lacking.len()), ("dimensions", vectors.dimension())];
    Ok(counts.map(|(name, value)| score(name, value)).into())
}
