//! Reports: the same bytes for the same store, inert whatever the store holds, with their numbers as data, in templates of one's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::place::{Place, Said, checkout};
use crate::planted_study::{Planting, experiment};

/// Two strategies and a control over two seeds, judged and analysed on the way.
const SMALL: &str = include_str!("fixtures/experiments/planted.yaml");

fn planted(planting: &Planting, text: &str) -> Place {
    let place = Place::empty();
    place.write("planted.yaml", text);
    planting.plant(&experiment(text), &place.path(".reprise"));
    place
}

fn well(said: Said) -> Said {
    assert_eq!(said.code, Some(0), "{said:#?}");
    said
}

/// All files below a folder by their path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(inner) = open.pop() {
        for entry in fs::read_dir(&inner).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_string_lossy().into_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

fn text(place: &Place, name: &str) -> String {
    fs::read_to_string(place.path(name)).expect("a text")
}

#[test]
fn a_report_of_the_same_store_is_the_same_to_the_byte() {
    let place = planted(&Planting::default(), SMALL);
    for out in ["one", "other"] {
        well(place.reprise(&["report", "planted.yaml", "--out", out]));
    }
    let (one, other) = (files(&place.path("one")), files(&place.path("other")));
    assert!(one.keys().eq(other.keys()));
    for (name, bytes) in &one {
        assert!(other[name] == *bytes, "{name} differs");
    }
    // A copy elsewhere, and written over an older report: nothing of the place enters it.
    let moved = planted(&Planting::default(), SMALL);
    for _ in 0..2 {
        well(moved.reprise(&["report", "planted.yaml"]));
    }
    assert!(files(&moved.path("report/planted")) == one);
    let whole =
        String::from_utf8_lossy(&one["report.html"]).into_owned() + &String::from_utf8_lossy(&one["report.json"]);
    assert!(!whole.contains("/of/this/machine") && !whole.contains(&place.path("").display().to_string()));
}

#[test]
fn a_report_is_read_so() {
    let place = planted(&Planting::default(), SMALL);
    well(place.reprise(&["report", "planted.yaml", "--out", "out"]));
    let page = text(&place, "out/report.html");
    let (start, end) = (page.find("<style>").unwrap(), page.find("</style>").unwrap());
    insta::assert_snapshot!("page", format!("{}{}", &page[..start + 7], &page[end..]));
    insta::assert_snapshot!("markdown", text(&place, "out/report.md"));
    let names: Vec<String> = files(&place.path("out")).into_keys().collect();
    insta::assert_snapshot!("files", names.join("\n"));
}

#[test]
fn nothing_in_a_page_runs_or_is_loaded() {
    let place = planted(&Planting::default(), SMALL);
    well(place.reprise(&["report", "planted.yaml", "--out", "out"]));
    let page = text(&place, "out/report.html");
    assert!(page.contains("default-src 'none'; style-src 'sha256-"));
    for active in
        ["<script", "<link", "<img", "<iframe", "<object", "javascript:", " style=", " src=", "@import", "url("]
    {
        assert!(!page.contains(active), "{active}");
    }
    let outside: BTreeSet<&str> = page.split("href=\"").skip(1).filter(|rest| !rest.starts_with('#')).collect();
    assert!(outside.is_empty(), "{outside:?}");
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id stands twice");
}

