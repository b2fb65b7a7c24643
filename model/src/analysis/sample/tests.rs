use proptest::prelude::*;

use super::*;

const GRID: Grid = Grid { stride: 320, window: 400, width: 2 };

/// An utterance, and from which sample to which each label is said.
type Row<'a> = (&'a str, &'a [(u64, u64, &'a str)]);

fn tier(rows: &[Row]) -> Tier {
    let interval =
        |(start, end, label): &(u64, u64, &str)| Interval { start: *start, end: *end, label: (*label).into() };
    rows.iter().map(|(utterance, intervals)| ((*utterance).into(), intervals.iter().map(interval).collect())).collect()
}

fn tokens(minimum: u64, maximum: u64) -> TokenRange {
    let count = |value: u64| value.try_into().unwrap();
    TokenRange { minimum: count(minimum), maximum: count(maximum) }
}

fn words(count: usize, also: &str) -> Tier {
    let mut tier = tier(&[("z", &[(0, 1600, "rare"), (1600, 3200, also), (3200, 4800, "")])]);
    for number in 0..count {
        let intervals = [("The", 0), ("cat", 1600), ("<unk>", 3200)];
        let interval = |(label, start): (&str, u64)| Interval { start, end: start + 1600, label: label.into() };
        tier.insert(format!("a{number:03}"), intervals.map(interval).into());
    }
    tier
}

#[test]
fn rare_labels_are_dropped_and_listed_and_common_ones_drawn_by_seed_and_label_alone() {
    let draw = |tier: &Tier, seed| Sample::draw(tier, word_label, tokens(2, 5), seed).unwrap();
    let (sample, other) = (draw(&words(40, "one"), 1), draw(&words(40, "other"), 1));
    assert_eq!(sample.labels, ["cat", "the"]);
    assert_eq!(sample.dropped, BTreeMap::from([("one".into(), 1), ("rare".into(), 1)]));
    assert_eq!(sample.segments, other.segments);
    assert_ne!(sample.segments, draw(&words(40, "one"), 2).segments);
    let strata = sample.strata();
    assert_eq!([0, 1].map(|label| strata.iter().filter(|found| **found == label).count()), [5, 5]);
    assert!(Sample::draw(&words(1, "one"), word_label, tokens(2, 5), 1).is_err());
}

#[test]
fn phones_lose_stress_and_silence_is_none() {
    let found = ["AH0", "AH", "sil", "", "spn", "K"].map(phone_label);
    assert_eq!(found, [Some("AH".into()), Some("AH".into()), None, None, None, Some("K".into())]);
}

#[test]
fn a_layer_s_own_frame_rate_says_which_frames_a_segment_has() {
    let segment = Segment { start: 520, end: 1480, label: 0 };
    assert_eq!(GRID.frames_of(&segment, Portion::Whole, 100), 1..4);
    assert_eq!(GRID.frames_of(&segment, Portion::MiddleThird, 100), 2..3);
    assert_eq!(Grid { stride: 640, ..GRID }.frames_of(&segment, Portion::Whole, 100), 1..2);
    let short = Segment { start: 530, end: 600, label: 0 };
    assert_eq!(GRID.frames_of(&short, Portion::Whole, 100), 1..2);
    assert_eq!(GRID.frames_of(&Segment { start: 31_000, end: 32_000, label: 0 }, Portion::Whole, 90), 89..90);
}

proptest! {
    #[test]
    fn abutting_segments_share_no_frame_and_lose_none(cuts in prop::collection::btree_set(1u64..100, 1..20), stride in 1u64..4) {
        let grid = Grid { stride: stride * 320, ..GRID };
        let cuts: Vec<u64> = cuts.into_iter().map(|cut| cut * grid.stride).collect();
        let frames = 101;
        let mut next = grid.frames_of(&Segment { start: 0, end: cuts[0], label: 0 }, Portion::Whole, frames).end;
        for pair in cuts.windows(2) {
            let found = grid.frames_of(&Segment { start: pair[0], end: pair[1], label: 0 }, Portion::Whole, frames);
            prop_assert_eq!(found.start, next);
            for t in found.clone() {
                prop_assert!((pair[0]..pair[1]).contains(&(t * grid.stride + 200)));
            }
            next = found.end;
        }
    }

    #[test]
    fn the_middle_third_is_within_the_segment_and_never_empty(start in 0u64..10_000, samples in 1u64..20_000) {
        let segment = Segment { start, end: start + samples, label: 0 };
        let (whole, middle) = (GRID.frames_of(&segment, Portion::Whole, 99), GRID.frames_of(&segment, Portion::MiddleThird, 99));
        prop_assert!(whole.start <= middle.start && middle.start < middle.end && middle.end <= whole.end);
        prop_assert!(middle.end <= 99);
    }

    #[test]
    fn pooling_piece_by_piece_is_the_mean_of_the_whole(piece in 1i64..60) {
        let sample = Sample::draw(&words(3, "one"), word_label, tokens(2, 9), 1).unwrap();
        let grids = [GRID, Grid { stride: 640, ..GRID }];
        let mut pool = Pool::new(&sample, Portion::Whole, &grids);
        let mut expected = [Vec::new(), Vec::new()];
        // From the last to the first: the order in which utterances are given says nothing.
        for (number, utterance) in sample.segments.keys().enumerate().rev() {
            prop_assert!(pool.wants(utterance));
            pool.begin(utterance, 4800, &[14, 7]).unwrap();
            for (layer, frames) in [(0, 14i64), (1, 7)] {
                let states = Tensor::arange(2 * frames, (Kind::Float, Device::Cpu)).view([frames, 2]) + number as f64;
                for part in states.split(piece, 0) {
                    pool.add(layer, &part).unwrap();
                }
                for segment in sample.segments[utterance].iter().rev() {
                    let range = grids[layer].frames_of(segment, Portion::Whole, frames as u64);
                    let part = states.slice(0, range.start as i64, range.end as i64, 1);
                    expected[layer].push(part.mean_dim([0].as_slice(), false, Kind::Float));
                }
            }
            pool.end().unwrap();
            prop_assert!(!pool.wants(utterance));
        }
        for (found, expected) in pool.finish().unwrap().iter().zip(&expected) {
            let away = (found - Tensor::stack(expected, 0).flip([0])).abs().max().double_value(&[]);
            prop_assert!(away < 1e-5, "{}", away);
        }
    }
}

#[test]
fn alignments_of_other_audio_and_missing_frames_are_refused() {
    let sample = Sample::draw(&words(3, "one"), word_label, tokens(2, 9), 1).unwrap();
    let mut pool = Pool::new(&sample, Portion::Whole, &[GRID]);
    let StageError::Refused { message, help } = pool.begin("a000", 3199, &[9]).unwrap_err() else { panic!() };
    insta::assert_snapshot!(format!("{message}\n{}", help.unwrap()), @r"
    a000: a segment from sample 1600 to 3200 of 3199
    the alignment is of other audio, or empty there: align this utterance anew or leave it out
    ");
    assert!(pool.begin("nobody", 4800, &[14]).is_err());
    assert!(pool.begin("a000", 4800, &[0]).is_err());
    pool.begin("a000", 4800, &[14]).unwrap();
    assert!(pool.add(0, &Tensor::zeros([3, 3], (Kind::Float, Device::Cpu))).is_err());
    pool.add(0, &Tensor::zeros([3, 2], (Kind::Float, Device::Cpu))).unwrap();
    assert!(pool.end().is_err());
    assert!(pool.finish().is_err());
}
