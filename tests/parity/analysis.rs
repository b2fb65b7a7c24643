//! PWCCA against the documented procedure in NumPy, mutual information against scikit-learn, word similarity against SciPy
//! (tests/fixtures/generate/analysis.py).

use reprise_model::analysis::cca::{Held, Moments, Regularisation, Weighting};
use reprise_model::analysis::rows::Rows;
use reprise_model::analysis::word_similarity;
use reprise_model::quality::Joint;
use tch::Tensor;

use crate::fixture::arrays;

fn check(name: &str, tolerance: f64) {
    tch::set_num_threads(1);
    let fixture = arrays(&format!("analysis/cca-{name}.npz"));
    let train = fixture["train"].int64_value(&[0]);
    let [x, y] = ["x", "y"].map(|view| &fixture[view]);
    let epsilon = |index| fixture["epsilons"].double_value(&[index]);
    let by = Regularisation { x: epsilon(0), y: epsilon(1) };
    let trained = |view: &Tensor| Rows::Numbers(view.narrow(0, 0, train));
    let projection = Moments::of(&trained(x), &trained(y)).unwrap().fit(by).unwrap();
    let scored = |view: &Tensor| Rows::Numbers(view.narrow(0, train, view.size()[0] - train));
    let mut held = Held::new(scored(x), scored(y));
    for (index, weighting) in [(0, Weighting::Toolkit), (1, Weighting::Centred)] {
        let found = projection.score(&mut held, weighting).unwrap();
        let expected = fixture["pwcca"].double_value(&[index]);
        assert!((found.pwcca - expected).abs() < tolerance, "{name}, {weighting:?}: {} for {expected}", found.pwcca);
        let expected = Vec::<f64>::try_from(&fixture["correlations"]).unwrap();
        assert_eq!(found.correlations.len(), expected.len(), "{name}");
        for (ours, theirs) in found.correlations.iter().zip(&expected) {
            assert!((ours - theirs).abs() < tolerance, "{name}: {found:?} for {expected:?}");
        }
        let mean = expected.iter().sum::<f64>() / expected.len() as f64;
        assert!((found.cca - mean).abs() < tolerance, "{name}");
    }
}

#[test]
fn well_conditioned_views_score_as_documented() {
    for name in ["second-smaller", "first-smaller", "equal", "word-vectors"] {
        check(name, 1e-6);
    }
}

#[test]
fn singular_views_score_as_documented() {
    for name in ["one-hot", "one-hot-singular"] {
        check(name, 1e-3);
    }
}

#[test]
fn mutual_information_is_scikit_learn_s() {
    let fixture = arrays("analysis/information.npz");
    let [labels, clusters] = ["labels", "clusters"].map(|name| Vec::<i64>::try_from(&fixture[name]).unwrap());
    let pairs = labels.iter().zip(&clusters).map(|(label, cluster)| (*label as usize, *cluster as usize));
    let found = Joint::of(400, 900, pairs).scores().mutual_information;
    let expected = fixture["information"].double_value(&[0]);
    assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
}

#[test]
fn word_similarity_is_numpy_s_and_scipy_s() {
    let fixture = arrays("analysis/word-similarity.npz");
    let whole = |name: &str| Vec::<i64>::try_from(&fixture[name].view([-1])).unwrap();
    let numbers = |name: &str| Vec::<f64>::try_from(&fixture[name]).unwrap();
    let strata: Vec<u32> = whole("strata").into_iter().map(|label| label as u32).collect();
    let pairs: Vec<[usize; 2]> = whole("pairs").chunks(2).map(|pair| [pair[0] as usize, pair[1] as usize]).collect();
    let cosines = word_similarity::cosines(&fixture["rows"], &strata, 30, &pairs).unwrap();
    assert!(cosines.iter().zip(numbers("cosines")).all(|(ours, theirs)| (ours - theirs).abs() < 1e-9), "{cosines:?}");
    let rho = word_similarity::spearman(&cosines, &numbers("scores")).unwrap();
    assert!((rho - numbers("rho")[0]).abs() < 1e-9, "{rho}");
}
