//! Greedy k-means++ in memory: all starts take a step at once, each on one thread.
//!
//! Starts draw candidates from the same frames, and draw most frames more than once. Where they draw more candidates than there are frames,
//! the distances between all frames are computed once, each pair for both; otherwise those of the candidates, step by step.

use super::crew::Crew;
use super::matrix::{Matrix, dot, lower, offset, product, sum_of_least};
use super::seeding;
use crate::failure::StageError;
use crate::random::Draws;

/// Frames on each side of a block of distances.
const TILE: usize = 512;
/// Most memory of the distances between all frames, in bytes.
const MOST: usize = 1 << 32;
/// Fewest dimensions for which distances are kept rather than computed again.
const WIDTH: usize = 128;

/// Squared distances from some rows to all frames.
struct Distances {
    /// Of each [`TILE`] rows, parts of `width` columns (the last ones of fewer), row after row.
    parts: Vec<Vec<f32>>,
    width: usize,
    columns: usize,
}

impl Distances {
    /// The distances of one row, a [`TILE`] after the other.
    fn row(&self, at: usize) -> impl Iterator<Item = &[f32]> {
        let across = self.columns.div_ceil(self.width);
        let parts = &self.parts[at / TILE * across..][..across];
        parts.iter().enumerate().flat_map(move |(part, numbers)| {
            let width = self.width.min(self.columns - part * self.width);
            numbers[at % TILE * width..][..width].chunks(TILE)
        })
    }
}

/// One start as it grows.
struct Start {
    draws: Draws,
    chosen: Vec<u32>,
    /// Squared distance of every frame to the nearest centre so far.
    nearest: Vec<f32>,
    /// Their sum in each tile.
    sums: Vec<f64>,
}

impl Start {
    fn new(draws: Draws, count: usize) -> Self {
        let sums = vec![0.; count.div_ceil(TILE)];
        Self { draws, chosen: Vec::new(), nearest: vec![f32::INFINITY; count], sums }
    }

    /// A frame, with probability proportional to its distance.
    fn draw(&mut self) -> u32 {
        let mut left = self.draws.unit() * self.sums.iter().sum::<f64>();
        let mut tile = 0;
        while tile + 1 < self.sums.len() && left > self.sums[tile] {
            left -= self.sums[tile];
            tile += 1;
        }
        let nearest = &self.nearest[tile * TILE..self.nearest.len().min((tile + 1) * TILE)];
        let reached = nearest.iter().position(|&distance| {
            left -= f64::from(distance);
            left <= 0.
        });
        (tile * TILE + reached.unwrap_or(nearest.len() - 1)) as u32
    }

    /// Keeps the candidate that leaves the smallest sum, the first one on ties; `first` is its row of distances, the others' follow.
    fn choose(&mut self, candidates: &[u32], distances: &Distances, row_of: impl Fn(usize) -> usize) {
        let mut left = vec![0f64; candidates.len()];
        for (at, left) in left.iter_mut().enumerate() {
            let tiles = self.nearest.chunks(TILE).zip(distances.row(row_of(at)));
            *left = tiles.map(|(nearest, row)| f64::from(sum_of_least(nearest, row))).sum();
        }
        let best = (1..left.len()).fold(0, |best, at| if left[at] < left[best] { at } else { best });
        let tiles = self.nearest.chunks_mut(TILE).zip(distances.row(row_of(best)));
        for ((nearest, row), sum) in tiles.zip(&mut self.sums) {
            lower(nearest, row);
            *sum = f64::from(sum_of_least(nearest, row));
        }
        self.chosen.push(candidates[best]);
    }
}

/// Draws `starts` sets of centres from frames (N × D, as seen from their mean) and returns their rows. Calls `watch` with the number of
/// centres so far.
///
/// Where the frames have fewer than K distinct values, the remaining centres repeat earlier ones and stay empty.
pub fn starts(
    frames: Matrix,
    clusters: usize,
    starts: usize,
    seed: u64,
    crew: &Crew,
    watch: &mut dyn FnMut(usize) -> Result<(), StageError>,
) -> Result<Vec<Vec<u32>>, StageError> {
    let (count, each) = (frames.rows(), seeding::candidates(clusters));
    let squares: Vec<f32> = (0..count).map(|row| dot(frames.row(row), frames.row(row))).collect();
    let draws_more = starts * each * clusters >= count && frames.width >= WIDTH;
    let fits = count.checked_mul(count * size_of::<f32>()).is_some_and(|bytes| bytes <= MOST);
    let all = if draws_more && fits { Some(between_all(frames, &squares, crew, watch)?) } else { None };
    let mut states: Vec<Start> =
        seeding::draws(starts, seed).into_iter().map(|draws| Start::new(draws, count)).collect();
    for done in 0..clusters {
        watch(done)?;
        let draw = |start: &mut Start| match done {
            0 => vec![start.draws.below(count as u64) as u32],
            _ => (0..each).map(|_| start.draw()).collect(),
        };
        let drawn = crew.each(&mut states, draw);
        let states = states.iter_mut().zip(&drawn);
        match &all {
            Some(all) => {
                crew.each(states, |(start, drawn)| start.choose(drawn, all, |at| drawn[at] as usize));
            }
            None => {
                let some = from_some(frames, &squares, &drawn.concat(), crew);
                let each = drawn[0].len();
                crew.each(states.enumerate(), |(nth, (start, drawn))| start.choose(drawn, &some, |at| nth * each + at));
            }
        }
    }
    Ok(states.into_iter().map(|start| start.chosen).collect())
}

