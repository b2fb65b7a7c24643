//! Layer-wise analysis: at every point of pretraining and of random weights, without moving anything that is trained.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::place::{LAYERS, Place, Said};

fn number(score: &Value, name: &str) -> f64 {
    score[name].as_f64().unwrap_or_else(|| panic!("no {name} in {score}"))
}

fn curve<'a>(findings: &'a Value, metric: &str) -> &'a Vec<Value> {
    let curves = findings["curves"].as_array().unwrap();
    let curve = curves.iter().find(|curve| curve["metric"] == metric).unwrap_or_else(|| panic!("no {metric}"));
    curve["layers"].as_array().unwrap()
}

#[test]
fn every_point_and_random_weights_are_analysed_and_nothing_trained_moves() {
    let place = Place::with_corpus();
    let run = place.json(&["run", "--json", "layers.yaml"]);
    let layers = &run[0]["results"]["layers"];
    let points = layers["points"].as_array().unwrap();
    let steps: Vec<u64> = points.iter().map(|point| point["point"]["cumulative"].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 6, 12]);
    let all = points.iter().map(|point| &point["findings"]).chain([&layers["control"]]);
    for findings in all {
        assert_eq!((&findings["depth"], &findings["too-shallow"]), (&2.into(), &true.into()));
        assert_eq!(findings["labels"]["words"]["dropped"]["book"], 2);
        let metrics: Vec<&str> =
            findings["curves"].as_array().unwrap().iter().map(|curve| curve["metric"].as_str().unwrap()).collect();
        insta::assert_snapshot!("metrics_of_all_analyses", metrics.join("\n"));
        for curve in findings["curves"].as_array().unwrap() {
            let scores = curve["layers"].as_array().unwrap();
            assert!(scores.len() >= 2, "{curve}");
            assert!(scores.iter().all(|score| score["mean"].is_f64() && number(score, "deviation") >= 0.), "{curve}");
        }
        let seen = |value: f64| (0. ..=1.).contains(&value);
        assert!(curve(findings, "pnmi-8").iter().all(|score| number(score, "mean") > number(score, "null")));
        assert!(curve(findings, "abx").iter().all(|score| seen(number(score, "mean")) && number(score, "mean") > 0.5));
        assert!((number(&curve(findings, "cca-intra-pca2-target-pca2")[0], "mean") - 1.).abs() < 1e-3);
        assert!(curve(findings, "cka").iter().all(|score| number(score, "null") < number(score, "mean") + 1e-9));
        assert_eq!(curve(findings, "cka").len(), 6);
        let few = &curve(findings, "mi-word-2")[0];
        assert!(few["refused"].as_str().unwrap().contains("segments are too few for 2 clusters"), "{few}");
    }
    let seen = |findings: &Value| findings["seen-in-pretraining"].clone();
    assert_eq!(seen(&points[0]["findings"]), serde_json::json!(["train"]));
    assert_eq!(seen(&layers["control"]), serde_json::json!([]));
    assert!(points[2]["summaries"]["pnmi-8"]["area"].is_f64());

    let shown = place.reprise(&["show"]).out;
    for words in [
        "PNMI-8",
        "RANDOM WEIGHTS",
        "TOP-DROP",
        "too shallow to show",
        "seen in pretraining: train",
        "annealed models: 4",
    ] {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    assert_eq!(place.to_execute("tiny.yaml"), Vec::<String>::new(), "what is trained is what it was");
    let stages = run[0]["record"]["stages"].as_array().unwrap();
    let place_of = |name: &str| stages.iter().position(|stage| stage["name"] == name).unwrap();
    assert!(
        place_of("layers of random weights") < place_of("pretrain iteration 1 to step 4"),
        "the control comes first"
    );
}

