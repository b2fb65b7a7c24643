//! k-means beside scikit-learn's `MiniBatchKMeans`, both with the settings that HuBERT's labels were made with, on the same frames.
//!
//! Parts: `large` and `small` compare times, `inertia-large` and `inertia-small` how well the codebooks fit frames that neither side saw
//! (`--seeds N`, or 10; each is kept as it comes, and `--continue` goes on after them), `growth` measures ours alone. Each keeps a record of its
//! own, because `large` takes minutes a round (`--rounds N`, or 2). `phases-large` and `phases-small`, which must be named, show where our time goes and keep nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use reprise_model::kmeans::{self, Centroids, Moment};
use reprise_model::npy;
use reprise_spec::strategy::Clustering;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

#[path = "../../harness/benches/versus/mod.rs"]
mod versus;

use versus::{Bound, Growth, Measured, Peer, Record, Value, compare, threads, timed, wanted};

const PEER: &str = "scikit-learn MiniBatchKMeans";
const HELD_OUT: i64 = 50_000;

/// A problem as the issue of labels for HuBERT poses it.
struct Problem {
    name: &'static str,
    frames: i64,
    width: i64,
    clusters: usize,
    /// How many times as fast as the peer.
    wanted: f64,
}

const LARGE: Problem = Problem { name: "large", frames: 100_000, width: 768, clusters: 500, wanted: 20. };
const SMALL: Problem = Problem { name: "small", frames: 360_000, width: 39, clusters: 100, wanted: 5. };

fn main() {
    tch::set_num_threads(threads() as i32);
    let _no_grad = tch::no_grad_guard();
    for problem in [LARGE, SMALL] {
        if std::env::args().any(|argument| argument == format!("phases-{}", problem.name)) {
            phases(&problem);
        }
        if wanted(problem.name) {
            let mut record = Record::new(threads());
            let rounds = number("--rounds").unwrap_or(2);
            record.comparisons.push(times(&problem, rounds));
            record.keep(&format!("kmeans-{}", problem.name));
        }
        if wanted(&format!("inertia-{}", problem.name)) {
            let mut record = Record::new(threads());
            record.values.push(inertias(&problem, number("--seeds").unwrap_or(10)));
            record.keep(&format!("kmeans-inertia-{}", problem.name));
        }
    }
    if wanted("growth") {
        let mut record = Record::new(threads());
        record.growth = growth();
        record.keep("kmeans-growth");
    }
}

/// The seconds of a fit on both sides, another seed each round, and how well each fits frames that neither saw.
fn times(problem: &Problem, rounds: usize) -> versus::Comparison {
    const INERTIA: &str = "held-out-inertia";
    const MORE: usize = 2;
    let (frames_nd, held_out_nd) = frames(problem.frames, problem.width);
    let folder = shared(&frames_nd);
    let theirs = folder.path().join("theirs.npy");
    let ours = |seed| {
        let (ours, mut measured) = fit(&frames_nd, problem.clusters, seed);
        measured.insert(INERTIA.into(), inertia(&ours, &held_out_nd));
        eprintln!("{}: {measured:?}", problem.name);
        measured
    };
    let of_theirs = || inertia(&Centroids::new(&read(&theirs)), &held_out_nd);
    let mut peer = peer(&folder, problem, 0);
    let what = format!("k-means fit, {} × {}, K = {}, 20 starts", problem.frames, problem.width, problem.clusters);
    let (mut seed, mut inertias) = (0..rounds as u64, Vec::new());
    let mut found = compare(&what, PEER, problem.wanted, rounds, &mut peer, || {
        let seed = seed.next().unwrap_or(0);
        if seed > 0 {
            inertias.push(of_theirs());
        }
        ours(seed)
    });
    inertias.push(of_theirs());
    // A turn of ours is short beside one of theirs, so that whatever else the machine does weighs more: a few more make a median.
    for seed in rounds..rounds + MORE {
        found.ours.push(ours(seed as u64));
    }
    for (measured, inertia) in found.theirs.iter_mut().zip(inertias) {
        measured.insert(INERTIA.into(), inertia);
    }
    println!("{what}: {:.2} times as fast as {PEER} by the medians of all turns", found.ratio());
    for (ours, theirs) in found.ours.iter().zip(&found.theirs) {
        println!("{what}: held-out inertia ours {:.4}, {PEER} {:.4}", ours[INERTIA], theirs[INERTIA]);
    }
    found
}

