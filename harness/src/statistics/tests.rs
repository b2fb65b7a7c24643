//! Against SciPy; `tests/fixtures/generate/t_tests.py` made the numbers.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::power::{power_beyond, power_of_equivalence, smallest_detectable};
use super::{Design, Equivalence, MeanDifference, holm, interval_of_mean, p_of_new_value, prediction_interval};

fn fixture<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/statistics").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Equal to 1e-9 of the expected value, or where that is a difference of larger numbers, of `size`.
#[track_caller]
fn assert_close(found: f64, expected: f64, size: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(size), "{found:e} is not {expected:e}");
}

#[derive(Deserialize)]
struct Pair {
    first: Vec<f64>,
    second: Vec<f64>,
    margin: f64,
    welch: Tested,
    paired: Option<Tested>,
}

#[derive(Deserialize)]
struct Tested {
    difference: f64,
    error: f64,
    freedom: f64,
    t: f64,
    p: f64,
    above: f64,
    below: f64,
    against: Vec<Against>,
}

#[derive(Deserialize)]
struct Against {
    alpha: f64,
    interval: (f64, f64),
    wide: (f64, f64),
}

#[test]
fn differences_and_equivalence_are_scipy_s() {
    let mut tested = 0;
    for pair in fixture::<Pair>("pairs.json") {
        for (design, expected) in [(Design::Welch, Some(&pair.welch)), (Design::Paired, pair.paired.as_ref())] {
            let Some(expected) = expected else { continue };
            let found = MeanDifference::of(design, &pair.first, &pair.second).unwrap();
            // Means are of some ten times the scale, and their difference may be much smaller.
            let size = pair.first.iter().map(|x| x.abs()).sum::<f64>() / pair.first.len() as f64 / 1e4;
            assert_close(found.difference, expected.difference, size);
            assert_close(found.standard_error, expected.error, 0.0);
            assert_close(found.freedom, expected.freedom, 0.0);
            assert_close(found.t, expected.t, 1e-3);
            assert_close(found.p, expected.p, 0.0);
            for against in &expected.against {
                let test = Equivalence::of(&found, pair.margin, against.alpha).unwrap();
                assert_close(test.p_above_lower, expected.above, 0.0);
                assert_close(test.p_below_upper, expected.below, 0.0);
                for (found, expected) in [(test.interval, against.interval), (test.wide_interval, against.wide)] {
                    assert_close(found.0, expected.0, size);
                    assert_close(found.1, expected.1, size);
                }
                tested += 1;
            }
        }
    }
    assert!(tested > 30, "{tested}");
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sample {
    values: Vec<f64>,
    confidence: f64,
    mean: (f64, f64),
    new_value: (f64, f64),
    new: f64,
    p: f64,
}

#[test]
fn intervals_are_scipy_s() {
    for Sample { values, confidence, mean, new_value, new, p } in fixture("samples.json") {
        let found = [interval_of_mean(&values, confidence).unwrap(), prediction_interval(&values, confidence).unwrap()];
        for (found, expected) in found.into_iter().zip([mean, new_value]) {
            assert_close(found.0, expected.0, 1.0);
            assert_close(found.1, expected.1, 1.0);
        }
        assert_close(p_of_new_value(&values, new).unwrap(), p, 0.0);
    }
}

#[derive(Deserialize)]
struct Family {
    p: Vec<f64>,
    holm: Vec<f64>,
}

#[test]
fn adjusted_p_values_are_those_of_closed_testing() {
    for family in fixture::<Family>("families.json") {
        for (found, expected) in holm(&family.p).unwrap().into_iter().zip(family.holm) {
            assert_close(found, expected, 0.0);
        }
    }
}

#[derive(Deserialize)]
struct Powers {
    shift: f64,
    margin: f64,
    freedom: f64,
    alpha: f64,
    beyond: f64,
    within: f64,
}

#[test]
fn power_is_scipy_s() {
    for Powers { shift, margin, freedom, alpha, beyond, within } in fixture("power.json") {
        // Of probabilities below a millionth fewer digits matter.
        assert_close(power_beyond(shift, margin, freedom, alpha), beyond, 1e-6);
        if margin > 0.0 {
            assert_close(power_of_equivalence(shift, margin, freedom, alpha), within, 1e-6);
        }
    }
}

#[derive(Deserialize)]
struct Detectable {
    design: Design,
    seeds: usize,
    alpha: f64,
    power: f64,
    effect: f64,
}

#[test]
fn the_smallest_detectable_effect_is_scipy_s() {
    for Detectable { design, seeds, alpha, power, effect } in fixture("detectable.json") {
        assert_close(smallest_detectable(design, seeds, alpha, power).unwrap(), effect, 0.0);
    }
}
