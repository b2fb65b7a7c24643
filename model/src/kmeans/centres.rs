//! Centres as they move: means of the frames that belong to them.

use super::crew::Crew;
use super::frames::{Frames, Nearest, Seen};
use super::matrix::{add, dot, soon};

/// Centres that one thread moves before it looks for others.
const SHARE: usize = 8;

/// K centres in `f64`, and as frames are compared with them.
pub struct Centres {
    /// K × D.
    exact: Vec<f64>,
    /// Frames that each centre is the mean of.
    weight: Vec<f64>,
    pub seen: Seen,
}

/// How frames move the centre that they belong to.
#[derive(Clone, Copy)]
pub enum Move {
    /// To the mean of all frames that it was ever given.
    Running,
    /// To the mean of these frames.
    Anew,
}

impl Centres {
    /// The centres of a start, which are no means yet: K frames, as they are given and as they are seen.
    pub fn new(given: impl IntoIterator<Item = f32>, seen: Seen) -> Self {
        let weight = vec![0.; seen.squares.len()];
        Self { exact: given.into_iter().map(f64::from).collect(), weight, seen }
    }

    /// K × D.
    pub fn given(&self) -> Vec<f32> {
        self.exact.iter().map(|&value| value as f32).collect()
    }

    /// Moves every centre that has frames in the sample; each adds its frames in their order.
    pub fn pull(&mut self, frames: &Frames, sample: &[(u32, u32)], nearest: &Nearest, how: Move, crew: &Crew) {
        let width = frames.width();
        let (members, ends) = members(&nearest.centre, self.weight.len());
        let centres = self
            .exact
            .chunks_mut(SHARE * width)
            .zip(self.weight.chunks_mut(SHARE))
            .zip(self.seen.numbers.chunks_mut(SHARE * width))
            .zip(self.seen.squares.chunks_mut(SHARE))
            .enumerate();
        crew.each(centres, |(share, (((exact, weight), numbers), squares))| {
            let mut sum = vec![0f64; width];
            let each = exact.chunks_exact_mut(width).zip(weight).zip(numbers.chunks_exact_mut(width)).zip(squares);
            for (at, (((exact, weight), numbers), square)) in each.enumerate() {
                let centre = share * SHARE + at;
                let mine = &members[centre.checked_sub(1).map_or(0, |before| ends[before])..ends[centre]];
                if mine.is_empty() {
                    continue;
                }
                let mut count = 0.;
                sum.fill(0.);
                for (at, &member) in mine.iter().enumerate() {
                    if let Some(&next) = mine.get(at + 1) {
                        soon(frames.given(sample[next as usize].0 as usize));
                    }
                    let (row, times) = sample[member as usize];
                    let times = f64::from(times);
                    count += times;
                    add(&mut sum, frames.given(row as usize), times);
                }
                match how {
                    Move::Running => *weight += count,
                    Move::Anew => *weight = count,
                }
                for ((exact, sum), (seen, &mean)) in
                    exact.iter_mut().zip(&sum).zip(numbers.iter_mut().zip(frames.mean()))
                {
                    match how {
                        Move::Running => *exact += (sum - *exact * count) / *weight,
                        Move::Anew => *exact = sum / count,
                    }
                    *seen = *exact as f32 - mean;
                }
                *square = dot(numbers, numbers);
            }
        });
    }
}

/// The places of a sample, those of the first centre first, and where each centre's end.
fn members(nearest: &[u16], clusters: usize) -> (Vec<u32>, Vec<usize>) {
    let mut ends = vec![0; clusters];
    nearest.iter().for_each(|&centre| ends[usize::from(centre)] += 1);
    let mut end = 0;
    for count in &mut ends {
        end += *count;
        *count = end;
    }
    let mut next = ends.clone();
    let mut members = vec![0; nearest.len()];
    for (place, &centre) in nearest.iter().enumerate().rev() {
        next[usize::from(centre)] -= 1;
        members[next[usize::from(centre)]] = place as u32;
    }
    (members, ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_by_centre_and_in_their_order() {
        let (members, ends) = members(&[2, 0, 2, 3, 0], 5);
        assert_eq!(members, [1, 4, 0, 2, 3]);
        assert_eq!(ends, [2, 2, 4, 5, 5]);
    }
}