/// By how many per cent the mean of our inertias on unseen frames is above the peer's.
fn inertias(problem: &Problem, seeds: usize) -> Value {
    let (frames_nd, held_out_nd) = frames(problem.frames, problem.width);
    let folder = shared(&frames_nd);
    let mut found = Seeds::of(problem);
    let mut peer = peer(&folder, problem, found.both.len());
    for seed in found.both.len()..seeds {
        let ours = inertia(&fit(&frames_nd, problem.clusters, seed as u64).0, &held_out_nd);
        peer.measure();
        let theirs = inertia(&Centroids::new(&read(&folder.path().join("theirs.npy"))), &held_out_nd);
        eprintln!("{}: seed {seed}: held-out inertia ours {ours:.4}, {PEER} {theirs:.4}", problem.name);
        found.keep([ours, theirs]);
    }
    let mean = |side: usize| found.both[..seeds].iter().map(|both| both[side]).sum::<f64>() / seeds as f64;
    let (ours, theirs) = (mean(0), mean(1));
    let measured = (ours / theirs - 1.) * 100.;
    let Problem { frames, width, clusters, .. } = problem;
    let what = format!("held-out inertia above the peer's, mean of {seeds} seeds, {frames} × {width}, K = {clusters}");
    println!("{what}: {measured:.3} % (wanted at most 0.5 %)");
    let peer = format!("{PEER}: {theirs:.4}; ours {ours:.4}");
    Value { what, unit: "%".into(), measured, bound: Bound::AtMost(0.5), peer }
}

/// The inertias of the seeds so far, ours and the peer's, on disk after each: ten of the large problem take more than an hour.
struct Seeds {
    path: PathBuf,
    both: Vec<[f64; 2]>,
}

impl Seeds {
    /// Those an earlier run kept, where the command line says `--continue`, and none otherwise.
    fn of(problem: &Problem) -> Self {
        let path = versus::folder().join(format!("kmeans-inertia-{}.seeds", problem.name));
        let goes_on = std::env::args().any(|argument| argument == "--continue") && path.exists();
        let text = if goes_on { std::fs::read_to_string(&path).expect("a file below target") } else { "[]".into() };
        Self { path, both: serde_json::from_str(&text).expect("pairs of numbers") }
    }

    fn keep(&mut self, both: [f64; 2]) {
        self.both.push(both);
        let text = serde_json::to_string(&self.both).expect("numbers");
        std::fs::write(&self.path, text).expect("a file below target");
    }
}

/// Seconds and memory of our fits, against frames and against clusters.
fn growth() -> Vec<Growth> {
    let (most_nd, _) = frames(400_000, 256);
    let point = |size: i64, frames_nd: &Tensor, clusters: usize| {
        versus::reset_peak();
        let before = versus::peak_mib();
        let (_, mut measured) = fit(frames_nd, clusters, 0);
        measured.insert("size".into(), size as f64);
        if let (Some(before), Some(peak)) = (before, versus::peak_mib()) {
            measured.insert("peak-mib".into(), peak);
            measured.insert("peak-above-frames-mib".into(), peak - before);
        }
        println!("{size}: {measured:?}");
        measured
    };
    let by_frames = [25_000, 50_000, 100_000, 200_000, 400_000];
    let by_clusters = [50, 100, 200, 500, 1000, 2000];
    let some_nd = most_nd.narrow(0, 0, 100_000);
    vec![
        Growth {
            what: "k-means fit, 256 dimensions, K = 500, 20 starts".into(),
            size: "frames".into(),
            points: by_frames.map(|size| point(size, &most_nd.narrow(0, 0, size), 500)).into(),
        },
        Growth {
            what: "k-means fit, 100,000 × 256, 20 starts".into(),
            size: "clusters".into(),
            points: by_clusters.map(|size| point(size, &some_nd, size as usize)).into(),
        },
    ]
}

fn fit(frames_nd: &Tensor, clusters: usize, seed: u64) -> (Centroids, Measured) {
    let mut batches = 0;
    let mut watch = |moment| {
        if let Moment::Batch { done, .. } = moment {
            batches = done;
        }
        Ok(())
    };
    let before = of_all_threads();
    let (fit, mut measured) = timed(|| kmeans::fit(frames_nd, clusters, &Clustering::default(), seed, &mut watch));
    measured.insert("processor-seconds".into(), of_all_threads() - before);
    measured.insert("batches".into(), batches as f64);
    (fit.expect("more frames than clusters").centroids, measured)
}

