//! `tune`: the weights of a decoding, by the fewest wrong words on splits that nothing is claimed of.

use std::fmt::Write;

use reprise_spec::contract::Score;
use reprise_spec::decoding::{Beam, Weights};
use reprise_spec::recognition::Edits;
use reprise_spec::stage::{Role, TuneStage};

use super::Work;
use super::decode::inputs;
use crate::corpus::Corpora;
use crate::decoding::beam::LogProbabilities;
use crate::decoding::decoder::Words;
use crate::failure::StageError;
use crate::recogniser::{self, Recogniser};
use crate::score::UtteranceAlignment;

/// The file of the best weights.
pub const WEIGHTS: &str = "weights.json";

/// Writes `weights.json` and `grid.tsv`. The network is asked once for every utterance. Of settings with equally many wrong words the first of the
/// grid is taken.
pub fn run(settings: &TuneStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let TuneStage { beam, weights, tuning } = settings;
    let recogniser = Recogniser::read(work.input(&Role::Finetuned)?, work.device)?;
    let words = inputs::words(work, &recogniser.vocabulary)?;
    let words = words.ok_or_else(|| StageError::Failed("the request has no lexicon".into()))?;
    let corpora = Corpora::read(work, &tuning.on)?;
    let total = corpora.iter().count() as u64;
    let grid = tuning.grid(weights);
    let mut sums = vec![Edits::default(); grid.len()];
    let mut finished = work.finished("tuned")?;
    for (index, (split, corpus, utterance)) in corpora.iter().enumerate() {
        work.report.check_stop()?;
        if index >= finished.count() {
            let scores = recogniser.log_probabilities(&corpus.wave(utterance)?)?;
            let scores_tv = LogProbabilities::new(&scores, recogniser.vocabulary.size())
                .map_err(|error| StageError::Failed(format!("{}: {error}", utterance.id)))?;
            let reference = recogniser::transcript(split, utterance)?;
            let tried = Tried { words: &words, beam, scores_tv, reference };
            finished.push(&serde_json::to_vec(&tried.on_threads(&grid, work.request.threads)?).map_err(damaged)?)?;
        }
        let edits: Vec<Edits> = serde_json::from_slice(&finished.read(index)?).map_err(damaged)?;
        sums = sums.into_iter().zip(edits).map(|(sum, edits)| [sum, edits].into_iter().sum()).collect();
        work.report.progress(index as u64 + 1, total, "utterances", "");
    }
    work.write("grid.tsv", table(&grid, &sums).as_bytes())?;
    let best = (0..grid.len()).min_by_key(|&place| sums[place].total());
    let best = best.ok_or_else(|| StageError::Failed("the grid is empty".into()))?;
    let Weights { lm, word, silence, .. } = &grid[best];
    work.write(WEIGHTS, &serde_json::to_vec_pretty(&grid[best]).map_err(damaged)?)?;
    let score = |name: &str, value| Score { name: name.into(), value, interval: None };
    Ok(vec![
        score("lm-weight", lm.get()),
        score("word-score", word.get()),
        score("silence-score", silence.get()),
        score("wer", sums[best].rate()),
    ])
}

fn damaged(error: serde_json::Error) -> StageError {
    StageError::Failed(format!("what was tried cannot be written and read: {error}"))
}

/// An utterance that is decoded with many settings.
struct Tried<'a> {
    words: &'a Words,
    beam: &'a Beam,
    scores_tv: LogProbabilities<'a>,
    reference: &'a str,
}

impl Tried<'_> {
    /// The wrong words with every setting, in the order of the grid.
    fn on_threads(&self, grid: &[Weights], threads: u32) -> Result<Vec<Edits>, StageError> {
        let share = grid.len().div_ceil(threads.max(1) as usize);
        std::thread::scope(|scope| {
            let shares = grid
                .chunks(share)
                .map(|share| scope.spawn(|| share.iter().map(|weights| self.with(weights)).collect()));
            let shares: Vec<_> = shares.collect();
            let joined = shares.into_iter().map(|share| share.join()).collect::<Result<Vec<Vec<Edits>>, _>>();
            joined.map(|shares| shares.concat()).map_err(|_| StageError::Failed("a search ended early".into()))
        })
    }

    fn with(&self, weights: &Weights) -> Edits {
        let found = self.words.search(self.scores_tv, self.beam, weights.into());
        let text = found.first().map_or(String::new(), |best| self.words.text(&best.label));
        UtteranceAlignment::between(self.reference, &text).words.edits()
    }
}

/// One row a setting, in the order of the grid.
fn table(grid: &[Weights], sums: &[Edits]) -> String {
    let mut table = String::from("lm\tword\tsilence\twer\twords\tsubstitutions\tdeletions\tinsertions\n");
    for (Weights { lm, word, silence, .. }, edits) in grid.iter().zip(sums) {
        let Edits { substitutions, deletions, insertions, reference } = edits;
        let (lm, word, silence, wer) = (lm.get(), word.get(), silence.get(), edits.rate());
        _ = writeln!(table, "{lm}\t{word}\t{silence}\t{wer}\t{reference}\t{substitutions}\t{deletions}\t{insertions}");
    }
    table
}
