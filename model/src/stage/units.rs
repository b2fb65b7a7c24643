//! `units`: fits a codebook and labels splits with it, in one pass over the frames.

mod fitting;

use std::collections::BTreeMap;
use std::ops::Range;

use reprise_spec::contract::{Level, Score};
use reprise_spec::stage::UnitsStage;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use self::fitting::{Fitting, Gathering, HELD};
use super::Work;
use crate::failure::StageError;
use crate::kmeans::{Centroids, Fit, Moment};
use crate::labels::{Codebook, LabelWriter, Units};
use crate::npy;
use crate::quality::entropy;
use crate::random::Draws;
use crate::report::Reporter;
use crate::source::{Source, Span};

/// Frames that a codebook is fitted on at most: a tenth of LibriSpeech, which is what HuBERT's codebooks were fitted on, has as many at
/// 100 a second.
const FIT_FRAMES: usize = 40_000_000;

/// Executes the stage. Every utterance is labelled by itself, so that its labels do not depend on its neighbours.
pub fn run(settings: &UnitsStage, work: &mut Work) -> Result<Vec<Score>, StageError> {
    let seed = work.seed()?;
    let mut splits = settings.fit_on.clone();
    splits.extend(settings.label.iter().filter(|split| !settings.fit_on.contains(split)).cloned());
    let mut source = Source::open(settings.source, &splits, work)?;
    let chosen = utterances_to_fit(&source.spans, settings, seed, FIT_FRAMES);
    let (fitting, rows) = gather(&mut source, &chosen, work)?;
    let clusters = settings.clusters.get() as usize;
    let fit = fit(settings, seed, &fitting, work)?;

    let units = Units {
        clusters: settings.clusters.get(),
        rate: source.rate(),
        source: settings.source,
        fit_on: settings.fit_on.clone(),
    };
    let codebook = Codebook { units, centroids: fit.centroids };
    let out = work.output("");
    codebook.write(&out)?;
    let mut writer = LabelWriter::default();
    let (mut distance, mut held_out) = (0., 0);
    let mut finished = work.finished("labels")?;
    for index in 0..source.spans.len() {
        work.report.check_stop()?;
        if index >= finished.count() {
            let frames_td = match rows.get(&index) {
                Some(rows) => fitting.rows(rows)?,
                None => source.read(index)?,
            };
            let assignment = codebook.centroids.assign(&frames_td);
            finished.push(&[assignment.inertia().to_le_bytes().to_vec(), npy::bytes(&assignment.labels())].concat())?;
        }
        let record = finished.read(index)?;
        let (inertia, labels) = record.split_at(size_of::<f64>().min(record.len()));
        let Span { split, id, frames, .. } = &source.spans[index];
        writer.push(split, id, &npy::numbers(labels));
        if !settings.fit_on.contains(split) {
            distance += inertia.try_into().map_or(f64::NAN, f64::from_le_bytes);
            held_out += frames;
        }
        work.report.progress(index as u64 + 1, source.spans.len() as u64, "utterances", "labelling");
    }
    writer.write(&out)?;

    let dead = fit.usage.iter().filter(|count| **count == 0).count();
    let mut scores = vec![
        ("frames", fitting.count() as f64),
        ("inertia", fit.inertia),
        ("dead-clusters", dead as f64),
        ("usage-perplexity", entropy(&fit.usage).exp()),
    ];
    if held_out > 0 {
        scores.push(("inertia-held-out", distance / held_out as f64));
    }
    if dead > 0 {
        let message = format!("{dead} of {clusters} clusters have none of the frames that the codebook was fitted on");
        work.report.say(Level::Warning, message);
    }
    Ok(scores.into_iter().map(|(name, value)| Score { name: name.into(), value, interval: None }).collect())
}

/// Which utterances fit the codebook: of each split the share that the settings say, rounded up, drawn by (seed, split); and where they have
/// more than `most` frames together, as many of them in random order as fit.
fn utterances_to_fit(spans: &[Span], settings: &UnitsStage, seed: u64, most: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    for split in &settings.fit_on {
        let of_split: Vec<usize> = (0..spans.len()).filter(|&index| &spans[index].split == split).collect();
        let count = (settings.fit.get() * of_split.len() as f64).ceil() as u64;
        let drawn = Draws::new(seed, "utterances that fit units", &[], split.as_str());
        chosen.extend(drawn.clone().distinct(count, of_split.len() as u64).into_iter().map(|at| of_split[at as usize]));
    }
    if chosen.iter().map(|&index| spans[index].frames).sum::<usize>() > most {
        Draws::new(seed, "utterances that fit into memory", &[], "").shuffle(&mut chosen);
        let mut room = most;
        chosen.retain(|&index| match room.checked_sub(spans[index].frames) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        });
        chosen.sort_unstable();
    }
    chosen
}

