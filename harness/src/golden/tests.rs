use proptest::prelude::*;
use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::identity::OutputDigest;

use super::observed::{ObservedGroup, ObservedRun, ObservedStage};
use super::proposal::Wanted;
use super::*;
use crate::cmd::check::shown;
use crate::measures::{Measure, Measures};

const MADE_WITH: &str = "a processor, avx2, libtorch 2.11.0, threads 2";

fn wer() -> Address {
    Address::new("decode test", "wer")
}

fn name(text: &str) -> Name {
    Name::try_from(text.to_owned()).unwrap()
}

fn run_id(seed: u64) -> RunId {
    RunId::try_from(format!("20260101-000000-{seed:06x}")).unwrap()
}

fn positive(value: f64) -> Positive {
    Positive::try_from(value).unwrap()
}

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

fn stage(seed: u64) -> StageKey {
    StageKey([seed as u8; 32])
}

fn golden_of(entries: impl IntoIterator<Item = (Address, Entry)>) -> Golden {
    let variants = BTreeMap::from([(ALONE.to_owned(), entries.into_iter().collect())]);
    Golden { variants, ..Golden::new(name("toy"), SpecHash([1; 32])) }
}

fn entry(tolerance: Tolerance, values: &[f64]) -> Entry {
    let value = |(seed, value): (u64, &f64)| Value {
        seed,
        value: *value,
        stage: stage(seed),
        run: run_id(seed),
        made_with: MADE_WITH.into(),
    };
    Entry {
        direction: Direction::Lower,
        tolerance,
        values: (1..).zip(values).map(value).collect(),
        accepted: date("2026-01-02"),
        note: String::new(),
        bypass: None,
    }
}

fn absolute(margin: f64) -> Tolerance {
    Tolerance::Absolute(positive(margin))
}

fn equivalence(seeds: u64, margin: f64) -> Tolerance {
    let test = Test::Equivalence(Within { margin: positive(margin) });
    Tolerance::Statistical(Statistical { seeds: Count::try_from(seeds).unwrap(), test })
}

fn measure(seed: u64, value: f64) -> Measure {
    let digest = OutputDigest([9; 32]);
    Measure { value, interval: None, key: stage(seed), digest, point: None, refused: None }
}

/// One run a seed, each with this word error rate.
fn observed(values: &[f64]) -> Observed {
    let run = |(seed, value): (u64, &f64)| {
        let stage = ObservedStage { kind: "decode/2".into(), key: stage(seed), made_with: Some(MADE_WITH.into()) };
        let run = ObservedRun {
            id: run_id(seed),
            stages: BTreeMap::from([("decode test".to_owned(), stage)]),
            measures: Measures::from([(wer(), measure(seed, *value))]),
        };
        (seed, run)
    };
    let runs: BTreeMap<u64, ObservedRun> = (1..).zip(values).map(run).collect();
    Observed {
        experiment: name("toy"),
        spec: SpecHash([1; 32]),
        seeds: runs.keys().copied().collect(),
        groups: vec![ObservedGroup { name: ALONE.into(), aliases: Vec::new(), runs }],
        left_out: Vec::new(),
    }
}

/// What one fault makes of a check that passes without it.
fn fault(tolerance: Tolerance, values: &[f64], plant: impl Fn(&mut Golden, &mut Observed)) -> String {
    let (mut golden, mut observed) = (golden_of([(wer(), entry(tolerance, values))]), observed(values));
    assert!(check(&golden, &observed).passed, "nothing is planted yet");
    plant(&mut golden, &mut observed);
    let checked = check(&golden, &observed);
    format!("{}\n{}", if checked.passed { "PASSES" } else { "FAILS" }, shown(&checked))
}

fn first_run(observed: &mut Observed) -> &mut ObservedRun {
    observed.groups[0].runs.get_mut(&1).unwrap()
}

fn the_stage(observed: &mut Observed) -> &mut ObservedStage {
    first_run(observed).stages.get_mut("decode test").unwrap()
}

fn the_entry(golden: &mut Golden) -> &mut Entry {
    golden.variants.get_mut(ALONE).unwrap().get_mut(&wer()).unwrap()
}

/// The first run gives this word error rate.
fn value(now: f64) -> impl Fn(&mut Golden, &mut Observed) {
    move |_, observed| drop(first_run(observed).measures.insert(wer(), measure(1, now)))
}