/// A model that has not moved from its start says what the control says: of waves, of log-mel frames, and of several frame rates.
#[test]
fn the_control_has_the_weights_that_pretraining_starts_from() {
    let still = LAYERS.replace("at: [4]", "at: []").replace(
        "cca-word, cca-phone, cca-mel, cca-intra, mi-word, mi-phone, pnmi, abx",
        "cca-phone, cca-mel, pnmi, abx",
    ) + "\
pretraining: { schedule: { peak: 1.0e-12 } }
corpus: { finetune: [], test: [] }
strategy: { baseline: { iterations: [{ targets: { mfcc: { clusters: 8 } }, steps: 1 }] } }
matrix:
  axes:
    network:
      mel: {}
      wave: { model: { front-end: { wave: { channels: 16 } } } }
      rates: { model: { encoder: { layers: 3 }, hierarchy: { layers: [1, 1, 1], ratios: [2] } } }
";
    let place = Place::with_corpus();
    place.write("still.yaml", &still);
    let runs = place.json(&["run", "--json", "still.yaml"]);
    assert_eq!(runs.as_array().map(Vec::len), Some(3));
    for run in runs.as_array().unwrap() {
        let layers = &run["results"]["layers"];
        let (model, control) = (&layers["points"][0]["findings"], &layers["control"]);
        for found in model["curves"].as_array().unwrap() {
            let metric = found["metric"].as_str().unwrap();
            for (model, control) in curve(model, metric).iter().zip(curve(control, metric)) {
                let [model, control] = [model, control].map(|score| number(score, "mean"));
                assert!((model - control).abs() < 1e-3, "{metric}: {model} {control}");
            }
        }
    }
}

