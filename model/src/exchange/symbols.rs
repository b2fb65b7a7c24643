//! The names of a CTC head's rows: from other programs, and for Hugging Face.
//!
//! Rows never move. Row 0 must be the CTC blank, whatever it is called elsewhere (`<pad>`, `[PAD]`, `-`, fairseq's `<s>`); here it is `<pad>`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::keys::Keys;
use super::tensor_file::quoted;
use crate::failure::StageError;
use crate::vocabulary::{BLANK_SYMBOL, SPACE, Vocabulary};

/// The files of a tokenizer.
const SYMBOLS: &str = "vocab.json";
const MORE_SYMBOLS: &str = "added_tokens.json";
const TOKENIZER: &str = "tokenizer_config.json";
const ROLES: &str = "special_tokens_map.json";

/// What Hugging Face uses these symbols for, where a vocabulary has them.
const SPECIAL: [(&str, &str); 3] = [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];

/// The vocabulary whose rows have these names. `path` is where they come from.
///
/// # Errors
/// Refuses a letter as the blank, names that are neither one character nor in brackets, and names that stand twice.
pub fn of_rows(path: &Path, mut rows: Vec<String>) -> Result<Vocabulary, StageError> {
    let refuse = |message: String| {
        let help = "Reprise reads CTC heads of characters whose row 0 is the blank";
        StageError::refused(format!("{}: {message}", path.display()), help)
    };
    let Some(blank) = rows.first().cloned() else { return Err(refuse("no symbol is named".into())) };
    if blank != "-" && blank.chars().count() == 1 {
        return Err(refuse(format!("row 0 is {}, which is a character and not the CTC blank", quoted(&blank))));
    }
    // fairseq's blank is `<s>`, and its `<pad>` is another row that no path goes through: the two change names.
    if let Some(pad) = rows.iter_mut().skip(1).find(|name| *name == BLANK_SYMBOL) {
        *pad = blank;
    }
    rows[0] = BLANK_SYMBOL.into();
    Vocabulary::of_symbols(rows.iter().map(String::as_str)).map_err(refuse)
}

/// The vocabulary of a Hugging Face folder whose CTC head has `rows` rows, and what a person should know about it.
///
/// # Errors
/// Refuses a vocabulary that isn't there, that is of several languages, and one that doesn't name every row once.
pub fn read(folder: &Path, config: &Keys, rows: usize) -> Result<(Vocabulary, Vec<String>), StageError> {
    if config.get("pad_token_id").is_some_and(|id| *id != json!(0)) {
        return Err(config.wrong("pad_token_id", "0, the row of the CTC blank"));
    }
    let path = folder.join(SYMBOLS);
    let mut names = BTreeMap::new();
    collect(&Keys::read(&path)?, &mut names)?;
    if folder.join(MORE_SYMBOLS).exists() {
        collect(&Keys::read(&folder.join(MORE_SYMBOLS))?, &mut names)?;
    }
    let refuse = |message: String| {
        let message = format!("{}: {message}", path.display());
        StageError::refused(message, "check that vocab.json and config.json are of one model")
    };
    if let Some(row) = (0..rows as u64).find(|row| !names.contains_key(row)) {
        return Err(refuse(format!("the CTC head has {rows} rows, but row {row} has no name")));
    }
    let beyond = names.split_off(&(rows as u64));
    let mut notes = Vec::new();
    if !beyond.is_empty() {
        notes.push(format!("left out: {} symbols of the tokenizer that the CTC head has no row for", beyond.len()));
    }
    let mut rows: Vec<String> = names.into_values().collect();
    let tokenizer = folder.join(TOKENIZER);
    if tokenizer.exists() {
        let space = Keys::read(&tokenizer)?.text("word_delimiter_token", "|")?.to_owned();
        if space != SPACE.to_string() && !rows.iter().any(|name| *name == SPACE.to_string()) {
            rows.iter_mut().filter(|name| **name == space).for_each(|name| *name = SPACE.into());
        }
    }
    if rows[0] != BLANK_SYMBOL {
        notes.push(format!("the CTC blank {} is called {BLANK_SYMBOL} here", quoted(&rows[0])));
    }
    Ok((of_rows(&path, rows)?, notes))
}

