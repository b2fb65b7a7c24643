//! One Transformer block: self-attention and feed-forward, normalised after (BASE) or before (LARGE) each.
//!
//! Source: fairseq `TransformerSentenceEncoderLayer`.

use reprise_spec::network::{LayerNormPlacement, Network};
use tch::nn::Path;
use tch::{Device, Kind, Tensor};

use super::Mode;
use crate::analysis::similarity::{self, Attention};
use crate::kernels;
use crate::layers::{LayerNorm, Linear};

/// Parameters `attention.{q,k,v,out}_proj.*`, `layer_norm.*`, `feed_forward.{intermediate,output}_dense.*`, `final_layer_norm.*`.
#[derive(Debug)]
pub struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    final_norm: LayerNorm,
    heads: i64,
    placement: LayerNormPlacement,
    residual_dropout: f64,
    attention_dropout: f64,
    activation_dropout: f64,
}

impl Layer {
    pub fn new(path: &Path, network: &Network) -> Self {
        let settings = &network.encoder;
        let (width, inner) = (i64::from(settings.width.get()), i64::from(settings.feed_forward.get()));
        let attention = path / "attention";
        let feed_forward = path / "feed_forward";
        Self {
            query: Linear::bert(&(&attention / "q_proj"), width, width),
            key: Linear::bert(&(&attention / "k_proj"), width, width),
            value: Linear::bert(&(&attention / "v_proj"), width, width),
            out: Linear::bert(&(&attention / "out_proj"), width, width),
            attention_norm: LayerNorm::new(&(path / "layer_norm"), width),
            intermediate: Linear::bert(&(&feed_forward / "intermediate_dense"), width, inner),
            output: Linear::bert(&(&feed_forward / "output_dense"), inner, width),
            final_norm: LayerNorm::new(&(path / "final_layer_norm"), width),
            heads: i64::from(settings.heads.get()),
            placement: settings.norm,
            residual_dropout: network.dropout.residual.get(),
            attention_dropout: network.dropout.attention.get(),
            activation_dropout: network.dropout.activation.get(),
        }
    }

    /// B × T × D to B × T × D. `mask` is what attention is given: `bool`, true where frames may attend, or numbers that are added.
    pub fn forward(&self, x_btd: &Tensor, mask: Option<&Tensor>, mode: Mode) -> Tensor {
        match self.placement {
            LayerNormPlacement::Post => {
                let x_btd = self.attention_norm.forward(&self.add(x_btd, &self.attend(x_btd, mask, mode), mode));
                self.final_norm.forward(&self.add(&x_btd, &self.feed_forward(&x_btd, mode), mode))
            }
            LayerNormPlacement::Pre => {
                let attended = self.attend(&self.attention_norm.forward(x_btd), mask, mode);
                let x_btd = self.add(x_btd, &attended, mode);
                self.add(&x_btd, &self.feed_forward(&self.final_norm.forward(&x_btd), mode), mode)
            }
        }
    }

    /// What a part of the block gives, with dropout, on top of what went in.
    fn add(&self, x_btd: &Tensor, y_btd: &Tensor, mode: Mode) -> Tensor {
        mode.add(x_btd, y_btd, self.residual_dropout)
    }

    fn attend(&self, x_btd: &Tensor, mask: Option<&Tensor>, mode: Mode) -> Tensor {
        let (rows, frames, width) = x_btd.size3().expect("frames have three dimensions");
        let split = |linear: &Linear| {
            linear.forward(x_btd).view([rows, frames, self.heads, width / self.heads]).transpose(1, 2)
        };
        let (query_bhte, key_bhte) = (split(&self.query), split(&self.key));
        if let Mode::Look(glances) = mode {
            glances.borrow_mut().push(look(&query_bhte, &key_bhte, mask));
        }
        let p = mode.probability(self.attention_dropout);
        let value_bhte = split(&self.value);
        let y_bhte = match kernel_mask(mask, p, x_btd) {
            Some(keys_bt) => kernels::attention(&query_bhte, &key_bhte, &value_bhte, keys_bt.as_ref(), p),
            None => {
                Tensor::scaled_dot_product_attention(&query_bhte, &key_bhte, &value_bhte, mask, p, false, None, false)
            }
        };
        self.out.forward(&y_bhte.transpose(1, 2).reshape([rows, frames, width]))
    }

    fn feed_forward(&self, x_btd: &Tensor, mode: Mode) -> Tensor {
        let inner = mode.dropout(self.intermediate.forward(x_btd).gelu("none"), self.activation_dropout);
        self.output.forward(&inner)
    }
}

/// The mask as [`kernels::attention`] takes it, where that is faster than libtorch's: with dropout on a CPU, unless numbers are added.
fn kernel_mask(mask: Option<&Tensor>, p: f64, x_btd: &Tensor) -> Option<Option<Tensor>> {
    if p == 0.0 || x_btd.device() != Device::Cpu {
        return None;
    }
    match mask {
        None => Some(None),
        Some(mask) => (mask.kind() == Kind::Bool).then(|| Some(mask.squeeze_dim(1).squeeze_dim(1))),
    }
}

/// Where each head of the only row of a batch without padding looks: softmax(q kᵀ / √E), with the bias that a mask of numbers adds.
fn look(query_bhte: &Tensor, key_bhte: &Tensor, mask: Option<&Tensor>) -> Vec<Attention> {
    let scale = (query_bhte.size()[3] as f64).sqrt();
    let head = |head: i64| {
        let of_head = |x_bhte: &Tensor| x_bhte.select(0, 0).select(0, head);
        let mut scores_tt = of_head(query_bhte).matmul(&of_head(key_bhte).tr()) / scale;
        if let Some(bias_1htt) = mask.filter(|mask| mask.kind() != Kind::Bool) {
            scores_tt += of_head(bias_1htt);
        }
        similarity::attention(&scores_tt.softmax(-1, Kind::Float))
    };
    (0..query_bhte.size()[1]).map(head).collect()
}
