//! Layer-wise analysis in plans.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use reprise_spec::stage::Role;
use serde_json::{Value, json};

use super::*;

const ANALYSES: [&str; 3] = ["cca-word", "effective-rank", "pnmi"];

fn probed(probing: Value, evaluation: Value) -> Experiment {
    let corpus = json!({ "name": "toy", "pretrain": ["train"], "finetune": ["train"], "validate": ["dev"] });
    experiment(json!({ "probing": probing, "corpus": corpus, "evaluation": evaluation }))
}

#[test]
fn the_control_comes_first_and_every_point_is_analysed_but_only_some_are_judged() {
    let probing = json!({ "analyses": ["pnmi", "cca-word"], "every": 250, "layers": { "splits": ["train", "test"] } });
    let experiment = probed(probing, json!({ "at": [250] }));
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
    insta::assert_snapshot!(outline(&plan), @r"
    0: corpus train <- nothing
    1: alignments train <- 0 (corpus train)
    2: corpus test <- nothing
    3: alignments test <- 2 (corpus test)
    4: layers of random weights seed 1 <- 2 (corpus test), 0 (corpus train), 3 (alignments test), 1 (alignments train)
    5: features train (mfcc) <- 0 (corpus train)
    6: corpus dev <- nothing
    7: features dev (mfcc) <- 6 (corpus dev)
    8: units iteration 1 (mfcc, 100) seed 1 <- 7 (features dev), 5 (features train)
    9: pretrain iteration 1 to step 250 seed 1 <- 6 (corpus dev), 0 (corpus train), 8 (targets 0)
    10: layers at 250 seed 1 <- 2 (corpus test), 0 (corpus train), 3 (alignments test), 1 (alignments train), 9 (pretrained model)
    11: finetune at 250 seed 1 <- 6 (corpus dev), 0 (corpus train), 9 (pretrained model)
    12: pretrain iteration 1 seed 1 <- 6 (corpus dev), 0 (corpus train), 8 (targets 0)
    13: layers at 300 seed 1 <- 2 (corpus test), 0 (corpus train), 3 (alignments test), 1 (alignments train), 12 (pretrained model)
    14: units iteration 2 (layer 3, 100) seed 1 <- 6 (corpus dev), 0 (corpus train), 12 (pretrained model)
    15: pretrain iteration 2 to step 200 seed 1 <- 6 (corpus dev), 0 (corpus train), 14 (targets 0)
    16: layers at 500 seed 1 <- 2 (corpus test), 0 (corpus train), 3 (alignments test), 1 (alignments train), 15 (pretrained model)
    17: pretrain iteration 2 seed 1 <- 6 (corpus dev), 0 (corpus train), 14 (targets 0)
    18: layers seed 1 <- 2 (corpus test), 0 (corpus train), 3 (alignments test), 1 (alignments train), 17 (pretrained model)
    19: finetune seed 1 <- 6 (corpus dev), 0 (corpus train), 17 (pretrained model)
    ");
}

#[test]
fn what_reads_no_alignments_needs_none_and_scratch_has_nothing_to_analyse() {
    let probing = json!({ "analyses": ["cca-mel"], "layers": { "splits": ["test"] } });
    let experiment = probed(probing.clone(), json!({}));
    let plan = Plan::new(&experiment, &contents(&experiment)).unwrap();
    assert!(plan.nodes.iter().all(|node| !node.name.starts_with("alignments")), "{}", outline(&plan));
    let scratch = super::experiment(json!({ "probing": probing, "strategy": "scratch" }));
    let plan = Plan::new(&scratch, &contents(&scratch)).unwrap();
    assert!(plan.nodes.iter().all(|node| !node.name.starts_with("layers")), "{}", outline(&plan));
}

#[test]
fn networks_share_their_control_whatever_they_are_trained_on() {
    let probing = json!({ "analyses": ["cca-mel"], "layers": { "splits": ["test"] } });
    let one = probed(probing.clone(), json!({}));
    let strategy = json!({ "baseline": { "iterations": [{ "targets": { "quantiser": {} }, "steps": 10 }] } });
    let other = super::experiment(json!({ "probing": probing, "strategy": strategy }));
    let both = together(&[one, other]);
    let plan = Plan::new(&both, &contents(&both)).unwrap();
    let controls: Vec<&Node> = plan.nodes.iter().filter(|node| node.name == "layers of random weights").collect();
    assert_eq!(controls.len(), 1);
    assert_eq!(controls[0].runs.len(), 2);
}

#[test]
fn points_are_compared_with_the_last_by_stages_of_their_own() {
    let layers = json!({ "splits": ["test"] });
    let [plain, compared] = [json!(["cca-mel"]), json!(["cca-mel", "cka-steps"])].map(|analyses| {
        let experiment = probed(json!({ "analyses": analyses, "at": [250], "layers": layers }), json!({}));
        Plan::new(&experiment, &contents(&experiment)).unwrap()
    });
    let keys = |plan: &Plan| plan.nodes.iter().map(|node| node.key).collect::<BTreeSet<_>>();
    let added: Vec<&Node> = compared.nodes.iter().filter(|node| !keys(&plain).contains(&node.key)).collect();
    let names: Vec<&str> = added.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(
        names,
        ["layers of random weights beside the last", "layers at 250 beside the last", "layers at 300 beside the last"]
    );
    assert!(keys(&plain).is_subset(&keys(&compared)));
    let last = compared.nodes.iter().position(|node| node.name == "pretrain iteration 2").unwrap();
    let reference = |node: &&Node| node.inputs.iter().any(|edge| edge.node == last && edge.role == Role::Reference);
    assert!(added.iter().all(reference), "{}", outline(&compared));
}

#[test]
fn what_words_mean_is_known_by_its_content() {
    let layers = |name: &str| json!({ "splits": ["test"], "word-vectors": name, "word-pairs": "pairs.tsv" });
    let analyses = json!(["cca-semantic", "word-similarity"]);
    let of = |name: &str| probed(json!({ "analyses": analyses, "layers": layers(name) }), json!({}));
    let experiment = of("glove.txt");
    let mut contents = contents(&experiment);
    let key = |experiment: &Experiment, contents: &Contents| {
        Plan::new(experiment, contents).unwrap().nodes.into_iter().find(|node| node.name == "layers").unwrap().key
    };
    let before = key(&experiment, &contents);
    assert!(before.is_some());
    let name = |name: &str| Name::try_from(name.to_owned()).unwrap();
    let mut renamed = self::contents(&of("moved.txt"));
    renamed.files.insert(name("moved.txt"), contents.files[&name("glove.txt")]);
    assert_eq!(key(&of("moved.txt"), &renamed), before, "a name is no content");
    contents.files.get_mut(&name("glove.txt")).unwrap().0[0] ^= 1;
    assert_ne!(key(&experiment, &contents), before);
    contents.files.clear();
    assert_eq!(key(&experiment, &contents), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every stage of the plan without analyses is in the plan with them, by key, in the same order and under the same name; what comes in
    /// addition is analyses, what they read, and the trainings on the way.
    #[test]
    fn adding_analyses_moves_no_other_key(
        every in prop::option::of(1u32..400), at in prop::collection::vec(0u32..800, 0..3),
        points in prop::option::of(1u32..400), ends in any::<bool>(), cool in any::<bool>(),
        analyses in prop::sample::subsequence(ANALYSES.to_vec(), 1..=3),
    ) {
        let evaluation = json!({ "every": points, "iteration-ends": ends, "cool-down": cool.then_some(5) });
        let unit_quality = json!({ "splits": ["dev"] });
        let plain = probed(json!({ "unit-quality": unit_quality }), evaluation.clone());
        let layers = json!({ "splits": ["train", "dev"] });
        let asked = json!({ "unit-quality": unit_quality, "analyses": analyses, "every": every, "at": at, "layers": layers });
        let analysed = probed(asked, evaluation);
        let contents = contents(&analysed);
        let [before, after] = [&plain, &analysed].map(|experiment| Plan::new(experiment, &contents).unwrap());
        let names = |plan: &Plan| -> BTreeMap<_, _> {
            plan.nodes.iter().map(|node| (node.key.unwrap(), node.name.clone())).collect()
        };
        let (before_names, after_names) = (names(&before), names(&after));
        prop_assert!(before_names.iter().all(|(key, name)| after_names.get(key) == Some(name)));
        let kept: Vec<_> = after.nodes.iter().filter_map(|node| node.key).filter(|key| before_names.contains_key(key)).collect();
        let sorted = |keys: &[_]| keys.iter().copied().collect::<BTreeSet<_>>();
        prop_assert_eq!(sorted(&kept), before_names.keys().copied().collect::<BTreeSet<_>>());
        for name in after_names.iter().filter(|(key, _)| !before_names.contains_key(key)).map(|(_, name)| name) {
            let expected = ["layers", "alignments"].iter().any(|word| name.starts_with(word)) || name.contains(" to step ");
            prop_assert!(expected, "{}", name);
        }
        let points = after.nodes.iter().filter(|node| node.name.starts_with("layers") && node.inputs.iter().any(|edge| edge.role == Role::Pretrained));
        let expected = analysed.variants[0].setting.probing.points(&analysed.variants[0].setting.iterations).len();
        prop_assert_eq!(points.count(), expected);
    }
}
