use reprise_spec::metrics::Encoder;

use super::compare::parting;
use super::grade::{Grade, Scores, one, several};
use super::*;

/// A rerun of one stage with these scores: name, original, again.
fn rerun(seed: u64, differs: bool, scores: &[(&str, f64, f64)]) -> Comparison {
    let id = |text: &str| RunId::try_from(text.to_owned()).unwrap();
    let digest = |last| Some(OutputDigest([last; 32]));
    let pair = |&(metric, original, again): &(&str, f64, f64)| ScorePair {
        metric: metric.into(),
        original,
        again: Some(again),
    };
    let stage = StageComparison {
        name: "decode test".into(),
        kind: "decode/1".into(),
        key: StageKey([1; 32]),
        original: digest(0),
        again: digest(u8::from(differs)),
        difference: differs.then_some(Difference { origin: Origin::Unexplained, parts_at: None }),
        scores: scores.iter().map(pair).collect(),
    };
    Comparison {
        original: id("20260101-000000-000000"),
        again: id("20260102-000000-000000"),
        seed,
        environment: Vec::new(),
        stages: vec![stage],
    }
}

fn seeds(values: &[f64]) -> Vec<Scores> {
    let name = ("decode test".to_owned(), "wer".to_owned());
    values.iter().map(|value| Scores::from([(name.clone(), *value)])).collect()
}

#[test]
fn one_rerun_is_graded_by_the_first_that_holds() {
    let grade = |differs, wer, values: &[f64]| one(&rerun(1, differs, &[("wer", 0.30, wer)]), &seeds(values)).grade;
    assert_eq!(grade(false, 0.30, &[]), Grade::Bitwise);
    assert_eq!(grade(true, 0.304, &[0.30]), Grade::WithinTolerance);
    assert_eq!(grade(true, 0.32, &[0.30]), Grade::Undecided, "one seed says nothing of how far runs lie apart");
    // mean 0.31, s 0.01, half width 4.302653 · 0.01 · √(4/3) = 0.0497
    assert_eq!(grade(true, 0.3596, &[0.30, 0.31, 0.32]), Grade::WithinPredictionInterval);
    assert_eq!(grade(true, 0.3598, &[0.30, 0.31, 0.32]), Grade::Different);
}

#[test]
fn another_count_is_different_whatever_the_seeds_say() {
    let counts = rerun(1, true, &[("words", 100.0, 101.0), ("wer", 0.3, 0.3)]);
    assert_eq!(one(&counts, &seeds(&[0.1, 0.9])).grade, Grade::Different);
}

#[test]
fn intervals_widen_with_the_number_of_scores() {
    let scores = |wer| rerun(1, true, &[("wer", 0.30, wer), ("cer", 0.1, 0.1), ("ser", 0.1, 0.1)]);
    assert_eq!(one(&scores(0.3598), &seeds(&[0.30, 0.31, 0.32])).grade, Grade::WithinPredictionInterval);
    assert_eq!(one(&scores(0.60), &seeds(&[0.30, 0.31, 0.32])).grade, Grade::Different);
}

#[test]
fn without_the_original_nothing_is_decided() {
    let mut gone = rerun(1, true, &[]);
    gone.stages[0].difference = Some(Difference { origin: Origin::Unknown, parts_at: None });
    let verdict = one(&gone, &seeds(&[0.1, 0.2, 0.3]));
    assert_eq!(verdict.grade, Grade::Undecided);
    assert!(verdict.because.contains("no longer stored"), "{}", verdict.because);
}

#[test]
fn several_seeds_can_be_equivalent_different_or_neither() {
    let grade = |again: &[f64]| {
        let reruns: Vec<_> =
            (1..).zip(again).map(|(seed, wer)| rerun(seed, true, &[("wer", 0.3, 0.3 + wer)])).collect();
        several(&reruns).grade
    };
    assert_eq!(grade(&[0.001, -0.002, 0.004]), Grade::WithinTolerance);
    // One of ten beyond the margin of 0.005; mean 0.0006, half width 1.833 · 0.0019 / √10 = 0.0011.
    let mut many = [0.0; 10];
    many[9] = 0.006;
    assert_eq!(grade(&many), Grade::StatisticallyEquivalent);
    assert_eq!(grade(&[0.1, 0.101, 0.102]), Grade::Different);
    assert_eq!(grade(&[0.02, -0.02, 0.01]), Grade::Undecided);
}

#[test]
fn stages_of_several_seeds_are_paired_by_name() {
    let with_corpus = |seed: u64, first: bool| {
        let mut rerun = rerun(seed, true, &[("wer", 0.3, 0.301)]);
        let corpus = StageComparison { name: "corpus test".into(), difference: None, ..rerun.stages[0].clone() };
        let corpus =
            StageComparison { scores: vec![ScorePair { again: Some(9.0), ..corpus.scores[0].clone() }], ..corpus };
        rerun.stages.insert(usize::from(!first), corpus);
        rerun
    };
    let verdict = several(&[with_corpus(1, true), with_corpus(2, false)]);
    assert_eq!((verdict.grade, verdict.scores.len()), (Grade::WithinTolerance, 1));
    assert!((verdict.scores[0].original - 0.3).abs() < 1e-12);
}

#[test]
fn logs_part_at_the_first_step_with_other_bits() {
    let log = |points: &[(&str, u64, f64)]| {
        let mut encoder = Encoder::default();
        let bytes: Vec<u8> = points.iter().flat_map(|(name, step, value)| encoder.point(name, *step, *value)).collect();
        reprise_spec::metrics::Log::decode(&bytes)
    };
    let one = log(&[("loss", 1, 3.0), ("loss", 2, 2.0), ("rate", 1, 0.1), ("rate", 2, 0.1)]);
    assert_eq!(parting(&one, &one), None);
    let two = log(&[("loss", 1, 3.0), ("loss", 2, 2.0f64.next_up()), ("rate", 1, 0.1), ("rate", 2, 0.2)]);
    let found = parting(&one, &two).unwrap();
    assert_eq!((found.step, found.metric.as_str(), found.original), (2, "loss", Some(2.0)));
    let short = log(&[("loss", 1, 3.0), ("rate", 1, 0.1), ("rate", 2, 0.1)]);
    assert_eq!(parting(&one, &short).unwrap().again, None);
    assert_eq!(parting(&log(&[]), &log(&[])), None);
}
