//! What changes an identity, and what doesn't.

use proptest::prelude::*;
use reprise_spec::canon::{differences, tree};
use reprise_spec::experiment::{Experiment, Written};
use reprise_spec::read::{LoadError, experiment};
use serde_json::{Value, json};

use crate::experiments::experiments;

fn read(text: &str) -> Experiment {
    match experiment("a.yaml", text, &mut |_| Err(LoadError::Missing)) {
        Ok(resolved) => resolved.experiment,
        Err(errors) => panic!("{:?}", errors.plain()),
    }
}

const TEXT: &str = include_str!("../../../../tests/fixtures/specs/valid/minimal.yaml");

fn hashes(experiment: &Experiment) -> (String, String) {
    (experiment.spec_hash().to_string(), experiment.variants[0].setting.hash().to_string())
}

#[test]
fn spelling_is_no_meaning() {
    let meant = hashes(&read(TEXT));
    let spelt = [
        format!("# a comment\n\n{TEXT}"),
        TEXT.replace("steps: 300", "steps: 0x12C").replace("clusters: 100 }", "clusters: 100, fit: 1 }"),
        TEXT.replace("name: small\n", "name: other\n")
            .replace("Does it read?", "Why?")
            .replace("seeds: [1]", "notes: x\nseeds: [1]"),
        TEXT.replace(
            "seeds: [1]",
            "seeds:\n  - 1\nmodel: { encoder: { layers: 12 } }\npretraining: { schedule: { peak: 0.0005 } }",
        ),
        TEXT.replace("seeds: [1]", "pretraining: { schedule: { peak: 5.0e-4 }, loss: { unmasked: -0.0 } }\nseeds: [1]"),
        TEXT.lines()
            .rev()
            .take(1)
            .chain(TEXT.lines().take(TEXT.lines().count() - 1))
            .map(|line| format!("{line}\n"))
            .collect(),
    ];
    for text in spelt {
        assert_eq!(hashes(&read(&text)), meant, "{text}");
    }
}

#[test]
fn seeds_and_the_name_of_the_corpus_are_the_experiments_and_not_the_variants() {
    let meant = hashes(&read(TEXT));
    for text in [TEXT.replace("seeds: [1]", "seeds: [2]"), TEXT.replace("name: speech", "name: other")] {
        let other = hashes(&read(&text));
        assert_ne!(other.0, meant.0);
        assert_eq!(other.1, meant.1);
    }
    assert_eq!(hashes(&read(&TEXT.replace("[1]", "[1, 2]"))), hashes(&read(&TEXT.replace("[1]", "[2, 1]"))));
}

#[test]
fn what_lists_say_is_meaning_and_where_they_lie_is_not() {
    let listed = |lists: &str| hashes(&read(&TEXT.replace("test: [test]", &format!("test: [test], lists: {lists}"))));
    let meant = hashes(&read(TEXT));
    assert_eq!(listed("{ test: a.list }"), meant);
    assert_eq!(listed("{ test: elsewhere/b.list, train: c.list }"), meant);
}

/// Every value of an experiment, changed to another that its type allows, with the path.
fn changed(value: &Value, path: &str, root: &Value, pointer: &str, found: &mut Vec<(String, Value)>) {
    let other = match value {
        Value::Bool(value) => Some(json!(!value)),
        Value::Number(number) if number.is_f64() => Some(json!(number.as_f64().unwrap() / 2.0 + 0.3)),
        Value::Number(number) => Some(json!(number.as_u64().unwrap() ^ 1)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                changed(item, &format!("{path}[{index}]"), root, &format!("{pointer}/{index}"), found);
            }
            None
        }
        Value::Object(entries) => {
            for (key, item) in entries {
                changed(item, &format!("{path}.{key}"), root, &format!("{pointer}/{key}"), found);
            }
            None
        }
        Value::String(_) | Value::Null => None,
    };
    if let Some(other) = other {
        let mut root = root.clone();
        *root.pointer_mut(pointer).unwrap() = other;
        found.push((path.trim_start_matches('.').to_owned(), root));
    }
}

#[test]
fn every_number_and_switch_is_meaning_and_is_named_when_it_differs() {
    let all = [
        include_str!("../../../../tests/fixtures/specs/valid/everything.yaml"),
        include_str!("../../../../tests/fixtures/specs/valid/layers.yaml"),
    ];
    for text in all {
        every_number_and_switch_of(&read(text));
    }
}

fn every_number_and_switch_of(everything: &Experiment) {
    let value = serde_json::to_value(everything).unwrap();
    let mut variations = Vec::new();
    changed(&value, "", &value, "", &mut variations);
    assert!(variations.len() > 60, "{}", variations.len());
    let mut tried = 0;
    for (path, value) in variations {
        let Ok(other) = serde_json::from_value::<Experiment>(value) else { continue }; // out of the type's range
        tried += 1;
        assert_ne!(other.spec_hash(), everything.spec_hash(), "{path}");
        if let Some(setting) = path.strip_prefix("variants[0].setting.") {
            let [before, after] = [everything, &other].map(|experiment| &experiment.variants[0].setting);
            assert_ne!(after.hash(), before.hash(), "{path}");
            let found: Vec<_> = differences(&before.meaning(), &after.meaning()).into_iter().map(|d| d.path).collect();
            assert_eq!(found, [setting]);
        } else {
            assert!(path.starts_with("seeds"), "{path}");
        }
    }
    assert!(tried > 55, "{tried}");
}

