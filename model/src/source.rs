//! The frames that units are made of: stored acoustic features, or a layer of a pretrained model computed when it is asked for.

use std::fs;
use std::path::Path;

use reprise_spec::arithmetic::{SAMPLE_RATE, frames};
use reprise_spec::extraction::State;
use reprise_spec::network::Network;
use reprise_spec::stage::{Role, UnitSource};
use reprise_spec::values::{Count, Order, SplitName};
use tch::{Device, Kind, Tensor};

use crate::corpus::{Corpora, Utterance};
use crate::failure::StageError;
use crate::hidden_states::HiddenStates;
use crate::npy;
use crate::stage::Work;

/// The frames of one utterance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub split: SplitName,
    pub id: String,
    pub frames: usize,
    /// Frames of 20 ms, at which units are measured whatever their rate.
    pub measured: usize,
}

/// The frames of all utterances of some splits, read one utterance at a time so that none depends on another.
pub struct Source {
    /// Split by split, in the order of the corpus.
    pub spans: Vec<Span>,
    origin: Origin,
    device: Device,
}

enum Origin {
    /// An array a split, and for each span which one and the first of its rows.
    Stored { arrays: Vec<npy::Reader<f32>>, rows: Vec<(usize, usize)>, view: View },
    /// For each span the split and the utterance in it.
    Layer { corpora: Corpora, at: Vec<(usize, usize)>, layer: Box<HiddenStates> },
}

impl Source {
    /// Opens the inputs that hold the frames of `splits`.
    ///
    /// # Errors
    /// Inputs that are missing or damaged; a height that the network doesn't have, or whose frames aren't a whole number a second.
    pub fn open(source: UnitSource, splits: &[SplitName], work: &Work) -> Result<Self, StageError> {
        match source {
            UnitSource::Features(_) => Self::stored(splits, View::Whole, work),
            UnitSource::MfccSubspace { order, splice } => Self::stored(splits, View::Subspace { order, splice }, work),
            UnitSource::Layer { height, after_final_norm } => {
                Self::layer(State { layer: height.get(), after_final_norm }, splits, work)
            }
        }
    }

