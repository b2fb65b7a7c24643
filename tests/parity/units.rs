//! k-means, assignment and unit quality against scikit-learn (tests/fixtures/generate/units.py).

use std::collections::BTreeMap;
use std::path::Path;

use reprise_model::kmeans::{self, Centroids};
use reprise_model::quality::Joint;
use reprise_spec::strategy::{Algorithm, Clustering, Lloyd, MiniBatch};
use reprise_spec::values::Count;
use tch::Tensor;

/// What our mean inertia over seeds may exceed scikit-learn's by, beside the uncertainty of both means.
const WORSE_AT_MOST: f64 = 1.005;

type Arrays = BTreeMap<String, Tensor>;

fn fixtures(kind: &str) -> Vec<(String, Arrays)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/units");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    files
        .iter()
        .filter(|path| name(path).starts_with(kind))
        .map(|path| (name(path), Tensor::read_npz(path).unwrap().into_iter().collect()))
        .collect()
}

fn count(value: i64) -> Count {
    Count::try_from(value as u64).unwrap()
}

fn integers(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor).unwrap()
}

/// Held-out inertia a frame, one a seed.
fn inertias(arrays: &Arrays, algorithm: Algorithm, starts: i64, seeds: u64) -> Vec<f64> {
    let clusters = arrays["clusters"].int64_value(&[0]) as usize;
    let settings = Clustering { algorithm, starts: count(starts) };
    let held_out = &arrays["held_out"];
    tch::set_num_threads(1); // tests run side by side
    let inertia = |seed| {
        let fit = kmeans::fit(&arrays["frames"], clusters, &settings, seed, &mut |_| Ok(())).unwrap();
        fit.centroids.assign(held_out).inertia() / held_out.size()[0] as f64
    };
    (0..seeds).map(inertia).collect()
}

/// Mean and squared standard error of the mean.
fn mean(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count * (count - 1.)))
}

/// Our mean is not above theirs by more than [`WORSE_AT_MOST`] and two standard errors of the difference.
fn check(name: &str, ours: &[f64], arrays: &Arrays) {
    let theirs: Vec<f64> = Vec::try_from(&arrays["inertia"]).unwrap();
    let ((ours, a), (theirs, b)) = (mean(ours), mean(&theirs));
    let most = theirs * WORSE_AT_MOST + 2. * (a + b).sqrt();
    eprintln!("{name}: {ours:.4} beside {theirs:.4}, at most {most:.4}");
    assert!(ours <= most, "{name}: {ours} is above {theirs} by more than chance");
}

#[test]
fn mini_batches_fit_held_out_frames_as_well_as_scikit_learn_s() {
    let fixtures = fixtures("fit-");
    assert_eq!(fixtures.len(), 5);
    for (name, arrays) in fixtures {
        let batch = count(arrays["batch"].int64_value(&[0]));
        let algorithm = Algorithm::MiniBatch(MiniBatch { batch, ..MiniBatch::default() });
        check(&name, &inertias(&arrays, algorithm, 20, 8), &arrays);
    }
}

#[test]
fn full_passes_fit_at_least_as_well() {
    for (name, arrays) in fixtures("fit-") {
        check(&name, &inertias(&arrays, Algorithm::Lloyd(Lloyd::default()), 20, 6), &arrays);
    }
}

#[test]
fn frames_go_to_the_centroids_that_64_bit_distances_choose() {
    let fixtures = fixtures("assign-");
    assert_eq!(fixtures.len(), 4);
    for (name, arrays) in fixtures {
        let found = Centroids::new(&arrays["centroids"]).assign(&arrays["frames"]);
        assert_eq!(integers(&found.nearest), integers(&arrays["nearest"]), "{name}");
    }
}

#[test]
fn information_entropies_and_purities_are_scikit_learn_s() {
    let fixtures = fixtures("agreement-");
    assert_eq!(fixtures.len(), 4);
    for (name, arrays) in fixtures {
        let pairs = integers(&arrays["phones"]).into_iter().zip(integers(&arrays["labels"]));
        let scores = Joint::count(40, 100, pairs.map(|(phone, label)| (phone as u8, label as u16))).scores();
        let ours = [
            scores.mutual_information,
            scores.phone_entropy,
            scores.cluster_entropy,
            scores.phone_purity,
            scores.cluster_purity,
        ];
        let theirs: Vec<f64> = Vec::try_from(&arrays["expected"]).unwrap();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-9, "{name}: {ours} is not {theirs}");
        }
        assert!((scores.pnmi - theirs[0] / theirs[1]).abs() < 1e-9, "{name}");
    }
}
