//! Frames to frames: positions by convolution, then the Transformer stack.
//!
//! Shape suffixes: B utterances, T frames of 20 or 40 ms, D width, H heads, E width of one head.
//! Source: wav2vec 2.0 (arXiv:2006.11477) section 2; fairseq `TransformerEncoder`. Departs from fairseq: frames are not padded to an
//! even count, so that rows of equal length need no attention mask.

use reprise_spec::network::{Encoder as Settings, LayerNormPlacement, Network};
use tch::nn::Path;
use tch::{Kind, Tensor};

use crate::layers::LayerNorm;
use crate::random::Draws;

mod layer;
mod positional;

use layer::Layer;
use positional::PositionalConvolution;

/// Whether a pass learns.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// No dropout, every layer runs.
    Evaluate,
    /// Dropout drawn from libtorch's generator; layers marked `true` in `skipped` (one entry a layer) are left out.
    Train { skipped: &'a [bool] },
}

impl Mode<'_> {
    /// Dropout with probability `p` while training.
    pub fn dropout(self, x: Tensor, p: f64) -> Tensor {
        let p = self.probability(p);
        if p > 0.0 { x.dropout(p, true) } else { x }
    }

    pub(crate) fn probability(self, p: f64) -> f64 {
        if matches!(self, Mode::Train { .. }) { p } else { 0.0 }
    }

    fn skips(self, layer: usize) -> bool {
        matches!(self, Mode::Train { skipped } if skipped.get(layer).copied().unwrap_or(false))
    }
}

/// Which layers a training step leaves out, each with the probability of the settings (LayerDrop, arXiv:1909.11556).
pub fn skipped_layers(settings: &Settings, draws: &mut Draws) -> Vec<bool> {
    (0..settings.layers.get()).map(|_| draws.unit() < settings.layer_drop.get()).collect()
}

/// Parameters `pos_conv_embed.conv.*`, `layer_norm.*`, `layers.{l}.*`.
#[derive(Debug)]
pub struct Encoder {
    positional: PositionalConvolution,
    norm: LayerNorm,
    placement: LayerNormPlacement,
    layers: Vec<Layer>,
    dropout: f64,
}

impl Encoder {
    /// Registers the parameters below `path`. Linear weights start from N(0, 0.02), biases from 0.
    pub fn new(path: &Path, network: &Network) -> Self {
        let settings = &network.encoder;
        let width = i64::from(settings.width.get());
        let layers = path / "layers";
        Self {
            positional: PositionalConvolution::new(
                &(path / "pos_conv_embed" / "conv"),
                width,
                &settings.positional,
                settings.initialisation,
            ),
            norm: LayerNorm::new(&(path / "layer_norm"), width),
            placement: settings.norm,
            layers: (0..settings.layers.get()).map(|index| Layer::new(&(&layers / index), network)).collect(),
            dropout: network.dropout.residual.get(),
        }
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Layer 0 (the input of the stack: with positions and, for post-norm, normalised) and the outputs of blocks 1 to `last`, each
    /// B × T × D and before any final norm. `padding_bt` is true at padding, which no frame attends to.
    pub fn states(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>, mode: Mode, last: usize) -> Vec<Tensor> {
        let mut states = Vec::with_capacity(last + 1);
        let _ = self.walk(x_btd, padding_bt, mode, last, |state| states.push(state.shallow_clone()));
        states
    }

    /// The output of the last block, after the final norm of pre-norm encoders: B × T × D.
    pub fn forward(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>, mode: Mode) -> Tensor {
        let x_btd = self.walk(x_btd, padding_bt, mode, self.depth(), |_| ());
        match self.placement {
            LayerNormPlacement::Post => x_btd,
            LayerNormPlacement::Pre => self.normalise(&x_btd),
        }
    }

    /// The norm behind the last block of pre-norm encoders.
    pub fn normalise(&self, x_btd: &Tensor) -> Tensor {
        self.norm.forward(x_btd)
    }

    /// Runs layers up to `last`, showing every state, and returns that layer's output.
    pub fn walk(
        &self,
        x_btd: &Tensor,
        padding_bt: Option<&Tensor>,
        mode: Mode,
        last: usize,
        mut see: impl FnMut(&Tensor),
    ) -> Tensor {
        let x_btd = match padding_bt {
            Some(padding_bt) => x_btd.masked_fill(&padding_bt.unsqueeze(-1), 0.0),
            None => x_btd.shallow_clone(),
        };
        let mut x_btd = &x_btd + self.positional.forward(&x_btd);
        if self.placement == LayerNormPlacement::Post {
            x_btd = self.norm.forward(&x_btd);
        }
        see(&x_btd);
        x_btd = mode.dropout(x_btd, self.dropout);
        let visible_b11t = padding_bt.map(|padding_bt| padding_bt.logical_not().unsqueeze(1).unsqueeze(1));
        for (index, layer) in self.layers.iter().enumerate().take(last) {
            if !mode.skips(index) {
                x_btd = layer.forward(&x_btd, visible_b11t.as_ref(), mode);
            }
            see(&x_btd);
        }
        x_btd
    }
}

/// B × T, true from the length of each row on.
pub fn padding(lengths: &[u64], frames: i64, device: tch::Device) -> Tensor {
    let lengths: Vec<i64> = lengths.iter().map(|&length| length as i64).collect();
    let lengths_b1 = Tensor::from_slice(&lengths).unsqueeze(1).to_device(device);
    Tensor::arange(frames, (Kind::Int64, device)).unsqueeze(0).ge_tensor(&lengths_b1)
}
