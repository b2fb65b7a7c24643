//! Nearest centres without most of the distances: what was farther away than the centres have moved since can't be nearest now.
//!
//! For every frame and centre a lower bound on their distance is kept, as of the step that last looked at the frame. When the frame is looked
//! at again, each bound shrinks by the way between where the centre was then and where it is now (not by the length of its path, which grows
//! faster), and only centres whose bound is below the distance to the nearest one are compared. What is found is the nearest centre, as without bounds.
//!
//! Source: Elkan 2003 (bounds of every centre), Newling and Fleuret 2016 (mini-batches; distances between then and now).

use std::collections::VecDeque;

use super::crew::Crew;
use super::frames::{BLOCK, Frames, Nearest, Seen};
use super::matrix::{any_within, distance, dot, least, soon, subtract};

/// Frames that one thread looks at before it looks for others.
const SHARE: usize = 1024;
/// Most memory of bounds, in bytes.
const MOST: usize = 1 << 30;
/// Fewest dimensions for which a look at a bound is cheaper than the distance.
const WIDTH: usize = 128;
/// Steps of which centres are remembered.
const REMEMBERED: usize = 64;
/// What rounding may do to a squared distance, as a share of ‖x‖² + ‖c‖².
const ROUNDING: f32 = 1e-5;
/// Centres of a step, of which one in so many is compared by itself at most; if more have to be, all are, as one product.
const FEW: usize = 10;

/// Bounds of all frames, and the centres of the last steps.
pub struct Bounds {
    clusters: usize,
    /// N × K.
    lower: Vec<f32>,
    /// Of each frame, the number of the step that looked at it last, from 1 on; 0 for none.
    looked: Vec<u32>,
    nearest: Vec<u16>,
    /// Centres of the last steps, the earliest first.
    before: VecDeque<Vec<f32>>,
    remembered: usize,
    step: u32,
}

/// The part of the bounds that belongs to a share of a sample.
struct Share<'a> {
    sample: &'a [(u32, u32)],
    first: usize,
    lower: &'a mut [f32],
    looked: &'a mut [u32],
    nearest: &'a mut [u16],
}

impl Bounds {
    /// Bounds for `count` frames that are looked at every `period` steps or so; none where they wouldn't pay, or need too much memory.
    pub fn new(count: usize, width: usize, clusters: usize, period: usize) -> Option<Self> {
        let remembered = (3 * period).max(2);
        let pays = width >= WIDTH && clusters >= 2 * FEW && remembered <= REMEMBERED;
        let fits = clusters.checked_mul(count * size_of::<f32>()).is_some_and(|bytes| bytes <= MOST);
        (pays && fits).then(|| Self {
            clusters,
            lower: vec![0.; count * clusters],
            looked: vec![0; count],
            nearest: vec![0; count],
            before: VecDeque::new(),
            remembered,
            step: 0,
        })
    }

    /// The nearest centre of every frame of the sample, after one more step.
    pub fn nearest(&mut self, frames: &Frames, sample: &[(u32, u32)], centres: &Seen, crew: &Crew) -> Nearest {
        self.step += 1;
        let (step, clusters, width) = (self.step, self.clusters, frames.width());
        let moved = crew.each(&self.before, |before| {
            let pairs = before.chunks_exact(width).zip(centres.numbers.chunks_exact(width));
            pairs.map(|(then, now)| distance(then, now).sqrt() * (1. + ROUNDING)).collect::<Vec<_>>()
        });
        let earliest = step - moved.len() as u32;
        let look = |share: Share| {
            let Share { sample, first, lower, looked, nearest } = share;
            let mut found = vec![(0, 0.); sample.len()];
            let (mut open, mut frame) = (Vec::new(), vec![0.; width]);
            for (at, &(row, _)) in sample.iter().enumerate() {
                if let Some(&(next, _)) = sample.get(at + 1) {
                    let local = next as usize - first;
                    soon(frames.given(next as usize));
                    soon(&lower[local * clusters..(local + 1) * clusters]);
                }
                let local = row as usize - first;
                let lower = &mut lower[local * clusters..(local + 1) * clusters];
                let since = looked[local].checked_sub(earliest).filter(|_| looked[local] > 0);
                let moved = since.and_then(|since| moved.get(since as usize));
                looked[local] = step;
                let known = moved.and_then(|moved| {
                    by_bounds(frames, row as usize, &mut frame, nearest[local], lower, moved, centres)
                });
                match known {
                    Some(known) => (nearest[local], found[at]) = (known.0, known),
                    None => open.push(at),
                }
            }
            for open in open.chunks(BLOCK) {
                let rows = open.iter().map(|&at| sample[at].0 as usize);
                frames.compared(rows, centres, |nth, square, offsets| {
                    let at = open[nth];
                    let local = sample[at].0 as usize - first;
                    let lower = &mut lower[local * clusters..(local + 1) * clusters];
                    found[at] = refreshed(square, offsets, &centres.squares, lower);
                    nearest[local] = found[at].0;
                });
            }
            found
        };
        let found = Nearest::collected(crew.each(self.shares(sample), look));
        self.before.push_back(centres.numbers.clone());
        if self.before.len() > self.remembered {
            self.before.pop_front();
        }
        found
    }

