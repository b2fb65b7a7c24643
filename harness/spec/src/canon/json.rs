//! The tree as JSON that says all of it, and back: shorter than its bytes, and people can read it.
//!
//! | node | JSON |
//! |---|---|
//! | unit | `null` |
//! | bool, text, list | the same |
//! | int | a number without point and exponent |
//! | float | a number with a point or an exponent |
//! | map | an object; keys that begin with `!` are given another |
//! | variant | an object whose only key is the variant's name with `!` before it |
//!
//! No two trees share their JSON, so it has their bytes and hashes.

use serde_json::{Map, Number, Value};
use thiserror::Error;

use super::Canon;

/// What stands before the name of a variant.
const MARK: char = '!';

/// JSON that no tree has.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("this is not how settings are written: {0}")]
pub struct NotATree(&'static str);

impl Canon {
    /// The tree as JSON that [`Canon::from_json`] reads; `None` for what no value of this crate holds: integers beyond 64 bits, and variants whose
    /// names begin with `!`.
    pub fn to_json(&self) -> Option<Value> {
        self.json(&|key| if key.starts_with(MARK) { format!("{MARK}{key}") } else { key.to_owned() }, &|name| {
            (!name.starts_with(MARK)).then(|| format!("{MARK}{name}"))
        })
    }

    /// The tree as the JSON that serde reads the value itself from. A variant looks like a map there; `None` as in [`Canon::to_json`].
    pub fn to_plain_json(&self) -> Option<Value> {
        self.json(&str::to_owned, &|name| Some(name.to_owned()))
    }

    fn json(&self, key: &dyn Fn(&str) -> String, variant: &dyn Fn(&str) -> Option<String>) -> Option<Value> {
        Some(match self {
            Canon::Unit => Value::Null,
            Canon::Bool(value) => Value::Bool(*value),
            Canon::Int(value) => Value::Number(Number::from_i128(*value)?),
            Canon::Float(value) => Value::Number(Number::from_f64(*value)?),
            Canon::Text(value) => Value::String(value.clone()),
            Canon::List(items) => {
                Value::Array(items.iter().map(|item| item.json(key, variant)).collect::<Option<_>>()?)
            }
            Canon::Map(entries) => {
                let entry = |(name, value): (&String, &Canon)| Some((key(name), value.json(key, variant)?));
                Value::Object(entries.iter().map(entry).collect::<Option<_>>()?)
            }
            Canon::Variant(name, value) => Value::Object(Map::from_iter([(variant(name)?, value.json(key, variant)?)])),
        })
    }

    /// Reads what [`Canon::to_json`] gave.
    ///
    /// # Errors
    /// For a variant beside other keys, and a number that is no `f64`, or the negative zero.
    pub fn from_json(value: Value) -> Result<Self, NotATree> {
        Ok(match value {
            Value::Null => Canon::Unit,
            Value::Bool(value) => Canon::Bool(value),
            Value::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(value), _) => Canon::Int(value),
                (None, Some(value)) if value.is_finite() && value.to_bits() != (-0.0f64).to_bits() => {
                    Canon::Float(value)
                }
                _ => return Err(NotATree("a number is not finite, or the negative zero")),
            },
            Value::String(value) => Canon::Text(value),
            Value::Array(items) => Canon::List(items.into_iter().map(Self::from_json).collect::<Result<_, _>>()?),
            Value::Object(entries) => Self::from_object(entries)?,
        })
    }

    fn from_object(entries: Map<String, Value>) -> Result<Self, NotATree> {
        let alone = entries.len() == 1;
        let mut map = std::collections::BTreeMap::new();
        for (key, value) in entries {
            let value = Self::from_json(value)?;
            match key.strip_prefix(MARK) {
                None => map.insert(key, value),
                Some(rest) if rest.starts_with(MARK) => map.insert(rest.to_owned(), value),
                Some(name) if alone => return Ok(Canon::Variant(name.to_owned(), Box::new(value))),
                Some(_) => return Err(NotATree("a variant stands beside other keys")),
            };
        }
        Ok(Canon::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_tree() -> impl Strategy<Value = Canon> {
        let text = || "[!a-c]{0,3}";
        let integer = prop_oneof![any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from)];
        let float = any::<f64>()
            .prop_filter("finite", |value| value.is_finite() && (*value != 0.0 || value.is_sign_positive()));
        let whole =
            (-40i32..40).prop_map(f64::from).prop_filter("one zero", |value| *value != 0.0 || value.is_sign_positive());
        let leaf = prop_oneof![
            Just(Canon::Unit),
            any::<bool>().prop_map(Canon::Bool),
            integer.prop_map(Canon::Int),
            float.prop_map(Canon::Float),
            whole.prop_map(Canon::Float),
            text().prop_map(Canon::Text),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Canon::List),
                prop::collection::btree_map(text(), inner.clone(), 0..4).prop_map(Canon::Map),
                ("[a-c][!a-c]{0,2}|", inner).prop_map(|(name, value)| Canon::Variant(name, Box::new(value))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_tree_is_read_back_from_the_text_of_its_json(tree in any_tree()) {
            let text = tree.to_json().unwrap().to_string();
            prop_assert_eq!(Canon::from_json(serde_json::from_str(&text).unwrap()), Ok(tree));
        }

        #[test]
        fn json_that_is_read_is_the_json_of_what_was_read(text in "[\\[{!a\"0.,:\\]}]{0,12}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text)
                && let Ok(tree) = Canon::from_json(value.clone())
            {
                prop_assert_eq!(tree.to_json(), Some(value));
            }
        }
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for text in [r#"{"!a":1,"b":2}"#, r#"{"!a":1,"!b":2}"#, "-0.0", "[[-0.0]]"] {
            assert!(Canon::from_json(serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
        assert_eq!(Canon::Variant("!a".into(), Box::new(Canon::Unit)).to_json(), None);
        assert_eq!(Canon::Int(i128::MAX).to_json(), None);
    }
}
