//! In what two runs differ, on runs that nobody executed.

use std::collections::BTreeMap;
use std::fs;

use reprise::diff::{self, Diff, Side};
use reprise::inert::is_active;
use reprise::provenance::{Changes, GitState, Host, Provenance};
use reprise::store::{RunRecord, Store};
use reprise_spec::experiment::Experiment;
use reprise_spec::recognition::Recognised;
use reprise_spec::stage::Stage;
use serde_json::{Value, json};

use crate::place::{Place, Said, TINY};
use crate::planted::{self, Output, Wanted, score};

const A: &str = "20260101-000000-aaaaaa";
const B: &str = "20260101-000000-bbbbbb";

fn store(place: &Place) -> Store {
    Store::at(place.path(".reprise"))
}

fn provenance(commit: &str) -> Provenance {
    Provenance {
        build: "one".into(),
        experiment: Some(GitState { commit: Some(commit.into()), branch: Some("main".into()), dirty: true }),
        changes: Some(Changes { files: 1, bytes: 100, ..Changes::default() }),
        command: vec!["reprise".into(), "run".into()],
        variables: BTreeMap::new(),
        host: Some(Host {
            system: "Debian".into(),
            kernel: "Linux".into(),
            cpu: "a processor".into(),
            cpu_features: vec!["avx2".into()],
            cores: 2,
            memory: None,
        }),
    }
}

fn patch(line: &str) -> String {
    format!(
        "diff --git a/src/mask.rs b/src/mask.rs\n--- a/src/mask.rs\n+++ b/src/mask.rs\n@@ -1,2 +1,2 @@\n same\n-before\n+{line}\n"
    )
}

fn rows(hypotheses: &[(&str, &str)]) -> String {
    let reference = "THE CAT SAT ON THE MAT";
    let row = |(index, (hypothesis, alignment)): (usize, &(&str, &str))| Recognised {
        id: format!("301-1-{index:04}"),
        speaker: "301".into(),
        reference: reference.into(),
        hypothesis: (*hypothesis).into(),
        alignment: alignment.parse().expect("an alignment"),
    };
    Recognised::table(&hypotheses.iter().enumerate().map(row).collect::<Vec<_>>())
}

/// A loss curve that `apart` is added to from `step` on.
fn curve(step: u64, apart: f64) -> Vec<(String, u64, f64)> {
    (1..=20).map(|at| ("loss".to_owned(), at, 4.0 / at as f64 + if at >= step { apart } else { 0.0 })).collect()
}

/// Two runs: B has another mask length, one other file in `dev`, another commit, patch, processor and library, a loss that parts at step 7 of
/// iteration 1, and recognised two of three utterances otherwise.
fn two_runs(place: &Place) -> [RunRecord; 2] {
    let longer = json!({ "pretraining": { "masking": { "prob": 0.65, "length": 12 } } });
    [(A, json!({})), (B, longer)].map(|(run, changed)| {
        let b = run == B;
        let list = |byte: &str| format!("{}  9  dev/1.flac\n{}  9  dev/2.flac\n", "00".repeat(32), byte.repeat(32));
        let output = |name: &str, stage: &Stage| match stage {
            Stage::Corpus(_) if name == "corpus dev" => Output {
                digest: 1 + u8::from(b),
                summary: vec![score("utterances", 2.0)],
                read: Some(list(if b { "02" } else { "01" })),
                ..Output::default()
            },
            Stage::Pretrain(_) => Output {
                digest: 10 + u8::from(b),
                log: curve(7, if b { 0.25 } else { 0.0 }),
                summary: vec![score("validation-loss", if b { 2.5 } else { 2.0 }), score("masked-accuracy", 0.5)],
                environment: vec![("libtorch-version", if b { "2.12" } else { "2.11" })],
                ..Output::default()
            },
            Stage::Decode(_) => Output {
                digest: 20 + u8::from(b),
                summary: vec![score("wer", if b { 2.0 / 18.0 } else { 3.0 / 18.0 }), score("utterances", 3.0)],
                files: vec![(
                    "hypotheses.tsv",
                    match b {
                        false => rows(&[
                            ("THE CAT SAD ON A MAT", "CCSCSC"),
                            ("THE CAT SAT ON THE MAT", "CCCCCC"),
                            ("CAT SAT ON THE MAT", "DCCCCC"),
                        ]),
                        true => rows(&[
                            ("THE CAT SAT ON THE MAT", "CCCCCC"),
                            ("THE CAT SAT ON THE MAT", "CCCCCC"),
                            ("A CAT SAT ON THE BIG MAT", "SCCCCIC"),
                        ]),
                    },
                )],
                ..Output::default()
            },
            _ => Output { digest: 1, ..Output::default() },
        };
        let mut provenance = provenance(if b { "2222" } else { "1111" });
        if b {
            provenance.host.as_mut().expect("a host").cpu = "another processor".into();
        }
        let experiment = planted::experiment(changed);
        let record = planted::plant(
            &store(place),
            &Wanted {
                id: &run[16..],
                experiment: &experiment,
                seed: 1,
                content: &|split| u8::from(b && split == "dev"),
                output: &output,
                settings: BTreeMap::new(),
                provenance,
            },
        );
        fs::write(store(place).changes(&record.id), patch(if b { "after" } else { "later" })).expect("a patch");
        record
    })
}

