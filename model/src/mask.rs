//! Which positions are hidden: spans over frames, or over channels.
//!
//! Pure functions of their draws, on the CPU, so that every device sees the same mask.
//! Source: wav2vec 2.0 (arXiv:2006.11477) section 3.1; fairseq `compute_mask_indices` with static spans. Departs from it: draws are
//! keyed by the caller, and where a short row would be hidden whole (an error there) its last position stays visible. Hugging Face draws
//! starts up to `positions − length`, so that there the last position may be hidden: a setting.

use reprise_spec::training::{LastPosition, SpanMasking};
use tch::{Device, Tensor};

use crate::random::Draws;

/// The mask of one row of `positions`, true where hidden. Spans start at distinct positions and may overlap.
///
/// A row is never hidden whole, and its last position only where the settings say so.
pub fn row(settings: &SpanMasking, positions: u64, draws: &mut Draws) -> Vec<bool> {
    let length = u64::from(settings.length.get());
    let expected = settings.prob.get() * positions as f64 / length as f64;
    let spans = ((expected + draws.unit()) as u64).max(u64::from(settings.min_masks)).min(positions.saturating_sub(1));
    let mut hidden = vec![false; positions as usize];
    if settings.prob.get() == 0.0 || spans == 0 {
        return hidden;
    }
    let reachable = match settings.last_position {
        LastPosition::Visible => positions - 1,
        LastPosition::Maskable => positions,
    };
    let starts = (reachable + 1).saturating_sub(length).max(spans + 1);
    for start in draws.distinct(spans, starts) {
        let end = (start + length).min(reachable);
        hidden[start as usize..end as usize].fill(true);
    }
    if hidden.iter().all(|&hidden| hidden) {
        hidden[positions as usize - 1] = false;
    }
    hidden
}

/// Trims every row at random to the smallest count of hidden positions, as published; each row from its own draws.
pub fn equalise<'a>(rows: impl IntoIterator<Item = (&'a mut Vec<bool>, &'a mut Draws)>) {
    let mut rows: Vec<_> = rows.into_iter().collect();
    let count = |row: &[bool]| row.iter().filter(|&&hidden| hidden).count();
    let Some(least) = rows.iter().map(|(row, _)| count(row)).min() else { return };
    for (row, draws) in &mut rows {
        let hidden: Vec<usize> = (0..row.len()).filter(|&position| row[position]).collect();
        for pick in draws.distinct((hidden.len() - least) as u64, hidden.len() as u64) {
            row[hidden[pick as usize]] = false;
        }
    }
}

/// Masks of one batch, one row for each (positions, draws), trimmed where the settings say so.
pub fn rows(settings: &SpanMasking, of: impl IntoIterator<Item = (u64, Draws)>) -> Vec<Vec<bool>> {
    let (mut rows, mut draws): (Vec<_>, Vec<_>) =
        of.into_iter().map(|(positions, mut draws)| (row(settings, positions, &mut draws), draws)).unzip();
    if settings.equal_count {
        equalise(rows.iter_mut().zip(&mut draws));
    }
    rows
}

