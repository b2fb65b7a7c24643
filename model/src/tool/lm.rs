//! `lm`: n-gram language models from text, in another form, and what they say of text.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use reprise_spec::contract::Score;
use reprise_spec::language_model::{LmTool, SentencePerplexity};
use reprise_spec::values::Log10;

use super::ledger;
use crate::decoding::kneser_ney;
use crate::decoding::lm::table::MAGIC;
use crate::decoding::lm::{NgramModel, SentenceScore, arpa};
use crate::failure::StageError;
use crate::stage::language_model::{no_model, scores};

/// Does the work.
///
/// # Errors
/// Refuses an output that is there already, text that is not UTF-8 or too small, and files that are no whole models; then nothing is left behind.
pub fn run(tool: &LmTool) -> Result<Vec<Score>, StageError> {
    match tool {
        LmTool::Estimate { text, order, discount_fallback, out } => {
            let fallback = discount_fallback.map(|discounts| discounts.map(|discount| discount.get()));
            let estimated = kneser_ney::estimate(&read_text(text)?, order.get() as usize, fallback);
            let arpa = estimated.map_err(|error| {
                let help = "take more text or a lower order, or give --discount-fallback";
                StageError::refused(format!("{} gives no language model: {error}", text.display()), help)
            })?;
            make(out, |partial| {
                write_arpa(&arpa, partial, out.extension().is_some_and(|extension| extension == "gz"))
            })?;
            Ok(scores(&arpa::read(arpa.as_bytes(), None).map_err(|error| no_model(out, &error))?))
        }
        LmTool::Convert { arpa, missing_unknown, out } => make(out, |partial| {
            arpa::convert(arpa, partial, plain(missing_unknown)).map_err(|error| no_model(arpa, &error))?;
            Ok(scores(&NgramModel::open(partial).map_err(|error| StageError::Failed(error.to_string()))?))
        }),
        LmTool::Perplexity { model, missing_unknown, text, out } => {
            let model = read_model(model, missing_unknown)?;
            let text = read_text(text)?;
            let all = make(out, |partial| score_sentences(&model, &text, partial))?;
            let score = |name: &str, value| Score { name: name.into(), value, interval: None };
            let (perplexity, SentenceScore { log10, tokens, unknown }) = (all.perplexity(), all);
            Ok(vec![
                score("perplexity", perplexity),
                score("log10", log10),
                score("tokens", tokens as f64),
                score("unknown", unknown as f64),
            ])
        }
    }
}

/// Makes the file `out`, which must not be there, under another name and renames it when it is whole.
fn make<T>(out: &Path, fill: impl FnOnce(&Path) -> Result<T, StageError>) -> Result<T, StageError> {
    if fs::symlink_metadata(out).is_ok() {
        return Err(StageError::refused(
            format!("{} is there already", out.display()),
            "remove it, or name another file",
        ));
    }
    let mut name = OsString::from(".");
    name.push(out.file_name().unwrap_or_default());
    name.push(".partial");
    let partial = out.with_file_name(name);
    let made = fill(&partial).and_then(|made| {
        fs::rename(&partial, out).map_err(|error| StageError::io("cannot write", out, &error))?;
        Ok(made)
    });
    if made.is_err() {
        let _ = fs::remove_file(&partial);
    }
    made
}

fn write_arpa(arpa: &str, path: &Path, gzip: bool) -> Result<(), StageError> {
    let write = || {
        let mut file = ledger::new_file(path)?;
        if !gzip {
            return file.write_all(arpa.as_bytes());
        }
        let mut gzip = GzEncoder::new(file, Compression::default());
        gzip.write_all(arpa.as_bytes())?;
        gzip.finish().map(|_| ())
    };
    write().map_err(|error| StageError::io("cannot write", path, &error))
}

fn plain(missing_unknown: &Option<Log10>) -> Option<f32> {
    missing_unknown.map(|log10| log10.get() as f32)
}

fn read_text(path: &Path) -> Result<String, StageError> {
    let bytes = fs::read(path).map_err(|error| StageError::io("cannot read", path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let message = format!("line {line} of {} is not UTF-8", path.display());
        StageError::refused(message, "convert it with `iconv -t UTF-8`")
    })
}

/// A converted model, or an ARPA file, which is read into memory.
fn read_model(path: &Path, missing_unknown: &Option<Log10>) -> Result<NgramModel, StageError> {
    let fail = |error: std::io::Error| StageError::io("cannot read", path, &error);
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start)).map_err(fail)?;
    if start == MAGIC {
        return NgramModel::open(path).map_err(|error| StageError::Refused { message: error.to_string(), help: None });
    }
    let file = BufReader::new(File::open(path).map_err(fail)?);
    arpa::read(file, plain(missing_unknown)).map_err(|error| no_model(path, &error))
}

/// Writes a [`SentencePerplexity`] a line; lines without words are passed over. All sentences together.
fn score_sentences(model: &NgramModel, text: &str, out: &Path) -> Result<SentenceScore, StageError> {
    let mut all = Vec::new();
    ledger::write(out, |rows| {
        for (line, sentence) in (1..).zip(text.lines()).filter(|(_, sentence)| !sentence.trim().is_empty()) {
            let score = model.sentence(sentence.split_whitespace());
            let SentenceScore { log10, tokens, unknown } = score;
            let row = SentencePerplexity { line, words: tokens - 1, unknown, log10, perplexity: score.perplexity() };
            rows.put(serde_json::to_string(&row).map_err(|error| StageError::Failed(error.to_string()))?)?;
            all.push(score);
        }
        Ok(())
    })?;
    match all.is_empty() {
        true => Err(StageError::refused("the text has no words", "give a text with one sentence a line")),
        false => Ok(all.into_iter().sum()),
    }
}
