//! Front-ends and units of other rates and kinds through the stages that read what they leave behind.

use std::path::{Path, PathBuf};

use reprise_model::labels::{Codebook, Labels};
use reprise_model::stage;
use reprise_model::tensors;
use reprise_spec::arithmetic::frames_at;
use reprise_spec::contract::Score;
use reprise_spec::network::{FeatureKind, FrontEnd};
use reprise_spec::stage::{FeaturesStage, PretrainStage, PretrainTargets, Role, Stage, UnitsStage};
use serde_json::{Value, json};

use super::finetune::{self, tones, work};
use super::{CONVOLVED, EMBEDDED, LOG_MEL, STACKED_BY_4, data, settings, split, turn};

fn execute(root: &Path, name: &str, stage: Stage, inputs: &[(Role, PathBuf)]) -> Vec<Score> {
    stage::execute(&mut work(root, name, stage, inputs, 1)).unwrap()
}

fn corpora(root: &Path) -> Vec<(Role, PathBuf)> {
    ["train", "dev"].map(|name| (Role::Corpus(split(name)), root.join(name))).to_vec()
}

fn pretrain(root: &Path, name: &str, settings: &PretrainStage, units: &[&str]) -> Vec<Score> {
    let mut inputs = corpora(root);
    inputs.push((Role::InputUnits, root.join("input-units")));
    inputs.extend((0..).zip(units).map(|(set, units)| (Role::Targets(set), root.join(units))));
    execute(root, name, Stage::Pretrain(settings.clone()), &inputs)
}

fn units(source: Value) -> Stage {
    let words = json!({
        "source": source, "clusters": 4, "clustering": {"starts": 2, "algorithm": {"lloyd": {"max-passes": 4}}}, "fit": 1.0,
        "fit-on": ["train"], "label": ["dev"],
    });
    let settings: UnitsStage = serde_json::from_value(words).unwrap();
    Stage::Units(settings)
}

fn sound(scores: &[Score], what: &str) {
    assert!(!scores.is_empty() && scores.iter().all(|score| score.value.is_finite()), "{what}: {scores:?}");
}

/// A layer at 25 Hz makes units at 25 Hz, which networks of 40 and of 20 ms predict.
#[test]
fn units_of_40_ms_are_predicted_at_either_rate() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    for (name, front_end) in [("stacked", STACKED_BY_4), ("convolved", CONVOLVED)] {
        pretrain(root, name, &settings(front_end, 3), &["units"]);
        let mut inputs = corpora(root);
        inputs.push((Role::Pretrained, root.join(name).join("out")));
        let labelled = format!("{name} units");
        let source = json!({"layer": {"height": 1, "after-final-norm": false}});
        sound(&execute(root, &labelled, units(source), &inputs), &labelled);
        let labels = Labels::read(&root.join(&labelled).join("out")).unwrap();
        assert_eq!(labels.rate(), 25);
        for index in 0..8 {
            let found = labels.of(&split("train"), &format!("u{index}")).unwrap();
            assert_eq!(found.len() as u64, frames_at(12_000 + 1_111 * index, 640));
        }
        let out = format!("{labelled}/out");
        for (rate, front_end) in [("at 40 ms", front_end), ("at 20 ms", LOG_MEL)] {
            let scores = pretrain(root, &format!("{name} {rate}"), &settings(front_end, 3), &[&out]);
            sound(&scores, &format!("{name} {rate}"));
        }
    }
}

/// HuBERT section IV.D, PQ{0,1,2}: three sets of units at 100 Hz, each with a head.
#[test]
fn subspaces_of_mfcc_make_an_ensemble() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    let features = ["train", "dev"].map(|name| {
        let settings = FeaturesStage { kind: FeatureKind::Mfcc };
        execute(
            root,
            &format!("features {name}"),
            Stage::Features(settings),
            &[(Role::Corpus(split(name)), root.join(name))],
        );
        (Role::Features(split(name)), root.join(format!("features {name}/out")))
    });
    let sets = [0, 1, 2].map(|order| {
        let name = format!("order {order}");
        sound(&execute(root, &name, units(json!({"mfcc-subspace": {"order": order, "splice": 3}})), &features), &name);
        let codebook = Codebook::read(&root.join(&name).join("out"), tch::Device::Cpu).unwrap();
        assert_eq!((codebook.centroids.tensor().size(), codebook.units.rate), (vec![4, 39], 100));
        format!("{name}/out")
    });
    for (name, front_end) in [("at 20 ms", LOG_MEL), ("at 40 ms", CONVOLVED)] {
        let mut settings = settings(front_end, 3);
        settings.targets = PretrainTargets::Units(vec![4u64.try_into().unwrap(); 3]);
        sound(&pretrain(root, name, &settings, &sets.each_ref().map(String::as_str)), name);
    }
}

#[test]
fn every_front_end_is_fine_tuned_from_a_model_and_from_random_weights() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    data(root);
    tones(root, "letters", &["abba cab", "bed", "dada be", "ad", "cede"]);
    tones(root, "spelt", &["abc", "bad"]);
    for (name, front_end) in [("stacked", STACKED_BY_4), ("convolved", CONVOLVED), ("embedded", EMBEDDED)] {
        let pretraining = settings(front_end, 3);
        pretrain(root, name, &pretraining, &["units"]);
        let mut settings = finetune::settings(3, 1);
        settings.network = pretraining.network.clone();
        let inputs = ["letters", "spelt"].map(|name| (Role::Corpus(split(name)), root.join(name)));
        for before in [(Role::Pretrained, root.join(name).join("out")), (Role::InputUnits, root.join("input-units"))] {
            let run = format!("{name} after {}", before.0);
            let scores = execute(root, &run, Stage::Finetune(settings.clone()), &[&inputs[..], &[before]].concat());
            sound(&scores, &run);
            if matches!(settings.network.front_end, FrontEnd::Units(_)) {
                let stored = tensors::read(&root.join(&run).join("out/model.safetensors")).unwrap().tensors;
                let codebook = Codebook::read(&root.join("input-units"), tch::Device::Cpu).unwrap();
                assert!(stored["hubert.feature_extractor.codebook"].equal(codebook.centroids.tensor()), "{run}");
            }
        }
    }
}
