//! Frames to frames: positions by convolution, then the Transformer stack.
//!
//! Shape suffixes: B utterances, T frames of 20 or 40 ms, D width, H heads, E width of one head.
//! Source: wav2vec 2.0 (arXiv:2006.11477) section 2; fairseq `TransformerEncoder`. Departs from fairseq: frames are not padded to an
//! even count, so that rows of equal length need no attention mask.

use std::cell::RefCell;
use std::rc::Rc;

use reprise_spec::network::{Encoder as Settings, LayerNormPlacement, Network};
use tch::nn::Path;
use tch::{Kind, Tensor};

use crate::analysis::similarity::Attention;
use crate::kernels;
use crate::layers::LayerNorm;
use crate::random::Draws;

mod layer;
mod places;
mod positional;
mod relative;

use layer::Layer;
pub use places::Places;
use positional::PositionalConvolution;
use relative::RelativePositions;

/// Whether a pass learns.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// No dropout, every layer runs.
    Evaluate,
    /// As [`Mode::Evaluate`], and every layer notes where its heads look.
    Look(&'a Glances),
    /// Dropout drawn from libtorch's generator; layers marked `true` in `skipped` (one entry a layer) are left out.
    Train { skipped: &'a [bool], keep: Keep<'a> },
}

/// What of a training pass is kept for its backward pass.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// What every layer computes.
    All,
    /// The inputs of layers, from which they are computed again. A layer whose input something else reads as well keeps all, so that
    /// gradients are summed in the same order: that behind an output marked `true` in `shown` (one entry a layer), and the first of a lower
    /// rate.
    Inputs { shown: &'a [bool] },
}

/// Where the heads of each layer look, in the order in which layers run.
pub type Glances = RefCell<Vec<Vec<Attention>>>;

impl Mode<'_> {
    /// Training with every layer, whose outputs are all kept.
    pub const LEARN: Mode<'static> = Mode::Train { skipped: &[], keep: Keep::All };

    /// Dropout with probability `p` while training.
    pub fn dropout(self, x: Tensor, p: f64) -> Tensor {
        let p = self.probability(p);
        if p > 0.0 { kernels::dropout(&x, p) } else { x }
    }

    /// `residual` plus `x` with dropout of probability `p` while training.
    pub fn add(self, residual: &Tensor, x: &Tensor, p: f64) -> Tensor {
        let p = self.probability(p);
        if p > 0.0 { kernels::add_dropout(residual, x, p) } else { residual + x }
    }

    pub(crate) fn probability(self, p: f64) -> f64 {
        if matches!(self, Mode::Train { .. }) { p } else { 0.0 }
    }

    /// The pass as the layers behind the first `layers` see it.
    pub(crate) fn beyond(self, layers: usize) -> Self {
        match self {
            Self::Evaluate | Self::Look(_) => self,
            Self::Train { skipped, keep } => {
                let keep = match keep {
                    Keep::All => Keep::All,
                    Keep::Inputs { shown } => Keep::Inputs { shown: shown.get(layers..).unwrap_or_default() },
                };
                Self::Train { skipped: skipped.get(layers..).unwrap_or_default(), keep }
            }
        }
    }

    fn shows(self, layer: usize) -> bool {
        matches!(self, Mode::Train { keep: Keep::Inputs { shown }, .. } if shown.get(layer).copied().unwrap_or(false))
    }

    fn skips(self, layer: usize) -> bool {
        matches!(self, Mode::Train { skipped, .. } if skipped.get(layer).copied().unwrap_or(false))
    }
}

/// Which layers a training step leaves out, each with the probability of the settings (LayerDrop, arXiv:1909.11556).
pub fn skipped_layers(settings: &Settings, draws: &mut Draws) -> Vec<bool> {
    (0..settings.layers.get()).map(|_| draws.unit() < settings.layer_drop.get()).collect()
}

/// Parameters `pos_conv_embed.conv.*`, `layer_norm.*`, `layers.{l}.*` and, with relative positions, `rel_attn_embed.weight`.
#[derive(Debug)]
pub struct Encoder {
    positional: Option<PositionalConvolution>,
    relative: Option<RelativePositions>,
    norm: LayerNorm,
    placement: LayerNormPlacement,
    layers: Vec<Rc<Layer>>,
    dropout: f64,
}

impl Encoder {
    /// Registers the parameters below `path`. Linear weights start from N(0, 0.02), biases from 0.
    pub fn new(path: &Path, network: &Network) -> Self {
        Self::block(path, network, network.encoder.layers.get(), true)
    }