/// B × `width` `bool` on `device`; positions beyond a row's own (padding) are not hidden.
pub fn tensor(rows: &[Vec<bool>], width: usize, device: Device) -> Tensor {
    let mut flat = vec![false; rows.len() * width];
    for (row, space) in rows.iter().zip(flat.chunks_mut(width.max(1))) {
        space[..row.len()].copy_from_slice(row);
    }
    Tensor::from_slice(&flat).view([rows.len() as i64, width as i64]).to_device(device)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reprise_spec::values::{Count, Fraction};

    use super::*;

    fn settings(prob: f64, length: u64, min_masks: u32, equal_count: bool) -> SpanMasking {
        SpanMasking {
            prob: Fraction::try_from(prob).unwrap(),
            length: Count::try_from(length).unwrap(),
            min_masks,
            equal_count,
            ..SpanMasking::default()
        }
    }

    fn coverage(settings: &SpanMasking, positions: u64, trials: u64) -> f64 {
        let hidden: usize = (0..trials)
            .map(|trial| row(settings, positions, &mut Draws::new(1, "coverage", &[trial], "")))
            .map(|row| row.iter().filter(|&&hidden| hidden).count())
            .sum();
        hidden as f64 / (trials * positions) as f64
    }

    /// hubert.md section 0: simulated with the reference's algorithm; the standard error here is below 0.0006.
    #[test]
    fn spans_cover_as_much_as_the_reference() {
        for (prob, at_781, at_99) in
            [(0.5, 0.403, 0.411), (0.65, 0.491, 0.497), (0.75, 0.542, 0.547), (0.8, 0.566, 0.571)]
        {
            let settings = settings(prob, 10, 2, false);
            for (positions, expected, trials) in [(781, at_781, 2_000), (99, at_99, 16_000)] {
                let found = coverage(&settings, positions, trials);
                assert!((found - expected).abs() < 0.003, "p = {prob}, T = {positions}: {found} against {expected}");
            }
        }
    }

    #[test]
    fn channel_spans_cover_as_much_as_the_reference() {
        for (prob, channels, expected) in [(0.1, 768, 0.098), (0.25, 768, 0.229), (0.5, 768, 0.401), (0.5, 1024, 0.401)]
        {
            let found = coverage(&settings(prob, 64, 0, false), channels, 4_000);
            assert!((found - expected).abs() < 0.01, "p = {prob}, C = {channels}: {found} against {expected}");
        }
    }

    /// Of 30 places where one span of 1 may stand, the last is as likely as any other or never taken.
    #[test]
    fn the_last_position_is_hidden_as_often_as_others_or_never() {
        let hidden = |last_position: LastPosition| {
            let settings = SpanMasking { last_position, ..settings(0.01, 1, 1, false) };
            (0..30_000u64).filter(|&trial| row(&settings, 30, &mut Draws::new(2, "last", &[trial], ""))[29]).count()
        };
        assert_eq!(hidden(LastPosition::Visible), 0);
        assert!(hidden(LastPosition::Maskable).abs_diff(1_000) < 160, "{}", hidden(LastPosition::Maskable));
    }

    proptest! {
        #[test]
        fn the_last_position_and_padding_stay_visible(
            prob in 0.0f64..=1.0, length in 1u64..30, min_masks in 0u32..4, positions in 1u64..400, seed: u64,
        ) {
            let row = row(&settings(prob, length, min_masks, false), positions, &mut Draws::new(seed, "mask", &[], ""));
            prop_assert_eq!(row.len() as u64, positions);
            prop_assert!(!row[positions as usize - 1]);
            let mask = tensor(&[row, vec![true; 500]], 500, Device::Cpu);
            let padding = mask.get(0).narrow(0, positions as i64, 500 - positions as i64);
            prop_assert_eq!(padding.sum(tch::Kind::Int64).int64_value(&[]), 0);
        }

        #[test]
        fn a_maskable_last_position_changes_only_which_starts_are_drawn(
            prob in 0.0f64..=1.0, length in 1u64..30, min_masks in 0u32..4, positions in 1u64..400, seed: u64,
        ) {
            let maskable = SpanMasking { last_position: LastPosition::Maskable, ..settings(prob, length, min_masks, false) };
            let row = row(&maskable, positions, &mut Draws::new(seed, "mask", &[], ""));
            prop_assert_eq!(row.len() as u64, positions);
            prop_assert!(row.contains(&false));
            // Every run of hidden positions is made of whole spans, unless the row is too short for them.
            if positions > 2 * length + 4 && prob <= 0.5 {
                for run in row.split(|hidden| !hidden).filter(|run| !run.is_empty()) {
                    prop_assert!(run.len() as u64 >= length);
                }
            }
        }

        #[test]
        fn a_row_depends_on_its_own_draws_only(seed: u64, others in 0usize..5, positions in 30u64..300) {
            let settings = settings(0.65, 10, 2, false);
            let draws = |index: usize| Draws::new(seed, "mask", &[index as u64], "");
            let alone = rows(&settings, [(positions, draws(0))]);
            let among = rows(&settings, (0..=others).map(|index| (positions, draws(index))));
            prop_assert_eq!(&alone[0], &among[0]);
        }

        /// Trimming depends on which rows share a batch, and on nothing else: not on their order, nor on who draws them.
        #[test]
        fn trimmed_masks_depend_on_the_rows_of_the_batch_alone(
            seed: u64, lengths in prop::collection::vec(30u64..300, 1..6), turn in 0usize..6,
        ) {
            let settings = settings(0.8, 10, 2, true);
            let of = |index: usize| (lengths[index], Draws::new(seed, "mask", &[3], &format!("utterance {index}")));
            let mut order: Vec<usize> = (0..lengths.len()).collect();
            let serial = rows(&settings, order.iter().map(|&index| of(index)));
            order.rotate_left(turn % lengths.len());
            let elsewhere = std::thread::scope(|scope| {
                scope.spawn(|| rows(&settings, order.iter().map(|&index| of(index)))).join().unwrap()
            });
            for (place, index) in order.into_iter().enumerate() {
                prop_assert_eq!(&elsewhere[place], &serial[index]);
            }
        }

        #[test]
        fn equal_count_thins_every_row_to_the_least(seed: u64, lengths in prop::collection::vec(30u64..300, 1..6)) {
            let draws = |index: usize| Draws::new(seed, "mask", &[index as u64], "");
            let with = |equal| rows(&settings(0.8, 10, 2, equal), lengths.iter().enumerate().map(|(i, &n)| (n, draws(i))));
            let (before, after) = (with(false), with(true));
            let count = |row: &Vec<bool>| row.iter().filter(|&&hidden| hidden).count();
            let least = before.iter().map(count).min().unwrap();
            for (before, after) in before.iter().zip(&after) {
                prop_assert_eq!(count(after), least);
                prop_assert!(before.iter().zip(after).all(|(before, after)| *before || !after));
            }
        }
    }
}