#[test]
fn every_fault_has_its_own_message() {
    type Plant = Box<dyn Fn(&mut Golden, &mut Observed)>;
    let faults: Vec<(&str, Plant)> = vec![
        ("a value that is worse", Box::new(value(0.31))),
        ("a value that is better", Box::new(value(0.29))),
        ("NaN", Box::new(value(f64::NAN))),
        ("no such metric", Box::new(|_, observed| first_run(observed).measures.clear())),
        ("no such stage", Box::new(|_, observed| first_run(observed).stages.clear())),
        (
            "the stage under another name",
            Box::new(|_, observed| {
                let run = first_run(observed);
                let stage = run.stages.remove("decode test").unwrap();
                run.stages.insert("decode test at 700".into(), stage);
            }),
        ),
        ("another stage", Box::new(|_, observed| the_stage(observed).key = stage(77))),
        (
            "the output is gone",
            Box::new(|_, observed| {
                the_stage(observed).made_with = None;
                first_run(observed).measures.clear();
            }),
        ),
        ("no run", Box::new(|_, observed| observed.groups[0].runs.clear())),
        (
            "a seed that isn't declared",
            Box::new(|_, observed| {
                observed.groups[0].runs.clear();
                observed.seeds.clear();
            }),
        ),
        ("no such variant", Box::new(|_, observed| observed.groups.clear())),
        (
            "a changed spec without a run",
            Box::new(|_, observed| {
                observed.groups[0].runs.clear();
                observed.spec = SpecHash([2; 32]);
            }),
        ),
        (
            "a changed spec and another stage",
            Box::new(|_, observed| {
                the_stage(observed).key = stage(77);
                observed.spec = SpecHash([2; 32]);
            }),
        ),
        ("a changed spec that leaves the stage", Box::new(|_, observed| observed.spec = SpecHash([2; 32]))),
        ("another machine", Box::new(|golden, _| the_entry(golden).values[0].made_with = "another processor".into())),
        (
            "a model in mid-schedule",
            Box::new(|_, observed| {
                let measure = first_run(observed).measures.get_mut(&wer()).unwrap();
                measure.point =
                    Some(Point { cumulative: 7, iteration: 1, step: 7, ends_iteration: false, rate: Rate::Running });
            }),
        ),
        (
            "a bypass",
            Box::new(|golden, observed| {
                value(0.5)(golden, observed);
                let because = "the corpus is being repaired".to_owned();
                the_entry(golden).bypass =
                    Some(Bypass { because, since: date("2026-02-03"), by: Some("A. Person".into()) });
            }),
        ),
        ("no entry", Box::new(|golden, _| golden.variants.clear())),
    ];
    let all = faults
        .into_iter()
        .map(|(what, plant)| format!("──── {what} ────\n{}\n", fault(absolute(0.005), &[0.3], plant)));
    insta::assert_snapshot!(all.collect::<String>());
}

#[test]
fn several_seeds_are_tested_together_and_too_few_are_told() {
    let golden = [0.30, 0.31, 0.32];
    let tolerance = equivalence(3, 0.02);
    let with =
        |values: [f64; 3]| move |_: &mut Golden, observed: &mut Observed| *observed = super::tests::observed(&values);
    let faults = [
        ("within the margin", fault(tolerance, &golden, with([0.301, 0.309, 0.321]))),
        ("undecided", fault(tolerance, &golden, with([0.33, 0.30, 0.34]))),
        ("beyond the margin", fault(tolerance, &golden, with([0.40, 0.412, 0.421]))),
        (
            "one seed too few",
            fault(tolerance, &golden, |_, observed| {
                observed.groups[0].runs.remove(&2);
            }),
        ),
        (
            "one value too few",
            fault(tolerance, &golden, |golden, _| {
                the_entry(golden).values.pop();
            }),
        ),
        ("no run", fault(tolerance, &golden, |_, observed| observed.groups[0].runs.clear())),
        ("NaN in one", fault(tolerance, &golden, with([0.30, f64::NAN, 0.32]))),
    ];
    let all = faults.map(|(what, said)| format!("──── {what} ────\n{said}\n"));
    insta::assert_snapshot!(all.concat());
}

