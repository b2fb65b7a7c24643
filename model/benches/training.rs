//! A training step of HuBERT on the CPU beside `transformers`: forward, loss at masked frames with the front-end's penalty, backward, clipping
//! and AdamW, on the same shapes with the same dropout.
//!
//! `cargo xtask bench training`, or a part: `cargo bench -p reprise-model --bench training -- base-fp32`.

use reprise_model::shim;
use reprise_spec::network::Network;
use reprise_spec::training::{self, Pretraining};

#[path = "../../harness/benches/versus/mod.rs"]
mod versus;

mod step;

use step::{Case, Ours};
use versus::{Comparison, Growth, Measured, Peer, Record, compare};

fn cases() -> Vec<Case> {
    let nano: serde_json::Value = serde_json::json!({
        "model": {
            "front-end": { "log-mel": { "bins": 40 } },
            "encoder": {
                "layers": 4, "width": 192, "heads": 4, "feed-forward": 768, "layer-drop": 0.0,
                "positional": { "kernel": 32, "groups": 16 },
            },
            "dropout": { "residual": 0.05, "attention": 0.0, "input": 0.05 },
        },
        "head": { "cosine": { "dimension": 64 } },
    });
    let nano_network: Network = serde_json::from_value(nano["model"].clone()).expect("the preset's network");
    let head: training::Head = serde_json::from_value(nano["head"].clone()).expect("the preset's head");
    let nano = |name, what, half| Case {
        network: nano_network.clone(),
        pretraining: Pretraining { head: head.clone(), ..Pretraining::default() },
        rows: 4,
        samples: 128_000,
        clusters: 100,
        wanted: 2.0,
        rounds: 21,
        ..Case::base(name, what, half)
    };
    vec![
        Case::base("base-fp32", "HuBERT BASE training step, 2 × 10 s, fp32", false),
        Case::base("base-bf16", "HuBERT BASE training step, 2 × 10 s, bf16", true),
        nano("nano", "nano training step, 4 × 8 s, fp32", false),
        nano("nano-bf16", "nano training step, 4 × 8 s, bf16", true),
    ]
}

fn main() {
    let threads = versus::threads();
    tch::set_num_threads(threads as i32);
    shim::keep_memory();
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(place) = arguments.iter().position(|argument| argument == POINT) {
        let numbers: Vec<i64> = arguments[place + 3..].iter().filter_map(|number| number.parse().ok()).collect();
        let point = at(numbers.try_into().expect("the numbers of a point"));
        return println!("{}", serde_json::to_string(&point).expect("numbers"));
    }
    for case in cases().into_iter().filter(|case| versus::wanted(case.name)) {
        let mut record = Record::new(threads);
        record.comparisons.push(beside(&case, threads));
        record.keep(&format!("training-{}", case.name));
    }
    if versus::wanted("growth") {
        let mut record = Record::new(threads);
        record.growth = growth();
        record.keep("training-growth");
    }
}

fn beside(case: &Case, threads: usize) -> Comparison {
    let mut ours = Ours::new(case.clone());
    let mut peer = Peer::start("model/benches/peers/training.py", &[case.name], threads);
    let first = ours.step();
    ours.step();
    let comparison = compare(case.what, "transformers", case.wanted, case.rounds, &mut peer, || ours.measure());
    assert!(comparison.ours.iter().all(|turn| turn["loss"].is_finite() && turn["loss"] < 2.0 * first));
    comparison
}

/// Rows of ten seconds; layers, width and heads of an encoder; 1 where its layers are computed again in the backward pass.
type Point = [i64; 5];

/// Seconds and memory of our steps, against the audio in a batch and against parameters.
fn growth() -> Vec<Growth> {
    let by_batch = |recompute| [1, 2, 4, 8].map(|rows| ([rows, 12, 768, 12, recompute], "audio-seconds"));
    let by_size = [[2, 4, 256, 4, 0], [2, 12, 512, 8, 0], [2, 12, 768, 12, 0], [2, 24, 1024, 16, 0]]
        .map(|point| (point, "million-parameters"));
    let grown = |what: &str, size: &str, points: &[(Point, &str)]| {
        let points = points.iter().map(|(point, size)| {
            let mut measured = apart(point);
            measured.insert("size".into(), measured[*size]);
            println!("{what}: {measured:?}");
            measured
        });
        Growth { what: what.into(), size: size.into(), points: points.collect() }
    };
    vec![
        grown("training step of HuBERT BASE, fp32", "seconds of audio in a batch", &by_batch(0)),
        grown("the same with layers computed twice (`--recompute`)", "seconds of audio in a batch", &by_batch(1)),
        grown("training step of 2 × 10 s, fp32", "million parameters", &by_size),
    ]
}

/// Measures a point in a process of its own, whose memory is that of the point alone.
fn apart(point: &Point) -> Measured {
    let program = std::env::current_exe().expect("this program");
    let arguments = [POINT.into(), "--threads".into(), versus::threads().to_string()];
    let arguments = arguments.into_iter().chain(point.iter().map(i64::to_string));
    let output = std::process::Command::new(program).args(arguments).output().expect("this program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("numbers")
}

/// The name of the part that measures one [`Point`] and prints it.
const POINT: &str = "growth-point";

fn at([rows, layers, width, heads, recompute]: Point) -> Measured {
    const STEPS: usize = 3;
    let encoder = serde_json::json!({
        "layers": layers, "width": width, "heads": heads, "feed-forward": 4 * width, "layer-drop": 0.0,
    });
    let network = serde_json::from_value(serde_json::json!({ "encoder": encoder })).expect("a network");
    let mut ours = Ours::new(Case { network, rows, recompute: recompute == 1, ..cases().swap_remove(0) });
    ours.step();
    let steps: Vec<Measured> = (0..STEPS).map(|_| ours.measure()).collect();
    let (seconds, audio) = (versus::median(&steps, "seconds"), rows as f64 * 10.0);
    let mut point = Measured::from(
        [
            ("seconds", seconds),
            ("audio-seconds", audio),
            ("audio-seconds-a-second", audio / seconds),
            ("million-parameters", ours.parameters() as f64 / 1e6),
        ]
        .map(|(name, number)| (name.to_owned(), number)),
    );
    point.extend(versus::peak_mib().map(|peak| ("peak-mib".into(), peak)));
    point
}
