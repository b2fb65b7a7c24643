use std::collections::BTreeMap;

use proptest::prelude::*;
use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::experiment::Experiment;
use reprise_spec::identity::{OutputDigest, StageKey};

use super::evidence::Told;
use super::*;
use crate::measures::{Address, Measure};
use crate::results::Cost;

/// A baseline and a progressive variant of 400 steps, judged every 100, with these seeds and claims.
fn experiment(layers: u32, seeds: &str, claims: &[&str]) -> Experiment {
    let claims: String =
        claims.iter().enumerate().map(|(index, holds)| format!("  c{index}: {{ holds: \"{holds}\" }}\n")).collect();
    let text = format!(
        "version: 1\nname: toy\nquestion: Which?\nseeds: {seeds}\n\
         corpus: {{ name: toy, pretrain: [train], finetune: [train], validate: [dev], test: [test] }}\n\
         model: {{ encoder: {{ layers: {layers} }} }}\n\
         evaluation: {{ every: 100, cool-down: 5 }}\n\
         probing: {{ unit-quality: {{ splits: [aligned] }}, analyses: [cca-word, cka], layers: {{ splits: [aligned] }} }}\n\
         claims:\n{claims}\
         matrix: {{ axes: {{ strategy: {{ baseline: {{ strategy: {{ baseline: {{ iterations: [\
         {{ targets: {{ mfcc: {{ clusters: 10 }} }}, steps: 200 }}, {{ targets: {{ layer: {{ height: 2, clusters: 10 }} }}, steps: 200 }} ] }} }} }},\
         progressive: {{ strategy: {{ progressive: {{ every: 100, steps: 400, ladder: [\
         {{ mfcc: {{ clusters: 10 }} }}, {{ layer: {{ height: 1, clusters: 10 }} }}, {{ layer: {{ height: 2, clusters: 10 }} }} ] }} }} }} }} }} }}\n"
    );
    match reprise_spec::read::experiment("toy.yaml", &text, &mut |_| Err(reprise_spec::read::LoadError::Missing)) {
        Ok(resolved) => resolved.experiment,
        Err(errors) => panic!("{:?}", errors.plain()),
    }
}

/// What runs say, by variant and seed.
#[derive(Default)]
struct Planted(BTreeMap<(String, u64), Told>);

impl Planted {
    /// The same number in each seed from 1.
    fn with(mut self, variant: &str, address: &str, values: &[f64]) -> Self {
        for (seed, &value) in (1..).zip(values) {
            let measure = Measure {
                value,
                interval: None,
                key: StageKey([0; 32]),
                digest: OutputDigest([0; 32]),
                point: None,
                refused: None,
            };
            let address: Address = address.parse().unwrap();
            self.0.entry((variant.into(), seed)).or_default().measures.insert(address, measure);
        }
        self
    }

    /// Changes the number of one seed.
    fn but(mut self, variant: &str, seed: u64, address: &str, change: impl Fn(&mut Measure)) -> Self {
        let told = self.0.get_mut(&(variant.to_owned(), seed)).unwrap();
        change(told.measures.get_mut(&address.parse().unwrap()).unwrap());
        self
    }

    /// Word error rates at 100, 200, 300 and 400 steps, where a step takes 2 s of audio and 0.5 s of the device.
    fn curve(mut self, variant: &str, seed: u64, rates: [f64; 4]) -> Self {
        for (steps, wer) in [100, 200, 300, 400].into_iter().zip(rates) {
            let at = if steps == 400 { String::new() } else { format!(" at {steps}") };
            let one = Planted::default().with(variant, &format!("decode test{at}/wer"), &[wer]);
            let told = self.0.entry((variant.into(), seed)).or_default();
            told.measures.extend(one.0.into_values().flat_map(|told| told.measures));
            let cost = Cost { audio_seconds: 2.0 * steps as f64, device_seconds: 0.5 * steps as f64 };
            told.costs.insert(steps, cost);
        }
        self
    }