/// The same value with every map's keys in another order.
fn shuffled(value: serde_yaml::Value, by: usize) -> serde_yaml::Value {
    match value {
        serde_yaml::Value::Mapping(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, shuffled(value, by))).collect();
            let middle = by % entries.len().max(1);
            entries.rotate_left(middle);
            serde_yaml::Value::Mapping(entries.into_iter().collect())
        }
        serde_yaml::Value::Sequence(items) => items.into_iter().map(|item| shuffled(item, by)).collect(),
        scalar => scalar,
    }
}

/// YAML in its JSON form (the writer of `serde_yaml` follows YAML 1.1, where U+2028 breaks a line): variants as maps, absent options left out.
fn yaml(experiment: &Written, by: usize) -> String {
    fn present(value: Value) -> Value {
        match value {
            Value::Object(entries) => entries
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, present(value)))
                .collect(),
            Value::Array(items) => items.into_iter().map(present).collect(),
            scalar => scalar,
        }
    }
    let value = present(serde_json::to_value(experiment).unwrap());
    serde_json::to_string(&shuffled(serde_yaml::to_value(value).unwrap(), by)).unwrap()
}

/// Reads without the rules about several values, which random experiments break.
fn read_back(text: &str) -> Written {
    let file = reprise_spec::problem::File { name: "a.yaml".into(), text: text.into() };
    let node = reprise_spec::source::parse(&file.into(), reprise_spec::source::EXPERIMENT)
        .unwrap_or_else(|problems| panic!("{}\n{problems:?}", text));
    serde_yaml::with::singleton_map_recursive::deserialize(node.value()).unwrap()
}

proptest! {
    #[test]
    fn writing_and_reading_back_keeps_the_identity(experiment in experiments(), by in 0usize..20) {
        let text = format!("# comment\n{}", yaml(&experiment, by));
        let again = read_back(&text);
        prop_assert_eq!(&again, &experiment);
        prop_assert_eq!(Experiment::from(again).spec_hash(), Experiment::from(experiment).spec_hash());
    }

    #[test]
    fn two_experiments_share_an_identity_only_if_they_mean_the_same(a in experiments(), b in experiments()) {
        let [one, other] = [a.clone(), b.clone()].map(Experiment::from);
        prop_assert_eq!(one.spec_hash() == other.spec_hash(), one.meaning() == other.meaning());
        prop_assert_eq!(differences(&tree(&a).unwrap(), &tree(&b).unwrap()).is_empty(), tree(&a).unwrap() == tree(&b).unwrap());
    }
}

#[test]
fn decoding_that_is_written_as_it_is_anyway_is_no_meaning() {
    let with = |decoding: &str| hashes(&read(&format!("{TEXT}\ndecoding: {{ {decoding} }}\n")));
    let words = "search: { beam: {} }, lexicon: { file: words.txt }";
    assert_eq!(with(words), with(&format!("{words}, weights: {{ word: -1, silence: 0 }}")));
    assert_ne!(with(words), with(&format!("{words}, weights: {{ word: 1 }}")));
    assert_eq!(with("search: greedy"), hashes(&read(TEXT)));
}

#[test]
fn claims_are_the_experiments_and_not_the_variants() {
    let claiming = |claims: &str| hashes(&read(&format!("{TEXT}\nclaims: {{ {claims} }}\n")));
    let meant = hashes(&read(TEXT));
    let claimed = claiming("reads: { holds: 'wer(test) < 0.3 and cer(test) < 0.1' }");
    assert_ne!(claimed.0, meant.0);
    assert_eq!(claimed.1, meant.1, "what is trained stays what it was");
    assert_eq!(claiming(""), meant);
    let spelt = [
        "reads: { holds: '((cer( test )))<1e-1 and 0.30>wer(test)', says: It reads. }",
        "reads: { source: { paper: A, statement: B, confidence: primary }, holds: \"0.3 > wer('test') and cer(test) < 0.1\" }",
    ];
    for claims in spelt {
        assert_eq!(claiming(claims), claimed, "{claims}");
    }
    let others = [
        "reads: { holds: 'wer(test) < 0.31 and cer(test) < 0.1' }",
        "reads: { holds: 'wer(test) < 0.3' }",
        "reads: { holds: '0.3 < wer(test) and cer(test) < 0.1' }",
        "it-reads: { holds: 'wer(test) < 0.3 and cer(test) < 0.1' }",
    ];
    for claims in others {
        assert_ne!(claiming(claims).0, claimed.0, "{claims}");
    }
}

#[test]
fn claims_mean_variants_whatever_they_are_called_and_differ_by_field() {
    let text = include_str!("../../../../tests/fixtures/specs/valid/claims.yaml");
    let meant = read(text);
    let renamed = text.replace("cluster:\n", "height:\n").replace("cluster height", "height height");
    assert_eq!(read(&renamed).spec_hash(), meant.spec_hash());
    // The baseline is a height of 6 too.
    let aliased = text.replace("pnmi(1) of baseline", "pnmi(1) of \"cluster height 6\"");
    assert_eq!(read(&aliased).spec_hash(), meant.spec_hash());
    let other = read(&text.replace("+ 0.005)", "+ 0.01)"));
    let found: Vec<String> = differences(&meant.meaning(), &other.meaning()).into_iter().map(|d| d.path).collect();
    assert_eq!(found, ["claims.half-the-steps[0].below[0].quantity.what.reach.level.plus[1].number"]);
    let again: Experiment = serde_json::from_value(serde_json::to_value(&meant).unwrap()).unwrap();
    assert_eq!((again.spec_hash(), &again), (meant.spec_hash(), &meant));
}
