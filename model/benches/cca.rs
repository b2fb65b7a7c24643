//! PWCCA of twelve layers with the words of 7,000 segments, beside NumPy: `cargo bench -p reprise-model --bench cca`.
//!
//! Layers are 768 wide and the words are 500, which is cca-word of a base network on a development set: folds, trials and regularisations of the
//! public toolkit, and shuffled words once a trial.

use std::fs;

use reprise_model::analysis::held_out::{Measured as Found, Pair, Settings, measure};
use reprise_model::analysis::view::View;
use reprise_model::failure::StageError;
use reprise_model::random::Draws;
use tch::{Kind, Tensor};

#[path = "../../harness/benches/versus/mod.rs"]
mod versus;

use versus::{Measured, Peer, Record, compare, timed};

const SAMPLES: i64 = 7_000;
const WIDTH: i64 = 768;
const WORDS: i64 = 500;
const LAYERS: i64 = 12;
const WANTED: f64 = 5.0;

/// How the peer fits, and what that is called.
const PEERS: [(&str, &str); 2] =
    [("toolkit", "NumPy, as the toolkit does it"), ("lean", "NumPy, covariances decomposed once a trial")];

fn main() {
    let threads = versus::threads();
    tch::set_num_threads(threads as i32);
    let labels: Vec<u32> = (0..SAMPLES).map(|sample| (sample % WORDS) as u32).collect();
    let states = states(&labels);
    let folder = tempfile::tempdir().expect("a folder");
    let (rows, lines) = (folder.path().join("states.f32"), folder.path().join("labels.txt"));
    let numbers = states.iter().flat_map(|layer| Vec::<f32>::try_from(layer.reshape([-1])).expect("numbers"));
    fs::write(&rows, numbers.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()).expect("a file");
    fs::write(&lines, labels.iter().map(|label| format!("{label}\n")).collect::<String>()).expect("a file");
    let paths = [&rows, &lines].map(|path| path.to_str().expect("a plain name"));
    let mut record = Record::new(threads);
    for (way, name) in PEERS {
        if !versus::wanted(way) {
            continue;
        }
        let arguments = [paths[0], paths[1], &LAYERS.to_string(), &WIDTH.to_string(), way];
        let mut peer = Peer::start("model/benches/peers/cca.py", &arguments, threads);
        let what = format!("PWCCA of {LAYERS} layers ({WIDTH} × {WORDS}, {SAMPLES} samples)");
        let found = compare(&what, name, WANTED, 1, &mut peer, || ours(&states, &labels, threads));
        agree(&found.ours[0], &found.theirs[0]);
        record.comparisons.push(found);
    }
    record.keep("cca");
}

fn ours(states: &[Tensor], labels: &[u32], threads: usize) -> Measured {
    let (found, mut measured) = timed(|| -> Vec<Found> {
        let words = View::one_hot(labels, WORDS as usize).expect("labels below the number of words");
        let pair = |layer: &Tensor| Ok(Pair::new(View::new(layer)?, words.shared(), labels.to_vec(), 3));
        let measured = |layers: &[Tensor]| {
            let pairs: Result<Vec<_>, StageError> = layers.iter().map(pair).collect();
            measure(&pairs.expect("views"), &Settings::default())
        };
        states.chunks(threads).flat_map(measured).collect::<Result<_, _>>().expect("layers that vary")
    });
    for (place, layer) in found.iter().enumerate() {
        measured.insert(format!("layer-{place:02}"), layer.pwcca.mean);
    }
    measured.insert("null".into(), found.iter().map(|layer| layer.null.mean).sum::<f64>() / found.len() as f64);
    measured
}

/// Both sides measure the same up to what other folds make of it.
fn agree(ours: &Measured, theirs: &Measured) {
    for (name, number) in ours.iter().filter(|(name, _)| *name != "seconds") {
        assert!((number - theirs[name]).abs() < 0.02, "{name}: {number} against {}", theirs[name]);
    }
}

/// Layers in each of which words shift the means of more and more dimensions; dimensions are correlated.
fn states(labels: &[u32]) -> Vec<Tensor> {
    let options = (Kind::Float, tch::Device::Cpu);
    tch::manual_seed(Draws::new(1, "states", &[], "").torch_seed());
    let labels = Tensor::from_slice(&labels.iter().map(|label| i64::from(*label)).collect::<Vec<_>>());
    let layer = |layer: i64| {
        let rank = 40 * (layer + 1);
        let means =
            Tensor::randn([WORDS, rank], options).matmul(&Tensor::randn([rank, WIDTH], options)) / (rank as f64).sqrt();
        let decay = (Tensor::arange(WIDTH, options) / -150.).exp();
        let noise =
            (Tensor::randn([SAMPLES, WIDTH], options) * decay).matmul(&Tensor::randn([WIDTH, WIDTH], options)) / 8.;
        means.index_select(0, &labels) * 0.5 + noise + Tensor::randn([SAMPLES, WIDTH], options) * 0.05 + 0.3
    };
    (0..LAYERS).map(layer).collect()
}