    /// An encoder of as many layers that may go without the convolution that gives positions: a block of a hierarchy.
    pub fn block(path: &Path, network: &Network, layers: u32, positional: bool) -> Self {
        let settings = &network.encoder;
        let width = i64::from(settings.width.get());
        let convolution = path / "pos_conv_embed" / "conv";
        let below = path / "layers";
        Self {
            positional: positional.then(|| {
                PositionalConvolution::new(&convolution, width, &settings.positional, settings.initialisation)
            }),
            norm: LayerNorm::new(&(path / "layer_norm"), width),
            placement: settings.norm,
            layers: (0..layers).map(|index| Rc::new(Layer::new(&(&below / index), network))).collect(),
            relative: settings.relative_positions.as_ref().map(|relative| {
                RelativePositions::new(&(path / "rel_attn_embed"), i64::from(settings.heads.get()), relative)
            }),
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
        self.finish(&self.walk(x_btd, padding_bt, mode, self.depth(), |_| ()))
    }

    /// [`Encoder::forward`] at some frames alone: N × D.
    pub fn forward_at(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>, mode: Mode, places: &Rc<Places>) -> Tensor {
        self.finish(&self.pass(x_btd, padding_bt, mode, self.depth(), Some(places), |_| ()))
    }

    /// The output of the last block to that of the encoder: the final norm of pre-norm encoders.
    pub(crate) fn finish(&self, x_btd: &Tensor) -> Tensor {
        match self.placement {
            LayerNormPlacement::Post => x_btd.shallow_clone(),
            LayerNormPlacement::Pre => self.normalise(x_btd),
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
        see: impl FnMut(&Tensor),
    ) -> Tensor {
        self.pass(x_btd, padding_bt, mode, last, None, see)
    }

    /// [`Encoder::walk`], whose last layer gives some frames alone where it is told which.
    fn pass(
        &self,
        x_btd: &Tensor,
        padding_bt: Option<&Tensor>,
        mode: Mode,
        last: usize,
        mut places: Option<&Rc<Places>>,
        mut see: impl FnMut(&Tensor),
    ) -> Tensor {
        let mut x_btd = match padding_bt {
            Some(padding_bt) => x_btd.masked_fill(&padding_bt.unsqueeze(-1), 0.0),
            None => x_btd.shallow_clone(),
        };
        if let Some(positional) = &self.positional {
            x_btd = &x_btd + positional.forward(&x_btd, mode);
        }
        if self.placement == LayerNormPlacement::Post {
            x_btd = self.norm.forward(&x_btd);
        }
        see(&x_btd);
        x_btd = mode.dropout(x_btd, self.dropout);
        let mask = self.attention_mask(&x_btd, padding_bt);
        // Whether the next layer alone reads what is here.
        let mut alone = self.positional.is_some();
        for (index, layer) in self.layers.iter().enumerate().take(last) {
            if !mode.skips(index) {
                let places = if index + 1 == last { places.take() } else { None };
                x_btd = run(layer, &x_btd, mask.as_ref(), mode, alone, places);
                alone = true;
            }
            alone &= !mode.shows(index);
            see(&x_btd);
        }
        // Where the last layer was left out.
        places.map_or(x_btd.shallow_clone(), |places| places.of(&x_btd))
    }

    /// What the attention of every layer is given: nothing, `bool` that is true where frames may attend (B × 1 × 1 × T), or
    /// the bias of relative positions (1 × H × T × T), −∞ at padding (B × H × T × T).
    fn attention_mask(&self, x_btd: &Tensor, padding_bt: Option<&Tensor>) -> Option<Tensor> {
        let padding_b11t = padding_bt.map(|padding_bt| padding_bt.unsqueeze(1).unsqueeze(1));
        match (&self.relative, padding_b11t) {
            (None, padding_b11t) => padding_b11t.map(|padding_b11t| padding_b11t.logical_not()),
            (Some(relative), None) => Some(relative.bias(x_btd.size()[1])),
            (Some(relative), Some(padding_b11t)) => {
                Some(relative.bias(x_btd.size()[1]).masked_fill(&padding_b11t, f64::NEG_INFINITY))
            }
        }
    }
}

/// [`Layer::forward`], of which nothing is kept where inputs are enough and the layer `alone` reads its input.
fn run(
    layer: &Rc<Layer>,
    x_btd: &Tensor,
    mask: Option<&Tensor>,
    mode: Mode,
    alone: bool,
    places: Option<&Rc<Places>>,
) -> Tensor {
    if !alone || !matches!(mode, Mode::Train { keep: Keep::Inputs { .. }, .. }) {
        return layer.forward(x_btd, mask, mode, places.map(Rc::as_ref));
    }
    let (layer, places) = (layer.clone(), places.cloned());
    kernels::recomputed(x_btd, mask, move |x_btd, mask| layer.forward(x_btd, mask, Mode::LEARN, places.as_deref()))
}

/// B × T, true from the length of each row on.
pub fn padding(lengths: &[u64], frames: i64, device: tch::Device) -> Tensor {
    let lengths: Vec<i64> = lengths.iter().map(|&length| length as i64).collect();
    let lengths_b1 = Tensor::from_slice(&lengths).unsqueeze(1).to_device(device);
    Tensor::arange(frames, (Kind::Int64, device)).unsqueeze(0).ge_tensor(&lengths_b1)
}
