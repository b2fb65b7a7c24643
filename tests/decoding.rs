//! Ways to decode one fine-tuned model: greedy, with a beam, and with words of a language model, tuned or from files.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::place::Place;

const WAYS: &str = "\
extends: shortest.yaml
name: ways
matrix:
  axes:
    decoding:
      greedy: {}
      beam: { decoding: { search: { beam: { prefixes: 20, n-best: 3 } } } }
      tuned:
        decoding:
          search: { beam: { prefixes: 20 } }
          lexicon: language-model
          language-model: { estimate: { on: [train], order: 2, discount-fallback: [0.5, 1, 1.5] } }
          tune: { on: [dev], lm: [0, 1], word: [-1, 4] }
      files:
        decoding:
          search: { beam: { prefixes: 20 } }
          lexicon: { file: words.txt }
          language-model: { file: { name: small.arpa.gz } }
          weights: { word: 4 }
";

/// A place with the experiment, a language model of its train transcripts and a lexicon of a few words.
fn place() -> Place {
    let place = Place::with_corpus();
    place.write("ways.yaml", WAYS);
    let chapters = ["101/1/101-1", "104/1/104-1"].map(|chapter| format!("corpora/small/train/{chapter}.trans.txt"));
    let transcripts = chapters.map(|name| fs::read_to_string(place.path(&name)).unwrap()).concat();
    let sentences: Vec<&str> = transcripts.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    place.write("train.txt", &sentences.join("\n"));
    let words: BTreeSet<&str> = sentences.iter().flat_map(|sentence| sentence.split(' ')).take(9).collect();
    place.write("corpora/words.txt", &words.into_iter().collect::<Vec<_>>().join("\n"));
    let estimate = ["lm", "estimate", "--text", "train.txt", "--order", "2", "--discount-fallback"];
    let said = place.reprise(&[&estimate[..], &["--out", "corpora/small.arpa.gz"]].concat());
    assert_eq!(said.code, Some(0), "{said:#?}");
    place
}

/// The folder of what a stage of a run made.
fn output(place: &Place, run: &Value, name: &str) -> PathBuf {
    let stages = run["record"]["stages"].as_array().unwrap();
    let stage = stages.iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("no {name} in {stages:?}"));
    let state = &stage["state"];
    let digest = state["executed"].get("digest").unwrap_or(&state["reused"]["digest"]).as_str().unwrap();
    let digest = digest.strip_prefix("output:").unwrap();
    let folder = place.path(".reprise/stages").join(stage["key"].as_str().unwrap().trim_start_matches("stage:"));
    folder.join(&digest[..12]).join("out")
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().skip(1).map(|line| line.split('\t').collect()).collect()
}

