use reprise_spec::guards::{Collapse, DeadCodebook, Exploding};
use reprise_spec::values::{Count, Fraction, Positive};

use super::*;

fn count(value: u64) -> Count {
    Count::try_from(value).unwrap()
}

fn half() -> Factor {
    Factor::try_from(0.5).unwrap()
}

fn guards(then: StepResponse) -> StepGuards {
    let exploding = Exploding { factor: Positive::try_from(10.0).unwrap(), over: count(4), then };
    StepGuards { non_finite: then, exploding, in_a_row: count(3) }
}

fn after(norms: &[f64]) -> Watch {
    let mut watch = Watch::default();
    for &norm in norms {
        assert_eq!(watch.step(&guards(StepResponse::Stop), 1.0, norm), Verdict::Good);
    }
    watch
}

fn guard_of(verdict: &Verdict) -> Option<Guard> {
    match verdict {
        Verdict::Good => None,
        Verdict::Answered(findings) => Some(findings[0].guard),
        Verdict::Stop(finding) => Some(finding.guard),
    }
}

#[test]
fn a_norm_is_compared_with_as_many_good_ones_as_the_settings_say() {
    let stop = guards(StepResponse::Stop);
    assert_eq!(after(&[1.0; 3]).step(&stop, 1.0, 1e9), Verdict::Good, "too few to compare with");
    assert_eq!(after(&[0.0; 4]).step(&stop, 1.0, 1e9), Verdict::Good, "nothing to compare with");
    let mut watch = after(&[99.0, 1.0, 2.0, 1.0, 2.0]);
    assert_eq!(watch.step(&stop, 1.0, 15.0), Verdict::Good);
    let verdict = after(&[99.0, 1.0, 2.0, 1.0, 2.0]).step(&stop, 1.0, 15.1);
    let Verdict::Stop(Finding { guard: Guard::Exploding, reason }) = verdict else { panic!("{verdict:?}") };
    insta::assert_snapshot!(reason, @"the norm of the gradient is 1.5100e1, 10.1 times its mean over 4 steps of 1.5000e0");
}

#[test]
fn what_is_not_finite_is_found_in_the_loss_and_in_the_gradient() {
    for (loss, norm) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0), (1.0, f64::NEG_INFINITY)] {
        let verdict = Watch::default().step(&guards(StepResponse::Stop), loss, norm);
        assert_eq!(guard_of(&verdict), Some(Guard::NonFinite), "{loss} {norm}");
    }
}

#[test]
fn bad_steps_are_answered_as_often_in_a_row_as_the_settings_say() {
    let skip = guards(StepResponse::SkipStep);
    let mut watch = after(&[1.0; 4]);
    for _ in 0..2 {
        for _ in 0..3 {
            assert!(matches!(watch.step(&skip, f64::NAN, 1.0), Verdict::Answered(_)));
        }
        assert_eq!(watch.step(&skip, 1.0, 1.0), Verdict::Good);
    }
    for _ in 0..3 {
        assert!(matches!(watch.step(&skip, 1.0, 11.0), Verdict::Answered(_)));
    }
    let before = watch.clone();
    assert!(matches!(watch.step(&skip, 1.0, 11.0), Verdict::Stop(_)));
    assert_eq!(watch, before);
    assert_eq!((watch.rate(), watch.scores().map(|score| score.value).collect()), (1.0, vec![6.0, 3.0]));
}

#[test]
fn a_lowered_rate_stays_low_and_bad_norms_are_no_measure() {
    let lower = guards(StepResponse::LowerRate(half()));
    let mut watch = after(&[1.0; 4]);
    for expected in [0.5, 0.25] {
        assert!(matches!(watch.step(&lower, 1.0, 100.0), Verdict::Answered(_)));
        assert_eq!(watch.rate(), expected);
        assert_eq!(watch.step(&lower, 1.0, 1.0), Verdict::Good);
    }
    let text = serde_json::to_string(&watch).unwrap();
    assert_eq!(serde_json::from_str::<Watch>(&text).unwrap(), watch);
}

fn health(in_use: f64, spread: f64) -> Health {
    Health { loss: 1.0, in_use, spread }
}

fn of_states(then: StateResponse) -> Guards {
    let dead_codebook = DeadCodebook { perplexity: Positive::try_from(2.0).unwrap(), patience: count(2), then };
    let collapse = Collapse { spread: Fraction::try_from(0.1).unwrap(), patience: count(3), then };
    Guards { dead_codebook, collapse, ..Guards::default() }
}

#[test]
fn bad_validations_are_answered_after_as_many_in_a_row_as_the_settings_say() {
    let stop = of_states(StateResponse::Stop);
    let judge = |found: &[(f64, f64)]| {
        let mut watch = Watch::default();
        let verdicts = found
            .iter()
            .zip(1..)
            .map(|(&(in_use, spread), step)| guard_of(&watch.validation(&stop, step, true, health(in_use, spread))));
        verdicts.collect::<Vec<_>>()
    };
    assert_eq!(judge(&[(1.9, 0.5), (2.0, 0.5), (1.9, 0.5)]), [None; 3]);
    assert_eq!(judge(&[(1.9, 0.5), (1.9, 0.5)]), [None, Some(Guard::DeadCodebook)]);
    assert_eq!(judge(&[(9.0, 0.0), (1.9, 0.0), (9.0, 0.09)]), [None, None, Some(Guard::Collapse)]);
}

#[test]
fn before_the_warm_up_s_end_only_what_is_not_finite_counts() {
    let stop = of_states(StateResponse::Stop);
    let mut watch = Watch::default();
    for step in 1..5 {
        assert_eq!(watch.validation(&stop, step, false, health(1.0, 0.0)), Verdict::Good);
    }
    let verdict = watch.validation(&stop, 5, false, health(f64::NAN, 0.0));
    assert_eq!(guard_of(&verdict), Some(Guard::NonFinite));
}

#[test]
fn patience_begins_anew_after_an_answer_and_the_last_good_step_is_known() {
    for (then, rate) in [(StateResponse::Warn, 1.0), (StateResponse::LowerRate(half()), 0.25)] {
        let guards = of_states(then);
        let mut watch = Watch::default();
        assert_eq!(watch.validation(&guards, 10, true, health(9.0, 0.5)), Verdict::Good);
        for step in [20, 40] {
            assert_eq!(watch.validation(&guards, step, true, health(1.0, 0.5)), Verdict::Good);
            assert!(matches!(watch.validation(&guards, step + 10, true, health(1.0, 0.5)), Verdict::Answered(_)));
            assert_eq!(watch.good_until(), 10);
        }
        assert_eq!(watch.validation(&guards, 60, true, health(9.0, 0.5)), Verdict::Good);
        assert_eq!((watch.good_until(), watch.rate()), (60, rate));
    }
}
