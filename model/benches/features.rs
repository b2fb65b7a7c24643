//! MFCC with differences of one hour of speech-like sound, beside torchaudio's: `cargo bench -p reprise-model --bench features`.
//!
//! Both sides have the waves in memory and leave the features there.

use std::f64::consts::PI;
use std::fs;

use reprise_model::features::Extractor;
use reprise_model::random::Draws;
use reprise_model::stage::features::side_by_side;
use reprise_spec::network::FeatureKind;
use tch::Device;

#[path = "../../harness/benches/versus/mod.rs"]
mod versus;

use versus::{Measured, Peer, Record, compare, timed};

const RATE: u64 = 16_000;
const HOUR: u64 = 3600 * RATE;
const ROUNDS: usize = 7;
const WANTED: f64 = 3.0;

fn main() {
    let waves = waves();
    let threads = versus::threads();
    let folder = tempfile::tempdir().expect("a folder");
    let (samples, lengths) = (folder.path().join("waves.f32"), folder.path().join("lengths.txt"));
    fs::write(&samples, waves.iter().flatten().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>())
        .expect("a file");
    fs::write(&lengths, waves.iter().map(|wave| format!("{}\n", wave.len())).collect::<String>()).expect("a file");
    let paths = [&samples, &lengths].map(|path| path.to_str().expect("a plain name"));
    let arguments = [paths[0], paths[1], &threads.to_string()];
    let mut peer = Peer::start("model/benches/peers/features.py", &arguments, threads);
    let what = format!("MFCC and differences of one hour ({} utterances)", waves.len());
    let mut record = Record::new(threads);
    let found = compare(&what, "torchaudio.compliance.kaldi.mfcc", WANTED, ROUNDS, &mut peer, || ours(&waves, threads));
    agree(&found.ours[0], &found.theirs[0]);
    record.comparisons.push(found);
    record.keep("features");
}

fn ours(waves: &[Vec<f32>], threads: usize) -> Measured {
    let (features, mut measured) = timed(|| {
        let mut extractors: Vec<_> = (0..threads).map(|_| Extractor::new(FeatureKind::Mfcc, Device::Cpu)).collect();
        side_by_side(&mut extractors, waves.len(), |index| Ok(&waves[index]), Device::Cpu)
    });
    let features: Vec<Vec<f32>> = features.into_iter().collect::<Result<_, _>>().expect("features");
    let numbers = features.iter().flatten();
    measured.insert("frames".into(), numbers.clone().count() as f64 / 39.0);
    measured.insert("sum".into(), numbers.map(|number| f64::from(*number)).sum());
    measured
}

/// Both sides have computed the same.
fn agree(ours: &Measured, theirs: &Measured) {
    assert_eq!(ours["frames"], theirs["frames"]);
    assert!((ours["sum"] / theirs["sum"] - 1.0).abs() < 1e-4, "{} against {}", ours["sum"], theirs["sum"]);
}

/// Utterances of 10 to 14 s: a voice with a gliding pitch and five harmonics under a slow swell, with noise.
fn waves() -> Vec<Vec<f32>> {
    let (mut waves, mut left) = (Vec::new(), HOUR);
    while left > 0 {
        let mut draws = Draws::new(1, "wave", &[waves.len() as u64], "");
        let length = (10 * RATE + draws.below(4 * RATE)).min(left).max(RATE / 2);
        let (pitch, glide, swell) = (90.0 + 120.0 * draws.unit(), draws.unit() - 0.5, 1.0 + 4.0 * draws.unit());
        let sample = |at: u64| {
            let time = at as f64 / RATE as f64;
            let phase = 2.0 * PI * pitch * (time + glide * time * time / 20.0);
            let voice: f64 = (1..=5).map(|harmonic| (phase * f64::from(harmonic)).sin() / f64::from(harmonic)).sum();
            let noise = draws.unit() - 0.5;
            (0.2 * voice * (0.5 + 0.5 * (swell * time).sin()) + 0.05 * noise) as f32
        };
        waves.push((0..length).map(sample).collect());
        left = left.saturating_sub(length);
    }
    waves
}