    fn decide(&self, experiment: &Experiment) -> Vec<Decided> {
        let mut runs: BTreeMap<_, BTreeMap<u64, Told>> = BTreeMap::new();
        for ((name, seed), told) in &self.0 {
            let variant = experiment.variant(Some(name)).unwrap();
            runs.entry(variant.setting.hash()).or_default().insert(*seed, told.clone());
        }
        decide_by(experiment, &Evidence::told(experiment, runs))
    }

    /// What becomes of one claim that has the experiment for itself, with eight layers and three seeds.
    fn alone(&self, holds: &str) -> Decided {
        self.decide(&experiment(8, "[1, 2, 3]", &[holds])).remove(0)
    }
}

const WER: &str = "decode test/wer";
const BETTER: &str = "wer(test) of progressive < wer(test) of baseline";

fn two(progressive: &[f64], baseline: &[f64]) -> Planted {
    Planted::default().with("progressive", WER, progressive).with("baseline", WER, baseline)
}

fn at(cumulative: u64, iteration: usize, ends_iteration: bool, rate: Rate) -> Option<Point> {
    Some(Point { cumulative, iteration, step: 0, ends_iteration, rate })
}

#[test]
fn a_claim_is_supported_contradicted_or_undecided_by_the_differences_of_seeds() {
    let verdict = |progressive: &[f64]| two(progressive, &[0.30, 0.32, 0.34]).alone(BETTER).verdict;
    assert_eq!(verdict(&[0.25, 0.27, 0.291]), Verdict::Supported);
    assert_eq!(verdict(&[0.35, 0.37, 0.391]), Verdict::Contradicted);
    assert_eq!(verdict(&[0.25, 0.32, 0.35]), Verdict::Undecided);
    // Unpaired, the spread of the seeds would hide a difference of 0.01.
    assert_eq!(verdict(&[0.29, 0.31, 0.3301]), Verdict::Supported);
    assert_eq!(
        two(&[0.29, 0.31, 0.3301], &[0.30, 0.32, 0.34])
            .alone("wer(test) of progressive < wer(test) of baseline - 0.02")
            .verdict,
        Verdict::Contradicted
    );
}

#[test]
fn every_verdict_comes_with_its_evidence() {
    // Differences 0.05, 0.05, 0.02: mean 0.04, s 0.01732, t = 4, p of Student's t with 2 degrees of freedom 0.0572.
    let decided = two(&[0.25, 0.27, 0.32], &[0.30, 0.32, 0.34]).alone(BETTER);
    assert_eq!(decided.verdict, Verdict::Undecided);
    assert!((decided.p - 0.0572).abs() < 1e-4 && decided.p == decided.adjusted, "{}", decided.p);
    let [compared] = decided.comparisons.as_slice() else { panic!("{decided:?}") };
    assert_eq!(compared.left.by_seed[&3].known(), Some(0.32));
    assert!((compared.right.mean.unwrap().known().unwrap() - 0.32).abs() < 1e-12);
    let found = compared.difference.as_ref().unwrap();
    assert_eq!((found.test, found.n, found.seeds_needed), (weighing::Test::PairedT, 3, Some(4)));
    let (low, high) = found.interval.unwrap();
    assert!((low + 0.0030).abs() < 1e-4 && (high - 0.0830).abs() < 1e-4, "{low} {high}");
    insta::assert_snapshot!(decided.because.join("\n"));
}

#[test]
fn claims_of_one_experiment_are_tested_together() {
    // p is 0.023 alone, and 0.137 among six.
    let planted = two(&[0.25, 0.27, 0.31], &[0.30, 0.32, 0.34]);
    assert_eq!(planted.alone(BETTER).verdict, Verdict::Supported);
    let empty = "pnmi(1) of baseline < pnmi(2) of baseline";
    let decided = planted.decide(&experiment(8, "[1, 2, 3]", &[BETTER, empty, empty, empty, empty, empty]));
    assert_eq!(decided[0].verdict, Verdict::Undecided);
    let said = decided[0].because.last().unwrap();
    assert!(said.contains("alone") && said.contains("among the experiment's 6 claims"), "{said}");
}

