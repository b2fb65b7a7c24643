//! A JSON object that somebody else wrote, asked key by key. What is wrong is told with its key and value.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use reprise_spec::values::{Count, Fraction};
use serde_json::{Map, Value};

use super::files;
use super::tensor_file::short;
use crate::failure::StageError;

/// The longest file that is read.
const MOST: u64 = 1 << 20;

/// The keys of one JSON file. A key that is `null` counts as one that isn't there.
#[derive(Clone, Debug)]
pub struct Keys {
    path: PathBuf,
    object: Map<String, Value>,
}

impl Keys {
    /// Reads a file of at most a mebibyte.
    ///
    /// # Errors
    /// Refuses a file that isn't there, is longer, or holds no JSON object.
    pub fn read(path: &Path) -> Result<Self, StageError> {
        let bytes = files::read(path, MOST)?;
        let refuse = |reason: String| {
            let message = format!("{} is not a JSON object: {reason}", path.display());
            StageError::refused(message, "get the file again, or correct it")
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(Self { path: path.to_path_buf(), object }),
            Ok(other) => Err(refuse(format!("it is {}", short(&other.to_string())))),
            Err(error) => Err(refuse(error.to_string())),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In the order of their names.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.object.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key that is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// A refusal of what `key` says; `must` completes "but it must be".
    pub fn wrong(&self, key: &str, must: impl Display) -> StageError {
        let found = match self.get(key) {
            Some(value) => format!("is {}", short(&value.to_string())),
            None => "is not there".into(),
        };
        StageError::refused(
            format!("{}: `{key}` {found}, but it must be {must}", self.path.display()),
            "correct the file if this is a slip; otherwise Reprise has no network that would compute the same",
        )
    }

    /// A number of things, from 1 to a million.
    pub fn count(&self, key: &str, default: Option<u64>) -> Result<Count, StageError> {
        let value = self.get(key).map_or(default, Value::as_u64);
        value
            .and_then(|value| Count::try_from(value).ok())
            .ok_or_else(|| self.wrong(key, "a whole number from 1 to 1000000"))
    }

    /// Several such numbers.
    pub fn counts(&self, key: &str, default: &[u64]) -> Result<Vec<Count>, StageError> {
        let number = |value: u64| Count::try_from(value).ok();
        let found: Option<Vec<Count>> = match self.get(key) {
            None => default.iter().copied().map(number).collect(),
            Some(Value::Array(values)) => values.iter().map(|value| value.as_u64().and_then(number)).collect(),
            Some(_) => None,
        };
        found.ok_or_else(|| self.wrong(key, "a list of whole numbers from 1 to 1000000"))
    }

    /// A number of a type that knows its range; `must` says it.
    pub fn number<T: TryFrom<f64>>(&self, key: &str, default: f64, must: &str) -> Result<T, StageError> {
        let value = self.get(key).map_or(Some(default), Value::as_f64);
        value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| self.wrong(key, must))
    }

    /// A share.
    pub fn fraction(&self, key: &str, default: f64) -> Result<Fraction, StageError> {
        self.number(key, default, "a number from 0 to 1")
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool, StageError> {
        self.get(key).map_or(Some(default), Value::as_bool).ok_or_else(|| self.wrong(key, "true or false"))
    }

    pub fn text<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str, StageError> {
        self.get(key).map_or(Some(default), Value::as_str).ok_or_else(|| self.wrong(key, "a text"))
    }

    /// A list of texts, if the key is there.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, StageError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let texts = value.as_array().and_then(|values| values.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| self.wrong(key, "a list of texts"))
    }

    /// Which of several things a text names.
    pub fn one_of<T: Copy>(&self, key: &str, default: &str, choices: &[(&str, T)]) -> Result<T, StageError> {
        let text = self.text(key, default)?;
        let chosen = choices.iter().find(|(name, _)| *name == text);
        chosen.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.wrong(key, names.join(" or "))
        })
    }

    /// Refuses `key` unless it is `only` or isn't there.
    pub fn only(&self, key: &str, only: &Value) -> Result<(), StageError> {
        match self.get(key) {
            Some(value) if value != only => Err(self.wrong(key, only)),
            _ => Ok(()),
        }
    }

    /// An object below a key.
    pub fn below(&self, key: &str) -> Result<Self, StageError> {
        match self.get(key) {
            Some(Value::Object(object)) => Ok(Self { path: self.path.clone(), object: object.clone() }),
            _ => Err(self.wrong(key, "an object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Keys, StageError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.json"), text).unwrap();
        Keys::read(&dir.path().join("c.json"))
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "{", "[1]", "\"a\"", "{} {}", &"[".repeat(1000), &"{\"a\":".repeat(1000)] {
            let error = keys(text).unwrap_err().to_string();
            assert!(error.contains("is not a JSON object"), "{error}");
        }
        assert!(keys(&format!("{{{}}}", " ".repeat(1 << 20))).unwrap_err().to_string().contains("at most 1048576"));
    }

    #[test]
    fn values_are_taken_at_their_word_or_refused_by_name() {
        let keys =
            keys(r#"{"n": 3, "zero": 0, "half": 0.5, "many": [1, 2], "no": null, "word": "a", "low": -1}"#).unwrap();
        assert_eq!(keys.count("n", None).unwrap().get(), 3);
        assert_eq!(keys.count("no", Some(7)).unwrap().get(), 7);
        assert_eq!(keys.fraction("half", 0.0).unwrap().get(), 0.5);
        assert_eq!(keys.counts("many", &[]).unwrap().len(), 2);
        assert!(keys.flag("no", true).unwrap());
        for error in [
            keys.count("zero", None).unwrap_err(),
            keys.count("half", None).unwrap_err(),
            keys.count("gone", None).unwrap_err(),
            keys.fraction("low", 0.0).unwrap_err(),
            keys.flag("word", true).unwrap_err(),
            keys.only("word", &"b".into()).unwrap_err(),
            keys.one_of("word", "b", &[("b", 1), ("c", 2)]).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.contains("but it must be"), "{error}");
        }
    }
}
