//! MFCC, differences and log-mel against torchaudio's Kaldi-compatible ones.

use std::collections::BTreeMap;
use std::path::Path;

use reprise_model::features::{LogMel, Mfcc};
use tch::{Device, Tensor};

fn fixtures() -> Vec<(String, BTreeMap<String, Tensor>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/features");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, Tensor::read_npz(path).unwrap().into_iter().collect())
    };
    files.iter().map(|path| read(path)).collect()
}

fn check(name: &str, ours_btd: &Tensor, theirs_td: &Tensor) {
    assert_eq!(ours_btd.squeeze_dim(0).size(), theirs_td.size(), "{name}");
    let worst = (ours_btd.squeeze_dim(0) - theirs_td).abs().max().double_value(&[]);
    // Logarithms of quiet bins hang on what rounding in the loud ones leaves, which is another on each class of processor: most beside a clean tone.
    let allowed = if name.starts_with("tone") { 0.05 } else { 5e-3 };
    assert!(worst <= allowed, "{name}: off by {worst}");
}

#[test]
fn mfcc_with_deltas_is_torchaudio_s() {
    let mfcc = Mfcc::new(Device::Cpu);
    assert_eq!(fixtures().len(), 8);
    for (name, arrays) in fixtures() {
        check(&name, &mfcc.with_deltas(&arrays["wave"].unsqueeze(0)), &arrays["mfcc"]);
    }
}

#[test]
fn log_mel_is_torchaudio_s_at_several_numbers_of_bins() {
    for bins in [23, 40, 80] {
        let log_mel = LogMel::new(bins, Device::Cpu);
        for (name, arrays) in fixtures() {
            check(
                &format!("{name}, {bins} bins"),
                &log_mel.forward(&arrays["wave"].unsqueeze(0)),
                &arrays[&format!("fbank-{bins}")],
            );
        }
    }
}

#[test]
fn a_batch_gives_what_its_waves_give_alone() {
    let mfcc = Mfcc::new(Device::Cpu);
    let waves: Vec<Tensor> = fixtures().into_iter().map(|(_, arrays)| arrays["wave"].narrow(0, 0, 400)).collect();
    let batch_btd = mfcc.with_deltas(&Tensor::stack(&waves, 0));
    for (index, wave) in waves.iter().enumerate() {
        let alone_btd = mfcc.with_deltas(&wave.unsqueeze(0));
        assert!(batch_btd.narrow(0, index as i64, 1).allclose(&alone_btd, 1e-5, 1e-4, false), "wave {index}");
    }
}