fn collect(keys: &Keys, names: &mut BTreeMap<u64, String>) -> Result<(), StageError> {
    for (name, row) in keys.entries() {
        let refuse = |message: String| {
            let message = format!("{}: {} {message}", keys.path().display(), quoted(name));
            StageError::refused(message, "a vocabulary gives each symbol a row of its own, counted from 0")
        };
        if row.is_object() {
            return Err(refuse("holds a vocabulary of its own: this model is of several languages".into()));
        }
        let row = row.as_u64().ok_or_else(|| refuse(format!("has the row {row}")))?;
        if let Some(other) = names.insert(row, name.to_owned()).filter(|other| other != name) {
            return Err(refuse(format!("and {} have the same row", quoted(&other))));
        }
    }
    Ok(())
}

/// The files of a Hugging Face tokenizer that names the same rows.
pub fn files(vocabulary: &Vocabulary) -> Vec<(&'static str, Value)> {
    let rows: Map<String, Value> =
        vocabulary.symbols().zip(0..).map(|(name, row): (String, u64)| (name, row.into())).collect();
    let mut roles = Map::from_iter([("pad_token".to_owned(), json!(BLANK_SYMBOL))]);
    for (role, name) in SPECIAL {
        roles.insert(role.into(), rows.get(name).map_or(Value::Null, |_| name.into()));
    }
    let mut tokenizer = Map::from_iter([
        ("tokenizer_class".to_owned(), json!("Wav2Vec2CTCTokenizer")),
        ("word_delimiter_token".to_owned(), json!(SPACE)),
        ("replace_word_delimiter_char".to_owned(), json!(" ")),
        ("do_lower_case".to_owned(), json!(false)),
    ]);
    tokenizer.extend(roles.clone());
    roles.retain(|_, name| !name.is_null());
    vec![(SYMBOLS, rows.into()), (TOKENIZER, tokenizer.into()), (ROLES, roles.into())]
}

/// The rows of the symbols that Hugging Face has keys for in `config.json`.
pub fn roles(vocabulary: &Vocabulary) -> [(&'static str, Value); 2] {
    let row = |name: &str| vocabulary.symbols().position(|symbol| symbol == name).map_or(Value::Null, |row| row.into());
    [("bos_token_id", row("<s>")), ("eos_token_id", row("</s>"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(vocab: &str, more: Option<&str>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"pad_token_id": 0}"#).unwrap();
        std::fs::write(dir.path().join(SYMBOLS), vocab).unwrap();
        more.iter().for_each(|more| std::fs::write(dir.path().join(MORE_SYMBOLS), more).unwrap());
        dir
    }

    fn read_from(vocab: &str, more: Option<&str>, rows: usize) -> Result<String, StageError> {
        let dir = folder(vocab, more);
        let config = Keys::read(&dir.path().join("config.json")).unwrap();
        read(dir.path(), &config, rows).map(|(vocabulary, _)| vocabulary.to_text().replace('\n', " "))
    }

    #[test]
    fn rows_keep_their_places_under_any_name_of_the_blank() {
        assert_eq!(read_from(r#"{"a": 2, "[PAD]": 0, "|": 1}"#, None, 3).unwrap(), "<pad> | a ");
        assert_eq!(read_from(r#"{"<s>": 0, "<pad>": 1, "|": 2, "É": 3}"#, None, 4).unwrap(), "<pad> <s> | É ");
        assert_eq!(read_from(r#"{"<pad>": 0, "|": 1}"#, Some(r#"{"<s>": 2, "</s>": 3}"#), 3).unwrap(), "<pad> | <s> ");
    }

    #[test]
    fn what_names_no_rows_is_refused() {
        let mut all = Vec::new();
        for (vocab, rows) in [
            ("{}", 2),
            (r#"{"a": 0, "|": 1}"#, 2),
            (r#"{"<pad>": 0, "|": 2}"#, 3),
            (r#"{"<pad>": 0, "a": 1, "b": 1}"#, 2),
            (r#"{"<pad>": 0, "a": -1}"#, 2),
            (r#"{"<pad>": 0, "a": 1.5}"#, 2),
            (r#"{"eng": {"<pad>": 0}}"#, 1),
            (r#"{"<pad>": 0, "the": 1}"#, 2),
            (r#"{"<pad>": 0, "\n": 1}"#, 2),
            (r#"{"<pad>": 0, " ": 1}"#, 2),
            (r#"{"<pad>": 0, "": 1}"#, 2),
            (r#"{"<pad>": 0, "<a\u001b[31mb>": 1}"#, 2),
            (r#"{"<pad>": 0, "<../../etc/passwd": 1}"#, 2),
        ] {
            let error = read_from(vocab, None, rows).unwrap_err().to_string();
            all.push(error.split_once("vocab.json").unwrap().1.to_owned());
        }
        insta::assert_snapshot!(all.join("\n"));
    }
}