#[test]
fn one_fine_tuned_model_is_decoded_in_every_way() {
    let place = place();
    let runs = place.json(&["run", "--json", "ways.yaml"]);
    let [greedy, beam, tuned, files] = runs.as_array().unwrap().as_slice() else { panic!("{runs}") };
    let read = |run: &Value, name: &str, file: &str| {
        fs::read_to_string(output(&place, run, name).join(file))
            .unwrap_or_else(|error| panic!("{name} {file}: {error}"))
    };

    let finetuned = |run: &Value| output(&place, run, "finetune");
    assert!([beam, tuned, files].iter().all(|run| finetuned(run) == finetuned(greedy)), "fine-tuning is shared");
    assert!(!output(&place, greedy, "decode test").join("nbest.tsv").exists());

    let nbest = read(beam, "decode test", "nbest.tsv");
    let ranks: BTreeSet<&str> = rows(&nbest).into_iter().map(|row| row[1]).collect();
    assert_eq!(ranks, BTreeSet::from(["1", "2", "3"]));
    let best: Vec<_> = rows(&nbest)
        .into_iter()
        .filter(|row| row[1] == "1")
        .map(|row| (row[0].to_owned(), row[3].to_owned()))
        .collect();
    let hypotheses = read(beam, "decode test", "hypotheses.tsv");
    let taken: Vec<_> = rows(&hypotheses).into_iter().map(|row| (row[0].to_owned(), row[3].to_owned())).collect();
    assert_eq!(best, taken);

    // Every word is one of the lexicon, has its time, and stands in the hypothesis.
    let lengths = |split: &str| -> Vec<(String, u64)> {
        let table = read(files, &format!("corpus {split}"), "utterances.tsv");
        rows(&table).into_iter().map(|row| (row[0].to_owned(), row[2].parse().unwrap())).collect()
    };
    let samples = lengths("test");
    for (run, lexicon) in [
        (tuned, read(tuned, "language model (2-gram of train)", "words.txt")),
        (files, read(files, "lexicon words.txt", "words.txt")),
    ] {
        let known: BTreeSet<&str> = lexicon.lines().collect();
        let (words, hypotheses) = (read(run, "decode test", "words.tsv"), read(run, "decode test", "hypotheses.tsv"));
        let mut found = 0;
        for row in rows(&hypotheses) {
            let timed: Vec<Vec<&str>> = rows(&words).into_iter().filter(|word| word[0] == row[0]).collect();
            let spoken: Vec<&str> = row[3].split(' ').filter(|word| !word.is_empty()).collect();
            assert_eq!(timed.iter().map(|word| word[1]).collect::<Vec<_>>(), spoken);
            assert!(spoken.iter().all(|word| known.contains(word)), "{spoken:?}");
            let times: Vec<u64> =
                timed.iter().flat_map(|word| [word[2].parse().unwrap(), word[3].parse().unwrap()]).collect();
            let (_, length) = samples.iter().find(|(id, _)| id == row[0]).unwrap();
            assert!(times.is_sorted() && times.last().is_none_or(|last| last <= length), "{times:?} of {length}");
            found += spoken.len();
        }
        assert!(found > 0, "a word score of 4 nats is worth saying words");
    }

    let grid = read(tuned, "tune on dev", "grid.tsv");
    let settings: Vec<(f64, f64, u64)> = rows(&grid)
        .iter()
        .map(|row| {
            (row[0].parse().unwrap(), row[1].parse().unwrap(), row[5..].iter().map(|n| n.parse::<u64>().unwrap()).sum())
        })
        .collect();
    assert_eq!(
        settings.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(),
        [(0.0, -1.0), (0.0, 4.0), (1.0, -1.0), (1.0, 4.0)]
    );
    let weights: Value = serde_json::from_str(&read(tuned, "tune on dev", "weights.json")).unwrap();
    let best = settings.iter().min_by_key(|row| row.2).unwrap();
    assert_eq!((weights["lm"].as_f64(), weights["word"].as_f64()), (Some(best.0), Some(best.1)));
    let told = &tuned["results"]["judgements"][0]["tuning"];
    assert_eq!(told[0]["name"], "lm-weight");
    assert_eq!(told[0]["value"], weights["lm"]);
    assert_eq!(files["results"]["judgements"][0]["tuning"].as_array().map(Vec::len), Some(0));
    let shown = place.reprise(&["show", tuned["record"]["id"].as_str().unwrap()]);
    assert!(shown.out.contains("TUNED LM WEIGHT"), "{}", shown.out);

    assert_eq!(place.to_execute("ways.yaml"), Vec::<String>::new());
    place.write("wider.yaml", &WAYS.replace("word: [-1, 4]", "word: [-1, 4, 5]"));
    assert_eq!(place.to_execute("wider.yaml"), ["tune on dev", "decode test"]);
    fs::rename(place.path("corpora/small.arpa.gz"), place.path("corpora/renamed.gz")).unwrap();
    place.write("renamed.yaml", &WAYS.replace("small.arpa.gz", "renamed.gz"));
    assert_eq!(place.to_execute("renamed.yaml"), Vec::<String>::new(), "a file is its content");
}

#[test]
fn files_that_cannot_be_decoded_with_are_refused() {
    let place = place();
    let files = ["run", "ways.yaml", "--variant", "files"];
    let refused = |reason: &str| {
        let said = place.reprise(&files);
        assert_eq!(said.code, Some(2), "{said:#?}");
        let told: String = said.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(told.contains(reason), "{reason}: {told}");
    };
    place.write("corpora/words.txt", "THE\nÅNGSTRÖM\n");
    refused("line 2 of the lexicon: ÅNGSTRÖM is spelt with 'Å', which the model doesn't have");
    fs::write(place.path("corpora/words.txt"), b"caf\xe9\n").unwrap();
    refused("is not UTF-8");
    let gzip = fs::read(place.path("corpora/small.arpa.gz")).unwrap();
    fs::write(place.path("corpora/small.arpa.gz"), &gzip[..gzip.len() / 2]).unwrap();
    refused("small.arpa.gz is no language model that can be used");
    fs::remove_file(place.path("corpora/small.arpa.gz")).unwrap();
    refused("file small.arpa.gz not found: looked in");
}
