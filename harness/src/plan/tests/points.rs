//! Where models are judged, and what of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Node, Plan, Stage, contents, experiment};

#[test]
fn points_of_evaluation_go_on_from_one_another_and_leave_what_is_trained_as_it_was() {
    let parts = |evaluation: Value| {
        let corpus = json!({ "name": "toy", "pretrain": ["train"], "finetune": ["train"], "validate": ["dev"] });
        experiment(json!({ "probing": {}, "corpus": corpus, "evaluation": evaluation }))
    };
    let plain = parts(json!({}));
    let judged = parts(json!({ "every": 200, "iteration-ends": true, "cool-down": 20 }));
    let contents = contents(&judged);
    let plan = Plan::new(&judged, &contents).unwrap();
    let line = |(index, node): (usize, &Node)| {
        let continues = node.runs[0].continues.map_or(String::new(), |of| format!(", goes on from {of}"));
        let model = node.inputs.iter().find(|edge| edge.role == reprise_spec::stage::Role::Pretrained);
        let model = model.map_or(String::new(), |edge| format!(", model {}", edge.node));
        format!("{index}: {}{model}{continues}\n", node.name)
    };
    let trained = plan.nodes.iter().enumerate().filter(|(_, node)| !node.kind.starts_with("corpus"));
    insta::assert_snapshot!(trained.map(line).collect::<String>(), @r"
    1: features train (mfcc)
    3: features dev (mfcc)
    4: units iteration 1 (mfcc, 100)
    5: pretrain iteration 1 to step 200
    6: cool down at 200, goes on from 5
    7: finetune at 200, model 6
    8: pretrain iteration 1, goes on from 5
    9: finetune at 300, model 8
    10: units iteration 2 (layer 3, 100), model 8
    11: pretrain iteration 2 to step 100
    12: cool down at 400, goes on from 11
    13: finetune at 400, model 12
    14: pretrain iteration 2 to step 300, goes on from 11
    15: cool down at 600, goes on from 14
    16: finetune at 600, model 15
    17: pretrain iteration 2, goes on from 14
    18: finetune, model 17
    ");
    let before: BTreeSet<_> = Plan::new(&plain, &contents).unwrap().nodes.iter().map(|node| node.key).collect();
    let after: BTreeSet<_> = plan.nodes.iter().map(|node| node.key).collect();
    assert!(before.is_subset(&after));
}

#[test]
fn top_layers_are_reset_and_removed_at_the_ends_of_iterations() {
    let parts = |finetuning: Value| {
        let evaluation = json!({ "every": 200, "iteration-ends": true });
        experiment(json!({ "probing": {}, "evaluation": evaluation, "finetuning": finetuning }))
    };
    let tops = parts(json!({ "steps": 9, "freeze-steps": 3, "reset-top": [2, 0, 1], "remove-top": [1] }));
    let plan = Plan::new(&tops, &contents(&tops)).unwrap();
    let names = plan.nodes.iter().map(|node| node.name.as_str());
    insta::assert_snapshot!(names.filter(|name| name.starts_with("finetune") || name.starts_with("decode")).collect::<Vec<_>>().join("\n"), @r"
    finetune at 200
    decode test at 200
    finetune at 300
    decode test at 300
    finetune at 300, top 1 reset
    decode test at 300, top 1 reset
    finetune at 300, top 2 reset
    decode test at 300, top 2 reset
    finetune at 300, top 1 removed
    decode test at 300, top 1 removed
    finetune at 400
    decode test at 400
    finetune at 600
    decode test at 600
    finetune
    decode test
    finetune, top 1 reset
    decode test, top 1 reset
    finetune, top 2 reset
    decode test, top 2 reset
    finetune, top 1 removed
    decode test, top 1 removed
    ");
    let plain = parts(json!({ "steps": 9, "freeze-steps": 3 }));
    let before = Plan::new(&plain, &contents(&plain)).unwrap();
    let keys: BTreeSet<_> = plan.nodes.iter().map(|node| node.key).collect();
    assert!(before.nodes.iter().all(|node| keys.contains(&node.key)), "a list moves no other stage");
    let removed = plan.nodes.iter().find(|node| node.name == "finetune, top 1 removed").unwrap();
    let Some(Stage::Finetune(stage)) = &removed.stage else { panic!("{removed:?}") };
    assert_eq!(stage.tuned().encoder.layers.get() + 1, stage.network.encoder.layers.get());
}