#[test]
fn all_of_several_comparisons_must_hold_and_one_refutes() {
    let planted = two(&[0.25, 0.27, 0.291], &[0.30, 0.32, 0.34]);
    let verdict = |also: &str| planted.alone(&format!("{BETTER} and {also}")).verdict;
    assert_eq!(verdict("wer(test) of baseline < 0.5"), Verdict::Supported);
    assert_eq!(verdict("wer(test) of baseline < 0.3"), Verdict::Undecided);
    assert_eq!(verdict("wer(test) of baseline < 0.1"), Verdict::Contradicted);
    // A comparison without numbers leaves it open, unless another refutes it.
    assert_eq!(verdict("pnmi(2) of baseline < 0.5"), Verdict::Undecided);
    assert_eq!(verdict("pnmi(2) of baseline < 0.5 and wer(test) of baseline < 0.1"), Verdict::Contradicted);
    let chain = planted.alone("0.1 < wer(test) of progressive < wer(test) of baseline < 0.5");
    assert_eq!((chain.verdict, chain.comparisons.len()), (Verdict::Supported, 3));
}

#[test]
fn two_sides_are_the_same_within_a_margin() {
    let verdict = |progressive: &[f64]| {
        two(progressive, &[0.30, 0.32, 0.34])
            .alone("wer(test) of progressive ~ wer(test) of baseline within 0.01")
            .verdict
    };
    assert_eq!(verdict(&[0.301, 0.319, 0.34]), Verdict::Supported);
    assert_eq!(verdict(&[0.35, 0.37, 0.391]), Verdict::Contradicted);
    assert_eq!(verdict(&[0.301, 0.31, 0.36]), Verdict::Undecided);
}

#[test]
fn ratios_and_constants_are_compared_seed_by_seed() {
    let planted = two(&[0.15, 0.16, 0.1701], &[0.30, 0.32, 0.34]);
    assert_eq!(planted.alone("wer(test) of progressive / wer(test) of baseline < 0.6").verdict, Verdict::Supported);
    assert_eq!(planted.alone("0.4 > wer(test) of progressive / wer(test) of baseline").verdict, Verdict::Contradicted);
    let zero =
        two(&[0.15, 0.16, 0.17], &[0.30, 0.0, 0.34]).alone("wer(test) of progressive / wer(test) of baseline < 0.6");
    assert_eq!(zero.verdict, Verdict::Undecided);
    assert!(zero.because.iter().any(|said| said.contains("may be zero")), "{:?}", zero.because);
}