#[test]
fn a_better_mean_is_not_inferior_and_one_run_is_held_against_the_interval() {
    let statistical = |test| Tolerance::Statistical(Statistical { seeds: Count::try_from(3).unwrap(), test });
    let no_worse = statistical(Test::NonInferiority(Within { margin: positive(0.02) }));
    let interval = statistical(Test::PredictionInterval);
    let outcome = |tolerance, now: &[f64]| {
        let golden = golden_of([(wer(), entry(tolerance, &[0.30, 0.31, 0.32]))]);
        check(&golden, &Observed { seeds: vec![1, 2, 3], ..observed(now) }).rows.remove(0).outcome.word()
    };
    assert_eq!(outcome(no_worse, &[0.20, 0.212, 0.221]), "passed");
    assert_eq!(outcome(no_worse, &[0.40, 0.412, 0.421]), "worse");
    // mean 0.31, s 0.01, half width 4.302653 · 0.01 · √(4/3) = 0.0497
    assert_eq!(outcome(interval, &[0.3596]), "passed");
    assert_eq!(outcome(interval, &[0.3598]), "worse");
    assert_eq!(outcome(interval, &[0.2602]), "better");
    assert_eq!(outcome(interval, &[]), "no run");
}

#[test]
fn exact_means_the_same_bits_and_relative_a_share() {
    let passes = |tolerance, golden: f64, now: f64| {
        check(&golden_of([(wer(), entry(tolerance, &[golden]))]), &observed(&[now])).passed
    };
    assert!(passes(Tolerance::Exact, 0.3, 0.3) && !passes(Tolerance::Exact, 0.3, 0.3f64.next_up()));
    let percent = Tolerance::Relative(positive(0.01));
    assert!(passes(percent, -200.0, -202.0) && !passes(percent, -200.0, -202.1) && !passes(percent, 0.0, 1e-9));
}

#[test]
fn what_passes_is_not_proposed_and_what_was_accepted_passes() {
    let today = date("2026-03-04");
    let mut now = observed(&[0.3, 0.4]);
    let first = first_run(&mut now);
    first.measures.insert(Address::new("decode test", "cer"), measure(1, f64::NAN));
    first.measures.insert(Address::new("decode test", "empty-hypotheses"), measure(1, 0.0));
    let propose = |golden: Option<&Golden>, now: &Observed| Proposal::of(golden, now, &Wanted::Usual, None, today);

    let (proposal, skipped) = propose(None, &now);
    let proposed: Vec<String> = proposal.changes().map(|(_, address, _)| address.to_string()).collect();
    assert_eq!(proposed, ["decode test/wer"], "an empty hypothesis is no usual metric");
    let skipped: Vec<String> = skipped.iter().map(|s| format!("{}: {}", s.address, s.because)).collect();
    assert_eq!(skipped, ["decode test/cer: it is NaN in run 20260101-000000-000001 of seed 1"]);

    let golden = proposal.accepted(None, ALONE, &wer(), today);
    assert!(check(&golden, &now).passed);
    assert_eq!(golden.entry(ALONE, &wer()).unwrap().tolerance, absolute(0.005));
    assert_eq!(propose(Some(&golden), &now).0.changes().count(), 0);

    // Within the tolerance nothing moves; beyond it the entry is proposed with its own tolerance.
    assert_eq!(propose(Some(&golden), &observed(&[0.304, 0.4])).0.changes().count(), 0);
    let mut wide = golden.clone();
    the_entry(&mut wide).tolerance = absolute(0.05);
    let (moved, _) = propose(Some(&wide), &observed(&[0.4, 0.4]));
    let Some(Change::Set(entry)) = moved.change(ALONE, &wer()) else { panic!("{moved:?}") };
    assert_eq!((entry.tolerance, entry.values[0].value), (absolute(0.05), 0.4));

    // A seed whose run is missing is not forgotten.
    let mut less = observed(&[0.5, 0.4]);
    less.groups[0].runs.remove(&2);
    let (none, skipped) = propose(Some(&golden), &less);
    assert_eq!(none.changes().count(), 0);
    assert_eq!(skipped[0].because, "its golden has seed 2, of which there is no finished run");

    // A metric that no run gives any more is proposed for removal, and only one that was looked at.
    let mut gone = observed(&[0.3, 0.4]);
    gone.groups[0].runs.values_mut().for_each(|run| run.measures.clear());
    let (removal, _) = propose(Some(&golden), &gone);
    assert_eq!(removal.change(ALONE, &wer()), Some(&Change::Remove("no run gives it any more".into())));
    assert_eq!(removal.accepted(Some(golden.clone()), ALONE, &wer(), today).variants, BTreeMap::new());
    let other = Wanted::Fitting(vec![Pattern::from("decode*/cer".to_owned())]);
    assert_eq!(Proposal::of(Some(&golden), &gone, &other, None, today).0.changes().count(), 0);
    assert_eq!(removal.renewed(Proposal::new(name("toy"), SpecHash([1; 32])), &other), removal, "it still waits");
}

