use proptest::prelude::*;
use tch::{Kind, Tensor};

use super::*;
use crate::analysis::cca::moments::{Covariance, Moments};
use crate::analysis::cca::{Held, Regularisation};
use crate::analysis::rows::Rows;
use crate::analysis::sums::Side;

/// Rows of standard normal numbers (Box and Muller).
fn noise(rows: usize, columns: usize, seed: u64) -> Tensor {
    let mut draws = Draws::new(seed, "test", &[], "");
    let normal = |_| (-2. * (1. - draws.unit()).ln()).sqrt() * (std::f64::consts::TAU * draws.unit()).cos();
    let numbers: Vec<f64> = (0..rows * columns).map(normal).collect();
    Tensor::from_slice(&numbers).view([rows as i64, columns as i64])
}

fn labels(samples: usize, classes: u32) -> Vec<u32> {
    (0..samples as u32).map(|sample| sample % classes).collect()
}

/// Measures one pair of views.
fn measure(x: &View, y: &View, strata: &[u32], settings: &Settings, seed: u64) -> Result<Measured, StageError> {
    super::measure(&[Pair::new(x.shared(), y.shared(), strata.to_vec(), seed)], settings).remove(0)
}

fn measured(x: &Tensor, y: &View, strata: &[u32], weighting: Weighting) -> Measured {
    let settings = Settings { weighting, ..Settings::default() };
    measure(&View::new(x).unwrap(), y, strata, &settings, 3).unwrap()
}

/// Balanced labels of C classes have variance 1/C in each direction that is orthogonal to their sum. An orthogonal map of them plus
/// independent noise of deviation s has the correlation √((1/C) / (1/C + s²)) in all of C − 1 directions.
#[test]
fn a_linear_map_of_labels_and_noise_has_the_analytic_correlation_and_shuffled_labels_have_none() {
    const CLASSES: usize = 8;
    tch::set_num_threads(1);
    let labels = labels(16_000, CLASSES as u32);
    let y = View::one_hot(&labels, CLASSES).unwrap();
    let one_hot = y.rows().numbers();
    let (map, _) = Tensor::linalg_qr(&noise(12, CLASSES, 1), "reduced");
    let planted = one_hot.matmul(&map.tr());
    for deviation in [0.1, 0.3, 0.6] {
        let x = &planted + noise(16_000, 12, 2) * deviation;
        let variance = 1. / CLASSES as f64;
        let expected = (variance / (variance + deviation * deviation)).sqrt();
        for weighting in [Weighting::Toolkit, Weighting::Centred] {
            let found = measured(&x, &y, &labels, weighting);
            assert!((found.pwcca.mean - expected).abs() < 0.015, "{expected}: {found:?}");
            assert!((found.cca.mean - expected).abs() < 0.015, "{expected}: {found:?}");
            let control = measured(&noise(16_000, 12, 4), &y, &labels, weighting);
            assert!((found.null.mean - control.pwcca.mean).abs() < 0.03, "{found:?} {control:?}");
            assert!(found.null.mean.abs() < 0.03, "{found:?}");
        }
    }
}

#[test]
fn a_layer_with_dead_and_repeated_dimensions_is_measured() {
    let labels = labels(600, 5);
    let y = View::one_hot(&labels, 5).unwrap();
    let x = noise(600, 6, 5) + y.rows().numbers().matmul(&noise(5, 6, 6));
    let singular = Tensor::cat(&[&x, &x.narrow(1, 0, 2), &x.zeros_like()], 1);
    let (plain, found) =
        (measured(&x, &y, &labels, Weighting::Centred), measured(&singular, &y, &labels, Weighting::Centred));
    assert!((plain.pwcca.mean - found.pwcca.mean).abs() < 1e-3, "{plain:?} {found:?}");
    assert!(found.pwcca.mean > found.null.mean + 0.3);
}