/// Fits the codebook, or takes what an earlier attempt has fitted.
fn fit(settings: &UnitsStage, seed: u64, fitting: &Fitting, work: &mut Work) -> Result<Fit, StageError> {
    /// What is kept of a fit beside the centroids.
    #[derive(Serialize, Deserialize)]
    struct Kept {
        shape: (i64, i64),
        inertia: u64,
        usage: Vec<u64>,
    }
    let damaged = |error: serde_json::Error| StageError::Failed(format!("the fitted codebook can't be used: {error}"));
    let mut finished = work.finished("codebook")?;
    if finished.count() == 2 {
        let centroids: Vec<f32> = npy::numbers(&finished.read(0)?);
        let Kept { shape, inertia, usage } = serde_json::from_slice(&finished.read(1)?).map_err(damaged)?;
        let centroids = Tensor::f_from_slice(&centroids)?.f_view(shape)?.f_to_device(work.device)?;
        return Ok(Fit { centroids: Centroids::new(&centroids), inertia: f64::from_bits(inertia), usage });
    }
    let clusters = settings.clusters.get() as usize;
    let mut watch = |moment| show(moment, &mut work.report);
    let fit = fitting.fit(clusters, &settings.clustering, seed, &mut watch)?;
    let centroids = fit.centroids.tensor().to_device(tch::Device::Cpu);
    let kept = Kept { shape: centroids.size2()?, inertia: fit.inertia.to_bits(), usage: fit.usage.clone() };
    if finished.count() == 0 {
        finished.push(&npy::bytes(&Vec::<f32>::try_from(centroids.reshape([-1]))?))?;
    }
    finished.push(&serde_json::to_vec(&kept).map_err(damaged)?)?;
    Ok(fit)
}

/// Reads the chosen utterances, and returns their frames with the rows of each of them. Frames of a layer, which take a pass through a
/// network, are kept for a further attempt; features are read again as fast.
fn gather(
    source: &mut Source,
    chosen: &[usize],
    work: &mut Work,
) -> Result<(Fitting, BTreeMap<usize, Range<usize>>), StageError> {
    let total: usize = chosen.iter().map(|&index| source.spans[index].frames).sum();
    let mut gathering = Gathering::new(total, HELD, &work.request.work, work.device);
    let (mut rows, mut end) = (BTreeMap::new(), 0);
    let mut finished = match source.passes_through_a_network() {
        true => Some(work.finished("frames")?),
        false => None,
    };
    for (done, &index) in chosen.iter().enumerate() {
        work.report.check_stop()?;
        let frames_td = match &mut finished {
            Some(finished) if done < finished.count() => {
                let numbers: Vec<f32> = npy::numbers(&finished.read(done)?);
                let frames = source.spans[index].frames as i64;
                Tensor::f_from_slice(&numbers)?.f_view([frames, -1])?.f_to_device(work.device)?
            }
            Some(finished) => {
                let frames_td = source.read(index)?;
                let on_cpu = frames_td.to_device(tch::Device::Cpu).to_kind(Kind::Float).reshape([-1]);
                finished.push(&npy::bytes(&Vec::<f32>::try_from(on_cpu)?))?;
                frames_td
            }
            None => source.read(index)?,
        };
        let count = frames_td.size()[0] as usize;
        gathering.push(&frames_td)?;
        rows.insert(index, end..end + count);
        end += count;
        work.report.progress(done as u64 + 1, chosen.len() as u64, "utterances", "reading frames to fit");
    }
    Ok((gathering.finish()?, rows))
}

/// Shows how far the fit is and logs its inertia.
fn show(moment: Moment, report: &mut Reporter) -> Result<(), StageError> {
    report.check_stop()?;
    let (done, total, unit, inertia) = match moment {
        Moment::Seeding { done, total } => (done, total, "centres", None),
        Moment::Start { done, total, inertia } => (done, total, "starts", Some(("start/inertia", inertia))),
        Moment::Batch { done, total, inertia } => (done, total, "batches", Some(("batch/inertia", inertia))),
        Moment::Pass { done, total, inertia } => (done, total, "passes", Some(("pass/inertia", inertia))),
    };
    let note = inertia.map_or("k-means++".to_owned(), |(_, inertia)| format!("inertia {inertia:.4}"));
    report.progress(done, total, unit, &note);
    inertia.map_or(Ok(()), |(name, inertia)| report.metric(name, done, inertia))
}

#[cfg(test)]
mod tests {
    use reprise_spec::values::SplitName;

    use super::*;

    fn split(name: &str) -> SplitName {
        SplitName::try_from(name.to_owned()).unwrap()
    }

    fn chosen(fit: f64, seed: u64, most: usize) -> Vec<usize> {
        let settings: UnitsStage = serde_json::from_value(serde_json::json!({
            "source": { "layer": { "height": 3, "after-final-norm": false } }, "clusters": 10, "clustering": {}, "fit": fit, "fit-on": ["a", "c"], "label": ["b"],
        }))
        .unwrap();
        let span = |index: usize| Span {
            split: split(["a", "b", "c"][index / 10]),
            id: index.to_string(),
            frames: 100,
            measured: 50,
        };
        utterances_to_fit(&(0..30).map(span).collect::<Vec<_>>(), &settings, seed, most)
    }

    #[test]
    fn a_share_of_each_fitted_split_is_drawn_by_seed() {
        let some = chosen(0.25, 1, 10_000);
        assert_eq!(some.iter().filter(|index| **index < 10).count(), 3);
        assert_eq!(some.iter().filter(|index| **index >= 20).count(), 3);
        assert_eq!(some.len(), 6);
        assert_eq!(some, chosen(0.25, 1, 10_000));
        assert_ne!(some, chosen(0.25, 2, 10_000));
        assert_eq!(chosen(1., 1, 10_000), (0..10).chain(20..30).collect::<Vec<_>>());
    }

    #[test]
    fn more_frames_than_fit_into_memory_are_thinned_by_utterance() {
        let some = chosen(1., 1, 750);
        assert_eq!(some.len(), 7);
        assert!(some.is_sorted() && some.iter().all(|index| !(10..20).contains(index)));
        assert_ne!(some, chosen(1., 2, 750));
    }
}
