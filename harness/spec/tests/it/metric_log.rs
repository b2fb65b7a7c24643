//! The metric log under torn tails, flipped bytes and further attempts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reprise_spec::metrics::{Encoder, Log, RECORD};

type Points = Vec<(String, u64, f64)>;

fn points() -> impl Strategy<Value = Points> {
    let name = prop_oneof![Just("loss".to_owned()), Just("masked-accuracy".to_owned()), "[a-zé/-]{0,20}"];
    let value = any::<f64>().prop_filter("comparable", |value| !value.is_nan());
    proptest::collection::vec((name, 0u64..1_000_000, value), 0..40)
}

/// The log of the points, and the number of whole points after every record.
fn written(points: &Points) -> (Vec<u8>, Vec<usize>) {
    let (mut encoder, mut log, mut whole) = (Encoder::default(), Vec::new(), vec![0]);
    for (index, (name, step, value)) in points.iter().enumerate() {
        log.extend(encoder.point(name, *step, *value));
        let records = log.len() / RECORD + 1;
        whole.resize(records, index);
        whole[records - 1] = index + 1;
    }
    (log, whole)
}

fn series(points: &[(String, u64, f64)]) -> BTreeMap<String, BTreeMap<u64, f64>> {
    let mut series: BTreeMap<String, BTreeMap<u64, f64>> = BTreeMap::new();
    for (name, step, value) in points {
        series.entry(name.clone()).or_default().insert(*step, *value);
    }
    series
}

proptest! {
    #[test]
    fn what_is_written_is_read(points in points()) {
        let log = Log::decode(&written(&points).0);
        prop_assert_eq!(log.series, series(&points));
        prop_assert_eq!(log.damaged, 0);
        prop_assert_eq!(log.attempts, u32::from(!points.is_empty()));
    }

    #[test]
    fn a_torn_log_loses_its_tail_only(points in points(), cut in any::<prop::sample::Index>()) {
        let (log, whole) = written(&points);
        let kept = cut.index(log.len() + 1);
        let read = Log::decode(&log[..kept]);
        prop_assert_eq!(read.series, series(&points[..whole[kept / RECORD]]));
    }

    #[test]
    fn a_flipped_byte_damages_one_record_or_one_name(points in points(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (mut log, _) = written(&points);
        prop_assume!(!log.is_empty());
        let at = at.index(log.len());
        log[at] ^= flip;
        let (read, all) = (Log::decode(&log), series(&points));
        prop_assert!(read.damaged >= 1);
        let mut lost = Vec::new();
        for (name, series) in &all {
            match read.series.get(name) {
                None => lost.push((name, series.len())),
                Some(kept) if kept != series => lost.push((name, 1)),
                Some(_) => {}
            }
        }
        prop_assert!(lost.len() <= 1, "{:?}", lost);
        prop_assert!(read.series.keys().all(|name| all.contains_key(name)), "a name that was never written");
    }

    #[test]
    fn a_later_attempt_supersedes_what_lies_beyond_its_start(points in points(), more in points(), from in 0u64..1_000_000) {
        let mut log = written(&points).0;
        let mut encoder = Encoder::continuing(&Log::decode(&log));
        log.extend(encoder.attempt(2, from));
        for (name, step, value) in &more {
            log.extend(encoder.point(name, *step, *value));
        }
        let mut kept: Points = points.into_iter().filter(|(_, step, _)| *step <= from).collect();
        kept.extend(more);
        let mut read = Log::decode(&log);
        read.series.retain(|_, series| !series.is_empty());
        prop_assert_eq!(read.series, series(&kept));
        prop_assert_eq!(read.attempts, 2);
        prop_assert_eq!(read.damaged, 0);
    }
}
