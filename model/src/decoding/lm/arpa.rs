//! ARPA files, plain or gzip, to the tables of a model.
//!
//! Format: Doug Paul's for the ARPA workshops, as SRILM's `ngram-format(5)` has it. Stricter than most readers: probabilities and words are
//! never made up, so a back-off weight may be left out only where no longer n-gram needs it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::MAX_ORDER;
use super::table::{self, BadTable, Level, NgramModel, search};

/// Why a file is no language model, with the line.
#[derive(Debug, thiserror::Error)]
pub enum BadArpa {
    #[error("cannot read the ARPA file: {0}")]
    Io(#[from] io::Error),
    #[error("line {line} of the ARPA file: {reason}")]
    Line { line: u32, reason: String },
    #[error(transparent)]
    Table(#[from] BadTable),
}

/// Converts the ARPA file `from` into the file `to`, which [`NgramModel::open`] reads.
///
/// Some published models, LibriSpeech's among them, have no `<unk>`: `missing_unknown` is the log10 probability that it then gets (KenLM
/// takes −100), or `None` to refuse them.
///
/// # Errors
/// Says what is wrong with the ARPA file, and in which line.
pub fn convert(from: &Path, to: &Path, missing_unknown: Option<f32>) -> Result<(), BadArpa> {
    let mut output = BufWriter::new(File::create(to)?);
    convert_from(BufReader::new(File::open(from)?), &mut output, missing_unknown)?;
    Ok(output.flush()?)
}

/// Reads an ARPA file into memory.
///
/// # Errors
/// As [`convert`].
pub fn read(from: impl BufRead, missing_unknown: Option<f32>) -> Result<NgramModel, BadArpa> {
    let mut bytes = Vec::new();
    convert_from(from, &mut bytes, missing_unknown)?;
    Ok(NgramModel::of(Box::new(bytes))?)
}

/// Converts an open file, which is gzip where its first two bytes say so.
fn convert_from(mut from: impl BufRead, to: &mut dyn Write, missing_unknown: Option<f32>) -> Result<(), BadArpa> {
    let gzip = from.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let text: Box<dyn Read + '_> = if gzip { Box::new(MultiGzDecoder::new(from)) } else { Box::new(from) };
    let mut lines = Lines { text: BufReader::new(text), buffer: Vec::new(), number: 0 };
    let counts = lines.counts()?;
    let (words, first) = unigrams(&mut lines, counts[0], counts.len() == 1, missing_unknown)?;
    let mut levels = vec![first];
    for order in 2..=counts.len() {
        let level = ngrams(&mut lines, order, counts[order - 1], order == counts.len(), &words, &mut levels)?;
        levels.push(level);
    }
    lines.heading("\\end\\")?;
    for level in &mut levels {
        level.back_off.iter_mut().filter(|weight| weight.is_nan()).for_each(|weight| *weight = 0.0);
    }
    Ok(table::write(&words, &levels, to)?)
}

/// Lines that are not empty, with their numbers.
struct Lines<R> {
    text: R,
    buffer: Vec<u8>,
    number: u32,
}

/// An n-gram of the file.
struct Entry<'a> {
    log10: f32,
    words: Vec<&'a str>,
    /// NaN where none is written.
    back_off: f32,
}

impl<R: BufRead> Lines<R> {
    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T, BadArpa> {
        Err(BadArpa::Line { line: self.number, reason: reason.into() })
    }

    fn next(&mut self) -> Result<&str, BadArpa> {
        loop {
            self.buffer.clear();
            self.number += 1;
            if self.text.read_until(b'\n', &mut self.buffer)? == 0 {
                return self.wrong("the file ends before \\end\\");
            }
            self.buffer.truncate(self.buffer.trim_ascii_end().len());
            if !self.buffer.is_empty() {
                break;
            }
        }
        let line = self.number;
        std::str::from_utf8(&self.buffer).map_err(|_| BadArpa::Line { line, reason: "it is not UTF-8".into() })
    }

    fn heading(&mut self, expected: &str) -> Result<(), BadArpa> {
        if self.next()? == expected {
            return Ok(());
        }
        self.wrong(format!(
            "{expected} should stand here: the section above has more lines than its count, or one is missing"
        ))
    }

    /// The number of n-grams of each order; reads up to the line before the 1-grams.
    fn counts(&mut self) -> Result<Vec<usize>, BadArpa> {
        while self.next()? != "\\data\\" {}
        let mut counts = Vec::new();
        loop {
            let order = counts.len() + 1;
            let line = self.next()?;
            if line == "\\1-grams:" && order > 1 {
                return Ok(counts);
            }
            let count = line.strip_prefix("ngram ").and_then(|rest| rest.split_once('='));
            let count = count.filter(|(named, _)| named.trim() == order.to_string());
            match count.and_then(|(_, count)| count.trim().parse::<u32>().ok()) {
                Some(_) if order > MAX_ORDER => {
                    return self.wrong(format!("orders above {MAX_ORDER} are not supported"));
                }
                Some(count) if count < u32::MAX => counts.push(count as usize),
                _ => return self.wrong(format!("not `ngram {order}=COUNT`, and not \\1-grams:")),
            }
        }
    }