/// Numbers that would support the claim, but for one of them.
#[test]
fn numbers_that_support_nothing_leave_a_claim_undecided() {
    let good = || {
        let trained = [1.0; 3];
        let layers: [(&str, [f64; 3]); 2] = [("progressive", [0.01, 0.02, 0.031]), ("baseline", [0.11, 0.12, 0.13])];
        let mut planted = two(&[0.25, 0.27, 0.291], &[0.30, 0.32, 0.34])
            .with("baseline", "pretrain iteration 1/trained", &trained)
            .with("baseline", "pretrain iteration 2/trained", &trained);
        for (variant, drops) in layers {
            planted =
                planted.with(variant, "layers/cca-word-top-drop", &drops).with(variant, "layers/cca-word@3", &drops);
        }
        planted
    };
    let drop = "top-drop(cca-word) of progressive < top-drop(cca-word) of baseline";
    let layer = "layer(cca-word, 3) of progressive < layer(cca-word, 3) of baseline";
    for claim in [BETTER, drop, layer] {
        assert_eq!(good().alone(claim).verdict, Verdict::Supported, "{claim}");
    }
    let end = at(200, 1, true, Rate::Annealed);
    let untrained = |measure: &mut Measure| (measure.value, measure.point) = (0.0, end);
    let shallow = experiment(4, "[1, 2, 3]", &[drop]);
    let more_seeds = experiment(8, "[1, 2, 3, 4]", &[BETTER]);
    let one_seed = experiment(8, "[1]", &[BETTER]);
    let cases = [
        good().but("baseline", 2, WER, |measure| measure.value = f64::NAN).alone(BETTER),
        good().but("baseline", 2, WER, |measure| measure.point = at(400, 2, false, Rate::Running)).alone(BETTER),
        good().but("baseline", 3, "pretrain iteration 1/trained", untrained).alone(BETTER),
        good()
            .but("progressive", 1, "layers/cca-word@3", |measure| measure.refused = Some("too few tokens".into()))
            .alone(layer),
        good().alone("cer(test) of progressive < cer(test) of baseline"),
        good().decide(&shallow).remove(0),
        good().decide(&more_seeds).remove(0),
        good().decide(&one_seed).remove(0),
        two(&[0.25, 0.26, 0.27], &[0.35, 0.36, 0.37]).alone(BETTER),
        Planted::default().alone(BETTER),
    ];
    assert!(cases.iter().all(|decided| decided.verdict == Verdict::Undecided && !decided.because.is_empty()));
    let said: Vec<String> =
        cases.iter().map(|decided| format!("{}\n  {}", decided.holds, decided.because.join("\n  "))).collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn an_untrained_model_spoils_only_what_came_of_it() {
    let end = at(400, 2, true, Rate::Annealed);
    let planted = Planted::default()
        .with("baseline", "pretrain iteration 2/trained", &[0.0; 3])
        .with("baseline", "unit quality iteration 1/pnmi", &[0.3, 0.31, 0.32])
        .with("baseline", "unit quality iteration 2/pnmi", &[0.4, 0.41, 0.425])
        .but("baseline", 1, "pretrain iteration 2/trained", |measure| measure.point = end)
        .but("baseline", 2, "pretrain iteration 2/trained", |measure| measure.point = end)
        .but("baseline", 3, "pretrain iteration 2/trained", |measure| measure.point = end);
    // The units of iteration 2 are of the model of iteration 1.
    assert_eq!(planted.alone("pnmi(1) of baseline < pnmi(2) of baseline").verdict, Verdict::Supported);
}

/// Seeds that reach the reference of 0.3 between these points.
fn reaching(progressive: [[f64; 4]; 3]) -> Planted {
    let mut planted = Planted::default();
    for (seed, rates) in (1..).zip(progressive) {
        planted = planted.curve("progressive", seed, rates).curve("baseline", seed, [0.9, 0.6, 0.4, 0.3]);
    }
    planted
}

const LEVEL: &str = "mean(wer(test) of baseline) + 0.005";

#[test]
fn steps_to_reach_a_level_lie_between_points() {
    let claim =
        |within: &str| format!("steps-to-reach(wer(test), {LEVEL}) of progressive < {within} * steps of baseline");
    let soon = reaching([[0.5, 0.29, 0.2, 0.2]; 3]);
    let decided = soon.alone(&claim("0.9"));
    assert_eq!(decided.verdict, Verdict::Supported, "{:?}", decided.because);
    let [compared] = decided.comparisons.as_slice() else { panic!("{decided:?}") };
    assert_eq!(compared.reached.len(), 3);
    let reached = &compared.reached[0];
    assert_eq!((reached.seed, reached.steps.to_string()), (1, "100 to 200".into()));
    assert_eq!(reached.audio_seconds.unwrap().high, 400.0);
    assert_eq!(reached.device_seconds.unwrap().low, 50.0);
    assert!((reached.level - 0.305).abs() < 1e-12);
    // It may have been just after 100 steps, or not before 200.
    assert_eq!(soon.alone(&claim("0.4")).verdict, Verdict::Undecided);
    let late = reaching([[0.9, 0.8, 0.4, 0.29]; 3]);
    assert_eq!(late.alone(&claim("0.2")).verdict, Verdict::Contradicted);
    let audio = format!("audio-seconds-to-reach(wer(test), {LEVEL}) of progressive < 0.9 * audio-seconds of baseline");
    assert_eq!(soon.alone(&audio).verdict, Verdict::Supported);
    // The same model at a point in mid-schedule says nothing, so that less is known.
    let marked = [1, 2, 3].into_iter().fold(soon, |planted, seed| {
        planted.but("progressive", seed, "decode test at 100/wer", |measure| {
            measure.point = at(100, 1, false, Rate::Running)
        })
    });
    assert_eq!(marked.alone(&claim("0.9")).comparisons[0].reached[0].steps.low, 0.0);
}

#[test]
fn what_is_never_reached_is_no_number() {
    let claim = format!("steps-to-reach(wer(test), {LEVEL}) of progressive < 0.9 * steps of baseline");
    let [soon, never] = [[0.5, 0.29, 0.2, 0.2], [0.9, 0.8, 0.7, 0.6]];
    for never_in in [1, 3] {
        let rates = [0, 1, 2].map(|seed| if seed < never_in { never } else { soon });
        let decided = reaching(rates).alone(&claim);
        assert_eq!(decided.verdict, Verdict::Undecided, "{:?}", decided.because);
        let found = decided.comparisons[0].difference.as_ref().unwrap();
        assert_eq!(found.test, weighing::Test::Sign);
        assert!(decided.because.join(" ").contains("sign test of 3 pairs"), "{:?}", decided.because);
    }
    // Of six seeds that never reach it, chance would give one in thirty-two.
    let six = experiment(8, "[1, 2, 3, 4, 5, 6]", &[&claim]);
    let planted = (1..=6).fold(Planted::default(), |planted, seed| {
        planted.curve("progressive", seed, never).curve("baseline", seed, [0.9, 0.6, 0.4, 0.3])
    });
    let decided = planted.decide(&six).remove(0);
    assert_eq!(decided.verdict, Verdict::Contradicted);
    assert!((decided.p - 2.0 / 64.0).abs() < 1e-12, "{}", decided.p);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn turning_a_claim_round_turns_its_verdict(
        pairs in prop::collection::vec((0.1f64..0.5, -0.1f64..0.1), 3), margin in 0.0f64..0.05,
    ) {
        let (one, other): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(a, d)| (*a, a + d)).unzip();
        let planted = two(&one, &other);
        let below = planted.alone(&format!("wer(test) of progressive + {margin} < wer(test) of baseline"));
        let above = planted.alone(&format!("wer(test) of progressive + {margin} > wer(test) of baseline"));
        let turned = match below.verdict {
            Verdict::Supported => Verdict::Contradicted,
            Verdict::Contradicted => Verdict::Supported,
            Verdict::Undecided => Verdict::Undecided,
        };
        prop_assert_eq!(above.verdict, turned);
        prop_assert!((above.p - below.p).abs() < 1e-9);
    }

}

proptest! {
    /// What is decided of a span is decided of every value within.
    #[test]
    fn a_verdict_holds_for_every_value_between_two_ends(
        seeds in prop::collection::vec((0.0f64..3.0, 0.0f64..1.0), 2..5), shares in prop::collection::vec(0.0f64..=1.0, 5),
    ) {
        let side = |values: Vec<span::Span>| Side {
            text: String::new(),
            mean: None,
            by_seed: (1..).zip(values).collect(),
        };
        let zero = side(vec![span::Span::exactly(0.0); seeds.len()]);
        let spans = side(seeds.iter().map(|(low, width)| span::Span { low: *low, high: low + width }).collect());
        let inner = side(seeds.iter().zip(&shares).map(|((low, width), share)| span::Span::exactly(low + share * width)).collect());
        for margin in [None, Some(2.5)] {
            let whole = weighing::weigh(&zero, &spans, margin, &mut Doubts::default());
            let within = weighing::weigh(&zero, &inner, margin, &mut Doubts::default());
            for (outer, inner) in [(whole.p_for, within.p_for), (whole.p_against, within.p_against)] {
                prop_assert!(outer > ALPHA || inner <= ALPHA + 1e-9, "{} {}", outer, inner);
            }
        }
    }
}
