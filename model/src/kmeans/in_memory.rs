//! k-means of frames that the CPU reads where they lie.

use tch::Tensor;

use super::bounds::Bounds;
use super::centres::{Centres, Move};
use super::crew::Crew;
use super::descent::{Descent, Moved};
use super::frames::{Frames, Nearest, Sample, Seen, sample};
use super::matrix::Matrix;
use super::{Centroids, Fit, Moment, Plan, pairs, seeding};
use crate::failure::StageError;

/// Frames, and the centres that they move.
pub struct InMemory<'a> {
    frames: Frames<'a>,
    centres: Centres,
    /// All frames, for passes.
    all: Sample,
    before: Vec<u16>,
    bounds: Option<Bounds>,
    crew: Crew,
}

impl<'a> InMemory<'a> {
    /// Draws the starts and begins with the one that has the least inertia on the validation sample, the first one on ties.
    pub fn best_start(
        all: Matrix<'a>,
        plan: &Plan,
        watch: &mut dyn FnMut(Moment) -> Result<(), StageError>,
    ) -> Result<Self, StageError> {
        let crew = Crew::new()?;
        let &Plan { clusters, starts, size, seed, period } = plan;
        let subset = seeding::subset(all.rows(), size, seed);
        let frames = Frames::new(all, &subset, &crew);
        let width = frames.width();
        let seen = frames.gathered(subset.iter().map(|&row| row as usize));
        let seen = Matrix { numbers: &seen, width };
        let mut seeded = |done: usize| watch(Moment::Seeding { done: done as u64, total: clusters as u64 });
        let drawn = pairs::starts(seen, clusters, starts, seed, &crew, &mut seeded)?;
        let validation = sample(seeding::validation(all.rows(), size, seed));
        let mut best: Option<(f64, &[u32], Seen)> = None;
        for (start, rows) in drawn.iter().enumerate() {
            let seen = rows.iter().flat_map(|&row| seen.row(row as usize)).copied().collect();
            let seen = Seen::new(seen, width);
            let inertia = frames.nearest(&validation, &seen, &crew).inertia(&validation) / size as f64;
            watch(Moment::Start { done: start as u64 + 1, total: starts as u64, inertia })?;
            if best.as_ref().is_none_or(|(least, ..)| inertia < *least) {
                best = Some((inertia, rows, seen));
            }
        }
        let (_, rows, seen) = best.ok_or_else(super::no_start)?;
        let given = rows.iter().flat_map(|&row| frames.given(subset[row as usize] as usize)).copied();
        let centres = Centres::new(given, seen);
        let bounds = Bounds::new(frames.count(), width, clusters, period);
        let all = sample(0..frames.count() as u64);
        Ok(Self { frames, centres, all, before: Vec::new(), bounds, crew })
    }

    /// What all frames make of the centres as they are now.
    pub fn finish(self) -> Fit {
        let nearest = self.frames.nearest(&self.all, &self.centres.seen, &self.crew);
        let mut usage = vec![0; self.centres.seen.squares.len()];
        nearest.centre.iter().for_each(|&centre| usage[usize::from(centre)] += 1);
        let centroids = Tensor::from_slice(&self.centres.given()).view([-1, self.frames.width() as i64]);
        let inertia = nearest.inertia(&self.all) / self.frames.count() as f64;
        Fit { centroids: Centroids::new(&centroids), inertia, usage }
    }

    fn nearest(&mut self, sample: &[(u32, u32)]) -> Nearest {
        match &mut self.bounds {
            Some(bounds) => bounds.nearest(&self.frames, sample, &self.centres.seen, &self.crew),
            None => self.frames.nearest(sample, &self.centres.seen, &self.crew),
        }
    }
}

impl Descent for InMemory<'_> {
    fn count(&self) -> u64 {
        self.frames.count() as u64
    }

    fn batch(&mut self, chosen: Vec<u64>) -> f64 {
        let sample = sample(chosen);
        let nearest = self.nearest(&sample);
        self.centres.pull(&self.frames, &sample, &nearest, Move::Running, &self.crew);
        nearest.inertia(&sample)
    }

    fn pass(&mut self) -> (f64, Moved) {
        let all = std::mem::take(&mut self.all);
        let nearest = self.nearest(&all);
        let inertia = nearest.inertia(&all);
        let moved = if nearest.centre == self.before { Moved::Nothing } else { Moved::Some };
        if moved == Moved::Some {
            self.centres.pull(&self.frames, &all, &nearest, Move::Anew, &self.crew);
        }
        self.before = nearest.centre;
        self.all = all;
        (inertia, moved)
    }
}
