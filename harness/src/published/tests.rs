use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reprise_spec::experiment::{Experiment, Setting};
use reprise_spec::read::{self, LoadError};

use super::*;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An experiment of the checkout, by its path below `experiments/`.
fn experiment(path: &str) -> Experiment {
    let folder = checkout().join("experiments");
    let mut load = |path: &str| fs::read_to_string(folder.join(path)).map_err(|_| LoadError::Missing);
    let text = load(path).unwrap();
    read::experiment(path, &text, &mut load).unwrap().experiment
}

fn setting(path: &str, variant: &str) -> Setting {
    let experiment = experiment(path);
    let mut variants = experiment.variants.into_iter();
    variants.find(|known| known.name == variant).unwrap_or_else(|| panic!("{variant}")).setting
}

/// The largest value of a metric that makes sense.
fn most(metric: Metric) -> f64 {
    match metric {
        Metric::Wer | Metric::LabelSegment => 100.0,
        Metric::Pnmi | Metric::PhonePurity | Metric::ClusterPurity => 1.0,
        Metric::MaskedAccuracy | Metric::UnmaskedAccuracy => 1.0,
        Metric::MaskedLoss | Metric::Loss => 20.0,
    }
}

#[test]
fn every_value_is_read_and_makes_sense() {
    assert_eq!(entries().len(), 385);
    assert_eq!(statements().len(), 19);
    let mut known = BTreeSet::new();
    for entry in entries() {
        let values = [Some(entry.value), entry.up_to, entry.deviation];
        let sane = |value: &f64| value.is_finite() && (0.0..=most(entry.metric)).contains(value);
        assert!(values.iter().flatten().all(sane), "{entry}");
        assert!(entry.up_to.is_none_or(|up_to| up_to > entry.value), "{entry}");
        assert!(entry.metric != Metric::Wer || entry.labelled.is_some() && entry.decoding.is_some(), "{entry}");
        // A table may hold the same number twice, of other iterations or with other notes, but nothing twice.
        let what = format!("{entry} {:?} {} {:?} {}", entry.iterations, entry.masked_weight, entry.units, entry.notes);
        assert!(known.insert(what), "twice: {entry}");
    }
}

#[test]
fn every_file_of_the_folder_is_part_of_the_program() {
    let folder = fs::read_dir(checkout().join("golden/published")).unwrap();
    let files: BTreeSet<String> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let embedded = TABLES.iter().map(|(name, _)| *name).chain([RECIPES.0, STATEMENTS.0]);
    assert_eq!(files, embedded.map(String::from).collect());
}

#[test]
fn every_recipe_is_one_of_a_value() {
    let used: BTreeSet<&str> = entries().iter().filter_map(|entry| entry.recipe.as_deref()).collect();
    assert_eq!(used, PUBLISHED.recipes.keys().map(String::as_str).collect());
}

#[test]
fn what_is_known_at_second_hand_cannot_be_golden() {
    let golden =
        |confidence: Confidence| entries().iter().any(|e| e.confidence == confidence && confidence.can_be_golden());
    assert!(golden(Confidence::Primary) && golden(Confidence::Reproduction));
    assert!(!golden(Confidence::Secondary) && !Confidence::FromMemory.can_be_golden());
    let reviews = entries().iter().filter(|entry| entry.recipe.as_deref().is_some_and(|name| name.starts_with("mr-")));
    assert!(reviews.clone().count() > 0);
    assert!(reviews.into_iter().all(|entry| entry.confidence == Confidence::Secondary));
}

#[test]
fn the_published_model_compares_when_it_was_executed_and_not_before() {
    let setting = setting("librispeech/hubert-base.yaml", "10h");
    let comparable = |besides: &[Beside]| -> Vec<String> {
        let equal = besides.iter().filter(|beside| beside.verdict == Verdict::Comparable);
        equal.map(|beside| format!("{} {}", beside.address.as_ref().unwrap(), beside.entry.value)).collect()
    };
    let executed = beside(&setting, true);
    assert_eq!(comparable(&executed), ["decode test-clean/wer 10.1", "decode test-other/wer 16.8"]);
    let planned = beside(&setting, false);
    assert_eq!(planned.len(), executed.len());
    assert!(planned.iter().all(|beside| beside.verdict == Verdict::NotExecuted));
}

#[test]
fn any_departure_from_the_published_recipe_is_named() {
    let published = setting("librispeech/hubert-base.yaml", "10h");
    let first = |setting: &Setting| beside(setting, true).remove(0);
    let mut changed = published.clone();
    changed.iterations[1].steps = 399_999.try_into().unwrap();
    let found = first(&changed);
    assert_eq!(found.verdict, Verdict::NotComparable);
    assert!(found.because[0].contains("399999 steps on 500 clusters of layer 6, not 250000 steps"), "{found}");
    let mut changed = published.clone();
    changed.corpus.name = "realspeech".to_owned().try_into().unwrap();
    assert!(first(&changed).because[0].contains("the corpus is realspeech, not LibriSpeech"));
    let mut changed = published;
    changed.pretraining.batching.seconds = 700.0.try_into().unwrap();
    assert!(first(&changed).because[0].contains("seconds of a batch are 700, not 2800"));
}

#[test]
fn published_values_beside_a_small_model_say_why_they_do_not_compare() {
    let experiment = experiment("quickstart/baseline.yaml");
    let besides = beside(&experiment.variants[0].setting, true);
    assert!(besides.iter().all(|beside| beside.verdict == Verdict::NotComparable));
    let first = |metric| besides.iter().find(|beside| beside.entry.metric == metric).unwrap().to_string();
    insta::assert_snapshot!([Metric::Wer, Metric::Pnmi, Metric::MaskedAccuracy].map(first).join("\n"));
}

#[test]
fn ablations_are_found_beside_theirs() {
    let setting = setting("librispeech/steps.yaml", "mfcc-50-250k");
    let found = beside(&setting, false);
    let lines: Vec<String> = found.iter().take(3).map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn models_that_experiments_follow_have_published_values_beside_them() {
    for (name, variant, least) in [
        ("hubert-base", "1h", 10.9),
        ("hubert-large", "10h", 2.2),
        ("hubert-x-large", "960h", 1.5),
        ("wav2vec2-base", "100h", 2.7),
        ("wav2vec2-large", "1h", 2.9),
        ("ils-hubert", "layers-4-12 relative", 3.8),
        ("discrete-bert", "units", 5.3),
    ] {
        let besides = beside(&setting(&format!("librispeech/{name}.yaml"), variant), false);
        assert!(besides.iter().all(|beside| beside.verdict == Verdict::NotExecuted), "{name} {variant}");
        let has = |beside: &Beside| beside.entry.metric == Metric::Wer && beside.entry.value == least;
        assert!(besides.iter().any(has), "{name} {variant}");
    }
}
