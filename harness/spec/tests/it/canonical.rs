//! Canonical bytes: committed vectors, and a second reading of the documented rules.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reprise_spec::canon::{Canon, bytes, tree};
use reprise_spec::experiment::Experiment;
use serde::Serialize;

use crate::experiments::experiments;

fn trees() -> impl Strategy<Value = Canon> {
    let number = any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| value + 0.0);
    let leaf = prop_oneof![
        Just(Canon::Unit),
        any::<bool>().prop_map(Canon::Bool),
        any::<i128>().prop_map(Canon::Int),
        (-2i128..3).prop_map(Canon::Int),
        number.prop_map(Canon::Float),
        "[ab]{0,2}".prop_map(Canon::Text),
        any::<String>().prop_map(Canon::Text),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Canon::List),
            proptest::collection::btree_map("[abc]{0,2}", inner.clone(), 0..4).prop_map(Canon::Map),
            ("[ab]{0,2}", inner).prop_map(|(name, value)| Canon::Variant(name, Box::new(value))),
        ]
    })
}

/// Reads a value by the table in the documentation of `canon`, and returns what is left.
fn parse(bytes: &[u8]) -> (Canon, &[u8]) {
    fn number(bytes: &[u8]) -> (usize, &[u8]) {
        (u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize, &bytes[8..])
    }
    fn text(bytes: &[u8]) -> (String, &[u8]) {
        let (length, rest) = number(bytes);
        (String::from_utf8(rest[..length].to_vec()).unwrap(), &rest[length..])
    }
    let rest = &bytes[1..];
    match bytes[0] {
        0 => (Canon::Unit, rest),
        1 => (Canon::Bool(rest[0] == 1), &rest[1..]),
        2 => (Canon::Int(i128::from_le_bytes(rest[..16].try_into().unwrap())), &rest[16..]),
        3 => (Canon::Float(f64::from_le_bytes(rest[..8].try_into().unwrap())), &rest[8..]),
        4 => {
            let (value, rest) = text(rest);
            (Canon::Text(value), rest)
        }
        5 => {
            let (count, mut rest) = number(rest);
            let mut items = Vec::new();
            for _ in 0..count {
                let (item, after) = parse(rest);
                items.push(item);
                rest = after;
            }
            (Canon::List(items), rest)
        }
        6 => {
            let (count, mut rest) = number(rest);
            let mut entries = BTreeMap::new();
            for _ in 0..count {
                let (key, after) = text(rest);
                let (value, after) = parse(after);
                assert!(entries.last_key_value().is_none_or(|(last, _)| *last < key));
                entries.insert(key, value);
                rest = after;
            }
            (Canon::Map(entries), rest)
        }
        7 => {
            let (name, rest) = text(rest);
            let (value, rest) = parse(rest);
            (Canon::Variant(name, Box::new(value)), rest)
        }
        tag => panic!("no value has tag {tag}"),
    }
}

proptest! {
    #[test]
    fn bytes_say_the_tree_and_nothing_else(tree in trees()) {
        let bytes = tree.to_bytes();
        let (again, rest) = parse(&bytes);
        prop_assert_eq!(&again, &tree);
        prop_assert!(rest.is_empty());
        prop_assert_eq!(Canon::from_bytes(&bytes).unwrap(), tree);
    }

    #[test]
    fn two_trees_never_share_bytes(a in trees(), b in trees()) {
        prop_assert_eq!(a.to_bytes() == b.to_bytes(), a == b);
    }

    #[test]
    fn bytes_are_read_in_one_way_or_not_at_all(mut bytes in trees().prop_map(|tree| tree.to_bytes()), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(tree) = Canon::from_bytes(&bytes) {
            prop_assert_eq!(tree.to_bytes(), bytes);
        }
    }

    #[test]
    fn experiments_round_trip(written in experiments()) {
        prop_assert_eq!(parse(&bytes(&written)).0, tree(&written).unwrap());
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Shape {
    Nothing,
    Held(u8),
    Pair(u8, bool),
    Named { z: i64, a: Option<f64> },
}

/// One line a vector: what it is, and its bytes in hexadecimal.
#[test]
fn the_committed_vectors_hold() {
    let text = include_str!("../../../../tests/fixtures/specs/valid/everything.yaml");
    let resolved = reprise_spec::read::experiment("a.yaml", text, &mut |_| unreachable!()).unwrap();
    let minimal = include_str!("../../../../tests/fixtures/specs/valid/minimal.yaml");
    let minimal = reprise_spec::read::experiment("a.yaml", minimal, &mut |_| unreachable!()).unwrap();
    let hashes = |e: &Experiment| format!("{} {}", e.spec_hash(), e.variants[0].setting.hash());
    let vectors = [
        ("unit", hex::encode(bytes(&()))),
        ("true", hex::encode(bytes(&true))),
        ("1 as u8", hex::encode(bytes(&1u8))),
        ("1 as u64", hex::encode(bytes(&1u64))),
        ("-1", hex::encode(bytes(&-1))),
        ("2^64 - 1", hex::encode(bytes(&u64::MAX))),
        ("0.5", hex::encode(bytes(&0.5))),
        ("-0.0", hex::encode(bytes(&-0.0))),
        ("\"hé\"", hex::encode(bytes(&"hé"))),
        ("[1, true]", hex::encode(bytes(&(1, true)))),
        ("{b: 1, a: 2}", hex::encode(bytes(&serde_json::json!({"b": 1, "a": 2})))),
        ("nothing", hex::encode(bytes(&Shape::Nothing))),
        ("held: 1", hex::encode(bytes(&Shape::Held(1)))),
        ("pair: [1, true]", hex::encode(bytes(&Shape::Pair(1, true)))),
        ("named: {z: -1}", hex::encode(bytes(&Shape::Named { z: -1, a: None }))),
        ("named: {z: -1, a: 1.0}", hex::encode(bytes(&Shape::Named { z: -1, a: Some(1.0) }))),
        ("everything.yaml", hashes(&resolved.experiment)),
        ("minimal.yaml", hashes(&minimal.experiment)),
    ];
    let lines: Vec<String> = vectors.iter().map(|(what, hex)| format!("{what:<24} {hex}")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