/// Names of elements, and attributes with those of their values that are not text of data.
fn skeleton(page: &str) -> Vec<String> {
    let body = &page[page.find("</style>").expect("a style")..];
    body.split('<').skip(1).map(|rest| rest.split([' ', '>', '/']).next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn hostile_text_is_shown_and_does_nothing() {
    let benign = planted(&Planting::default(), SMALL);
    well(benign.reprise(&["report", "planted.yaml", "--out", "out"]));
    let hostile = Planting {
        heard: "<script>alert(1)</script> </p><img/src=x/onerror=alert(1)> \u{202e}evil\u{1b}[31m",
        named: ["=HYPERLINK(\"http://evil\")", "\"><svg/onload=alert(1)>"],
        fact: ["<b>fact</b>", "|[link](javascript:alert(1))`"],
        ..Planting::default()
    };
    let question = "'</title><script>alert(1)</script> [x](javascript:alert(1)) \u{2066}'";
    let long = "x".repeat(10_000);
    let text_of = SMALL.replace("question: Does it report?", &format!("question: {question}\nnotes: '<!-- {long}'"));
    assert_ne!(text_of, SMALL);
    let place = planted(&hostile, &text_of);
    well(place.reprise(&["report", "planted.yaml", "--out", "out"]));
    let (page, tame) = (text(&place, "out/report.html"), text(&benign, "out/report.html"));
    // The note adds one paragraph, and nothing else is born.
    let (mut found, wanted) = (skeleton(&page), skeleton(&tame));
    assert_eq!(found.len(), wanted.len() + 2, "a hostile text bore an element");
    let added = found.iter().zip(&wanted).position(|(a, b)| a != b).expect("the note");
    found.drain(added..added + 2);
    assert_eq!(found, wanted);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("\\u{202e}evil\\u{1b}"));
    for (name, bytes) in files(&place.path("out")) {
        let shown = String::from_utf8(bytes).expect("UTF-8");
        let active =
            shown.chars().find(|c| (c.is_control() && !"\n\t".contains(*c)) || "\u{202e}\u{2066}".contains(*c));
        assert_eq!(active, None, "{name}");
        if name.ends_with(".svg") || name.ends_with(".html") {
            assert!(
                !shown.contains("<script") && !shown.contains("<img") && !shown.contains("onload=alert(1)>"),
                "{name}"
            );
        }
        if name.ends_with(".csv") {
            let computed = shown
                .lines()
                .flat_map(|line| line.split(','))
                .find(|cell| cell.trim_start_matches('"').starts_with(['=', '@']));
            assert_eq!(computed, None, "{name}");
        }
    }
    let markdown = text(&place, "out/report.md");
    assert!(!markdown.contains("<script>") && !markdown.replace("\\]", "").contains("](javascript:"), "{markdown}");
}

#[test]
fn numbers_that_are_none_or_huge_break_nothing() {
    for end in [f64::NAN, f64::INFINITY, -1e300] {
        let place = planted(&Planting { pnmi: 1e300, end, ..Planting::default() }, SMALL);
        well(place.reprise(&["report", "planted.yaml", "--out", "out"]));
        let page = text(&place, "out/report.html");
        assert!(page.contains(">1.000e300<") && page.len() < 300_000, "{} bytes", page.len());
        assert!(!page.contains(" NaN") && !page.contains("Linf") && !page.contains("MNaN"));
        assert_eq!(page.contains("logged values that are not finite"), !end.is_finite());
        assert!(text(&place, "out/data/curves.csv").contains(&format!(",{end}\n")));
    }
}

#[test]
fn every_number_of_the_page_is_in_its_data() {
    let place = planted(&Planting::default(), SMALL);
    well(place.reprise(&["report", "planted.yaml", "--out", "out"]));
    let report: Value = serde_json::from_str(&text(&place, "out/report.json")).expect("JSON");
    let mut shown: BTreeSet<String> = BTreeSet::new();
    let mut sources: Vec<(String, String)> = Vec::new();
    cells(&report["sections"], &mut shown, &mut sources);
    let page = text(&place, "out/report.html");
    let unescaped = |cell: &str| cell.replace("&lt;", "<").replace("&amp;", "&");
    let in_page: Vec<String> = page
        .split("<td")
        .skip(1)
        .filter_map(|rest| Some(unescaped(rest.split_once('>')?.1.split_once("</td>")?.0)))
        .filter(|cell| cell.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    assert!(in_page.len() > 100);
    for cell in in_page {
        assert!(shown.contains(&cell), "{cell:?} is not in report.json");
    }
    // And every source is a number of a stage that the report lists, with key and digest, and stands in numbers.csv.
    let numbers = text(&place, "out/data/numbers.csv");
    assert!(sources.len() > 50);
    for (run, number) in sources {
        let of_run = |known: &&Value| known["id"].as_str() == Some(&run);
        let listed = report["runs"].as_array().unwrap().iter().find(of_run).expect("a run");
        let stage = number.rsplit_once('/').expect("an address").0;
        let of_stage = |known: &&Value| known["name"].as_str() == Some(stage);
        let stage = listed["stages"].as_array().unwrap().iter().find(of_stage).expect("a stage");
        let (key, digest) = (stage["key"].as_str().unwrap(), stage["digest"].as_str().unwrap());
        let row = numbers
            .lines()
            .find(|row| row.starts_with(&run) && row.contains(&number) && row.contains(key) && row.contains(digest));
        assert!(row.is_some(), "{run} {number}");
    }
}

fn cells(value: &Value, shown: &mut BTreeSet<String>, sources: &mut Vec<(String, String)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| cells(value, shown, sources)),
        Value::Object(fields) => {
            shown.extend(fields.get("shown").and_then(Value::as_str).map(str::to_owned));
            if let (Some(run), Some(number)) =
                (fields.get("run").and_then(Value::as_str), fields.get("number").and_then(Value::as_str))
            {
                sources.push((run.to_owned(), number.to_owned()));
            }
            fields.values().for_each(|value| cells(value, shown, sources));
        }
        _ => {}
    }
}

