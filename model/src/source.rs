//! The frames that units are made of: stored acoustic features, or a layer of a pretrained model computed when it is asked for.

use std::fs;
use std::path::Path;

use reprise_spec::arithmetic::SAMPLE_RATE;
use reprise_spec::extraction::State;
use reprise_spec::network::Network;
use reprise_spec::stage::{Role, UnitSource};
use reprise_spec::values::SplitName;
use tch::{Device, Tensor};

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
    Stored { arrays: Vec<npy::Reader<f32>>, rows: Vec<(usize, usize)> },
    /// For each span the split and the utterance in it.
    Layer { corpora: Corpora, at: Vec<(usize, usize)>, layer: Box<HiddenStates> },
}

impl Source {
    /// Opens the inputs that hold the frames of `splits`.
    ///
    /// # Errors
    /// Inputs that are missing or damaged; a height above the network's depth.
    pub fn open(source: UnitSource, splits: &[SplitName], work: &Work) -> Result<Self, StageError> {
        match source {
            UnitSource::Features(_) => Self::stored(splits, work),
            UnitSource::MfccSubspace { .. } => {
                Err(StageError::refused("this program doesn't cluster subspaces of MFCC yet", "cluster `mfcc`"))
            }
            UnitSource::Layer { height, after_final_norm } => {
                Self::layer(State { layer: height.get(), after_final_norm }, splits, work)
            }
        }
    }

    fn stored(splits: &[SplitName], work: &Work) -> Result<Self, StageError> {
        let (mut spans, mut arrays, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for split in splits {
            let dir = work.input(&Role::Features(split.clone()))?;
            let array = npy::Reader::open(&dir.join("features.npy"))?;
            let mut row = 0;
            for (id, frames) in lengths(&dir.join("utterances.tsv"))? {
                rows.push((arrays.len(), row));
                row += frames;
                spans.push(Span { split: split.clone(), id, frames });
            }
            if row != array.rows() {
                let (dir, rows) = (dir.display(), array.rows());
                return Err(StageError::Failed(format!("{dir} has {rows} frames, but its table counts {row}")));
            }
            arrays.push(array);
        }
        Ok(Self { spans, origin: Origin::Stored { arrays, rows }, device: work.device })
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

    /// The frames of the utterance of `spans[index]`: T × D, `f32`, on the stage's device.
    pub fn read(&mut self, index: usize) -> Result<Tensor, StageError> {
        let frames = self.spans[index].frames;
        match &mut self.origin {
            Origin::Stored { arrays, rows } => {
                let (array, row) = rows[index];
                let values = arrays[array].read(row, frames)?;
                let columns = arrays[array].columns() as i64;
                Ok(Tensor::f_from_slice(&values)?.f_view([frames as i64, columns])?.f_to_device(self.device)?)
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
/// A layer above the network's depth.
pub fn hidden_state(folder: &Path, state: State, device: Device) -> Result<HiddenStates, StageError> {
    HiddenStates::load(folder, device, |network: &Network| {
        let (layer, depth) = (state.layer, network.encoder.layers.get());
        if layer > depth {
            let message = format!("there is no layer {layer} in a network of {depth} layers");
            return Err(StageError::refused(message, "lower the `height` of the targets"));
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
    let pieces = layer.of(wave).map(|piece| piece.map(|mut states| states.remove(0)));
    Ok(Tensor::f_cat(&pieces.collect::<Result<Vec<_>, _>>()?, 0)?)
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