    fn stored(splits: &[SplitName], view: View, work: &Work) -> Result<Self, StageError> {
        let (mut spans, mut arrays, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for split in splits {
            let dir = work.input(&Role::Features(split.clone()))?;
            let array = npy::Reader::open(&dir.join("features.npy"))?;
            let mut row = 0;
            for (id, frames) in lengths(&dir.join("utterances.tsv"))? {
                rows.push((arrays.len(), row));
                row += frames;
                // Frame t of 20 ms goes with feature frame 2t.
                spans.push(Span { split: split.clone(), id, frames, measured: frames.div_ceil(2) });
            }
            if row != array.rows() {
                let (dir, rows) = (dir.display(), array.rows());
                return Err(StageError::Failed(format!("{dir} has {rows} frames, but its table counts {row}")));
            }
            arrays.push(array);
        }
        Ok(Self { spans, origin: Origin::Stored { arrays, rows, view }, device: work.device })
    }

    fn layer(state: State, splits: &[SplitName], work: &Work) -> Result<Self, StageError> {
        let layer = Box::new(hidden_state(work.input(&Role::Pretrained)?, state, work.device)?);
        let corpora = Corpora::read(work, splits)?;
        let (mut spans, mut at) = (Vec::new(), Vec::new());
        for (index, (split, corpus)) in corpora.splits.iter().enumerate() {
            for (utterance, Utterance { id, samples, .. }) in corpus.utterances.iter().enumerate() {
                spans.push(Span {
                    split: split.clone(),
                    id: id.clone(),
                    frames: layer.frames(&state, *samples) as usize,
                    measured: frames(*samples) as usize,
                });
                at.push((index, utterance));
            }
        }
        let origin = Origin::Layer { corpora, at, layer };
        Ok(Self { spans, origin, device: work.device })
    }

    /// Frames a second.
    pub fn rate(&self) -> u32 {
        match &self.origin {
            Origin::Stored { .. } => 100,
            Origin::Layer { layer, .. } => rate(layer),
        }
    }

    /// Whether reading computes what it gives, rather than finding it on disk.
    pub fn passes_through_a_network(&self) -> bool {
        matches!(self.origin, Origin::Layer { .. })
    }

    /// The frames of the utterance of `spans[index]`: T × D, `f32`, on the stage's device.
    pub fn read(&mut self, index: usize) -> Result<Tensor, StageError> {
        let frames = self.spans[index].frames;
        match &mut self.origin {
            Origin::Stored { arrays, rows, view } => {
                let (array, row) = rows[index];
                let values = arrays[array].read(row, frames)?;
                let columns = arrays[array].columns() as i64;
                let frames_td = Tensor::f_from_slice(&values)?.f_view([frames as i64, columns])?;
                Ok(view.of(&frames_td).f_to_device(self.device)?)
            }
            Origin::Layer { corpora, at, layer } => {
                let (split, utterance) = at[index];
                let corpus = &corpora.splits[split].1;
                whole(layer, corpus.wave(&corpus.utterances[utterance])?)
            }
        }
    }
}

/// One hidden state of the model in `folder`.
///
/// # Errors
/// Refuses a layer above the network's depth, and one whose frames aren't a whole number a second, which is how units are counted.
pub fn hidden_state(folder: &Path, state: State, device: Device) -> Result<HiddenStates, StageError> {
    HiddenStates::load(folder, device, |network: &Network| {
        let (layer, depth) = (state.layer, network.encoder.layers.get());
        if layer > depth {
            let message = format!("there is no layer {layer} in a network of {depth} layers");
            return Err(StageError::refused(message, "lower the `height` of the targets"));
        }
        let stride = network.layer_stride(layer);
        if !u64::from(SAMPLE_RATE).is_multiple_of(stride) {
            let rate = f64::from(SAMPLE_RATE) / stride as f64;
            let message = format!("layer {layer} has {rate:.2} frames a second, and units need a whole number of them");
            return Err(StageError::refused(message, "take a layer of another block as the `height` of the targets"));
        }
        Ok(vec![state])
    })
}

/// Frames a second of the first of some hidden states.
pub fn rate(layer: &HiddenStates) -> u32 {
    layer.states().first().map_or(0, |state| SAMPLE_RATE / layer.stride(state) as u32)
}

/// All frames that the first of some hidden states has of a wave: T × D.
pub fn whole(layer: &HiddenStates, wave: Vec<f32>) -> Result<Tensor, StageError> {
    Ok(layer.whole(wave)?.remove(0))
}

/// What of stored features is clustered.
#[derive(Clone, Copy, Debug)]
pub enum View {
    Whole,
    /// A third of the MFCC, neighbouring frames side by side (HuBERT section IV.D: splice 3 makes 39 dimensions of 13).
    Subspace {
        order: Order,
        splice: Count,
    },
}

impl View {
    /// T × D to T × D′. Neighbours stand from the earliest to the latest; beyond the edges the outermost frame is repeated.
    pub fn of(self, frames_td: &Tensor) -> Tensor {
        let Self::Subspace { order, splice } = self else { return frames_td.shallow_clone() };
        let (frames, columns) = frames_td.size2().expect("features are T × D");
        let third_td = frames_td.narrow(1, i64::from(order.get()) * columns / 3, columns / 3);
        let reach = i64::from(splice.get() / 2);
        let neighbours = (-reach..=reach).map(|by| {
            let at_t = (Tensor::arange(frames, (Kind::Int64, frames_td.device())) + by).clamp(0, (frames - 1).max(0));
            third_td.index_select(0, &at_t)
        });
        Tensor::cat(&neighbours.collect::<Vec<_>>(), 1)
    }
}

/// The table that a `features` stage wrote: id and frames of each utterance.
fn lengths(path: &Path) -> Result<Vec<(String, usize)>, StageError> {
    let text = fs::read_to_string(path).map_err(|error| StageError::io("cannot read", path, &error))?;
    text.lines()
        .enumerate()
        .skip(1)
        .map(|(number, line)| {
            let row = line.split_once('\t').and_then(|(id, frames)| Some((id.to_owned(), frames.parse().ok()?)));
            let damaged = || format!("{} line {}: expected id, frames", path.display(), number + 1);
            row.ok_or_else(|| StageError::Failed(damaged()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(value: u64) -> Count {
        Count::try_from(value).unwrap()
    }

    proptest! {
        /// HuBERT section IV.D: three frames of 13 coefficients of one order make a vector of 39.
        #[test]
        fn a_subspace_is_one_order_of_neighbouring_frames(frames in 1i64..30, order in 0i64..3, reach in 0i64..4, t in 0i64..30) {
            let t = t % frames;
            let mfcc_td = Tensor::arange(frames * 39, (Kind::Float, Device::Cpu)).view([frames, 39]);
            let order_of = Order::try_from(order as u64).unwrap();
            let view = View::Subspace { order: order_of, splice: count(2 * reach as u64 + 1) };
            let found_td = view.of(&mfcc_td);
            prop_assert_eq!(found_td.size(), [frames, 13 * (2 * reach + 1)]);
            for (place, by) in (-reach..=reach).enumerate() {
                let expected = mfcc_td.get((t + by).clamp(0, frames - 1)).narrow(0, 13 * order, 13);
                prop_assert!(found_td.get(t).narrow(0, 13 * place as i64, 13).equal(&expected));
            }
        }
    }
}
