use std::collections::BTreeSet;

use proptest::prelude::*;
use reprise_spec::experiment::Written;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ContentDigest, Contents, Experiment, Name, Node, Plan, PlanError, RunOf, Stage, needed};

mod by_hand;
mod decoding;
mod layers;
mod points;

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
    serde_json::from_value::<Written>(whole).unwrap().into()
}

/// One experiment with the variants of several.
fn together(experiments: &[Experiment]) -> Experiment {
    let mut whole = experiments[0].clone();
    whole.variants = experiments.iter().flat_map(|experiment| experiment.variants.clone()).collect();
    whole
}

fn contents(experiment: &Experiment) -> Contents {
    let digest = |what: String| ContentDigest(Sha256::digest(what).into());
    let needed = needed(experiment);
    let named =
        |names: BTreeSet<Name>| names.into_iter().map(|name| (name.clone(), digest(name.to_string()))).collect();
    Contents {
        splits: needed
            .splits
            .into_iter()
            .map(|what| (what.clone(), digest(format!("{} {:?}", what.0, what.1))))
            .collect(),
        checkpoints: named(needed.checkpoints),
        files: named(needed.files),
    }
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
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
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
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
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
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
    insta::assert_snapshot!(outline(&plan), @r"
    0: corpus train <- nothing
    1: corpus dev <- nothing
    2: pretrain iteration 1 seed 1 <- 1 (corpus dev), 0 (corpus train)
    3: units iteration 2 (layer 3, 100) seed 1 <- 1 (corpus dev), 0 (corpus train), 2 (pretrained model)
    4: pretrain iteration 2 seed 1 <- 1 (corpus dev), 0 (corpus train), 3 (targets 0)
    ");
}

/// Codebooks that are only measured are drawn with seeds of their own, and share the model; one that an iteration predicts is there already.
#[test]
fn codebooks_are_measured_beside_those_that_are_predicted() {
    let experiment = experiment(json!({
        "strategy": { "baseline": { "iterations": [{ "targets": { "mfcc": { "clusters": 100 } }, "steps": 300 }] } },
        "corpus": { "name": "toy", "pretrain": ["train"], "validate": ["dev"] },
        "probing": { "unit-quality": { "splits": ["dev"] }, "codebooks": [
            { "of": "mfcc", "clusters": [50, 100] },
            { "of": { "layers": { "heights": [6], "of": { "iteration": 1 } } }, "clusters": [500], "fit": [0.1], "seeds": [1, 7] },
            { "of": { "layers": { "heights": [9], "of": { "checkpoint": "base" } } }, "clusters": [500] } ] }
    }));
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
    insta::assert_snapshot!(outline(&plan));
}

#[test]
fn codebooks_alone_train_nothing() {
    let experiment = experiment(json!({
        "strategy": "scratch", "corpus": { "name": "toy", "pretrain": ["train"] },
        "probing": { "unit-quality": { "splits": ["dev"] }, "codebooks": [{ "of": "mfcc", "clusters": [50] }] }
    }));
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
    assert!(!plan.nodes.iter().any(|node| matches!(node.stage, Some(Stage::Pretrain(_) | Stage::Finetune(_)))));
    insta::assert_snapshot!(outline(&plan));
}

#[test]
fn seeds_share_what_draws_nothing() {
    let experiment = experiment(json!({ "seeds": [1, 2] }));
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
    let count = |seed| plan.run(RunOf { variant: 0, seed }).len();
    let one = count(1);
    assert_eq!(one, count(2));
    let shared = plan.nodes.iter().filter(|node| node.runs.len() == 2);
    assert!(shared.clone().all(|node| !node.stage.as_ref().unwrap().draws()));
    assert_eq!(plan.nodes.len(), 2 * one - shared.count());
}

#[test]
fn without_the_corpus_the_graph_is_there_and_keys_are_not() {
    let experiment = experiment(json!({}));
    let plan = Plan::new(&experiment, &Contents::default()).unwrap();
    let known = Plan::new(&experiment, &contents(&experiment)).unwrap();
    assert_eq!(outline(&plan), outline(&known));
    assert!(plan.nodes.iter().all(|node| node.key.is_none()));
    assert!(known.nodes.iter().all(|node| node.key.is_some()));
}

#[test]
fn a_changed_mask_moves_the_keys_of_what_depends_on_it() {
    let before = experiment(json!({}));
    let after = experiment(json!({ "pretraining": { "masking": { "length": 5 } } }));
    let keys = |experiment: &Experiment| Plan::new(experiment, &contents(&before)).unwrap().nodes;
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
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
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
    let error = |parts| Plan::new(&experiment(parts), &Contents::default()).unwrap_err();
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
        untranscribed in splits(0), probe: bool, form in 0u8..3, every in 1u32..9, decoding in 0u8..4,
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
            "strategy": match form {
                0 => json!({ "baseline": { "iterations": iterations } }),
                1 => json!({ "progressive": { "every": every, "ladder": iterations.iter().map(|i| &i["targets"]).collect::<Vec<_>>() } }),
                _ => json!({ "iterations": iterations }),
            },
            "evaluation": if every > 4 { json!({ "every": every, "cool-down": 2 }) } else { json!({}) },
            "decoding": decoding::form(decoding),
            "probing": if probe { json!({ "unit-quality": { "splits": probed } }) } else { json!({}) },
        }))
    }
}