fn refused(place: &Place, text: &str) -> Said {
    place.write("refused.yaml", text);
    let said = place.reprise(&["run", "refused.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    let record = &place.json(&["show", "--json"])["record"];
    let trained =
        |stage: &Value| stage["kind"].as_str().unwrap().starts_with("pretrain") && stage["state"] != "pending";
    assert!(!record["stages"].as_array().unwrap().iter().any(trained), "refused before anything is trained: {record}");
    said
}

#[test]
fn a_sample_that_is_too_small_is_refused_before_training() {
    let place = Place::with_corpus();
    let wide = LAYERS.replace("    components: 2\n", "").replace("frames: 600", "frames: 100");
    let said = refused(&place, &wide);
    let told: Vec<&str> =
        said.err.lines().filter(|line| line.contains("layers 0 to 2") || line.contains("help")).collect();
    insta::assert_snapshot!("a_sample_that_is_too_small", told.join("\n"));
}

#[test]
fn missing_alignments_and_those_of_other_audio_are_refused_by_name() {
    let place = Place::with_corpus();
    let path = place.path("corpora/small/alignments/dev.phones.tsv");
    let whole = fs::read_to_string(&path).unwrap();
    let id = place.utterances("dev").remove(0);
    let without: String = whole.lines().filter(|line| !line.starts_with(&id)).map(|line| format!("{line}\n")).collect();
    fs::write(&path, without).unwrap();
    let said = refused(&place, LAYERS);
    assert!(said.err.contains(&format!("dev/{id}")) && said.err.contains("unaligned-at-most"), "{}", said.err);

    fs::write(&path, format!("{whole}{id}\t90.000\t90.500\tAH\n")).unwrap();
    let said = refused(&place, LAYERS);
    assert!(said.err.contains(&id) && said.err.contains("beyond the audio"), "{}", said.err);
}

/// The words that the corpus has, with their tokens.
fn words(place: &Place) -> BTreeMap<String, usize> {
    let mut tokens = BTreeMap::new();
    for split in ["train", "dev", "test"] {
        let text = fs::read_to_string(place.path(&format!("corpora/small/alignments/{split}.words.tsv"))).unwrap();
        for word in text.lines().skip(1).filter_map(|line| line.split('\t').nth(3)).filter(|word| !word.is_empty()) {
            *tokens.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    tokens
}

/// [`LAYERS`] with what words mean, and with a comparison of its points.
fn meaning(place: &Place) -> String {
    let tokens = words(place);
    let number = |word: &str, by: u64| {
        let of = word.bytes().fold(by, |sum, byte| (sum * 31 + u64::from(byte)) % 997);
        of as f64 / 500. - 1.
    };
    let vectors = tokens
        .keys()
        .filter(|word| *word != "at")
        .map(|word| format!("{word} {} {}\n", number(word, 1), number(word, 2)));
    place.write("corpora/vectors.txt", &format!("unheard 0 1\n{}", vectors.collect::<String>()));
    let frequent: Vec<&String> = tokens.iter().filter(|(_, tokens)| **tokens >= 4).map(|(word, _)| word).collect();
    let pairs = frequent.iter().enumerate().flat_map(|(place, first)| {
        frequent[place + 1..]
            .iter()
            .map(move |second| format!("{first}\t{second}\t{}\n", number(&format!("{first}{second}"), 3)))
    });
    place.write("corpora/pairs.tsv", &format!("{}unheard\tword\t9\n", pairs.take(9).collect::<String>()));
    let of_meaning = "analyses: [cca-semantic, word-similarity, cka-steps]";
    let analyses =
        LAYERS.lines().map(|line| if line.contains("analyses:") { format!("  {of_meaning}") } else { line.into() });
    let files = "    word-vectors: vectors.txt\n    word-pairs: pairs.tsv\n    least-word-pairs: 9\n";
    analyses.map(|line| format!("{line}\n")).collect::<String>() + files
}

#[test]
fn what_words_mean_and_how_points_differ_is_analysed_and_shown() {
    let place = Place::with_corpus();
    place.write("meaning.yaml", &meaning(&place));
    let run = place.json(&["run", "--json", "meaning.yaml"]);
    let layers = &run[0]["results"]["layers"];
    let metrics = |findings: &Value| -> Vec<String> {
        findings["curves"].as_array().unwrap().iter().map(|curve| curve["metric"].as_str().unwrap().into()).collect()
    };
    let all = ["cca-semantic-pca2", "word-similarity", "cka-steps"];
    assert_eq!(metrics(&layers["control"]), all);
    let points = layers["points"].as_array().unwrap();
    let of_points: Vec<Vec<String>> = points.iter().map(|point| metrics(&point["findings"])).collect();
    assert_eq!(of_points, [&all[..], &all, &all[..2]], "the last point is compared with none");
    for findings in points.iter().map(|point| &point["findings"]).chain([&layers["control"]]) {
        let pairs = &findings["labels"]["pairs of words"];
        assert_eq!(
            (pairs["analysed"].as_array().map(Vec::len), &pairs["dropped"]["unheard word"]),
            (Some(9), &0.into())
        );
        let with_vectors = &findings["labels"]["words with vectors"];
        assert_eq!(
            (with_vectors["analysed"].as_array().map(Vec::len), &with_vectors["dropped"]["at"]),
            (Some(7), &8.into())
        );
        let rho = curve(findings, "word-similarity");
        assert!(rho.iter().all(|score| (-1. ..=1.).contains(&number(score, "mean")) && score["samples"] == 9));
    }
    let alike = |findings: &Value| number(&curve(findings, "cka-steps")[2], "mean");
    // Every iteration of this experiment starts from the control's weights, and moves little in six steps.
    for findings in [&layers["control"], &points[0]["findings"], &points[1]["findings"]] {
        let alike = alike(findings);
        assert!(alike > 0.9 && alike < 1., "{alike}");
    }
    let shown = place.reprise(&["show"]).out;
    for words in ["CKA-STEPS", "WORD-SIMILARITY", "CCA-SEMANTIC-PCA2", "pairs of words: 9 labels"] {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
}

#[test]
fn what_says_nothing_of_words_is_refused_before_training() {
    let place = Place::with_corpus();
    let whole = meaning(&place);
    let mut told = Vec::new();
    let mut tell = |place: &Place, text: &str| {
        let said = refused(place, text);
        let lines = said.err.lines().skip_while(|line| !line.contains('×'));
        told.push(place.redacted(&lines.map(|line| format!("{line}\n")).collect::<String>()));
    };
    tell(&place, &whole.replace("least-word-pairs: 9", "least-word-pairs: 30\n    word-vector-components: 1"));
    place.write("corpora/pairs.tsv", "word1\tword2\tscore\n");
    tell(&place, &whole);
    place.write("corpora/vectors.txt", "a 1 2\nthe 1\n");
    tell(&place, &whole);
    place.write("corpora/vectors.txt", "nobody 1 2\n");
    tell(&place, &whole);
    tell(&place, &LAYERS.replace("words: [2], phones: [3]", "words: [5000], phones: [3]"));
    insta::assert_snapshot!("what_says_nothing_of_words", told.join("\n"));
}