#[test]
fn templates_of_a_users_own_take_the_place_of_ours() {
    let place = planted(&Planting::default(), SMALL);
    place.write(
        "mine/report.md",
        "Only {{ report.title }}: {{ report.runs | length }} runs of [{{ report.question }}]\n",
    );
    well(place.reprise(&["report", "planted.yaml", "--out", "out", "--templates", "mine"]));
    assert_eq!(text(&place, "out/report.md"), "Only planted: 6 runs of [Does it report?]");
    assert!(text(&place, "out/report.html").contains("<h1>planted</h1>"));
    place.write("mine/report.md", "# {{ report.title }}\n\n{{ report.colour }}\n");
    let said = place.reprise(&["report", "planted.yaml", "--out", "out", "--templates", "mine"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("report.md, line 3") && said.err.contains("undefined"), "{}", said.err);
    let said = place.reprise(&["report", "planted.yaml", "--templates", "nowhere"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
}

#[test]
fn runs_are_reported_alone_beside_each_other_and_over_time() {
    let place = planted(&Planting::default(), SMALL);
    let title = |arguments: &[&str]| {
        well(place.reprise(&[arguments, &["--out", "out"]].concat()));
        let page = text(&place, "out/report.html");
        let title = page.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next());
        (title.unwrap_or_default().to_owned(), page)
    };
    let (one, page) = title(&["report", "20260101-000001"]);
    assert_eq!(one, "planted  baseline  seed 1: report");
    assert!(page.contains("reprise run experiments/planted.yaml --variant baseline"));
    let (two, page) = title(&["report", "20260101-000001", "20260101-000003"]);
    assert_eq!(two, "planted: 2 runs: report");
    assert!(page.contains("Matched-pair test") && page.contains("Every field in which a variant’s settings differ"));
    let (_, page) = title(&["report", "planted.yaml", "--history"]);
    assert!(page.contains("id=\"history\"") && page.contains("20260101-000006-000006"));
    let said = place.reprise(&["report", "20260101-000001", "--history"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
}

#[test]
fn a_seed_that_was_executed_again_is_no_second_seed() {
    let place = planted(&Planting::default(), SMALL);
    let (id, older) = ("20260101-000001-000001", "20251231-000001-000001");
    let record = text(&place, &format!(".reprise/runs/{id}/run.json")).replace(id, older);
    place.write(&format!(".reprise/runs/{older}/run.json"), &record);
    well(place.reprise(&["report", "planted.yaml", "--out", "out"]));
    let rates = text(&place, "out/data/recognition.csv");
    assert!(!text(&place, "out/data/numbers.csv").contains(older));
    well(place.reprise(&["report", "planted.yaml", "--history", "--out", "out"]));
    assert_eq!(text(&place, "out/data/recognition.csv"), rates);
    assert!(text(&place, "out/data/history.csv").contains(older));
    assert!(text(&place, "out/data/numbers.csv").contains(older));
}

#[test]
fn models_without_a_common_seed_are_tested_as_independent_ones() {
    let place = planted(&Planting::default(), &SMALL.replace("seeds: [1, 2]", "seeds: [1, 2, 3, 4]"));
    // Four runs a variant, in the order of the experiment: two of the first and two others of the second stay.
    for number in [3, 4, 5, 6] {
        fs::remove_dir_all(place.path(&format!(".reprise/runs/20260101-{number:06}-{number:06x}"))).expect("a run");
    }
    well(place.reprise(&["report", "planted.yaml", "--out", "out"]));
    let rates = text(&place, "out/data/recognition.csv");
    let row = rates.lines().find(|line| line.starts_with("longer,")).expect("a row");
    // Rates of 0.5025 and 0.505 against 0.5275 and 0.53: t is 14.14 with two degrees of freedom.
    let cells: Vec<&str> = row.split(',').collect();
    let [difference, p] = [cells[7], cells[9]].map(|cell| cell.parse::<f64>().expect("a number"));
    assert!((difference - 0.025).abs() < 1e-9 && (p - 0.004_963).abs() < 1e-5, "{row}");
}

#[test]
fn what_is_in_the_way_of_a_report_is_left_alone() {
    let place = planted(&Planting::default(), SMALL);
    place.write("mine/thesis.tex", "years of work");
    let said = place.reprise(&["report", "planted.yaml", "--out", "mine"]);
    assert_eq!((said.code, text(&place, "mine/thesis.tex").as_str()), (Some(2), "years of work"), "{said:#?}");
}

#[test]
fn an_experiment_without_runs_is_reported_as_not_executed() {
    let place = Place::empty();
    let paper = checkout().join("experiments/librispeech/hubert-base.yaml");
    well(place.reprise(&["report", paper.to_str().unwrap(), "--out", "out"]));
    let page = text(&place, "out/report.html");
    assert!(
        page.contains("verdict not-executed") && page.contains("Plan: not executed") && page.contains("Estimated cost")
    );
    assert!(!page.contains("id=\"recognition\""));
}

/// Ten variants over ten seeds with twenty curves each. The time is told, not judged: other tests run beside.
#[test]
fn a_hundred_runs_of_twenty_curves_make_a_page_of_less_than_three_megabytes() {
    let steps: Vec<String> =
        (1..=10).map(|steps| format!("      s{steps}: {{ finetuning: {{ steps: {} }} }}\n", 1000 + steps)).collect();
    let text = format!(
        "{}matrix:\n  axes:\n    steps:\n{}seeds: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n",
        SMALL
            .split("matrix:")
            .next()
            .unwrap()
            .replace("steps: 20 }", "steps: 2000 }")
            .replace("every: 20", "every: 4000"),
        steps.concat()
    );
    let place = planted(&Planting { curves: 9, ..Planting::default() }, &text);
    let started = Instant::now();
    well(place.reprise(&["report", "planted.yaml", "--out", "out"]));
    let took = started.elapsed();
    let size = fs::metadata(place.path("out/report.html")).expect("a page").len();
    eprintln!("100 runs: {:.2} s, {:.2} MB", took.as_secs_f64(), size as f64 / 1e6);
    assert!(size < 3_000_000, "{size} bytes");
}