/// The key of a stage by the rules as the documentation states them: length-prefixed parts, inputs sorted by role, canonical bytes of a second
/// implementation.
fn key_by_hand(plan: &Plan, node: &Node) -> [u8; 32] {
    let mut bytes = Vec::new();
    let mut part = |part: &[u8]| {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    };
    part(b"reprise stage 1");
    part(node.kind.as_bytes());
    part(&match node.stage.as_ref().unwrap() {
        Stage::Corpus(settings) => by_hand::bytes(settings),
        Stage::Checkpoint(settings) => by_hand::bytes(settings),
        Stage::Features(settings) => by_hand::bytes(settings),
        Stage::Units(settings) => by_hand::bytes(settings),
        Stage::Pretrain(settings) => by_hand::bytes(settings),
        Stage::Finetune(settings) => by_hand::bytes(settings),
        Stage::LanguageModel(settings) => by_hand::bytes(settings),
        Stage::Lexicon(settings) => by_hand::bytes(settings),
        Stage::Tune(settings) => by_hand::bytes(settings),
        Stage::Decode(settings) => by_hand::bytes(settings),
        Stage::Probe(settings) => by_hand::bytes(settings),
        Stage::WordVectors(settings) => by_hand::bytes(settings),
        Stage::WordPairs(settings) => by_hand::bytes(settings),
    });
    part(&node.seed.map_or(Vec::new(), |seed| seed.to_le_bytes().to_vec()));
    let mut inputs: Vec<_> = node.inputs.iter().map(|edge| (&edge.role, plan.nodes[edge.node].key.unwrap())).collect();
    inputs.sort();
    for (role, key) in inputs {
        part(&by_hand::bytes(role));
        part(&key.0);
    }
    Sha256::digest(bytes).into()
}