fn inertia(centroids: &Centroids, frames_nd: &Tensor) -> f64 {
    centroids.assign(frames_nd).inertia() / frames_nd.size()[0] as f64
}

/// Frames to fit on and others to judge by, of one mixture that is like speech: 3,000 anisotropic Gaussian clusters of unequal weights
/// around centres of their own, in correlated dimensions whose principal components have variances that fall as 1/i.
fn frames(count: i64, width: i64) -> (Tensor, Tensor) {
    const KINDS: i64 = 3000;
    let options = (Kind::Float, Device::Cpu);
    tch::manual_seed(1);
    let spread_d = (Tensor::arange(width, options) + 1.).rsqrt();
    let centres_cd = Tensor::randn([KINDS, width], options) * &spread_d;
    let scales_cd = (Tensor::randn([KINDS, width], options) * 0.5).exp() * &spread_d;
    let weights_c = Tensor::randn([KINDS], options).exp();
    let (rotation_dd, _) = Tensor::linalg_qr(&Tensor::randn([width, width], options), "reduced");
    let mean_d = Tensor::randn([width], options);
    let draw = |count: i64| {
        let kinds = weights_c.multinomial(count, true);
        let latent_nd = Tensor::randn([count, width], options) * scales_cd.index_select(0, &kinds);
        (latent_nd + centres_cd.index_select(0, &kinds)).matmul(&rotation_dd) + &mean_d
    };
    (draw(count), draw(HELD_OUT))
}

/// Prints when each phase of one fit ended, in seconds, and how many seconds of all threads it had taken by then.
fn phases(problem: &Problem) {
    let (frames_nd, held_out_nd) = frames(problem.frames, problem.width);
    let (start, before) = (Instant::now(), of_all_threads());
    let mut ends = BTreeMap::new();
    let mut watch = |moment| {
        let (phase, done) = match moment {
            Moment::Seeding { done, .. } => ("1 centres", done),
            Moment::Start { done, .. } => ("2 starts", done),
            Moment::Batch { done, .. } => ("3 batches", done),
            Moment::Pass { done, .. } => ("3 passes", done),
        };
        ends.insert(phase, (done, start.elapsed().as_secs_f64(), of_all_threads() - before));
        Ok(())
    };
    let fit = kmeans::fit(&frames_nd, problem.clusters, &Clustering::default(), 0, &mut watch);
    let (seconds, all) = (start.elapsed().as_secs_f64(), of_all_threads() - before);
    println!("{}: {ends:.2?}, all {seconds:.2} s, {all:.2} s of all threads", problem.name);
    let centroids = fit.expect("more frames than clusters").centroids;
    println!("{}: held-out inertia {:.6}", problem.name, inertia(&centroids, &held_out_nd));
}

/// Processor time of this process so far, in seconds; 0 where the system doesn't tell.
fn of_all_threads() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // User and system time are fields 14 and 15, in hundredths of a second; the name is field 2.
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.
}

/// A folder with the frames for the peer.
fn shared(frames_nd: &Tensor) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, width) = frames_nd.size2().expect("frames are N × D");
    let path = folder.path().join("frames.npy");
    let mut file = npy::Writer::<f32>::create(&path, Some(width as usize)).expect("a file");
    for block_nd in frames_nd.split(10_000, 0) {
        file.write(&Vec::<f32>::try_from(block_nd.reshape([-1])).expect("numbers")).expect("room on the disk");
    }
    file.finish().expect("room on the disk");
    folder
}

fn read(path: &Path) -> Tensor {
    let mut file = npy::Reader::<f32>::open(path).expect("an array");
    let numbers = file.read_all().expect("numbers");
    Tensor::from_slice(&numbers).view([file.rows() as i64, file.columns() as i64])
}

fn peer(folder: &TempDir, problem: &Problem, first_seed: usize) -> Peer {
    let path = folder.path().to_str().expect("a path that is text");
    let arguments = [path, &problem.clusters.to_string(), &first_seed.to_string()];
    Peer::start("model/benches/peers/kmeans.py", &arguments, threads())
}

/// A number of the command line.
fn number(flag: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != flag).skip(1);
    arguments.next().map(|count| count.parse().expect("a number"))
}
