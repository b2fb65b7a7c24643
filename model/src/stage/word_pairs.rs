//! `word-pairs`: how alike people find words, from a file that was made elsewhere.

use std::fs::File;
use std::io::BufReader;

use reprise_spec::contract::Score;
use reprise_spec::stage::WordPairsStage;

use super::Work;
use super::corpus::files::listed;
use crate::failure::StageError;
use crate::meaning::pairs;

/// The file that holds the pairs.
pub const PAIRS: &str = "pairs.tsv";

/// Writes `pairs.tsv`.
///
/// # Errors
/// Refuses a file that changed since it was listed, and one that is no list of pairs.
pub fn run(_: &WordPairsStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let files = listed(work)?;
    let [file] = files.as_slice() else { return Err(StageError::Failed("pairs of words are one file".into())) };
    let path = file.check(work.data_root()?)?;
    let open = File::open(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
    let pairs = pairs::parse(BufReader::new(open)).map_err(|problem| {
        let help = "every line is two words and a number, separated by tabs, without a line of titles";
        StageError::refused(format!("{} has no pairs of words: {problem}", path.display()), help)
    })?;
    work.write(PAIRS, pairs::table(&pairs).as_bytes())?;
    Ok(vec![Score { name: "pairs".into(), value: pairs.len() as f64, interval: None }])
}
