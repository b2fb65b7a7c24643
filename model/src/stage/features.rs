//! `features`: MFCC or log-mel of every utterance of a split, in the order of the corpus.

use reprise_spec::contract::Score;
use reprise_spec::stage::{FeaturesStage, Role};
use tch::{Device, Kind, Tensor};

use super::Work;
use crate::corpus::Corpus;
use crate::failure::StageError;
use crate::features::Extractor;
use crate::npy;

/// Utterances that are computed before they are written.
const GROUP: usize = 64;

/// Executes the stage.
///
/// Each utterance is computed by itself on one thread, so that its numbers depend neither on its neighbours nor on how many threads
/// work side by side.
pub fn run(settings: &FeaturesStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let dir = work.request.inputs.iter().find(|input| matches!(input.role, Role::Corpus(_)));
    let dir = &dir.ok_or_else(|| StageError::Failed("the request has no corpus".into()))?.path;
    let corpus = Corpus::read_once(dir, work.data_root()?)?;
    let threads = work.request.threads.max(1);
    let mut extractors: Vec<_> = (0..threads).map(|_| Extractor::new(settings.kind, work.device)).collect();
    let dimensions = extractors[0].dimensions();
    let mut finished = work.finished("features")?;
    let total = corpus.utterances.len();
    for group in corpus.utterances[finished.count().min(total)..].chunks(GROUP) {
        work.report.check_stop()?;
        let wave = |index: usize| corpus.wave(&group[index]);
        for (utterance, features) in group.iter().zip(side_by_side(&mut extractors, group.len(), wave, work.device)) {
            let features = features?;
            if let Some(at) = features.iter().position(|number| !number.is_finite()) {
                return Err(StageError::Failed(format!("frame {} of {} is not finite", at / dimensions, utterance.id)));
            }
            finished.push(&npy::bytes(&features))?;
        }
        work.report.progress(finished.count() as u64, total as u64, "utterances", "");
    }
    let mut file = npy::Writer::create(&work.output("features.npy"), Some(dimensions))?;
    let mut lengths = "id\tframes\n".to_owned();
    for (index, utterance) in corpus.utterances.iter().enumerate() {
        work.report.check_stop()?;
        let features: Vec<f32> = npy::numbers(&finished.read(index)?);
        file.write(&features)?;
        lengths.push_str(&format!("{}\t{}\n", utterance.id, features.len() / dimensions));
    }
    let frames = file.finish()?;
    work.write("utterances.tsv", lengths.as_bytes())?;
    let score = |name: &str, value: f64| Score { name: name.into(), value, interval: None };
    Ok(vec![score("frames", frames as f64), score("dimensions", dimensions as f64)])
}

/// The features of `count` waves, with one thread for each extractor. `wave` gives them by number.
///
/// # Errors
/// Of each wave by itself: it can't be had.
pub fn side_by_side<W: AsRef<[f32]>>(
    extractors: &mut [Extractor],
    count: usize,
    wave: impl Fn(usize) -> Result<W, StageError> + Sync,
    device: Device,
) -> Vec<Result<Vec<f32>, StageError>> {
    let threads = extractors.len();
    let wave = &wave;
    std::thread::scope(|scope| {
        let workers: Vec<_> = extractors
            .iter_mut()
            .enumerate()
            .map(|(worker, extractor)| {
                scope.spawn(move || {
                    tch::set_num_threads(1);
                    let mine = (0..count).skip(worker).step_by(threads);
                    mine.map(|index| numbers(extractor, wave(index)?.as_ref(), device)).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut parts: Vec<_> = workers.into_iter().map(|w| w.join().unwrap_or_default().into_iter()).collect();
        let lost = || Err(StageError::Failed("a thread that computed features panicked".into()));
        (0..count).map(|index| parts[index % threads].next().unwrap_or_else(lost)).collect()
    })
}

/// All frames of one wave, one after the other.
fn numbers(extractor: &Extractor, wave: &[f32], device: Device) -> Result<Vec<f32>, StageError> {
    let wave_bs = Tensor::f_from_slice(wave)?.f_to_device(device)?.unsqueeze(0);
    let features_btd = tch::no_grad(|| extractor.forward(&wave_bs)).to_device(Device::Cpu);
    Ok(Vec::try_from(features_btd.to_kind(Kind::Float).reshape([-1]))?)
}

/// The features of a wave, T × D on the CPU, to the bit what the stage stores: computed on one thread.
pub fn of_wave(extractor: &mut Extractor, wave: &[f32], device: Device) -> Result<Tensor, StageError> {
    let dimensions = extractor.dimensions() as i64;
    let features = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            tch::set_num_threads(1);
            numbers(extractor, wave, device)
        });
        worker.join().unwrap_or_else(|_| Err(StageError::Failed("a thread that computed features panicked".into())))
    })?;
    Ok(Tensor::f_from_slice(&features)?.f_view([-1, dimensions])?)
}