#[test]
fn a_pattern_stands_for_addresses() {
    let fits = |pattern: &str, address: &str| Pattern::from(pattern.to_owned()).fits(&address.parse().unwrap());
    assert!(
        fits("decode test/wer", "decode test/wer") && fits("*", "decode test/wer") && fits("d*/*er", "decode test/wer")
    );
    assert!(fits("layers*/cca-word@*", "layers at 200/cca-word@3") && fits("**/wer", "decode/wer"));
    for pattern in ["", "decode test", "wer", "*/we", "decode*test*test/wer", "d*r*r*"] {
        assert!(!fits(pattern, "decode test/wer"), "{pattern:?}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place() {
    let temp = tempfile::tempdir().unwrap();
    let files = Files::of(temp.path(), name("toy"));
    files.write_golden(&golden_of([(wer(), entry(absolute(0.005), &[0.3, 0.4]))])).unwrap();
    let whole = std::fs::read_to_string(files.golden_path()).unwrap();
    let wrong = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from:?} is not in\n{whole}");
        std::fs::write(files.golden_path(), whole.replace(from, to)).unwrap();
        match files.golden() {
            Err(GoldenError::Invalid(errors)) => {
                let told = errors.plain().into_iter().map(|p| format!("{}:{}: {}", p.line, p.column, p.message));
                told.collect::<Vec<_>>().join("\n")
            }
            Err(error) => error.to_string().replace(&temp.path().display().to_string(), "[HERE]"),
            Ok(golden) => panic!("{golden:?}"),
        }
    };
    let faults = [
        wrong("version: 1", "version: 2"),
        wrong("experiment: toy", "experiment: another"),
        wrong("value: 0.3", "value: .nan"),
        wrong("value: 0.3", "value: 1e999"),
        wrong("value: 0.3", "value: '0.3'"),
        wrong("absolute: 0.005", "absolute: -1"),
        wrong("absolute: 0.005", "relative: 1.5"),
        wrong("absolute: 0.005", "about: 1"),
        wrong("absolute: 0.005", "statistical: { seeds: 1, test: prediction-interval }"),
        wrong("seed: 2", "seed: 1"),
        wrong("seed: 1", "seed: 3"),
        wrong("direction: lower", "direction: sideways"),
        wrong("decode test/wer:", "wer:"),
        wrong("accepted: 2026-01-02", "accepted: yesterday"),
        wrong("accepted: 2026-01-02", "accepted: 2026-01-02\n      bypass: { because: ' ', since: 2026-01-02 }"),
        wrong("accepted: 2026-01-02", "accepted: 2026-01-02\n      owner: me"),
        wrong("variants:", "variants: &all"),
        wrong("(only):", "(only): {}\n  (only):"),
    ];
    insta::assert_snapshot!(format!("{whole}────\n{}", faults.join("\n")));
}

#[test]
fn a_change_that_was_accepted_stays_when_the_proposal_is_not_cleared() {
    let temp = tempfile::tempdir().unwrap();
    let files = Files::of(&temp.path().join("golden"), name("toy"));
    assert!(matches!(files.existing(), Err(GoldenError::NoGoldens { .. })));
    assert!(matches!(files.pending(), Err(GoldenError::NoProposal { .. })));
    let today = date("2026-03-04");
    let (mut proposal, _) = Proposal::of(None, &observed(&[0.3]), &Wanted::Usual, None, today);
    files.write_proposal(&proposal).unwrap();
    // As if the process were killed here.
    files.write_golden(&proposal.accepted(files.golden().unwrap(), ALONE, &wer(), today)).unwrap();
    assert_eq!(files.pending().unwrap(), proposal);
    let once = files.existing().unwrap();
    files.write_golden(&proposal.accepted(files.golden().unwrap(), ALONE, &wer(), today)).unwrap();
    assert_eq!(files.existing().unwrap(), once);
    proposal.withdraw(ALONE, &wer());
    files.write_proposal(&proposal).unwrap();
    assert!(!files.proposal_path().exists());
    assert_eq!(file::experiments_in(&temp.path().join("golden")), [name("toy")]);
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{1,20}",
        "[\\PC--[\u{85}\u{2028}\u{2029}]]{1,20}",
        Just("null".to_owned()),
        Just("a: b\n- c # d\n".to_owned()),
        Just("1".to_owned())
    ]
}

