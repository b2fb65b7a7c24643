use std::collections::BTreeSet;

use proptest::prelude::*;
use reprise_spec::canon;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ContentDigest, Contents, Experiment, Node, Part, Plan, PlanError, SplitName, Stage, splits_needed};

/// An experiment with these parts beside the defaults.
fn experiment(parts: Value) -> Experiment {
    let mut whole = json!({
        "version": 1, "name": "toy", "question": "Does it plan?", "seeds": [1],
        "corpus": { "name": "toy", "pretrain": ["train"], "finetune": ["train"], "validate": ["dev"], "test": ["test"] },
        "strategy": { "baseline": { "iterations": [
            { "targets": { "mfcc": { "clusters": 100 } }, "steps": 300 },
            { "targets": { "layer": { "height": 3, "clusters": 100 } }, "steps": 400 } ] } },
        "probing": { "unit-quality": { "splits": ["dev"] } }
    });
    for (key, value) in parts.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn contents(experiment: &Experiment) -> Contents {
    let digest = |(split, part): (SplitName, Part)| {
        let bytes = Sha256::digest(format!("{split} {part:?}"));
        ((split, part), ContentDigest(bytes.into()))
    };
    splits_needed(experiment).into_iter().map(digest).collect()
}

/// One line a stage: its number, seed, name and the numbers of what it reads.
fn outline(plan: &Plan) -> String {
    let line = |(index, node): (usize, &Node)| {
        let inputs: Vec<String> = node.inputs.iter().map(|edge| format!("{} ({})", edge.node, edge.role)).collect();
        let inputs = if inputs.is_empty() { "nothing".into() } else { inputs.join(", ") };
        let seed = node.seed.map_or(String::new(), |seed| format!(" seed {seed}"));
        format!("{index}: {}{seed} <- {inputs}\n", node.name)
    };
    plan.nodes.iter().enumerate().map(line).collect()
}

#[test]
fn two_iterations_with_fine_tuning_and_a_probe() {
    let experiment = experiment(json!({}));
    let plan = Plan::new(&experiment, &[1], &contents(&experiment)).unwrap();
    insta::assert_snapshot!(outline(&plan), @r"
    0: corpus train <- nothing
    1: features train (mfcc) <- 0 (corpus train)
    2: corpus dev <- nothing
    3: features dev (mfcc) <- 2 (corpus dev)
    4: units iteration 1 (mfcc, 100) seed 1 <- 3 (features dev), 1 (features train)
    5: alignments dev <- 2 (corpus dev)
    6: unit quality iteration 1 <- 2 (corpus dev), 5 (alignments dev), 3 (features dev), 4 (units)
    7: pretrain iteration 1 seed 1 <- 2 (corpus dev), 0 (corpus train), 4 (targets 0)
    8: units iteration 2 (layer 3, 100) seed 1 <- 2 (corpus dev), 0 (corpus train), 7 (pretrained model)
    9: unit quality iteration 2 <- 2 (corpus dev), 5 (alignments dev), 8 (units), 7 (pretrained model)
    10: pretrain iteration 2 seed 1 <- 2 (corpus dev), 0 (corpus train), 8 (targets 0)
    11: finetune seed 1 <- 2 (corpus dev), 0 (corpus train), 10 (pretrained model)
    12: corpus test <- nothing
    13: decode test <- 12 (corpus test), 11 (fine-tuned model)
    ");
}

#[test]
fn the_control_only_fine_tunes() {
    let experiment = experiment(json!({ "strategy": "scratch", "probing": {} }));
    let plan = Plan::new(&experiment, &[1], &contents(&experiment)).unwrap();
    insta::assert_snapshot!(outline(&plan), @r"
    0: corpus train <- nothing
    1: corpus dev <- nothing
    2: finetune seed 1 <- 1 (corpus dev), 0 (corpus train)
    3: corpus test <- nothing
    4: decode test <- 3 (corpus test), 2 (fine-tuned model)
    ");
}

#[test]
fn a_quantiser_needs_no_units_and_its_layers_can_be_clustered() {
    let experiment = experiment(json!({ "strategy": { "baseline": { "iterations": [
        { "targets": { "quantiser": {} }, "steps": 300 },
        { "targets": { "layer": { "height": 3, "clusters": 100 } }, "steps": 400 } ] } },
        "corpus": { "name": "toy", "pretrain": ["train"], "validate": ["dev"] }, "probing": {} }));
    let plan = Plan::new(&experiment, &[1], &contents(&experiment)).unwrap();
    insta::assert_snapshot!(outline(&plan), @r"
    0: corpus train <- nothing
    1: corpus dev <- nothing
    2: pretrain iteration 1 seed 1 <- 1 (corpus dev), 0 (corpus train)
    3: units iteration 2 (layer 3, 100) seed 1 <- 1 (corpus dev), 0 (corpus train), 2 (pretrained model)
    4: pretrain iteration 2 seed 1 <- 1 (corpus dev), 0 (corpus train), 3 (targets 0)
    ");
}

#[test]
fn seeds_share_what_draws_nothing() {
    let experiment = experiment(json!({}));
    let plan = Plan::new(&experiment, &[1, 2], &contents(&experiment)).unwrap();
    let one = plan.run(1).count();
    assert_eq!(one, plan.run(2).count());
    let shared = plan.nodes.iter().filter(|node| node.runs == [1, 2]);
    assert!(shared.clone().all(|node| !node.stage.as_ref().unwrap().draws()));
    assert_eq!(plan.nodes.len(), 2 * one - shared.count());
}

#[test]
fn without_the_corpus_the_graph_is_there_and_keys_are_not() {
    let experiment = experiment(json!({}));
    let plan = Plan::new(&experiment, &[1], &Contents::new()).unwrap();
    let known = Plan::new(&experiment, &[1], &contents(&experiment)).unwrap();
    assert_eq!(outline(&plan), outline(&known));
    assert!(plan.nodes.iter().all(|node| node.key.is_none()));
    assert!(known.nodes.iter().all(|node| node.key.is_some()));
}

#[test]
fn a_changed_mask_moves_the_keys_of_what_depends_on_it() {
    let before = experiment(json!({}));
    let after = experiment(json!({ "pretraining": { "masking": { "length": 5 } } }));
    let keys = |experiment: &Experiment| Plan::new(experiment, &[1], &contents(&before)).unwrap().nodes;
    let moved: Vec<String> = keys(&before)
        .into_iter()
        .zip(keys(&after))
        .filter(|(a, b)| a.key != b.key)
        .map(|(node, _)| node.name)
        .collect();
    insta::assert_snapshot!(moved.join("\n"), @r"
    pretrain iteration 1
    units iteration 2 (layer 3, 100)
    unit quality iteration 2
    pretrain iteration 2
    finetune
    decode test
    ");
}

/// Several sets of units are stages of their own, a front-end's codebook is shared with an equal set, and a quantiser needs no units.
#[test]
fn ensembles_units_as_input_and_quantisers() {
    let experiment = experiment(json!({
        "corpus": { "name": "toy", "pretrain": ["train"], "validate": ["dev"] },
        "model": { "front-end": { "units": { "of": "mfcc", "clusters": 100 } } },
        "probing": {},
        "strategy": { "baseline": { "iterations": [
            { "targets": { "ensemble": [
                { "mfcc": { "clusters": 100 } }, { "mfcc-subspace": { "order": 1, "clusters": 50 } } ] }, "steps": 10 },
            { "targets": { "layer": { "height": 3, "clusters": 100 } }, "steps": 10 },
            { "targets": { "quantiser": {} }, "steps": 10 } ] } } }));
    let plan = Plan::new(&experiment, &[1], &contents(&experiment)).unwrap();
    insta::assert_snapshot!(outline(&plan), @r"
    0: corpus train <- nothing
    1: features train (mfcc) <- 0 (corpus train)
    2: corpus dev <- nothing
    3: features dev (mfcc) <- 2 (corpus dev)
    4: units iteration 1.1 (mfcc, 100) seed 1 <- 3 (features dev), 1 (features train)
    5: units iteration 1.2 (mfcc order 1 × 3, 50) seed 1 <- 3 (features dev), 1 (features train)
    6: pretrain iteration 1 seed 1 <- 2 (corpus dev), 0 (corpus train), 4 (targets 0), 5 (targets 1), 4 (input units)
    7: units iteration 2 (layer 3, 100) seed 1 <- 2 (corpus dev), 0 (corpus train), 6 (pretrained model)
    8: pretrain iteration 2 seed 1 <- 2 (corpus dev), 0 (corpus train), 7 (targets 0), 4 (input units)
    9: pretrain iteration 3 seed 1 <- 2 (corpus dev), 0 (corpus train), 4 (input units)
    ");
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let first_on_a_layer = json!({ "strategy": { "baseline": { "iterations": [
        { "targets": { "layer": { "height": 3, "clusters": 100 } }, "steps": 400 } ] } } });
    let too_high = json!({ "strategy": { "baseline": { "iterations": [
        { "targets": { "mfcc": { "clusters": 100 } }, "steps": 1 },
        { "targets": { "layer": { "height": 99, "clusters": 100 } }, "steps": 1 } ] } } });
    let no_data = json!({ "corpus": { "name": "toy", "finetune": ["train"] } });
    let nothing = json!({ "strategy": "scratch", "corpus": { "name": "toy", "pretrain": ["train"] } });
    let error = |parts| Plan::new(&experiment(parts), &[1], &Contents::new()).unwrap_err();
    assert_eq!(error(first_on_a_layer), PlanError::NothingToCluster(1));
    assert_eq!(error(too_high), PlanError::NoSuchLayer { iteration: 2, height: 99, layers: 12 });
    assert_eq!(error(no_data), PlanError::NothingToPretrainOn);
    assert_eq!(error(nothing), PlanError::Nothing);
}

/// Lists of splits, possibly empty, possibly with the same split in several of them.
fn splits(least: usize) -> impl proptest::strategy::Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(vec!["a", "b/clean", "c"], least..=3)
        .prop_map(|splits| splits.into_iter().map(String::from).collect())
}

prop_compose! {
    fn experiments()(
        pretrain in splits(1), finetune in splits(0), validate in splits(0), test in splits(0), probed in splits(1),
        iterations in proptest::collection::vec((0u8..3, 2u32..9, 1u32..9), 1..4),
        untranscribed in splits(0), probe: bool,
    ) -> Experiment {
        let iterations: Vec<Value> = iterations.into_iter().enumerate().map(|(index, (source, clusters, steps))| {
            let targets = match (index, source) {
                (1.., 0) => json!({ "layer": { "height": source, "clusters": clusters } }),
                (_, 1) => json!({ "log-mel": { "clusters": clusters } }),
                _ => json!({ "mfcc": { "clusters": clusters } }),
            };
            json!({ "targets": targets, "steps": steps })
        }).collect();
        experiment(json!({
            "corpus": { "name": "toy", "pretrain": pretrain, "finetune": finetune, "validate": validate, "test": test,
                        "untranscribed": untranscribed },
            "strategy": { "baseline": { "iterations": iterations } },
            "probing": if probe { json!({ "unit-quality": { "splits": probed } }) } else { json!({}) },
        }))
    }
}

/// The key of a stage by the rules as the documentation states them: length-prefixed parts, inputs sorted by role.
fn key_by_hand(plan: &Plan, node: &Node) -> [u8; 32] {
    let mut bytes = Vec::new();
    let mut part = |part: &[u8]| {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    };
    part(b"reprise stage 1");
    part(node.kind.as_bytes());
    part(&match node.stage.as_ref().unwrap() {
        Stage::Corpus(settings) => canon::bytes(settings),
        Stage::Features(settings) => canon::bytes(settings),
        Stage::Units(settings) => canon::bytes(settings),
        Stage::Pretrain(settings) => canon::bytes(settings),
        Stage::Finetune(settings) => canon::bytes(settings),
        Stage::Decode(settings) => canon::bytes(settings),
        Stage::Probe(settings) => canon::bytes(settings),
    });
    part(&node.seed.map_or(Vec::new(), |seed| seed.to_le_bytes().to_vec()));
    let mut inputs: Vec<_> = node.inputs.iter().map(|edge| (&edge.role, plan.nodes[edge.node].key.unwrap())).collect();
    inputs.sort();
    for (role, key) in inputs {
        part(&canon::bytes(role));
        part(&key.0);
    }
    Sha256::digest(bytes).into()
}

proptest! {
    #[test]
    fn a_plan_has_no_cycles_no_doubles_and_the_same_keys_each_time(experiment in experiments()) {
        let contents = contents(&experiment);
        let plan = Plan::new(&experiment, &[7, 8], &contents).unwrap();
        prop_assert_eq!(&plan, &Plan::new(&experiment, &[7, 8], &contents).unwrap());
        for (index, node) in plan.nodes.iter().enumerate() {
            prop_assert!(node.inputs.iter().all(|edge| edge.node < index));
            prop_assert_eq!(node.key.unwrap().0, key_by_hand(&plan, node), "{}", node.name);
            prop_assert_eq!(node.seed.is_some(), node.stage.as_ref().unwrap().draws());
        }
        let keys: BTreeSet<_> = plan.nodes.iter().map(|node| node.key).collect();
        prop_assert_eq!(keys.len(), plan.nodes.len(), "a stage that is planned twice");
        let names: BTreeSet<_> = plan.run(7).map(|(_, node)| &node.name).collect();
        prop_assert_eq!(names.len(), plan.run(7).count());
    }
}
