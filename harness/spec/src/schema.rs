//! The JSON Schema of an experiment, and what it says about the place where a value stands.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::experiment::Written;

/// Characters of a name that are looked at.
const LONGEST_NAME: usize = 60;

static SCHEMA: LazyLock<Value> = LazyLock::new(build);

/// The JSON Schema (draft 2020-12) of an experiment file, for editors and other programs.
pub fn schema() -> Value {
    SCHEMA.clone()
}

fn build() -> Value {
    let mut schema = schemars::schema_for!(Written).to_value();
    schema["$id"] = json!("https://reprise.invalid/experiment/1.json");
    schema["properties"]["extends"] = json!({
        "description": "Files that this one starts from, relative to it; a later one overrides an earlier one, and this file all of them.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    });
    let overlay = json!({ "type": "object", "description": "Words of an experiment that are laid over the file." });
    let named = json!({ "type": "object", "additionalProperties": overlay });
    schema["properties"]["matrix"] = json!({
        "description": "Variants: every combination of the axes but the excluded ones, and the included ones.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "axes": {
                "description": "By name, the variants of an axis by theirs; or, called like the path of a setting, a list of its values.",
                "type": "object",
                "additionalProperties": { "anyOf": [named, { "type": "array", "items": { "type": ["string", "number", "boolean"] } }] },
            },
            "exclude": {
                "description": "Combinations that are left out: values of some axes by the axes' names.",
                "type": "array",
                "items": { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } },
            },
            "include": { "description": "Further variants by name.", "type": "object", "additionalProperties": overlay },
        },
    });
    schema
}

/// What may stand at a place of an experiment.
pub(crate) enum Place {
    /// A map with known words.
    Record {
        words: &'static Map<String, Value>,
        required: Vec<&'static str>,
    },
    /// A map with keys of the user's.
    Dictionary(&'static Value),
    List(&'static Value),
    /// One of several things by name: a text for a thing without settings, a map with one key for the others.
    OneOf(Vec<(&'static str, Option<&'static Value>)>),
    /// A scalar: what to call it.
    Scalar(&'static str),
}

impl Place {
    /// The place of a whole experiment, `extends` left out.
    pub(crate) fn root() -> Self {
        Self::of(&SCHEMA)
    }

    fn of(schema: &'static Value) -> Self {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap_or_default();
            return Self::of(&SCHEMA["$defs"][name]);
        }
        if let Some(alternatives) = schema["anyOf"].as_array()
            && let Some(present) = alternatives.iter().find(|alternative| alternative["type"] != "null")
        {
            return Self::of(present);
        }
        let strings = |list: &'static Value| list.as_array().into_iter().flatten().filter_map(Value::as_str);
        if let Some(alternatives) = schema["oneOf"].as_array() {
            let named = alternatives.iter().flat_map(|alternative| {
                let bare = alternative["const"]
                    .as_str()
                    .into_iter()
                    .chain(strings(&alternative["enum"]))
                    .map(|name| (name, None));
                let held = alternative["properties"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, held)| (name.as_str(), Some(held)));
                bare.chain(held).collect::<Vec<_>>()
            });
            return Place::OneOf(named.collect());
        }
        if schema["enum"].is_array() {
            return Place::OneOf(strings(&schema["enum"]).map(|name| (name, None)).collect());
        }
        let kind = schema["type"].as_str().or_else(|| strings(&schema["type"]).find(|kind| *kind != "null"));
        match (kind, schema["properties"].as_object()) {
            (Some("object"), Some(words)) => Place::Record { words, required: strings(&schema["required"]).collect() },
            (Some("object"), None) => {
                let values = match &schema["patternProperties"] {
                    Value::Object(patterns) => patterns.values().next().unwrap_or(&Value::Null),
                    _ => &schema["additionalProperties"],
                };
                Place::Dictionary(values)
            }
            (Some("array"), _) => Place::List(&schema["items"]),
            (Some("integer"), _) => Place::Scalar("a whole number"),
            (Some("number"), _) => Place::Scalar("a number"),
            (Some("boolean"), _) => Place::Scalar("`true` or `false`"),
            _ => Place::Scalar("a text"),
        }
    }

    /// The place below a key.
    pub(crate) fn key(&self, key: &str) -> Option<Self> {
        match self {
            Place::Record { words, .. } => words.get(key).map(Self::of),
            Place::Dictionary(values) => Some(Self::of(values)),
            Place::OneOf(named) => named.iter().find(|(name, _)| *name == key).and_then(|(_, held)| held.map(Self::of)),
            Place::List(_) | Place::Scalar(_) => None,
        }
    }

    /// The place of the items.
    pub(crate) fn item(&self) -> Option<Self> {
        match self {
            Place::List(items) => Some(Self::of(items)),
            _ => None,
        }
    }

    /// The words that a person may write at this place.
    pub(crate) fn known(&self) -> Vec<&'static str> {
        match self {
            Place::Record { words, .. } => words.keys().map(String::as_str).collect(),
            Place::OneOf(named) => named.iter().map(|(name, _)| *name).collect(),
            _ => Vec::new(),
        }
    }

