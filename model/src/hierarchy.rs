//! Blocks of layers at several frame rates: down to the lowest, then up again, with a sum around each lower part.
//!
//! Shape suffixes: B utterances, T frames (of whichever rate), D width.
//! Source: MR-HuBERT (arXiv:2310.02720); fairseq `MultiresHubertModel`, whose names the parameters bear. Each block is an encoder with a
//! layer norm of its own, positions are convolved in the first block only, and nothing is normalised after a sum. Blocks stand here in the
//! order in which they run; fairseq's `override_encoder_layers` lists those of the way up from the last to the first.

use reprise_spec::network::{Hierarchy as Settings, Network};
use tch::Tensor;
use tch::nn::Path;

use crate::encoder::{Encoder, Mode};

mod sampling;

pub use sampling::{Change, Sampler};

/// Parameters `encoders.{i}.*` (the highest rate first), `middle_encoder.*`, `decoders.{i}.*` (in the order in which they run: the lowest
/// rate first), `downsample_modules.{i}.*` and `upsample_modules.{i}.*` (between rates i and i + 1).
#[derive(Debug)]
pub struct Hierarchy {
    encoders: Vec<Encoder>,
    middle: Encoder,
    decoders: Vec<Encoder>,
    down: Vec<Sampler>,
    up: Vec<Sampler>,
}

impl Hierarchy {
    /// Registers the parameters below `path`.
    pub fn new(path: &Path, network: &Network, settings: &Settings) -> Self {
        let width = i64::from(network.encoder.width.get());
        let rates = settings.ratios.len();
        let layers = |block: usize| settings.layers.get(block).map_or(0, |layers| layers.get());
        let (encoders, decoders) = (path / "encoders", path / "decoders");
        let (down, up) = (path / "downsample_modules", path / "upsample_modules");
        let ratio = |index: usize| i64::from(settings.ratios[index].get());
        let sampler = |path: &Path, change| Sampler::new(path, width, &settings.sampling, change);
        Self {
            encoders: (0..rates).map(|i| Encoder::block(&(&encoders / i), network, layers(i), i == 0)).collect(),
            middle: Encoder::block(&(path / "middle_encoder"), network, layers(rates), false),
            decoders: (0..rates)
                .map(|i| Encoder::block(&(&decoders / i), network, layers(rates + 1 + i), false))
                .collect(),
            down: (0..rates).map(|i| sampler(&(&down / i), Change::Down(ratio(i)))).collect(),
            up: (0..rates).map(|i| sampler(&(&up / i), Change::Up(ratio(i)))).collect(),
        }
    }

    /// Layers of all blocks.
    pub fn depth(&self) -> usize {
        self.encoders.iter().chain([&self.middle]).chain(&self.decoders).map(Encoder::depth).sum()
    }

    /// The norm behind the last layer of pre-norm blocks, before the last sum.
    pub fn normalise(&self, x_btd: &Tensor) -> Tensor {
        self.decoders.last().unwrap_or(&self.middle).normalise(x_btd)
    }

    /// The sums at every rate, the highest first, B × T × D each. `padding_bt` is true at padding of the highest rate; it is resampled with
    /// the frames, so that in a padded batch up to one ratio's frames behind a row count as part of it, as in fairseq.
    pub fn forward(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>, mode: Mode) -> Vec<Tensor> {
        self.walk(x_btd, padding_bt, mode, self.depth(), |_| ())
    }

    /// Runs layers up to `last`, showing layer 0 (the first block's input: with positions and, for post-norm, normalised) and the output
    /// of every layer before any final norm or sum, without the frames that the sum cuts off. Layers are counted through all blocks in the
    /// order in which they run. Gives the sums that were reached, the highest rate first.
    pub fn walk(
        &self,
        x_btd: &Tensor,
        padding_bt: Option<&Tensor>,
        mode: Mode,
        last: usize,
        mut see: impl FnMut(&Tensor),
    ) -> Vec<Tensor> {
        let mut below = 0;
        // A block's output after its final norm, or nothing where `last` lies below its end.
        let mut run = |block: &Encoder, x_btd: &Tensor, padding_bt: Option<&Tensor>, frames: i64| {
            let first = below;
            below += block.depth();
            let mut input = true;
            let y_btd = block.walk(x_btd, padding_bt, mode.beyond(first), last.min(below) - first, |state| {
                if first == 0 || !input {
                    see(&state.narrow(1, 0, frames));
                }
                input = false;
            });
            (below <= last).then(|| block.finish(&y_btd))
        };
        let (mut x_btd, mut padding_bt) = (x_btd.shallow_clone(), padding_bt.map(Tensor::shallow_clone));
        let mut skips = Vec::with_capacity(self.encoders.len());
        for (block, down) in self.encoders.iter().zip(&self.down) {
            let frames = x_btd.size()[1];
            let Some(y_btd) = run(block, &x_btd, padding_bt.as_ref(), frames) else { return Vec::new() };
            x_btd = down.forward(&y_btd);
            padding_bt = padding_bt.map(|padding_bt| down.mask(&padding_bt));
            skips.push(y_btd);
        }
        // fairseq zeroes padding in place before a block, so that the sum around the middle one sees the zeros too.
        if let Some(padding_bt) = &padding_bt {
            x_btd = x_btd.masked_fill(&padding_bt.unsqueeze(-1), 0.0);
        }
        let Some(y_btd) = run(&self.middle, &x_btd, padding_bt.as_ref(), x_btd.size()[1]) else { return Vec::new() };
        let mut sums = vec![x_btd + y_btd];
        for ((block, up), skip_btd) in self.decoders.iter().zip(self.up.iter().rev()).zip(skips.iter().rev()) {
            let x_btd = up.forward(&sums[sums.len() - 1]);
            padding_bt = padding_bt.map(|padding_bt| up.mask(&padding_bt));
            let frames = skip_btd.size()[1];
            let Some(y_btd) = run(block, &x_btd, padding_bt.as_ref(), frames) else { break };
            padding_bt = padding_bt.map(|padding_bt| padding_bt.narrow(1, 0, frames));
            sums.push(y_btd.narrow(1, 0, frames) + skip_btd);
        }
        sums.reverse();
        sums
    }
}
