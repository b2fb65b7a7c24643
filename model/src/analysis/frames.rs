//! A sample of single frames: the same moments of every layer, and the log-mel energies that go with them.
//!
//! Moments lie on the grid of the slowest layer, whose frame t begins where frame t · ratio of a faster layer begins, so that frames of layers
//! with different rates can be compared. The toolkit takes every frame of random utterances; here as many frames as are asked for are drawn
//! from all of them.

use std::collections::BTreeMap;

use reprise_spec::arithmetic::{FEATURE_STRIDE, FRAME_STRIDE};
use tch::{Device, Kind, Tensor};

use crate::failure::StageError;
use crate::random::Draws;

/// Which frames are sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSample {
    /// Of each utterance that has any: how many come before them, and which, ascending.
    pub at: BTreeMap<String, (usize, Vec<u64>)>,
    /// All of them.
    pub count: usize,
}

impl FrameSample {
    /// Draws `count` frames of utterances with so many, or all if there are no more.
    pub fn draw(utterances: &[(&str, u64)], count: u64, seed: u64) -> Self {
        let total = utterances.iter().map(|(_, frames)| frames).sum();
        let drawn = Draws::new(seed, "analysis frames", &[], "").distinct(count, total);
        let (mut at, mut before, mut row) = (BTreeMap::new(), 0, 0);
        for (utterance, frames) in utterances {
            let upto = drawn.partition_point(|frame| *frame < before + frames);
            if row < upto {
                let of_it = drawn[row..upto].iter().map(|frame| frame - before).collect();
                at.insert((*utterance).to_owned(), (row, of_it));
            }
            (before, row) = (before + frames, upto);
        }
        Self { at, count: drawn.len() }
    }
}

/// The sampled frames of one source, filled utterance by utterance: count × D in float32 on the CPU.
#[derive(Debug)]
pub struct Rows(Tensor);

impl Rows {
    /// Room for `count` frames of `width` numbers.
    pub fn new(count: usize, width: usize) -> Self {
        Self(Tensor::zeros([count as i64, width as i64], (Kind::Float, Device::Cpu)))
    }

    /// Takes frames `at` of an utterance's T × D frames, as rows from `first` on.
    ///
    /// # Errors
    /// Frames that the utterance doesn't have, or of another width.
    pub fn put(&mut self, first: usize, frames_td: &Tensor, at: &[i64]) -> Result<(), StageError> {
        let index = Tensor::f_from_slice(at)?.f_to_device(frames_td.device())?;
        self.0.f_narrow(0, first as i64, at.len() as i64)?.f_copy_(&frames_td.f_index_select(0, &index)?)?;
        Ok(())
    }

    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    pub fn into_tensor(self) -> Tensor {
        self.0
    }
}

/// Log-mel energies at a layer's rate: of 100 Hz frames every second one, as the toolkit has them beside frames of 20 ms, and for slower layers
/// the mean of those that begin within a frame (behind the end the last one is repeated). T′ × M to T × M.
pub fn mel_at(mel_tm: &Tensor, stride: u64, frames: u64) -> Tensor {
    let last = mel_tm.size()[0] - 1;
    let within = (stride / FRAME_STRIDE).max(1) as i64;
    let starts = Tensor::arange(frames as i64, (Kind::Int64, mel_tm.device())) * (stride / FEATURE_STRIDE) as i64;
    let part = |index: i64| mel_tm.index_select(0, &(&starts + 2 * index).clamp_max(last));
    (1..within).fold(part(0), |sum, index| sum + part(index)) / within as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_drawn_frame_has_one_row(lengths in prop::collection::vec(0u64..30, 1..9), count in 1u64..80, seed in 0u64..99) {
            let names: Vec<String> = (0..lengths.len()).map(|index| format!("u{index}")).collect();
            let utterances: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(lengths.iter().copied()).collect();
            let sample = FrameSample::draw(&utterances, count, seed);
            prop_assert_eq!(sample.count as u64, count.min(lengths.iter().sum()));
            let mut rows = Rows::new(sample.count, 1);
            for (number, (name, frames)) in utterances.iter().enumerate() {
                let Some((first, at)) = sample.at.get(*name) else { continue };
                prop_assert!(at.iter().all(|frame| frame < frames));
                let states = Tensor::arange(*frames as i64, (Kind::Float, Device::Cpu)).unsqueeze(1) + 100 * number as i64;
                rows.put(*first, &states, &at.iter().map(|frame| *frame as i64).collect::<Vec<_>>()).unwrap();
            }
            let found = Vec::<f32>::try_from(rows.tensor().squeeze_dim(1)).unwrap();
            prop_assert!(found.is_sorted_by(|a, b| a < b), "{:?}", found);
        }
    }

    #[test]
    fn a_slow_layer_goes_with_the_mean_of_its_frames() {
        let mel = Tensor::arange(9, (Kind::Float, Device::Cpu)).unsqueeze(1);
        let at = |stride, frames| Vec::<f32>::try_from(mel_at(&mel, stride, frames).squeeze_dim(1)).unwrap();
        assert_eq!(at(320, 5), [0., 2., 4., 6., 8.]);
        assert_eq!(at(640, 3), [1., 5., 8.]);
    }
}