/// The squared distances between all frames: of two tiles beside the diagonal, one is the other turned.
fn between_all(
    frames: Matrix,
    squares: &[f32],
    crew: &Crew,
    watch: &mut dyn FnMut(usize) -> Result<(), StageError>,
) -> Result<Distances, StageError> {
    /// Rows that one thread copies at once.
    const ROWS: usize = 16;
    let columns = frames.rows();
    let across = columns.div_ceil(TILE);
    let mut parts: Vec<Vec<f32>> = (0..across).map(|down| vec![0.; part_of(squares, down).len() * columns]).collect();
    for down in 0..across {
        watch(0)?;
        let tiles = crew.each((down..across).zip(&mut parts[down..]), |(right, rows)| {
            let tile = tile(part(frames, down), part(frames, right), part_of(squares, down), part_of(squares, right));
            if right > down {
                let rows = rows.chunks_exact_mut(columns).map(|row| &mut row[down * TILE..]);
                turn(&tile, part_of(squares, right).len(), &mut rows.collect::<Vec<_>>());
            }
            tile
        });
        crew.each(parts[down].chunks_mut(ROWS * columns).enumerate(), |(nth, rows)| {
            for (row, numbers) in rows.chunks_exact_mut(columns).enumerate() {
                for (right, tile) in (down..across).zip(&tiles) {
                    let width = part_of(squares, right).len();
                    let from = (nth * ROWS + row) * width;
                    numbers[right * TILE..][..width].copy_from_slice(&tile[from..from + width]);
                }
            }
        });
    }
    Ok(Distances { parts, width: columns, columns })
}

/// The squared distances from some frames to all.
fn from_some(frames: Matrix, squares: &[f32], some: &[u32], crew: &Crew) -> Distances {
    let numbers: Vec<f32> = some.iter().flat_map(|&row| frames.row(row as usize)).copied().collect();
    let of_some: Vec<f32> = some.iter().map(|&row| squares[row as usize]).collect();
    let some = Matrix { numbers: &numbers, width: frames.width };
    let across = frames.rows().div_ceil(TILE);
    let places = (0..some.rows().div_ceil(TILE)).flat_map(|down| (0..across).map(move |right| (down, right)));
    let parts = crew.each(places, |(down, right)| {
        tile(part(some, down), part(frames, right), part_of(&of_some, down), part_of(squares, right))
    });
    Distances { parts, width: TILE, columns: frames.rows() }
}

fn tile(left: Matrix, right: Matrix, left_squares: &[f32], right_squares: &[f32]) -> Vec<f32> {
    let mut tile = vec![0.; left.rows() * right.rows()];
    product(left, right, &mut tile);
    for (row, &left) in tile.chunks_exact_mut(right.rows()).zip(left_squares) {
        offset(row, right_squares);
        row.iter_mut().for_each(|one| *one = (left + *one).max(0.));
    }
    tile
}

/// Puts rows of `width` into the beginnings of others as columns.
fn turn(tile: &[f32], width: usize, rows: &mut [&mut [f32]]) {
    const SIDE: usize = 16;
    let height = tile.len() / width;
    for top in (0..height).step_by(SIDE) {
        for left in (0..width).step_by(SIDE) {
            for (column, place) in rows.iter_mut().enumerate().take(left + SIDE).skip(left) {
                for row in top..height.min(top + SIDE) {
                    place[row] = tile[row * width + column];
                }
            }
        }
    }
}

fn part<'a>(frames: Matrix<'a>, tile: usize) -> Matrix<'a> {
    let (first, end) = (tile * TILE, frames.rows().min((tile + 1) * TILE));
    Matrix { numbers: &frames.numbers[first * frames.width..end * frames.width], width: frames.width }
}

fn part_of(numbers: &[f32], tile: usize) -> &[f32] {
    &numbers[tile * TILE..numbers.len().min((tile + 1) * TILE)]
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn kept_distances_are_those_of_each_step() {
        tch::manual_seed(5);
        let frames_nd = Tensor::randn([2 * TILE as i64 + 77, 131], (Kind::Float, Device::Cpu));
        let frames = Matrix::of(&frames_nd).unwrap();
        let squares: Vec<f32> = (0..frames.rows()).map(|row| dot(frames.row(row), frames.row(row))).collect();
        let crew = Crew::new().unwrap();
        let kept = between_all(frames, &squares, &crew, &mut |_| Ok(())).unwrap();
        let some: Vec<u32> = (0..frames.rows() as u32).rev().step_by(2).collect();
        let now = from_some(frames, &squares, &some, &crew);
        for (at, &row) in some.iter().enumerate() {
            let kept: Vec<f32> = kept.row(row as usize).flatten().copied().collect();
            let now: Vec<f32> = now.row(at).flatten().copied().collect();
            assert_eq!((kept.len(), now.len()), (frames.rows(), frames.rows()));
            let apart = kept.iter().zip(&now).map(|(kept, now)| (kept - now).abs()).fold(0., f32::max);
            assert!(apart < 1e-3, "row {row}: {apart}");
        }
    }

    #[test]
    fn frames_are_drawn_as_often_as_they_are_far_away() {
        let mut start = Start::new(Draws::new(1, "test", &[], ""), TILE + 2);
        start.nearest.fill(0.);
        (start.nearest[3], start.nearest[TILE], start.nearest[TILE + 1]) = (1., 2., 5.);
        start.sums = vec![1., 7.];
        let drawn: Vec<u32> = (0..8000).map(|_| start.draw()).collect();
        for (row, share) in [(3, 1000.), (TILE, 2000.), (TILE + 1, 5000.)] {
            let times = drawn.iter().filter(|&&drawn| drawn == row as u32).count() as f64;
            assert!((times - share).abs() < 200., "row {row}: {times}");
        }
    }
}