    /// What is expected, in words.
    pub(crate) fn expected(&self) -> String {
        match self {
            Place::Record { .. } | Place::Dictionary(_) => "a map".into(),
            Place::List(_) => "a list".into(),
            Place::OneOf(named) => format!("one of {}", quoted(named.iter().map(|(name, _)| *name))),
            Place::Scalar(what) => (*what).into(),
        }
    }
}

/// Names as a message lists them.
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The name that a person who wrote `word` most likely meant, if any is near.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let shown: String = word.chars().take(LONGEST_NAME).collect();
    let nearest = names.into_iter().map(|name| (strsim::damerau_levenshtein(name, &shown), name)).min();
    nearest.filter(|(distance, name)| *distance <= 1 + name.len() / 3).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places_of_one_of(place: &Place, path: &str, found: &mut Vec<String>) {
        match place {
            Place::Record { words, .. } => {
                words.keys().filter(|word| !["extends", "matrix"].contains(&word.as_str())).for_each(|word| {
                    if let Some(below) = place.key(word) {
                        places_of_one_of(&below, &format!("{path}.{word}"), found);
                    }
                })
            }
            Place::Dictionary(values) => places_of_one_of(&Place::of(values), &format!("{path}.*"), found),
            Place::List(items) => places_of_one_of(&Place::of(items), &format!("{path}[]"), found),
            Place::OneOf(named) => {
                if named.iter().any(|(_, held)| held.is_some()) {
                    found.push(format!("{}: {}", &path[1..], quoted(place.known())));
                }
                for (name, held) in named {
                    if held.is_some_and(|held| held["type"] != "null") {
                        places_of_one_of(&Place::of(held.unwrap()), &format!("{path}.{name}"), found);
                    }
                }
            }
            Place::Scalar(_) => {}
        }
    }

    #[test]
    fn another_variant_replaces_the_value_at_these_places() {
        let mut found = Vec::new();
        places_of_one_of(&Place::root(), "", &mut found);
        insta::assert_snapshot!(found.join("\n"));
    }

    #[test]
    fn the_schema_is_what_was_reviewed() {
        insta::assert_json_snapshot!(schema());
    }

    #[test]
    fn every_word_is_described() {
        let schema = schema();
        let mut records: Vec<(&str, &Value)> = vec![("Experiment", &schema)];
        records.extend(schema["$defs"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value)));
        let bare: Vec<String> = records
            .into_iter()
            .flat_map(|(name, record)| {
                let words = record["properties"].as_object().into_iter().flatten();
                words.filter(|(_, word)| word["description"].is_null()).map(move |(word, _)| format!("{name}.{word}"))
            })
            .collect();
        assert_eq!(bare, [""; 0]);
    }
}