    fn shares<'a>(&'a mut self, sample: &'a [(u32, u32)]) -> Vec<Share<'a>> {
        let (mut lower, mut looked, mut nearest) = (&mut self.lower[..], &mut self.looked[..], &mut self.nearest[..]);
        let (mut shares, mut first) = (Vec::new(), 0);
        for sample in sample.chunks(SHARE) {
            let rows = sample[sample.len() - 1].0 as usize + 1 - first;
            shares.push(Share {
                sample,
                first,
                lower: lower.split_off_mut(..rows * self.clusters).unwrap_or_default(),
                looked: looked.split_off_mut(..rows).unwrap_or_default(),
                nearest: nearest.split_off_mut(..rows).unwrap_or_default(),
            });
            first += rows;
        }
        shares
    }
}

/// What a squared distance may be in truth, at least, as a distance.
fn at_least(squared: f32, scale: f32) -> f32 {
    (squared - ROUNDING * scale).max(0.).sqrt()
}

/// Takes all distances as bounds; returns the nearest centre and its squared distance.
fn refreshed(square: f32, offsets: &[f32], squares: &[f32], lower: &mut [f32]) -> (u16, f32) {
    let offset = least(offsets);
    for ((bound, &offset), &centre) in lower.iter_mut().zip(offsets).zip(squares) {
        *bound = at_least(square + offset, square + centre);
    }
    let nearest = offsets.iter().position(|&one| one == offset).unwrap_or(0);
    (nearest as u16, (square + offset).max(0.))
}

/// Brings the bounds of a frame up to date, and compares it with the centres that may be nearest; none where they are too many.
fn by_bounds(
    frames: &Frames,
    row: usize,
    frame: &mut [f32],
    nearest: u16,
    lower: &mut [f32],
    moved: &[f32],
    centres: &Seen,
) -> Option<(u16, f32)> {
    const AT_ONCE: usize = 64;
    let width = frames.width();
    frames.put(row, frame);
    let square = frames.square(row);
    let squared = |centre: usize| {
        let numbers = &centres.numbers[centre * width..(centre + 1) * width];
        square + (centres.squares[centre] - 2. * dot(frame, numbers))
    };
    subtract(lower, moved);
    let own = squared(usize::from(nearest));
    let (mut best, mut radius) = ((own, nearest), own.max(0.).sqrt());
    let mut compared = 0;
    lower[usize::from(nearest)] = at_least(own, square + centres.squares[usize::from(nearest)]);
    for (part, bounds) in lower.chunks_mut(AT_ONCE).enumerate() {
        if !any_within(bounds, radius) {
            continue;
        }
        for (at, bound) in bounds.iter_mut().enumerate() {
            if *bound > radius || part * AT_ONCE + at == usize::from(nearest) {
                continue;
            }
            compared += 1;
            if compared * FEW > centres.squares.len() {
                return None;
            }
            let centre = part * AT_ONCE + at;
            let found = squared(centre);
            *bound = at_least(found, square + centres.squares[centre]);
            if (found, centre as u16) < best {
                best = (found, centre as u16);
                radius = found.max(0.).sqrt();
            }
        }
    }
    Some((best.1, best.0.max(0.)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind, Tensor};

    use super::super::centres::{Centres, Move};
    use super::super::frames::sample;
    use super::super::matrix::Matrix;
    use super::*;
    use crate::random::Draws;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Frames lie apart by more than rounding, so that the nearest centre is the same whoever looks for it.
        #[test]
        fn what_is_found_is_nearest(seed: u64, count in 50u64..3000, batch in 20usize..500, repeated: bool) {
            const CLUSTERS: usize = 40;
            tch::manual_seed(seed as i64);
            let kinds_nd = Tensor::randn([60, 130], (Kind::Float, Device::Cpu)) * 2.;
            let at = Tensor::randint(60, [count as i64], (Kind::Int64, Device::Cpu));
            let frames_nd = kinds_nd.index_select(0, &at) + Tensor::randn([count as i64, 130], (Kind::Float, Device::Cpu)) + 50.;
            let all = Matrix::of(&frames_nd).unwrap();
            let crew = Crew::new().unwrap();
            let frames = Frames::new(all, &[0, 1, 2], &crew);
            let first: Vec<usize> = (0..CLUSTERS).map(|at| if repeated { at / 2 } else { at }).collect();
            let seen = Seen::new(frames.gathered(first.iter().copied()), 130);
            let mut centres = Centres::new(first.iter().flat_map(|&row| frames.given(row)).copied(), seen);
            let mut bounds = Bounds::new(count as usize, 130, CLUSTERS, 8).unwrap();
            for step in 0..30 {
                let mut draws = Draws::new(seed, "test", &[step], "");
                let sample = sample((0..batch).map(|_| draws.below(count)));
                let found = bounds.nearest(&frames, &sample, &centres.seen, &crew);
                let plain = frames.nearest(&sample, &centres.seen, &crew);
                prop_assert_eq!(&found.centre, &plain.centre);
                for (found, plain) in found.distance.iter().zip(&plain.distance) {
                    prop_assert!((found - plain).abs() < 1e-2 * plain.max(1.), "{found} for {plain}");
                }
                centres.pull(&frames, &sample, &found, Move::Running, &crew);
            }
        }
    }

    #[test]
    fn bounds_are_kept_where_they_pay() {
        assert!(Bounds::new(1000, 768, 500, 10).is_some());
        assert!(Bounds::new(1000, 39, 500, 10).is_none());
        assert!(Bounds::new(1000, 768, 500, 100).is_none());
        assert!(Bounds::new(MOST, 768, 500, 10).is_none());
    }
}
