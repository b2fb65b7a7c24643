//! One Transformer block: self-attention and feed-forward, normalised after (BASE) or before (LARGE) each.
//!
//! Source: fairseq `TransformerSentenceEncoderLayer`.

use reprise_spec::network::{LayerNormPlacement, Network};
use tch::nn::Path;
use tch::{Device, Kind, Tensor};

use super::{Mode, Places};
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

    /// B × T × D to B × T × D, or to N × D at some places. `mask` is what attention is given: `bool`, true where frames may attend, or numbers
    /// that are added.
    pub fn forward(&self, x_btd: &Tensor, mask: Option<&Tensor>, mode: Mode, places: Option<&Places>) -> Tensor {
        let residual = places.map_or_else(|| x_btd.shallow_clone(), |places| places.of(x_btd));
        match self.placement {
            LayerNormPlacement::Post => {
                let attended = self.attend(x_btd, mask, mode, places);
                let x = self.attention_norm.forward(&self.add(&residual, &attended, mode));
                self.final_norm.forward(&self.add(&x, &self.feed_forward(&x, mode), mode))
            }
            LayerNormPlacement::Pre => {
                let attended = self.attend(&self.attention_norm.forward(x_btd), mask, mode, places);
                let x = self.add(&residual, &attended, mode);
                self.add(&x, &self.feed_forward(&self.final_norm.forward(&x), mode), mode)
            }
        }
    }

    /// What a part of the block gives, with dropout, on top of what went in.
    fn add(&self, x: &Tensor, y: &Tensor, mode: Mode) -> Tensor {
        mode.add(x, y, self.residual_dropout)
    }

    fn attend(&self, x_btd: &Tensor, mask: Option<&Tensor>, mode: Mode, places: Option<&Places>) -> Tensor {
        let split = |x_btd: &Tensor, linear: &Linear| {
            let (rows, frames, width) = x_btd.size3().expect("frames have three dimensions");
            linear.forward(x_btd).view([rows, frames, self.heads, width / self.heads]).transpose(1, 2)
        };
        let asking_bqd = places.map_or_else(|| x_btd.shallow_clone(), |places| places.queries(x_btd));
        let (query_bhqe, key_bhte) = (split(&asking_bqd, &self.query), split(x_btd, &self.key));
        if let Mode::Look(glances) = mode {
            glances.borrow_mut().push(look(&query_bhqe, &key_bhte, mask));
        }
        let p = mode.probability(self.attention_dropout);
        let value_bhte = split(x_btd, &self.value);
        let y_bhqe = match kernel_mask(mask, p, &query_bhqe, mode) {
            Some(keys_bt) => kernels::attention(&query_bhqe, &key_bhte, &value_bhte, keys_bt.as_ref(), p),
            None => {
                let added = places.zip(mask.filter(|mask| mask.kind() != Kind::Bool));
                let added = added.map(|(places, bias_bhtt)| places.added(bias_bhtt));
                let mask = added.as_ref().or(mask);
                Tensor::scaled_dot_product_attention(&query_bhqe, &key_bhte, &value_bhte, mask, p, false, None, false)
            }
        };
        let y_bqd = y_bhqe.transpose(1, 2).flatten(2, 3);
        self.out.forward(&places.map_or(y_bqd.shallow_clone(), |places| places.kept(&y_bqd)))
    }

    fn feed_forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let inner = mode.dropout(self.intermediate.forward(x).gelu("none"), self.activation_dropout);
        self.output.forward(&inner)
    }
}

/// The mask as [`kernels::attention`] takes it, where that is faster than libtorch's: in training on a CPU with dropout or in half precision,
/// unless numbers are added.
fn kernel_mask(mask: Option<&Tensor>, p: f64, query_bhqe: &Tensor, mode: Mode) -> Option<Option<Tensor>> {
    let faster = matches!(mode, Mode::Train { .. }) && (p > 0.0 || query_bhqe.kind() == Kind::BFloat16);
    if !faster || query_bhqe.device() != Device::Cpu {
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
