//! `lexicon`: a list of words that was made elsewhere, held to its checksum.

use reprise_spec::contract::Score;
use reprise_spec::stage::LexiconStage;

use super::Work;
use super::corpus::files::listed;
use crate::decoding::lexicon::WORDS;
use crate::failure::StageError;

/// Writes `words.txt`, bytes as they were. Whether a model can spell the words, a decoding sees.
///
/// # Errors
/// Refuses a file that changed since it was listed, and one that is not UTF-8.
pub fn run(_: &LexiconStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let root = work.data_root()?.to_owned();
    let files = listed(work)?;
    let [file] = files.as_slice() else { return Err(StageError::Failed("a lexicon is one file".into())) };
    let text = String::from_utf8(file.read(&root)?).map_err(|error| {
        let bytes = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = bytes.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let message = format!("line {line} of {} is not UTF-8", root.join(&file.path).display());
        StageError::refused(message, "convert it with `iconv -t UTF-8`")
    })?;
    work.write(WORDS, text.as_bytes())?;
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    Ok(vec![Score { name: "spellings".into(), value: lines as f64, interval: None }])
}