fn numbers() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite())
}

fn tolerances() -> impl Strategy<Value = Tolerance> {
    let margin = || (1e-9f64..1.0).prop_map(positive);
    let test = prop_oneof![
        margin().prop_map(|margin| Test::Equivalence(Within { margin })),
        margin().prop_map(|margin| Test::NonInferiority(Within { margin })),
        Just(Test::PredictionInterval),
    ];
    prop_oneof![
        Just(Tolerance::Exact),
        margin().prop_map(Tolerance::Absolute),
        margin().prop_map(Tolerance::Relative),
        (2u64..100, test).prop_map(|(seeds, test)| {
            Tolerance::Statistical(Statistical { seeds: Count::try_from(seeds).unwrap(), test })
        }),
    ]
}

prop_compose! {
    fn entries()(
        tolerance in tolerances(),
        values in prop::collection::vec(numbers(), 1..4),
        note in prop_oneof![Just(String::new()), texts()],
        bypass in prop::option::of((texts(), prop::option::of(texts()))),
        made_with in texts(),
    ) -> Entry {
        let since = date("2026-05-06");
        let bypass = bypass
            .filter(|(because, _)| !because.trim().is_empty())
            .map(|(because, by)| Bypass { because, since, by });
        let mut entry = Entry { note, bypass, ..entry(tolerance, &values) };
        entry.values[0].made_with = made_with;
        entry
    }
}

proptest! {
    #[test]
    fn a_golden_file_is_read_as_it_was_written(
        entries in prop::collection::btree_map("[a-z][a-z0-9 (),-]{0,20}", entries(), 1..4),
        variant in texts(),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::of(temp.path(), name("toy"));
        let golden = golden_of(entries.into_iter().map(|(stage, entry)| (Address::new(stage, "wer"), entry)));
        let golden = Golden { variants: golden.variants.into_values().map(|all| (variant.clone(), all)).collect(), ..golden };
        files.write_golden(&golden).unwrap();
        let again = files.existing().unwrap();
        prop_assert_eq!(&again, &golden);
        let bits = |golden: &Golden| golden.entries().flat_map(|(_, _, e)| e.values.iter().map(|v| v.value.to_bits()).collect::<Vec<_>>()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&again), bits(&golden));
    }

    #[test]
    fn a_text_that_yaml_would_change_is_refused_and_every_other_kept(
        text in "[\u{85}\u{2028}\u{2029} a]{1,12}",
    ) {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::of(temp.path(), name("toy"));
        let golden = golden_of([(wer(), Entry { note: text, ..entry(Tolerance::Exact, &[0.5]) })]);
        match files.write_golden(&golden) {
            Ok(()) => prop_assert_eq!(files.existing().unwrap(), golden),
            Err(error) => {
                prop_assert!(matches!(error, file::GoldenError::Lossy { .. }), "{error}");
                prop_assert!(!temp.path().join("toy.yaml").exists());
            }
        }
    }

    #[test]
    fn nothing_passes_that_is_missing_or_no_number(
        tolerance in tolerances(),
        values in prop::collection::vec(0.0f64..1.0, 2..5),
        fault in 0usize..6,
        odd in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ) {
        let golden = golden_of([(wer(), entry(tolerance, &values))]);
        let mut now = observed(&values);
        match fault {
            0 => {
                first_run(&mut now).measures.insert(wer(), measure(1, odd));
            }
            1 => first_run(&mut now).measures.clear(),
            2 => the_stage(&mut now).key = stage(200),
            3 => {
                the_stage(&mut now).made_with = None;
                first_run(&mut now).measures.clear();
            }
            4 => now.groups[0].runs.clear(),
            _ => now.groups.clear(),
        }
        let checked = check(&golden, &now);
        prop_assert!(!checked.passed, "{}", shown(&checked));
        prop_assert!(!checked.rows.iter().all(|row| row.outcome.passed()));
    }
}