    fn entry(&mut self, order: usize, highest: bool) -> Result<Entry<'_>, BadArpa> {
        self.next()?;
        let line = self.number;
        let wrong = |reason: String| BadArpa::Line { line, reason };
        let text = std::str::from_utf8(&self.buffer).expect("next has looked");
        if text.starts_with('\\') {
            return Err(wrong(format!("fewer {order}-grams than their count: {text} stands here")));
        }
        let fields: Vec<&str> = text.split([' ', '\t']).filter(|field| !field.is_empty()).collect();
        let with_back_off = fields.len() == order + 2;
        if !with_back_off && fields.len() != order + 1 || with_back_off && highest {
            return Err(wrong(format!(
                "not a probability, {order} words and (below the highest order) a back-off weight"
            )));
        }
        let number = |field: &str| {
            let value = field.parse::<f32>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| wrong(format!("{field:?} is not a finite number")))
        };
        let log10 = number(fields[0])?;
        if log10 > 0.0 {
            return Err(wrong(format!("log10 of a probability is at most 0, not {log10}")));
        }
        let back_off = if with_back_off { number(fields[order + 1])? } else { f32::NAN };
        // As KenLM reads what some toolkits write.
        let words = fields[1..=order].iter().map(|&word| if word == "<UNK>" { "<unk>" } else { word });
        Ok(Entry { log10, words: words.collect(), back_off })
    }
}

/// The words, sorted, and their entries.
fn unigrams<R: BufRead>(
    lines: &mut Lines<R>,
    count: usize,
    highest: bool,
    missing_unknown: Option<f32>,
) -> Result<(Vec<String>, Level), BadArpa> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let Entry { log10, words, back_off } = lines.entry(1, highest)?;
        let word = words[0].to_owned();
        entries.push((word, lines.number, log10, back_off));
    }
    if let Some(log10) = missing_unknown
        && !entries.iter().any(|entry| entry.0 == "<unk>")
    {
        entries.push(("<unk>".to_owned(), lines.number, log10, f32::NAN));
    }
    entries.sort_unstable_by(|left, right| (&left.0, left.1).cmp(&(&right.0, right.1)));
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(BadArpa::Line { line: pair[1].1, reason: format!("{} stands twice", pair[0].0) });
    }
    for needed in ["<s>", "</s>", "<unk>"] {
        if entries.binary_search_by(|entry| entry.0.as_str().cmp(needed)).is_err() {
            return lines.wrong(format!("the 1-grams that end here lack {needed}"));
        }
    }
    let mut level = Level { words: (0..entries.len() as u32).collect(), ..Level::default() };
    level.log10 = entries.iter().map(|entry| entry.2).collect();
    if !highest {
        level.back_off = entries.iter().map(|entry| entry.3).collect();
    }
    Ok((entries.into_iter().map(|entry| entry.0).collect(), level))
}

/// An n-gram as an entry below its context.
struct Record {
    context: u32,
    word: u32,
    line: u32,
    log10: f32,
    back_off: f32,
}

/// The entries of `order`; tells those of the order below where theirs end.
fn ngrams<R: BufRead>(
    lines: &mut Lines<R>,
    order: usize,
    count: usize,
    highest: bool,
    vocabulary: &[String],
    levels: &mut [Level],
) -> Result<Level, BadArpa> {
    lines.heading(&format!("\\{order}-grams:"))?;
    let mut records = Vec::with_capacity(count.min(1 << 20));
    for _ in 0..count {
        let Entry { log10, words, back_off } = lines.entry(order, highest)?;
        let ids: Result<Vec<u32>, String> = words
            .iter()
            .map(|word| {
                let id = vocabulary.binary_search_by(|other| other.as_str().cmp(word));
                id.map(|id| id as u32).map_err(|_| format!("{word} is not among the 1-grams"))
            })
            .collect();
        let ids = match ids {
            Ok(ids) => ids,
            Err(reason) => return lines.wrong(reason),
        };
        let context =
            || ids[..order - 1].iter().map(|&id| vocabulary[id as usize].as_str()).collect::<Vec<_>>().join(" ");
        let Some(entry) = find(levels, &ids[..order - 1]) else {
            return lines.wrong(format!("its context `{}` is not among the {}-grams", context(), order - 1));
        };
        if levels[order - 2].back_off[entry as usize].is_nan() {
            return lines.wrong(format!("its context `{}` has no back-off weight", context()));
        }
        records.push(Record { context: entry, word: ids[order - 1], line: lines.number, log10, back_off });
    }
    records.sort_unstable_by_key(|record| (record.context, record.word, record.line));
    let same = |pair: &&[Record]| (pair[0].context, pair[0].word) == (pair[1].context, pair[1].word);
    if let Some(pair) = records.windows(2).find(same) {
        let reason = format!("the {order}-gram of line {} stands twice", pair[0].line);
        return Err(BadArpa::Line { line: pair[1].line, reason });
    }
    let below = &mut levels[order - 2];
    let mut end = 0;
    below.ends = (0..below.words.len() as u32)
        .map(|context| {
            end += records[end..].iter().take_while(|record| record.context == context).count();
            end as u32
        })
        .collect();
    Ok(Level {
        words: records.iter().map(|record| record.word).collect(),
        log10: records.iter().map(|record| record.log10).collect(),
        back_off: if highest { Vec::new() } else { records.iter().map(|record| record.back_off).collect() },
        ends: Vec::new(),
    })
}

/// The entry of `ids` among those of its order.
fn find(levels: &[Level], ids: &[u32]) -> Option<u32> {
    let mut entry = ids[0];
    for (level, word) in levels.windows(2).map(|pair| (&pair[0], &pair[1])).zip(&ids[1..]) {
        let (above, below) = level;
        let start = if entry == 0 { 0 } else { above.ends[entry as usize - 1] as usize };
        let range = start..above.ends[entry as usize] as usize;
        entry = search(range, |place| below.words[place].cmp(word))? as u32;
    }
    Some(entry)
}

#[cfg(test)]
#[path = "arpa_tests.rs"]
mod tests;
