//! Frames in memory, and how far from which centre they are, block after block on all threads.

use super::crew::Crew;
use super::matrix::{Matrix, difference, dot, least, offset, product};

/// Frames of one matrix product: their distances to a few hundred centres stay in the cache of a core.
pub const BLOCK: usize = 256;

/// Frames, to be looked at from a place near them: ‖x − c‖² = ‖x‖² − 2x·c + ‖c‖² loses digits where the data lie far from zero.
pub struct Frames<'a> {
    all: Matrix<'a>,
    mean: Vec<f32>,
    squares: Vec<f32>,
}

/// Frames of `f32` and how often each counts, ascending and each once.
pub type Sample = Vec<(u32, u32)>;

/// What the nearest centre of every frame of a sample is, the first one on ties, and how far away, squared.
pub struct Nearest {
    pub centre: Vec<u16>,
    pub distance: Vec<f32>,
}

impl Nearest {
    /// The sum of squared distances.
    pub fn inertia(&self, sample: &[(u32, u32)]) -> f64 {
        self.distance.iter().zip(sample).map(|(&distance, &(_, times))| f64::from(distance) * f64::from(times)).sum()
    }

    pub fn collected(blocks: Vec<Vec<(u16, f32)>>) -> Self {
        let (centre, distance) = blocks.into_iter().flatten().unzip();
        Self { centre, distance }
    }
}

impl<'a> Frames<'a> {
    /// Looks at all frames from the mean of some of them.
    pub fn new(all: Matrix<'a>, some: &[u64], crew: &Crew) -> Self {
        let mut sums = vec![0f64; all.width];
        for &row in some {
            sums.iter_mut().zip(all.row(row as usize)).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let mean = sums.into_iter().map(|sum| (sum / some.len().max(1) as f64) as f32).collect();
        let mut frames = Self { all, mean, squares: Vec::new() };
        let squares = crew.each((0..all.rows()).step_by(BLOCK), |start| {
            let mut frame = vec![0.; all.width];
            let of_row = |row| {
                frames.put(row, &mut frame);
                dot(&frame, &frame)
            };
            (start..all.rows().min(start + BLOCK)).map(of_row).collect::<Vec<_>>()
        });
        frames.squares = squares.into_iter().flatten().collect();
        frames
    }

    /// How many frames there are.
    pub fn count(&self) -> usize {
        self.all.rows()
    }

    /// How many numbers a frame has.
    pub fn width(&self) -> usize {
        self.all.width
    }

    /// A frame as it was given.
    pub fn given(&self, row: usize) -> &'a [f32] {
        self.all.row(row)
    }

    /// Where the frames are looked at from.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The squared length of a frame.
    pub fn square(&self, row: usize) -> f32 {
        self.squares[row]
    }

    /// Puts a frame, as it is seen from the mean, into `place`.
    pub fn put(&self, row: usize, place: &mut [f32]) {
        difference(place, self.all.row(row), &self.mean);
    }

    /// Some frames, as they are seen from the mean, one after the other.
    pub fn gathered(&self, rows: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
        let mut numbers = vec![0.; rows.len() * self.width()];
        rows.zip(numbers.chunks_exact_mut(self.width())).for_each(|(row, place)| self.put(row, place));
        numbers
    }

    /// The nearest centre of every frame of a sample.
    pub fn nearest(&self, sample: &[(u32, u32)], centres: &Seen, crew: &Crew) -> Nearest {
        Nearest::collected(crew.each(sample.chunks(BLOCK), |block| {
            let mut found = Vec::with_capacity(block.len());
            self.compared(block.iter().map(|&(row, _)| row as usize), centres, |_, square, offsets| {
                let (centre, offset) = first_of_least(offsets);
                found.push((centre as u16, (square + offset).max(0.)));
            });
            found
        }))
    }

    /// Gives `take`, for each of some rows, its place among them, its ‖x‖², and −2x·c + ‖c‖² of every centre.
    pub fn compared(
        &self,
        rows: impl ExactSizeIterator<Item = usize> + Clone,
        centres: &Seen,
        mut take: impl FnMut(usize, f32, &[f32]),
    ) {
        let frames = self.gathered(rows.clone());
        let mut products = vec![0.; rows.len() * centres.squares.len()];
        if products.is_empty() {
            return;
        }
        product(Matrix { numbers: &frames, width: self.width() }, centres.matrix(self.width()), &mut products);
        for ((at, row), products) in rows.enumerate().zip(products.chunks_exact_mut(centres.squares.len())) {
            offset(products, &centres.squares);
            take(at, self.squares[row], products);
        }
    }
}

/// Centres as they are seen from the mean of the frames.
#[derive(Clone)]
pub struct Seen {
    pub numbers: Vec<f32>,
    /// ‖c‖² of each.
    pub squares: Vec<f32>,
}

impl Seen {
    pub fn new(numbers: Vec<f32>, width: usize) -> Self {
        let squares = numbers.chunks_exact(width).map(|centre| dot(centre, centre)).collect();
        Self { numbers, squares }
    }

    pub fn matrix(&self, width: usize) -> Matrix<'_> {
        Matrix { numbers: &self.numbers, width }
    }
}

fn first_of_least(offsets: &[f32]) -> (usize, f32) {
    let value = least(offsets);
    (offsets.iter().position(|&offset| offset == value).unwrap_or(0), value)
}

/// Counts rows.
pub fn sample(rows: impl IntoIterator<Item = u64>) -> Sample {
    let mut rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
    rows.sort_unstable();
    rows.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
}
