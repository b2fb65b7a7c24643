//! Which segments are analysed, and their vectors: states pooled over each segment while they stream by.
//!
//! Source: papers.md section 4.2, hubert.md sections 6.1 and 6.2; SCIENCE, layer-wise analysis. The toolkit draws tokens without a seed and
//! rounds times to frames outwards; here draws are keyed by seed and label, and a frame belongs to the segment that holds its centre.

use std::collections::BTreeMap;

use reprise_spec::probing::TokenRange;
use tch::{Device, Kind, Tensor};

use crate::alignment::{Interval, Tier};
use crate::failure::StageError;
use crate::phone::Phone;
use crate::random::Draws;

/// One analysed stretch of speech, in samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub start: u64,
    /// The first sample after it.
    pub end: u64,
    /// An index into [`Sample::labels`].
    pub label: u32,
}

/// The segments that are analysed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Sorted.
    pub labels: Vec<String>,
    /// Of each utterance that has any, in order of time.
    pub segments: BTreeMap<String, Vec<Segment>>,
    /// The labels that were dropped because they are rare, with their tokens.
    pub dropped: BTreeMap<String, u64>,
}

/// The label under which a phone is analysed: without stress; no silence, no spoken noise.
pub fn phone_label(label: &str) -> Option<String> {
    Phone::parse(label).ok().flatten().filter(|phone| *phone != Phone::SILENCE).map(|phone| phone.label().to_owned())
}

/// The label under which a word is analysed: in lower case; no silence, no unknown word.
pub fn word_label(label: &str) -> Option<String> {
    (!label.is_empty() && !label.starts_with('<')).then(|| label.to_lowercase())
}

impl Sample {
    /// Draws from the intervals of a tier that have a label, by `seed` and label: neither other labels nor their order bear on it.
    ///
    /// # Errors
    /// Fewer than two labels have enough tokens.
    pub fn draw(
        tier: &Tier,
        label: fn(&str) -> Option<String>,
        tokens: TokenRange,
        seed: u64,
    ) -> Result<Self, StageError> {
        let [minimum, maximum] = [tokens.minimum, tokens.maximum].map(|count| u64::from(count.get()));
        let mut by_label: BTreeMap<String, Vec<(&str, &Interval)>> = BTreeMap::new();
        for (utterance, intervals) in tier {
            for interval in intervals {
                if let Some(label) = label(&interval.label) {
                    by_label.entry(label).or_default().push((utterance, interval));
                }
            }
        }
        let (mut labels, mut segments, mut dropped) =
            (Vec::new(), BTreeMap::<String, Vec<Segment>>::new(), BTreeMap::new());
        for (label, found) in by_label {
            let count = found.len() as u64;
            if count < minimum {
                dropped.insert(label, count);
                continue;
            }
            for index in Draws::new(seed, "analysis tokens", &[], &label).distinct(maximum, count) {
                let (utterance, Interval { start, end, .. }) = found[index as usize];
                let segment = Segment { start: *start, end: *end, label: labels.len() as u32 };
                segments.entry(utterance.to_owned()).or_default().push(segment);
            }
            labels.push(label);
        }
        if labels.len() < 2 {
            return Err(StageError::refused(
                format!("{} labels have the {minimum} tokens that the analysis asks for", labels.len()),
                "take more splits, lower the minimum, or check that the utterances are aligned",
            ));
        }
        segments.values_mut().for_each(|segments| segments.sort_by_key(|segment| (segment.start, segment.end)));
        Ok(Self { labels, segments, dropped })
    }

    /// The label of each segment, in the order of [`Pool`]'s rows.
    pub fn strata(&self) -> Vec<u32> {
        self.segments.values().flatten().map(|segment| segment.label).collect()
    }
}

/// Where the frames of a layer lie: frame t covers samples [t · stride, t · stride + window).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub stride: u64,
    pub window: u64,
    /// Numbers a frame.
    pub width: usize,
}

/// Which frames of a segment its vector is the mean of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    Whole,
    /// Without ⌊(n + 1) / 3⌋ of its n frames on each side, but with one at least, as the toolkit pools phones.
    MiddleThird,
}

impl Grid {
    /// The frames of an utterance of `frames` frames that are pooled for a segment: those with their centre in it, and where there is none the
    /// one with its centre nearest to the segment's (the earlier of two).
    pub fn frames_of(&self, segment: &Segment, portion: Portion, frames: u64) -> std::ops::Range<u64> {
        let first_from = |sample: u64| sample.saturating_sub(self.window / 2).div_ceil(self.stride).min(frames);
        let (start, end) = (first_from(segment.start), first_from(segment.end));
        if start >= end {
            let middle = segment.start.midpoint(segment.end).saturating_sub(self.window / 2);
            let below = middle / self.stride;
            let nearest = below + u64::from(2 * (middle % self.stride) > self.stride);
            let nearest = nearest.min(frames.saturating_sub(1));
            return nearest..nearest + 1;
        }
        let count = end - start;
        match portion {
            Portion::MiddleThird if count > 1 => {
                let skip = ((count + 1) / 3).min((count - 1) / 2);
                start + skip..end - skip
            }
            Portion::Whole | Portion::MiddleThird => start..end,
        }
    }
}

/// Means of segments in several layers, filled utterance by utterance in any order; of the states only sums of the current utterance are held.
#[derive(Debug)]
pub struct Pool<'a> {
    sample: &'a Sample,
    portion: Portion,
    layers: Vec<Layer>,
    /// The first segment of each utterance that is still to be given.
    open: BTreeMap<&'a str, usize>,
    /// That of the current one.
    first: usize,
}

