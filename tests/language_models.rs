//! `reprise lm`: models from text, in another form, and what they say of text.

use std::fs;

use crate::place::Place;

const TEXT: &str =
    "the cat sat on the mat\nthe dog sat\na cat and a dog\n\nthe cat and the dog sat on a mat\nso it is\n";

fn place() -> Place {
    let place = Place::empty();
    place.write("text.txt", TEXT);
    place
}

fn fine(place: &Place, arguments: &[&str]) -> String {
    let said = place.reprise(arguments);
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.out
}

const ESTIMATE: [&str; 7] = ["lm", "estimate", "--text", "text.txt", "--order", "3", "--discount-fallback"];

#[test]
fn a_model_is_estimated_converted_and_asked() {
    let place = place();
    for out in ["lm.arpa", "lm.arpa.gz"] {
        let said = fine(&place, &[&ESTIMATE[..], &["-o", out]].concat());
        assert_eq!(said, format!("{out}: order 3, words 11, n-grams 61\n"));
    }
    assert!(fs::read_to_string(place.path("lm.arpa")).unwrap().starts_with("\\data\\\nngram 1=14\n"));
    assert!(fs::read(place.path("lm.arpa.gz")).unwrap().starts_with(&[0x1f, 0x8b]));
    for (arpa, table) in [("lm.arpa", "one.table"), ("lm.arpa.gz", "two.table")] {
        fine(&place, &["lm", "convert", arpa, "-o", table]);
    }
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert_eq!(bytes("one.table"), bytes("two.table"));
    place.write("heard.txt", "the cat sat\n\nthe zebra is a dog\n");
    let ask = |model: &str| fine(&place, &["lm", "perplexity", model, "--text", "heard.txt"]);
    insta::assert_snapshot!(ask("lm.arpa"));
    assert_eq!(ask("lm.arpa"), ask("one.table"));
    let json = place.json(&["lm", "perplexity", "one.table", "--text", "heard.txt", "--json"]);
    let sum: f64 = json["sentences"].as_array().unwrap().iter().map(|row| row["log10"].as_f64().unwrap()).sum();
    assert_eq!(json["summary"][1]["value"].as_f64(), Some(sum));
    assert_eq!((&json["sentences"][1]["line"], &json["sentences"][1]["unknown"]), (&3.into(), &1.into()));
}

#[test]
fn what_gives_no_model_is_refused_and_leaves_nothing() {
    let place = place();
    fine(&place, &[&ESTIMATE[..], &["-o", "lm.arpa"]].concat());
    let arpa = fs::read_to_string(place.path("lm.arpa")).unwrap();
    place.write("short.txt", "a b\n");
    place.write("reserved.txt", "a b\nthe </s> end\n");
    fs::write(place.path("latin.txt"), b"one\ncaf\xe9\n").unwrap();
    place.write("counts.arpa", &arpa.replace("ngram 2=", "ngram 2=1"));
    let contexts = |line: &str| line.ends_with("\tcat") || line.contains("\tcat\t");
    let without: Vec<&str> =
        arpa.lines().map(|line| if contexts(line) { line.rsplit_once('\t').unwrap().0 } else { line }).collect();
    place.write("back-offs.arpa", &without.join("\n"));
    fine(&place, &[&ESTIMATE[..], &["-o", "whole.arpa.gz"]].concat());
    let gzip = fs::read(place.path("whole.arpa.gz")).unwrap();
    fs::write(place.path("torn.arpa.gz"), &gzip[..gzip.len() - 20]).unwrap();
    place.write("no-unknown.arpa", &arpa.replace("<unk>", "unk"));
    let before: Vec<_> = names(&place);
    let estimate = |text: &'static str| vec!["lm", "estimate", "--text", text, "--order", "2", "-o", "new.arpa"];
    let convert = |arpa: &'static str| vec!["lm", "convert", arpa, "-o", "new.table"];
    for (arguments, reason) in [
        (estimate("short.txt"), "no 1-gram has a count of 2"),
        (estimate("reserved.txt"), "line 2 of the text has the word </s>"),
        (estimate("latin.txt"), "line 2 of [HERE]/latin.txt is not UTF-8"),
        (estimate("absent.txt"), "cannot read [HERE]/absent.txt"),
        (convert("counts.arpa"), "fewer 2-grams than their count"),
        (convert("back-offs.arpa"), "its context `cat` has no back-off weight"),
        (convert("torn.arpa.gz"), "torn.arpa.gz is no language model that can be used"),
        (convert("no-unknown.arpa"), "the 1-grams that end here lack <unk>"),
        (vec!["lm", "convert", "lm.arpa", "-o", "whole.arpa.gz"], "whole.arpa.gz is there already"),
        (vec!["lm", "perplexity", "lm.arpa", "--text", "latin.txt"], "is not UTF-8"),
        (vec!["lm", "estimate", "--text", "text.txt", "--order", "7", "-o", "new.arpa"], "out of range"),
    ] {
        let said = place.reprise(&arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:#?}");
        let told = place.redacted(&said.err);
        let told: String = told.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(told.contains(reason), "{arguments:?}: {told}");
        assert_eq!(names(&place), before, "{arguments:?}");
    }
    fine(&place, &["lm", "convert", "no-unknown.arpa", "-o", "new.table", "--missing-unknown", "-100"]);
}

/// The names of all that lies in a place.
fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("")).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