proptest! {
    #[test]
    fn a_plan_has_no_cycles_no_doubles_and_the_same_keys_each_time(several in proptest::collection::vec(experiments(), 1..4)) {
        let experiment = Experiment { seeds: vec![7, 8], ..together(&several) };
        let contents = contents(&experiment);
        let plan = Plan::new(&experiment, &contents).unwrap();
        prop_assert_eq!(&plan, &Plan::new(&experiment, &contents).unwrap());
        for (index, node) in plan.nodes.iter().enumerate() {
            prop_assert!(node.inputs.iter().all(|edge| edge.node < index));
            prop_assert!(node.runs.iter().all(|need| need.continues != Some(index)));
            prop_assert_eq!(node.key.unwrap().0, key_by_hand(&plan, node), "{}", node.name);
            prop_assert_eq!(node.seed.is_some(), node.stage.as_ref().unwrap().draws());
        }
        let keys: BTreeSet<_> = plan.nodes.iter().map(|node| node.key).collect();
        prop_assert_eq!(keys.len(), plan.nodes.len(), "a stage that is planned twice");
        for (variant, alone) in experiment.variants.iter().enumerate() {
            let of = RunOf { variant, seed: 7 };
            let names: BTreeSet<_> = plan.run(of).into_iter().map(|(_, _, need)| &need.name).collect();
            prop_assert_eq!(names.len(), plan.run(of).len());
            // What a variant executes is what it executes alone, in the same order.
            let own: Vec<_> = plan.run(of).into_iter().map(|(_, node, need)| (node.key, need.name.clone())).collect();
            let alone = Plan::of(&alone.setting, 7, &contents).unwrap();
            let stages = alone.nodes.iter().map(|node| (node.key, node.runs[0].name.clone()));
            prop_assert_eq!(own, stages.collect::<Vec<_>>());
        }
    }
}

#[test]
fn strategies_share_what_is_equal_and_nothing_else() {
    let of = |strategy: Value| experiment(json!({ "probing": {}, "strategy": strategy }));
    let mfcc = json!({ "mfcc": { "clusters": 100 } });
    let layer = |height: u32| json!({ "layer": { "height": height, "clusters": 100 } });
    let heights = json!({ "cluster-height": { "heights": [2, 3, 4, 5], "clusters": 100, "fit": 1.0, "steps": 400,
        "first": { "targets": mfcc, "steps": 300 } } });
    let baseline = json!({ "baseline": { "iterations": [
        { "targets": mfcc, "steps": 300 }, { "targets": layer(3), "steps": 400 } ] } });
    let progressive = json!({ "progressive": { "every": 100, "ladder": [mfcc, layer(2), layer(3)] } });
    let experiment = together(&[of(baseline), of(heights), of(progressive)]);
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
    let count = |name: &str| plan.nodes.iter().filter(|node| node.name.starts_with(name)).count();
    // One of 300 steps for the baseline and all heights, and the first rung of 100.
    assert_eq!(count("pretrain iteration 1"), 2);
    assert_eq!(count("units iteration 1"), 1);
    // Height 3 is the baseline's; the first rung's model is another than theirs.
    assert_eq!(count("units iteration 2"), 4 + 1);
    assert_eq!(count("pretrain iteration 2"), 4 + 1);
    assert_eq!(count("finetune"), 4 + 1);
    let warm = plan.nodes.iter().find(|node| node.name == "pretrain iteration 3").unwrap();
    let Some(Stage::Pretrain(stage)) = &warm.stage else { panic!("{warm:?}") };
    assert_eq!(
        stage.start,
        reprise_spec::stage::Start::Warm {
            carry: experiment.variants[5].setting.iterations[2].carry.clone(),
            trained: 200
        }
    );
}

#[test]
fn a_checkpoint_from_elsewhere_is_known_by_its_content() {
    let parts = json!({ "probing": {}, "strategy": { "baseline": { "iterations": [
        { "targets": { "layer": { "height": 9, "clusters": 100, "of": { "checkpoint": "released" } } }, "steps": 4 } ] } } });
    let experiment = experiment(parts);
    let mut contents = contents(&experiment);
    let plan = Plan::new(&experiment, &contents).unwrap();
    let reader = plan.nodes.iter().find(|node| node.name.starts_with("units")).unwrap();
    let checkpoint = plan.nodes.iter().position(|node| node.name == "checkpoint released").unwrap();
    assert!(reader.inputs.iter().any(|edge| edge.node == checkpoint));
    contents.checkpoints.clear();
    let plan = Plan::new(&experiment, &contents).unwrap();
    assert!(plan.nodes.iter().find(|node| node.name == "checkpoint released").unwrap().key.is_none());
    assert!(plan.nodes.iter().find(|node| node.name == "finetune").unwrap().key.is_none());
}
