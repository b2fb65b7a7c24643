//! HuBERT BASE pretraining on one NVIDIA GPU in bfloat16 beside `transformers` under `torch.compile`, at the published batch: 2,800 s of audio a
//! step, here in 16 passes of 175 s. Without such a GPU it says so and measures nothing.
//!
//! `cargo xtask bench gpu`.

use reprise_model::shim;
use reprise_spec::network::{FrontEnd, Network};
use tch::{Cuda, Device, Tensor};

#[path = "../../harness/benches/versus/mod.rs"]
mod versus;

mod step;

use step::{Case, Ours};
use versus::{Bound, Measured, Peer, Record, Value, compare, timed};

/// Audio seconds that a second has to train on.
const WANTED: f64 = 3_000.0;
/// Products of bfloat16 in dense matrices, operations a second: the data sheet of the H100 and the H200 as modules.
const PEAK: f64 = 989e12;

fn main() {
    if let Err(error) = shim::load_cuda(0) {
        return println!("gpu: left out: {error}");
    }
    // As the trainer has it.
    shim::set_deterministic(true).expect("libtorch's switches");
    let case = Case {
        device: Device::Cuda(0),
        passes: 16,
        rows: 14,
        samples: 200_000,
        ..Case::base("gpu", "HuBERT BASE pretraining on one GPU, 16 passes of 175 s, bf16", true)
    };
    let mut record = Record::new(versus::threads());
    record.processor = format!("{} beside {}", card(), record.processor);
    let audio = case.passes as f64 * case.rows as f64 * case.samples as f64 / 16_000.0;
    let operations = case.passes as f64 * operations(&case);
    let told = |mut measured: Measured| {
        let seconds = measured["seconds"];
        measured.insert("audio-seconds-a-second".into(), audio / seconds);
        measured.insert("share-of-peak".into(), operations / seconds / PEAK);
        measured
    };
    let mut peer = Peer::start("model/benches/peers/training.py", &[case.name], versus::threads());
    let mut ours = Ours::new(case.clone());
    ours.step();
    ours.step();
    let mut found =
        compare(case.what, "transformers, compiled", case.wanted, case.rounds, &mut peer, || ours.measure());
    [&mut found.ours, &mut found.theirs].into_iter().for_each(|turns| *turns = turns.drain(..).map(told).collect());
    for (turn, parts) in found.ours.iter_mut().zip(std::iter::repeat_with(|| parts(&mut ours, &case))) {
        turn.extend(parts);
    }
    let measured = versus::median(&found.ours, "audio-seconds-a-second");
    let peer = format!("{:.0}", versus::median(&found.theirs, "audio-seconds-a-second"));
    println!("{measured:.0} audio-seconds a second (wanted {WANTED}); the peer {peer}");
    let (what, unit) = (format!("{}, audio a second", case.what), "s".into());
    record.values.push(Value { what, unit, measured, bound: Bound::AtLeast(WANTED), peer });
    record.comparisons.push(found);
    record.keep("gpu");
}

/// The name and the driver of the first GPU.
fn card() -> String {
    let asked = ["--id=0", "--query-gpu=name,driver_version", "--format=csv,noheader"];
    let output =
        std::process::Command::new("nvidia-smi").args(asked).output().expect("nvidia-smi comes with the driver");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Seconds of a step by part, each waited for.
fn parts(ours: &mut Ours, case: &Case) -> Measured {
    let wait = || {
        if let Device::Cuda(index) = case.device {
            Cuda::synchronize(index as i64);
        }
    };
    let mut seconds = [0.0; 3];
    let mut timed = |part: usize, work: &mut dyn FnMut()| {
        let ((), measured) = timed(|| {
            work();
            wait();
        });
        seconds[part] += measured["seconds"];
    };
    for _ in 0..case.passes {
        let mut loss = Tensor::new();
        timed(0, &mut || loss = ours.forward());
        timed(1, &mut || loss.backward());
    }
    timed(2, &mut || ours.optimise());
    ["forward-seconds", "backward-seconds", "optimiser-seconds"].map(String::from).into_iter().zip(seconds).collect()
}

/// Operations in products of a pass forward and backward, three times those forward, as if every frame went through every layer.
fn operations(case: &Case) -> f64 {
    let Network { front_end: FrontEnd::Wave(wave), encoder, .. } = &case.network else {
        unreachable!("BASE has a wave")
    };
    let channels = wave.channels.get() as f64;
    let (mut frames, mut inputs, mut sum) = (case.samples as f64, 1.0, 0.0);
    for (kernel, stride) in wave.kernels.iter().zip(&wave.strides) {
        let kernel = f64::from(kernel.get());
        frames = ((frames - kernel) / f64::from(stride.get())).floor() + 1.0;
        sum += frames * channels * inputs * kernel;
        inputs = channels;
    }
    let [width, inner, layers] =
        [encoder.width, encoder.feed_forward, encoder.layers].map(|count| f64::from(count.get()));
    let (kernel, groups) = (f64::from(encoder.positional.kernel.get()), f64::from(encoder.positional.groups.get()));
    sum += frames * (channels * width + width * width / groups * kernel);
    sum += layers * frames * (4.0 * width * width + 2.0 * width * inner + 2.0 * frames * width);
    3.0 * 2.0 * sum * case.rows as f64
}