#[test]
fn too_few_samples_are_refused_with_the_shortfall_and_the_way_out() {
    let view = |width| View::new(&noise(200, width, 7)).unwrap();
    let refusal = |x: View, y: View| match measure(&x, &y, &[0; 200], &Settings::default(), 1) {
        Err(StageError::Refused { message, help }) => format!("{message}\n{}", help.unwrap()),
        other => panic!("{other:?}"),
    };
    insta::assert_snapshot!(refusal(view(64), view(10)), @r"
    200 samples are 170 too few for views of 64 and 10 dimensions, which need 370: 5 for each dimension
    allow more tokens a label, take more splits, or reduce the first view by PCA to at most 30 components, which is another metric with its own name
    ");
    insta::assert_snapshot!(refusal(view(3), view(40)), @r"
    200 samples are 15 too few for views of 3 and 40 dimensions, which need 215: 5 for each dimension
    allow more tokens a label, take more splits, or reduce both views by PCA, which is another metric with its own name
    ");
    let reduced = measure(&view(64).reduced(30), &view(10), &[0; 200], &Settings::default(), 1).unwrap();
    assert_eq!((reduced.dimension_x, reduced.dimension_y), (30, 10));
}

#[test]
fn constant_views_and_impossible_trials_are_refused() {
    let (x, flat) = (
        View::new(&noise(100, 3, 8)).unwrap(),
        View::new(&Tensor::ones([100, 2], (Kind::Double, tch::Device::Cpu))).unwrap(),
    );
    assert!(measure(&x, &flat, &[0; 100], &Settings::default(), 1).is_err());
    assert!(measure(&x, &x, &[0; 100], &Settings { trials: 6, ..Settings::default() }, 1).is_err());
    assert!(measure(&x, &x, &[0; 99], &Settings::default(), 1).is_err());
    let nothing = Settings { regularisations: vec![2.], fallback: vec![], ..Settings::default() };
    assert!(measure(&x, &x, &[0; 100], &nothing, 1).is_err());
    let later = Settings { regularisations: vec![2.], ..Settings::default() };
    assert!(measure(&x, &x, &[0; 100], &later, 1).unwrap().trials.iter().all(|trial| trial.epsilon_x < 1e-4));
}

#[test]
fn threads_and_company_change_no_bit() {
    let labels = labels(600, 5);
    let y = View::one_hot(&labels, 5).unwrap();
    let map = noise(5, 6, 6);
    let layer = |seed| {
        let x = noise(600, 6, seed) + y.rows().numbers().matmul(&map);
        Pair::new(View::new(&x).unwrap(), y.shared(), labels.clone(), 3)
    };
    let on = |threads, layers: &[u64]| -> Vec<Measured> {
        tch::set_num_threads(threads);
        let pairs: Vec<Pair> = layers.iter().map(|seed| layer(*seed)).collect();
        super::measure(&pairs, &Settings::default()).into_iter().map(Result::unwrap).collect()
    };
    let alone = [on(1, &[1]), on(1, &[2]), on(1, &[3])].concat();
    assert_eq!(on(1, &[1, 2, 3]), alone);
    assert_eq!(on(4, &[1, 2, 3]), alone);
    tch::set_num_threads(1);
}

#[test]
fn another_second_view_beside_the_same_first_is_fitted_as_if_it_were_new() {
    let by = [1e-9, 1e-10].map(|epsilon| Regularisation { x: epsilon, y: epsilon });
    let [x, y, other] = [(7, 1), (4, 2), (4, 3)].map(|(width, seed)| Rows::Numbers(noise(300, width, seed)));
    let score = |moments: &mut Moments, y: &Rows| {
        let mut held = Held::new(x.shared(), y.shared());
        by.map(|by| moments.fit(by).unwrap().score(&mut held, Weighting::Toolkit).unwrap())
    };
    let sums = Sums::of((&x, &x.origin()), &[(&y, &y.origin()), (&other, &other.origin())]);
    let [of_y, of_other] = &sums.seconds[..] else { panic!("two views") };
    let covariance = |side: &Side| Covariance::new(&side.covariance(300)).unwrap();
    let mut moments = Moments::new(covariance(&sums.x), covariance(&of_y.y), &sums.cross_covariance(of_y));
    assert_eq!(score(&mut moments, &y), score(&mut Moments::of(&x, &y).unwrap(), &y));
    let mut moments = moments.beside(covariance(&of_other.y), &sums.cross_covariance(of_other));
    assert_eq!(score(&mut moments, &other), score(&mut Moments::of(&x, &other).unwrap(), &other));
}

/// Words that a fold lacks leave too few of them for a basis; one that no trial is fitted on is dropped.
#[test]
fn labels_score_as_their_one_hot_rows_do() {
    let mut labels: Vec<u32> = (0..1_200).map(|sample| sample % 40).collect();
    (0..30).for_each(|rare| labels[rare * 40] = 41 + rare as u32 % 5);
    let y = View::one_hot(&labels, 50).unwrap();
    let dense = View::new(&y.rows().numbers()).unwrap();
    for width in [60, 20] {
        let x = noise(1_200, width, 5) + dense.rows().numbers().matmul(&noise(50, width, 6));
        for weighting in [Weighting::Toolkit, Weighting::Centred] {
            let settings = |seed| {
                let settings = Settings { weighting, ..Settings::default() };
                [&y, &dense].map(|y| measure(&View::new(&x).unwrap(), y, &labels, &settings, seed).unwrap())
            };
            for [by_label, by_row] in [settings(1), settings(2)] {
                for (found, expected) in by_label.trials.iter().zip(&by_row.trials) {
                    assert!((found.pwcca - expected.pwcca).abs() < 1e-7, "{found:?} {expected:?}");
                    assert!((found.cca - expected.cca).abs() < 1e-7, "{found:?} {expected:?}");
                }
                assert!((by_label.null.mean - by_row.null.mean).abs() < 1e-7);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn folds_are_even_within_every_label(strata in prop::collection::vec(0u32..4, 20..200), seed in 0u64..100) {
        let folds = folds(&strata, 5, seed);
        for label in 0..4 {
            let sizes: Vec<usize> = (0..5)
                .map(|fold| strata.iter().zip(&folds).filter(|pair| *pair == (&label, &fold)).count())
                .collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
        }
    }

    #[test]
    fn trials_share_no_fold_that_they_choose_or_are_scored_on(seed in 0u64..1000) {
        let folds: Vec<usize> = (0..100).map(|sample| sample % 10).collect();
        let splits = splits(&folds, &Settings::default(), seed).unwrap();
        let held_out: std::collections::BTreeSet<i64> = splits.iter().flat_map(|split| [&split.dev, &split.test]).flatten().copied().collect();
        prop_assert_eq!((splits.len(), held_out.len()), (3, 60));
        prop_assert!(splits.iter().all(|split| split.train.len() == 80 && split.train.iter().all(|sample| !split.test.contains(sample))));
    }

    /// Correlations on the training samples are symmetric and those of the views' column spaces, whatever basis these are given in.
    #[test]
    fn cca_is_symmetric_and_does_not_see_invertible_maps(seed in 0u64..1000) {
        let by = Regularisation { x: 1e-14, y: 1e-14 };
        let (x, noise_y) = (noise(300, 5, seed), noise(300, 3, seed + 1000));
        let y = noise_y + x.narrow(1, 0, 3) * 0.7;
        let score = |x: &Tensor, y: &Tensor| {
            let [x, y] = [x, y].map(|rows| Rows::Numbers(rows.shallow_clone()));
            let projection = Moments::of(&x, &y).unwrap().fit(by).unwrap();
            projection.score(&mut Held::new(x, y), Weighting::Centred).unwrap()
        };
        let found = score(&x, &y);
        let map = noise(5, 5, seed + 2000) + Tensor::eye(5, (Kind::Double, tch::Device::Cpu)) * 6.;
        for other in [score(&(x.matmul(&map) + 40.), &y), score(&y, &x)] {
            for (a, b) in found.correlations.iter().zip(&other.correlations) {
                prop_assert!((a - b).abs() < 1e-7, "{:?} {:?}", found, other);
            }
            prop_assert!((found.pwcca - other.pwcca).abs() < 1e-7);
        }
        prop_assert!(found.correlations.windows(2).all(|pair| pair[0] >= pair[1] - 1e-9 && pair[0] <= 1. + 1e-9));
    }
}
