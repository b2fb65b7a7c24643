//! One Transformer block: self-attention and feed-forward, normalised after (BASE) or before (LARGE) each.
//!
//! Source: fairseq `TransformerSentenceEncoderLayer`.

use reprise_spec::network::{LayerNormPlacement, Network};
use tch::nn::Path;
use tch::{Device, Kind, Tensor};

use super::{Mode, Places};
use crate::analysis::similarity::{self, Attention};
use crate::kernels::{self, Asked, AttentionBlock, FeedForwardBlock};
use crate::layers::{LayerNorm, Linear};
use crate::shim;

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
                let x = self.attention_norm.forward(&self.add_attention(&residual, x_btd, mask, mode, places));
                self.final_norm.forward(&self.add_feed_forward(&x, &x, mode))
            }
            LayerNormPlacement::Pre => {
                let x = self.add_attention(&residual, &self.attention_norm.forward(x_btd), mask, mode, places);
                self.add_feed_forward(&x, &self.final_norm.forward(&x), mode)
            }
        }
    }

    /// `residual` and, with dropout, what attention gives of `x_btd`.
    fn add_attention(
        &self,
        residual: &Tensor,
        x_btd: &Tensor,
        mask: Option<&Tensor>,
        mode: Mode,
        places: Option<&Places>,
    ) -> Tensor {
        let Some(keys_bt) = keys(mask).filter(|_| in_blocks(mode, x_btd)) else {
            return mode.add(residual, &self.attend(x_btd, mask, mode, places), self.residual_dropout);
        };
        let (residual, x_btd) = (residual.to_kind(Kind::Float), x_btd.to_kind(Kind::Float));
        let queries = places.map(|places| places.queries(&x_btd));
        let asked = queries.as_ref().zip(places);
        let asked = asked.map(|(queries, places)| Asked { queries, kept: places.of_queries() });
        let block = AttentionBlock {
            query: &self.query,
            key: &self.key,
            value: &self.value,
            out: &self.out,
            heads: self.heads,
            inner_dropout: self.attention_dropout,
            outer_dropout: self.residual_dropout,
        };
        block.add(&residual, &x_btd, asked, keys_bt.as_ref())
    }

    /// `residual` and, with dropout, what the feed-forward network gives of `x`.
    fn add_feed_forward(&self, residual: &Tensor, x: &Tensor, mode: Mode) -> Tensor {
        if in_blocks(mode, x) {
            let block = FeedForwardBlock {
                intermediate: &self.intermediate,
                output: &self.output,
                inner_dropout: self.activation_dropout,
                outer_dropout: self.residual_dropout,
            };
            return block.add(&residual.to_kind(Kind::Float), &x.to_kind(Kind::Float));
        }
        let inner = mode.dropout(self.intermediate.forward(x).gelu("none"), self.activation_dropout);
        mode.add(residual, &self.output.forward(&inner), self.residual_dropout)
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
        // libtorch's own knows no dropout on a CPU, and takes seven passes instead.
        let y_bhqe = match keys(mask).filter(|_| p > 0.0 && x_btd.device() == Device::Cpu) {
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
}

/// Whether halves of the layer are functions of their own: in training on a CPU in half precision.
fn in_blocks(mode: Mode, x: &Tensor) -> bool {
    matches!(mode, Mode::Train { .. }) && x.device() == Device::Cpu && shim::autocasts(Device::Cpu)
}

/// The mask as our own attention takes it, B × T; none where it is of numbers that are added.
fn keys(mask: Option<&Tensor>) -> Option<Option<Tensor>> {
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