#[derive(Debug)]
struct Layer {
    grid: Grid,
    /// Of each segment, one after the other; those that aren't finished are zero.
    means: Vec<f32>,
    /// Of the current utterance: frames of each segment, how many came, and their sum.
    open: Vec<(std::ops::Range<u64>, u64, Tensor)>,
    /// Frames of the current utterance that came.
    seen: u64,
}

impl<'a> Pool<'a> {
    /// A pool for layers on these grids, without vectors yet.
    pub fn new(sample: &'a Sample, portion: Portion, grids: &[Grid]) -> Self {
        let mut segments = 0;
        let mut first = |(utterance, of_it): (&'a String, &Vec<Segment>)| {
            segments += of_it.len();
            (utterance.as_str(), segments - of_it.len())
        };
        let open = sample.segments.iter().map(&mut first).collect();
        let layer =
            |grid: &Grid| Layer { grid: *grid, means: vec![0.; segments * grid.width], open: Vec::new(), seen: 0 };
        Self { sample, portion, layers: grids.iter().map(layer).collect(), open, first: 0 }
    }

    /// Whether the utterance has segments and is still to be given.
    pub fn wants(&self, utterance: &str) -> bool {
        self.open.contains_key(utterance)
    }

    /// Whether an utterance has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.layers.iter().any(|layer| !layer.open.is_empty())
    }

    /// Begins an utterance, of so many samples, with `frames` of each layer.
    ///
    /// # Errors
    /// It isn't wanted; it has no frames; a segment ends after it.
    pub fn begin(&mut self, utterance: &str, samples: u64, frames: &[u64]) -> Result<(), StageError> {
        let found = self.sample.segments.get(utterance).zip(self.open.get(utterance).copied());
        let Some((segments, first)) = found.filter(|_| frames.len() == self.layers.len()) else {
            return Err(StageError::Failed(format!("{utterance} has no segments, was given before, or lacks layers")));
        };
        if let Some(segment) = segments.iter().find(|segment| segment.end > samples || segment.start >= segment.end) {
            return Err(StageError::refused(
                format!("{utterance}: a segment from sample {} to {} of {samples}", segment.start, segment.end),
                "the alignment is of other audio, or empty there: align this utterance anew or leave it out",
            ));
        }
        if let Some(layer) = frames.iter().position(|frames| *frames == 0) {
            let message = format!("{utterance}: {samples} samples give no frame of layer {layer}");
            return Err(StageError::refused(message, "leave the utterance out"));
        }
        for (layer, frames) in self.layers.iter_mut().zip(frames) {
            let sum = || Tensor::zeros([layer.grid.width as i64], (Kind::Double, Device::Cpu));
            let open = |segment| (layer.grid.frames_of(segment, self.portion, *frames), 0, sum());
            (layer.open, layer.seen) = (segments.iter().map(open).collect(), 0);
        }
        (self.first, _) = (first, self.open.remove(utterance));
        Ok(())
    }

    /// Adds the next T × D states of a layer (counted as the grids are).
    ///
    /// # Errors
    /// States of another width than the grid's.
    pub fn add(&mut self, layer: usize, states_td: &Tensor) -> Result<(), StageError> {
        let layer = &mut self.layers[layer];
        let size = states_td.size();
        if size.len() != 2 || size[1] != layer.grid.width as i64 {
            return Err(StageError::Failed(format!("states of shape {size:?} instead of T × {}", layer.grid.width)));
        }
        let (from, to) = (layer.seen, layer.seen + size[0] as u64);
        for (frames, came, sum) in &mut layer.open {
            let (start, end) = (frames.start.max(from), frames.end.min(to));
            if start < end {
                let part = states_td.narrow(0, (start - from) as i64, (end - start) as i64);
                *sum += part.f_to_device(Device::Cpu)?.sum_dim_intlist([0].as_slice(), false, Kind::Double);
                *came += end - start;
            }
        }
        layer.seen = to;
        Ok(())
    }

    /// Ends the utterance.
    ///
    /// # Errors
    /// A layer lacks frames of a segment.
    pub fn end(&mut self) -> Result<(), StageError> {
        for (number, layer) in self.layers.iter_mut().enumerate() {
            for (segment, (frames, came, sum)) in (self.first..).zip(std::mem::take(&mut layer.open)) {
                if came != frames.end - frames.start {
                    let message = format!("layer {number} gave {came} of the frames {frames:?} of a segment");
                    return Err(StageError::Failed(message));
                }
                let mean = Vec::<f32>::try_from((sum / came as f64).to_kind(Kind::Float))?;
                layer.means[segment * layer.grid.width..][..layer.grid.width].copy_from_slice(&mean);
            }
        }
        Ok(())
    }

    /// The vectors of each layer, segments × D in float32, in the order of [`Sample::strata`].
    ///
    /// # Errors
    /// Utterances of the sample are missing.
    pub fn finish(self) -> Result<Vec<Tensor>, StageError> {
        if let Some(utterance) = self.open.keys().next() {
            return Err(StageError::Failed(format!("{} utterances were not pooled: {utterance}, …", self.open.len())));
        }
        self.layers
            .into_iter()
            .map(|layer| Ok(Tensor::f_from_slice(&layer.means)?.f_view([-1, layer.grid.width as i64])?))
            .collect()
    }
}

#[cfg(test)]
mod tests;
