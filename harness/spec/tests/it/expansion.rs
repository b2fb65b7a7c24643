//! Laws of `extends`, `matrix` and strategies.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reprise_spec::experiment::Experiment;
use reprise_spec::read::{LoadError, experiment};
use serde_json::{Value, json};

const WHOLE: &str = include_str!("../../../../tests/fixtures/specs/valid/minimal.yaml");

/// Reads a file with the others beside it.
fn read(text: &str, files: &BTreeMap<&str, String>) -> Experiment {
    let mut load = |path: &str| files.get(path).cloned().ok_or(LoadError::Missing);
    match experiment("read.yaml", text, &mut load) {
        Ok(resolved) => resolved.experiment,
        Err(errors) => panic!("{:?}\n{text}", errors.plain()),
    }
}

/// Some words of an experiment: scalars at several depths, a list, and settings of one alternative.
fn words() -> impl Strategy<Value = Value> {
    let maybe = |value: BoxedStrategy<Value>| proptest::option::of(value);
    (
        maybe((1u32..9).prop_map(|seed| json!([seed])).boxed()),
        maybe((1u32..9).prop_map(|length| json!(length)).boxed()),
        maybe((1u32..9).prop_map(|prob| json!(f64::from(prob) / 10.0)).boxed()),
        maybe((1u32..9).prop_map(|steps| json!(steps * 20_000)).boxed()),
        maybe((1u32..9).prop_map(|dimension| json!(dimension * 8)).boxed()),
    )
        .prop_map(|(seeds, length, prob, steps, dimension)| {
            let mut words = json!({});
            let mut put = |path: &[&str], value: Option<Value>| {
                let Some(value) = value else { return };
                let (last, above) = path.split_last().unwrap();
                let place = above.iter().fold(&mut words, |place, word| &mut place[*word]);
                place[*last] = value;
            };
            put(&["seeds"], seeds);
            put(&["pretraining", "masking", "length"], length);
            put(&["pretraining", "masking", "prob"], prob);
            put(&["finetuning", "steps"], steps);
            put(&["pretraining", "head", "cosine", "dimension"], dimension);
            words
        })
}

fn with(extends: Value, words: &Value) -> String {
    let mut words = words.clone();
    words["extends"] = extends;
    words.to_string()
}

proptest! {
    /// Laying b on a and c on both is laying c on b and both on a, as long as nobody names another alternative: that replaces the one below
    /// whole, so what lies between matters.
    #[test]
    fn extends_is_associative_where_no_alternative_is_replaced(b in words(), c in words()) {
        let files = BTreeMap::from([
            ("a.yaml", WHOLE.to_owned()),
            ("b.yaml", b.to_string()),
            ("b-on-a.yaml", with(json!("a.yaml"), &b)),
            ("c-on-b.yaml", with(json!("b.yaml"), &c)),
        ]);
        let one = read(&with(json!("b-on-a.yaml"), &c), &files);
        let other = read(&with(json!(["a.yaml", "c-on-b.yaml"]), &json!({})), &files);
        let listed = read(&with(json!(["a.yaml", "b.yaml"]), &c), &files);
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(&one, &listed);
    }

    /// A variant means what a file with its words means, whatever stands beside it, and the order of variants and axes says nothing.
    #[test]
    fn a_variant_is_the_file_with_its_words(a in words(), b in words(), turned in any::<bool>()) {
        let none = BTreeMap::from([("a.yaml", WHOLE.to_owned())]);
        let strip = |mut words: Value| {
            words.as_object_mut().unwrap().remove("seeds");
            words
        };
        let (a, b) = (strip(a), strip(b));
        let variants = if turned { json!({ "two": b, "one": a }) } else { json!({ "one": a, "two": b }) };
        let matrix = read(&with(json!("a.yaml"), &json!({ "matrix": { "axes": { "which": variants } } })), &none);
        let alone = |words: &Value| read(&with(json!("a.yaml"), words), &none).variants[0].setting.clone();
        for (name, words) in [("one", &a), ("two", &b)] {
            let named = |name: &str| matrix.variants.iter().find(|v| v.name == name || v.aliases.iter().any(|a| a == name));
            prop_assert_eq!(&named(name).unwrap().setting, &alone(words));
        }
        let straight = json!({ "matrix": { "axes": { "which": { "one": a, "two": b } } } });
        let straight = read(&with(json!("a.yaml"), &straight), &none);
        prop_assert_eq!(straight.spec_hash(), matrix.spec_hash());
    }
}

#[test]
fn every_combination_but_the_excluded_and_the_included_ones() {
    let matrix = json!({ "matrix": {
        "axes": {
            "pretraining.masking.prob": [0.5, 0.8],
            "size": { "small": { "model": { "encoder": { "layers": 3 } } }, "large": { "model": { "encoder": { "layers": 9 } } } },
        },
        "exclude": [{ "size": "large", "pretraining.masking.prob": 0.5 }],
        "include": { "control": { "strategy": "scratch" } },
    } });
    let files = BTreeMap::from([("a.yaml", WHOLE.to_owned())]);
    let experiment = read(&with(json!("a.yaml"), &matrix), &files);
    let told = |variant: &reprise_spec::experiment::Variant| {
        let (setting, prob) = (&variant.setting, variant.setting.pretraining.masking.prob.get());
        format!("{}: {} layers, {prob}, {}", variant.name, setting.model.encoder.layers.get(), variant.strategy)
    };
    insta::assert_snapshot!(experiment.variants.iter().map(told).collect::<Vec<_>>().join("\n"), @r"
    prob=0.5 small: 3 layers, 0.5, baseline
    prob=0.8 large: 9 layers, 0.8, baseline
    prob=0.8 small: 3 layers, 0.8, baseline
    control: 12 layers, 0.8, scratch
    ");
}

#[test]
fn the_published_baseline_is_its_two_iterations_however_it_is_written() {
    // On a file with another strategy: `baseline: {}` on a baseline would say nothing new.
    let files = BTreeMap::from([
        ("a.yaml", with(json!("whole.yaml"), &json!({ "strategy": "scratch" }))),
        ("whole.yaml", WHOLE.to_owned()),
    ]);
    let named = json!({ "strategy": { "baseline": {} } });
    let listed = json!({ "strategy": { "iterations": [
        { "targets": { "mfcc": { "clusters": 100 } }, "steps": 250_000 },
        { "targets": { "layer": { "height": 6, "clusters": 500, "fit": 0.1 } }, "steps": 400_000 } ] } });
    let height = json!({ "strategy": { "cluster-height": { "heights": [6] } } });
    let [named, listed, height] = [named, listed, height].map(|words| read(&with(json!("a.yaml"), &words), &files));
    assert_eq!(named.spec_hash(), listed.spec_hash());
    assert_eq!(named.spec_hash(), height.spec_hash());
    assert_eq!(height.variants[0].reconstruction.len(), 1);
}
