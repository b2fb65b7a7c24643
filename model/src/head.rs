//! The pretraining head: how well each frame matches each unit.
//!
//! Shape suffixes: N frames, D encoder width, P dimensions of the comparison, K units.
//! Source: HuBERT (arXiv:2106.07447) equation 3; fairseq `HubertModel.compute_nce`. Its list of one positive and K candidates with the
//! positive's copy removed equals the K-way cross-entropy computed here, in one matrix product.

use reprise_spec::network::Network;
use reprise_spec::training;
use reprise_spec::values::Clusters;
use tch::nn::{Init, Path};
use tch::{Reduction, Tensor};

use crate::layers::{Linear, parameter};

/// Cosine between projected frame and unit embedding, over a temperature. Parameters `final_proj.*` and `label_embs_concat` (K × P).
#[derive(Debug)]
pub struct Head {
    projection: Linear,
    embeddings_kp: Tensor,
    temperature: f64,
}

/// Sums over the frames that were scored.
#[derive(Debug)]
pub struct Score {
    /// Cross-entropy in nats, summed; a scalar.
    pub loss: Tensor,
    /// Frames whose best unit is the right one; a scalar.
    pub correct: Tensor,
    /// N.
    pub frames: i64,
}

impl Head {
    /// The projection starts as the framework's default, embeddings from U(0, 1).
    pub fn new(path: &Path, network: &Network, settings: &training::Head, clusters: Clusters) -> Self {
        let dimension = i64::from(settings.dimension.get());
        let shape = [i64::from(clusters.get()), dimension];
        Self {
            projection: Linear::uniform(&(path / "final_proj"), i64::from(network.encoder.width.get()), dimension),
            embeddings_kp: parameter(path, "label_embs_concat", &shape, Init::Uniform { lo: 0.0, up: 1.0 }),
            temperature: settings.temperature.get(),
        }
    }

    /// N × D frames to N × K logits.
    pub fn logits(&self, x_nd: &Tensor) -> Tensor {
        let projected_np = unit_rows(&self.projection.forward(x_nd));
        projected_np.matmul(&unit_rows(&self.embeddings_kp).t_()) / self.temperature
    }

    /// Scores N × D frames against their units (N, `i64`).
    pub fn score(&self, x_nd: &Tensor, units_n: &Tensor) -> Score {
        let logits_nk = self.logits(x_nd);
        let loss = logits_nk.cross_entropy_loss(units_n, None::<Tensor>, Reduction::Sum, -100, 0.0);
        let correct = tch::no_grad(|| logits_nk.argmax(-1, false).eq_tensor(units_n).sum(tch::Kind::Int64));
        Score { loss, correct, frames: units_n.size()[0] }
    }
}

/// Rows over their length, at least 1e-8, as the cosine of the references.
fn unit_rows(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true).clamp_min(1e-8)
}
