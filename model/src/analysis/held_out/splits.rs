//! Which samples a trial is fitted, chosen and scored on.

use std::collections::BTreeMap;

use super::Settings;
use crate::failure::StageError;
use crate::random::Draws;

/// Which samples a trial uses for what, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<i64>,
    pub dev: Vec<i64>,
    pub test: Vec<i64>,
}

/// The fold of each sample: each label's samples in random order, dealt evenly from a random fold on.
pub fn folds(strata: &[u32], count: usize, seed: u64) -> Vec<usize> {
    let mut by_label = BTreeMap::<u32, Vec<usize>>::new();
    for (sample, label) in strata.iter().enumerate() {
        by_label.entry(*label).or_default().push(sample);
    }
    let mut folds = vec![0; strata.len()];
    for (label, mut samples) in by_label {
        let mut draws = Draws::new(seed, "analysis folds", &[u64::from(label)], "");
        draws.shuffle(&mut samples);
        let first = draws.below(count as u64) as usize;
        for (place, sample) in samples.into_iter().enumerate() {
            folds[sample] = (first + place) % count;
        }
    }
    folds
}

/// The trials' splits: no two share a fold to choose on or to be scored on.
///
/// # Errors
/// No trial, fewer than three folds or than two a trial.
pub fn splits(folds: &[usize], settings: &Settings, seed: u64) -> Result<Vec<Split>, StageError> {
    if settings.trials == 0 || settings.folds < 3 || settings.folds < 2 * settings.trials {
        return Err(StageError::refused(
            format!("{} trials on {} folds", settings.trials, settings.folds),
            "ask for at least one trial, three folds, and two folds a trial",
        ));
    }
    let mut order: Vec<usize> = (0..settings.folds).collect();
    Draws::new(seed, "analysis trials", &[], "").shuffle(&mut order);
    let within = |wanted: &dyn Fn(usize) -> bool| -> Vec<i64> {
        (0..).zip(folds).filter(|(_, fold)| wanted(**fold)).map(|(sample, _)| sample).collect()
    };
    let split = |pair: &[usize]| Split {
        train: within(&|fold| !pair.contains(&fold)),
        dev: within(&|fold| fold == pair[0]),
        test: within(&|fold| fold == pair[1]),
    };
    Ok(order.chunks_exact(2).take(settings.trials).map(split).collect())
}
