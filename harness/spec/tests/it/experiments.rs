//! Experiments drawn at random, valid by construction of their types (rules about several values may be broken).

use proptest::prelude::*;
use reprise_spec::experiment::Written;
use serde_json::{Value, json};

fn share() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]
}

fn positive() -> impl Strategy<Value = f64> {
    prop_oneof![1e-9..1e-3, 1e-3..1e3, Just(5e-4), Just(1e12)]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), 1u64..64, Just(1_000_000)]
}

fn splits() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[A-Za-z0-9][a-z0-9._-]{0,8}(/[a-z0-9]{1,4})?", 0..4)
}

fn targets() -> impl Strategy<Value = Value> {
    prop_oneof![
        (2u64..65_536, share()).prop_map(|(clusters, fit)| json!({"mfcc": {"clusters": clusters, "fit": fit}})),
        (2u64..65_536).prop_map(|clusters| json!({"log-mel": {"clusters": clusters}})),
        (0u64..100, 2u64..1000)
            .prop_map(|(height, clusters)| json!({"layer": {"height": height, "clusters": clusters}})),
    ]
}

fn strategy() -> impl Strategy<Value = Value> {
    let iteration =
        (targets(), 0u64..1_000_000).prop_map(|(targets, steps)| json!({"targets": targets, "steps": steps}));
    prop_oneof![
        Just(json!("scratch")),
        proptest::collection::vec(iteration, 0..4).prop_map(|list| json!({"baseline": {"iterations": list}})),
    ]
}

fn corpus() -> impl Strategy<Value = Value> {
    (splits(), splits(), splits(), splits(), any::<bool>(), 0u32..9, "[a-z]{1,8}").prop_map(
        |(pretrain, finetune, validate, test, allow, most, name)| {
            let lists: serde_json::Map<_, _> = test.iter().map(|split| (split.clone(), json!(format!("../{split}.tsv")))).collect();
            json!({
                "name": name, "pretrain": pretrain, "finetune": finetune, "validate": validate, "test": test, "lists": lists,
                "conversion": if allow { "allow" } else { "refuse" }, "exclude-at-most": most,
            })
        },
    )
}

fn model() -> impl Strategy<Value = Value> {
    let front_end = prop_oneof![
        count().prop_map(|bins| json!({"log-mel": {"bins": bins}})),
        (count(), proptest::collection::vec(count(), 0..8), positive(), any::<bool>())
            .prop_map(|(channels, kernels, penalty, bias)| json!({"wave": {"channels": channels, "kernels": kernels, "penalty": penalty, "bias": bias}})),
    ];
    (front_end, count(), count(), share(), any::<bool>()).prop_map(|(front_end, layers, width, drop, pre)| {
        let norm = if pre { "pre" } else { "post" };
        json!({"front-end": front_end, "encoder": {"layers": layers, "width": width, "layer-drop": drop, "norm": norm}})
    })
}

fn pretraining() -> impl Strategy<Value = Value> {
    (share(), positive(), proptest::option::of(positive()), positive(), any::<bool>()).prop_map(
        |(prob, peak, clip, decay, equal)| {
            let mut optimiser = json!({"weight-decay": decay});
            if let Some(clip) = clip {
                optimiser["clip"] = json!(clip);
            }
            json!({"masking": {"prob": prob, "equal-count": equal}, "schedule": {"peak": peak}, "optimiser": optimiser})
        },
    )
}

/// An experiment of every shape that the language has.
pub fn experiments() -> impl Strategy<Value = Written> {
    let texts = ("[a-z][a-z0-9-]{0,20}", "[\\PC\n\t]{0,30}", "[\\PC\n\t]{0,30}");
    let probing = proptest::option::of((splits(), count()));
    let seeds = proptest::collection::vec(any::<u64>(), 0..5);
    (texts, corpus(), model(), pretraining(), strategy(), probing, seeds).prop_map(
        |((name, question, notes), corpus, model, pretraining, strategy, probing, seeds)| {
            let mut value = json!({
                "version": 1, "name": name, "question": question, "notes": notes, "corpus": corpus, "model": model,
                "pretraining": pretraining, "strategy": strategy, "seeds": seeds,
            });
            if let Some((splits, draws)) = probing {
                value["probing"] = json!({"unit-quality": {"splits": splits, "null-draws": draws}});
            }
            serde_json::from_value(value).expect("generated values are in range")
        },
    )
}