fn compare(place: &Place, a: &str, b: &str) -> Diff {
    let store = store(place);
    let side = |name| Side::named(name, &store).expect("a side");
    diff::compare(&side(a), &side(b), &store).expect("a comparison")
}

macro_rules! assert_redacted {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ filters => vec![
            (r"\b[0-9a-f]{64}\b", "[64 hex digits]"), (r"\b[0-9a-f]{12}\b", "[12 hex digits]"),
        ] }, {
            insta::assert_snapshot!($name, $text);
        })
    };
}

#[test]
fn everything_that_differs_is_told_from_cause_to_effect() {
    let place = Place::empty();
    two_runs(&place);
    let said = place.reprise(&["diff", A, B]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert_redacted!("on_a_terminal", said.out);
    assert_redacted!("in_markdown", place.reprise(&["diff", A, B, "--markdown"]).out);
    assert_redacted!("in_json", place.reprise(&["diff", A, B, "--json"]).out);
    let coloured = place.reprise(&["diff", A, B, "--color", "always"]).out;
    assert!(coloured.contains("THE CAT \u{1b}[31mSAD\u{1b}[0m ON"), "{coloured}");
    let few = place.reprise(&["diff", A, B, "--rows", "1"]).out;
    assert!(few.contains("rows left out") && few.contains("1 utterance left out"), "{few}");
}

#[test]
fn a_run_is_the_same_as_itself() {
    let place = Place::empty();
    two_runs(&place);
    let said = place.reprise(&["diff", A, A]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.out.contains("same: settings and data are equal"), "{}", said.out);
    assert_eq!(said.out.lines().count(), 4, "{}", said.out);
    let diff = serde_json::to_value(compare(&place, A, A)).expect("JSON");
    for part in ["settings", "data", "environment", "curves", "hypotheses"] {
        assert_eq!(diff[part], json!([]), "{part}");
    }
}

#[test]
fn changed_sides_change_signs_and_nothing_else() {
    let place = Place::empty();
    two_runs(&place);
    let json = |a, b| serde_json::to_value(compare(&place, a, b)).expect("JSON");
    assert_eq!(mirrored(json(A, B)), json(B, A));
}

/// A comparison as it would be with its sides changed. Lines of patches have their own order.
fn mirrored(value: Value) -> Value {
    let negated = |value: Value| value.as_f64().map_or(value, |number| json!(0.0 - number));
    match value {
        Value::Object(fields) => {
            let field = |(name, value): (String, Value)| match name.as_str() {
                "a" => ("b".to_owned(), mirrored(value)),
                "b" => ("a".to_owned(), mirrored(value)),
                "difference" | "w" => (name, negated(value)),
                "lines" => {
                    let mut lines: Vec<Value> = value.as_array().cloned().unwrap_or_default();
                    lines.iter_mut().for_each(|line| *line = mirrored(line.take()));
                    let place = lines.iter().position(|line| line["of"] != Value::Null);
                    place.into_iter().for_each(|place| lines[place..].sort_by_key(|line| line["of"].to_string()));
                    (name, Value::Array(lines))
                }
                _ => (name, mirrored(value)),
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(mirrored).collect()),
        Value::String(text) => match text.as_str() {
            "a" => "b".into(),
            "b" => "a".into(),
            "only-a" => "only-b".into(),
            "only-b" => "only-a".into(),
            _ => Value::String(text),
        },
        other => other,
    }
}

#[test]
fn the_same_stage_with_another_output_says_what_it_was_made_with() {
    let place = Place::empty();
    let experiment = planted::experiment(json!({}));
    for (run, wer, library) in [("aaaaaa", 0.25, "2.11"), ("bbbbbb", 0.253, "2.12"), ("cccccc", 0.254, "2.12")] {
        let digest = run.as_bytes()[0];
        let output = |_: &str, stage: &Stage| match stage {
            Stage::Decode(_) => Output {
                digest,
                summary: vec![score("wer", wer)],
                environment: vec![("libtorch-version", library)],
                ..Output::default()
            },
            _ => Output { digest: 1, ..Output::default() },
        };
        plant_seed(&place, run, &experiment, 1, &output);
    }
    let said = place.reprise(&["diff", A, B]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_redacted!("within_tolerance", said.out);
    let said = place.reprise(&["diff", B, "20260101-000000-cc"]);
    assert!(said.out.contains("it does not repeat to the bit"), "{}", said.out);
}

fn plant_seed(
    place: &Place,
    id: &str,
    experiment: &Experiment,
    seed: u64,
    output: &dyn Fn(&str, &Stage) -> Output,
) -> RunRecord {
    let (content, settings) = (&|_: &str| 0, BTreeMap::new());
    let provenance = Provenance::default();
    planted::plant(&store(place), &Wanted { id, experiment, seed, content, output, settings, provenance })
}

#[test]
fn settings_are_compared_seed_by_seed() {
    let place = Place::empty();
    let lengths = [10, 12].map(|length| {
        planted::experiment(json!({
            "seeds": [1, 2, 3, 4], "pretraining": { "masking": { "prob": 0.65, "length": length } },
        }))
    });
    let wers = [[0.30, 0.32, 0.34, 0.33], [0.20, 0.21, 0.25, 0.22]];
    for (group, experiment) in lengths.iter().enumerate() {
        for seed in 1..=(4 - group as u64) {
            let output = |_: &str, stage: &Stage| match stage {
                Stage::Decode(_) => Output {
                    digest: 10 * (1 + group as u8) + seed as u8,
                    summary: vec![score("wer", wers[group][seed as usize - 1]), score("utterances", 3.0)],
                    ..Output::default()
                },
                _ => Output { digest: 1, ..Output::default() },
            };
            plant_seed(&place, &format!("{group:02}000{seed}"), experiment, seed, &output);
        }
    }
    let [a, b] = lengths.map(|experiment| experiment.variants[0].setting.hash().to_string());
    let said = place.reprise(&["diff", &a, &b]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    insta::with_settings!({ filters => vec![(r"\b[0-9a-f]{64}\b", "[64]"), (r"\b[0-9a-f]{12}\b", "[12 hex digits]")] }, {
        insta::assert_snapshot!("seed_by_seed", said.out);
    });
    let said = place.reprise(&["diff", "20260101-000000-000004", &b]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("runs of other seeds"), "{}", said.err);
}

const MATRIX: &str = "
matrix: { axes: { mask: { short: { pretraining: { masking: { length: 5 } } }, long: { pretraining: { masking: { length: 6 } } } } } }
";

#[test]
fn files_and_their_variants_are_sides() {
    let place = Place::empty();
    place.write("tiny.yaml", TINY);
    place.write("two.yaml", &(TINY.to_owned() + MATRIX));
    let said = place.reprise(&["diff", "two.yaml@short", "two.yaml@long"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert_redacted!("two_variants", said.out);
    let said = place.reprise(&["diff", "two.yaml", "tiny.yaml"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.out.contains("of its runs compare one variant, as two.yaml@short"), "{}", said.out);
    let said = place.reprise(&["diff", "tiny.yaml", "tiny.yaml"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.out.contains("nothing else was compared, because no run was"), "{}", said.out);
    let said = place.reprise(&["diff", "tiny.yaml@nothing", "tiny.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    let [run, _] = two_runs(&place);
    let said = place.reprise(&["diff", &run.stages[0].key.to_string(), A]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("which has no runs to compare"), "{}", said.err);
}

/// What would move a cursor, turn a line around, end a cell, compute, or be markup; and a lot of it.
const HOSTILE: &str =
    "\u{1b}[2J\u{1b}]0;x\u{7}\u{202e}evil\u{2066}|<script>alert(1)</script>\r\u{9b}1A\u{200b}`*[x](http://y)";

#[test]
fn hostile_text_is_shown_inert_everywhere() {
    let place = Place::empty();
    let long = "x".repeat(10_000);
    let hostile = || HOSTILE.replace(' ', "");
    let runs = two_runs(&place);
    for (record, own) in runs.iter().zip(["ours", "theirs"]) {
        let folder = store(&place).run_folder(&record.id);
        let mut value = serde_json::to_value(record).expect("JSON");
        let text = format!("{HOSTILE}\n{own}{long}");
        value["experiment"] = text.clone().into();
        value["variant-name"] = text.clone().into();
        value["provenance"]["experiment"]["branch"] = text.clone().into();
        value["provenance"]["host"]["cpu"] = text.clone().into();
        value["provenance"]["variables"] = json!({ text.clone(): text.clone() });
        value["provenance"]["command"] = json!([text.clone()]);
        value["error"] = json!({ "stage": text.clone(), "message": text.clone(), "help": text.clone() });
        fs::write(folder.join("run.json"), serde_json::to_vec(&value).expect("JSON")).expect("a record");
        fs::write(folder.join("changes.patch"), patch(&format!("{HOSTILE}{own}"))).expect("a patch");
        for stage in &record.stages {
            let output =
                stage.state.digest().and_then(|digest| store(&place).output(&stage.key, &digest)).expect("an output");
            let path = output.path.join("manifest.json");
            let mut manifest = serde_json::to_value(&output.manifest).expect("JSON");
            manifest["environment"] = json!({ hostile(): format!("{HOSTILE}{own}") });
            manifest["build"] = text.clone().into();
            if matches!(output.manifest.settings, Stage::Decode(_)) {
                let word = format!("{}{own}", hostile().replace('\r', ""));
                let rows = rows(&[(&word, "SDDDDD"), (own, "SDDDDD"), (&long, "SDDDDD")]);
                let rows = rows.replace("301-1-", &hostile().replace('\r', ""));
                manifest["files"][0]["size"] = rows.len().into();
                fs::write(output.out().join("hypotheses.tsv"), rows).expect("hypotheses");
            }
            fs::write(path, serde_json::to_vec(&manifest).expect("JSON")).expect("a manifest");
        }
    }
    let verbs: [&[&str]; 9] = [
        &["list"],
        &["list", "--json"],
        &["show", A],
        &["show", A, "--json"],
        &["show", A, "--against", B],
        &["explain", A, B],
        &["diff", A, B],
        &["diff", A, B, "--markdown"],
        &["diff", A, B, "--json"],
    ];
    for verb in verbs {
        let Said { out, err, .. } = place.reprise(verb);
        assert!(
            out.contains("evil") || verb.contains(&"explain") || verb.contains(&"--against"),
            "{verb:?}: {out} {err}"
        );
        let active: Vec<char> = (out + &err).chars().filter(|c| is_active(*c) && *c != '\n').collect();
        assert!(active.is_empty(), "{verb:?} prints {active:?}");
    }
    place.write("bad.yaml", &TINY.replace("question:", "qu\u{202e}estion\u{200b}:"));
    let said = place.reprise(&["validate", "bad.yaml"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("\\u{202e}") && !said.err.contains(|c| is_active(c) && c != '\n'), "{}", said.err);
    let coloured = place.reprise(&["validate", "bad.yaml", "--color", "always"]).err;
    assert!(coloured.contains("\u{1b}[") && !coloured.contains("\\u{1b}"), "{coloured}");
    let terminal = place.reprise(&["diff", A, B, "--color", "always"]).out;
    for sequence in terminal.split('\u{1b}').skip(1) {
        assert!(["[0m", "[1m", "[31m", "[32m"].iter().any(|colour| sequence.starts_with(colour)), "{sequence:?}");
    }
    let markdown = place.reprise(&["diff", A, B, "--markdown"]).out;
    let outside_of_code = markdown.lines().filter(|line| !line.starts_with("    ")).collect::<Vec<_>>().join("\n");
    assert!(!outside_of_code.contains("<script>") && !outside_of_code.contains("[x]("), "{outside_of_code}");
    let longest = markdown.lines().filter(|line| !line.starts_with('|')).map(str::len).max();
    assert!(longest < Some(9_000), "{longest:?}");
}

#[test]
fn values_that_are_no_numbers_are_told() {
    let place = Place::empty();
    let experiment = planted::experiment(json!({}));
    for (id, last) in [("aaaaaa", f64::NAN), ("bbbbbb", f64::INFINITY)] {
        let output = |_: &str, stage: &Stage| match stage {
            Stage::Pretrain(_) => Output {
                digest: id.as_bytes()[0],
                log: vec![("loss".into(), 1, 2.0), ("loss".into(), 2, last)],
                ..Output::default()
            },
            _ => Output { digest: 1, ..Output::default() },
        };
        plant_seed(&place, id, &experiment, 1, &output);
    }
    let said = place.reprise(&["diff", A, B]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.out.contains("first at step 2 of pretrain iteration 1, loss: NaN and inf"), "{}", said.out);
    let json: Value = serde_json::from_str(&place.reprise(&["diff", A, B, "--json"]).out).expect("JSON");
    assert_eq!(json["curves"][0]["last"], json!({ "a": "NaN", "b": "inf" }));
}
