//! The frames that units are made of: stored acoustic features, or a layer of a pretrained model computed when it is asked for.

use std::fs;
use std::path::Path;

use reprise_spec::arithmetic::{self, FEATURE_STRIDE, FRAME_STRIDE, FRAME_WINDOW};
use reprise_spec::network::FrontEnd;
use reprise_spec::stage::{Role, UnitSource};
use reprise_spec::values::SplitName;
use tch::{Device, Kind, Tensor};

use crate::corpus::{Corpora, Utterance};
use crate::failure::StageError;
use crate::hubert::Hubert;
use crate::loader::standardise;
use crate::model_folder::{self, About};
use crate::npy;
use crate::stage::Work;

/// Frames of a layer that are computed at once: 100 s.
const CHUNK: u64 = 5_000;
/// Samples from which a frame of any front-end is computed: a log-mel frame ends 10 ms after one of the convolutions.
const WINDOW: u64 = FRAME_WINDOW + FEATURE_STRIDE;

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
    Layer { corpora: Corpora, at: Vec<(usize, usize)>, layer: Box<Layer> },
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
            UnitSource::Layer { height, .. } => Self::layer(height.get() as usize, splits, work),
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

    fn layer(height: usize, splits: &[SplitName], work: &Work) -> Result<Self, StageError> {
        let (_, network, About { network: settings, .. }) =
            model_folder::load(work.input(&Role::Pretrained)?, work.device)?;
        if height > network.depth() {
            let depth = network.depth();
            return Err(StageError::refused(
                format!("there is no layer {height} in a network of {depth} layers"),
                "lower the `height` of the targets",
            ));
        }
        let corpora = Corpora::read(work, splits)?;
        let (mut spans, mut at) = (Vec::new(), Vec::new());
        for (index, (split, corpus)) in corpora.splits.iter().enumerate() {
            for (utterance, Utterance { id, samples, .. }) in corpus.utterances.iter().enumerate() {
                spans.push(Span {
                    split: split.clone(),
                    id: id.clone(),
                    frames: arithmetic::frames(*samples) as usize,
                });
                at.push((index, utterance));
            }
        }
        let standardised = matches!(&settings.front_end, FrontEnd::Wave(wave) if wave.normalise_waveform);
        let width = i64::from(settings.encoder.width.get());
        let layer = Box::new(Layer { network, height, width, standardised });
        let origin = Origin::Layer { corpora, at, layer };
        Ok(Self { spans, origin, device: work.device })
    }

    /// Frames a second.
    pub fn rate(&self) -> u32 {
        match &self.origin {
            Origin::Stored { .. } => 100,
            Origin::Layer { .. } => 50,
        }
    }

    /// The frames of the utterance of `spans[index]`: T × D, `f32`, on the stage's device.
    ///
    /// Long utterances pass through a network in pieces of 100 s without context of each other, as in the reference (hubert.md section
    /// 4.2); but a piece reads up to the end of its last frame's window, so that no frame is lost between pieces.
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
                layer.frames(corpus.wave(&corpus.utterances[utterance])?, frames as u64, self.device)
            }
        }
    }
}

/// A layer of a pretrained network, computed without masks and dropout.
struct Layer {
    network: Hubert,
    height: usize,
    width: i64,
    /// Whether the network wants waves of zero mean and unit variance.
    standardised: bool,
}

impl Layer {
    /// The layer's `frames` frames of a wave: T × D.
    fn frames(&self, mut wave: Vec<f32>, frames: u64, device: Device) -> Result<Tensor, StageError> {
        if self.standardised {
            standardise(&mut wave);
        }
        let _no_grad = tch::no_grad_guard();
        let mut pieces = vec![Tensor::zeros([0, self.width], (Kind::Float, device))];
        for start in (0..frames).step_by(CHUNK as usize) {
            let next = start + CHUNK;
            let end = if next < frames { (next - 1) * FRAME_STRIDE + WINDOW } else { wave.len() as u64 };
            let piece = &wave[(start * FRAME_STRIDE) as usize..end as usize];
            let wave_bs = Tensor::f_from_slice(piece)?.f_to_device(device)?.unsqueeze(0);
            pieces.push(self.network.layer(&wave_bs, None, self.height).squeeze_dim(0));
        }
        Ok(Tensor::f_cat(&pieces, 0)?)
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
    use reprise_spec::network::{LogMelFrontEnd, Network};
    use reprise_spec::values::Count;
    use tch::nn::VarStore;

    use super::*;

    #[test]
    fn pieces_have_as_many_frames_as_the_whole() {
        let count = |value| Count::try_from(value).unwrap();
        let mut network = Network { front_end: FrontEnd::LogMel(LogMelFrontEnd::default()), ..Network::default() };
        network.encoder.layers = count(1);
        network.encoder.width = count(16);
        network.encoder.heads = count(2);
        network.encoder.feed_forward = count(16);
        network.encoder.positional.groups = count(4);
        let store = VarStore::new(Device::Cpu);
        let hubert = Hubert::new(&store.root(), &network);
        let layer = Layer { network: hubert, height: 0, width: 16, standardised: true };
        for samples in [0, 399, 400, 719, 720, CHUNK * FRAME_STRIDE + 79, CHUNK * FRAME_STRIDE + 80, 1_650_000] {
            let frames = arithmetic::frames(samples);
            let wave = (0..samples).map(|n| (n as f32 * 0.1).sin()).collect();
            let found = layer.frames(wave, frames, Device::Cpu).unwrap();
            assert_eq!(found.size(), [frames as i64, 16], "{samples} samples");
        }
    }
}
