//! The pretraining head: how well each frame matches each unit.
//!
//! Shape suffixes: N frames, D encoder width, P dimensions of the comparison, K units of a set and its extra rows, I sets.
//! Source: HuBERT (arXiv:2106.07447) equation 3 and section II.C; fairseq `HubertModel.compute_nce`. Its list of one positive and K
//! candidates with the positive's copy removed equals the K-way cross-entropy computed here, in one matrix product. The linear head is
//! MelHuBERT's, Fast-HuBERT's and k2SSL's.

use reprise_spec::network::Network;
use reprise_spec::training::{self, CosineHead, LinearHead};
use reprise_spec::values::Clusters;
use tch::nn::{Init, Path};
use tch::{Reduction, Tensor};

use crate::layers::{Linear, parameter};

/// Scores frames against one or several sets of units.
#[derive(Debug)]
pub struct Head {
    form: Form,
    /// Rows of each set.
    rows: Vec<i64>,
    /// Rows before those of the units.
    extra_rows: i64,
    temperature: f64,
}

/// Parameters `final_proj.*` (ΣP × D; P × D where sets share it) and `label_embs_concat` (ΣK × P); a linear head has `final_proj.*` (ΣK × D).
#[derive(Debug)]
enum Form {
    Cosine { projection: Linear, embeddings_kp: Tensor, dimension: i64, tied: bool },
    Linear { projection: Linear },
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
    /// The projection starts as the framework's default or, under Hugging Face's rule, from N(0, 0.02); embeddings from U(0, 1).
    pub fn new(path: &Path, network: &Network, settings: &training::Head, sets: &[Clusters]) -> Self {
        let width = i64::from(network.encoder.width.get());
        let initialisation = network.encoder.initialisation;
        let linear = |outputs| Linear::outside(&(path / "final_proj"), width, outputs, initialisation);
        let extra_rows = match settings {
            training::Head::Cosine(CosineHead { extra_rows, .. })
            | training::Head::Linear(LinearHead { extra_rows, .. }) => i64::from(*extra_rows),
        };
        let rows: Vec<i64> = sets.iter().map(|clusters| i64::from(clusters.get()) + extra_rows).collect();
        let total = rows.iter().sum();
        let (form, temperature) = match settings {
            training::Head::Cosine(head) => {
                let (dimension, tied) = (i64::from(head.dimension.get()), head.tied);
                let projection = linear(if tied { dimension } else { dimension * rows.len() as i64 });
                let init = Init::Uniform { lo: 0.0, up: 1.0 };
                let embeddings_kp = parameter(path, "label_embs_concat", &[total, dimension], init);
                (Form::Cosine { projection, embeddings_kp, dimension, tied }, head.temperature.get())
            }
            training::Head::Linear(head) => (Form::Linear { projection: linear(total) }, head.temperature.get()),
        };
        Self { form, rows, extra_rows, temperature }
    }

    /// N × D frames to the N × K logits of every set; the extra rows come first.
    pub fn logits(&self, x_nd: &Tensor) -> Vec<Tensor> {
        let starts = self.rows.iter().scan(0, |next, rows| Some(std::mem::replace(next, *next + rows)));
        let spans = starts.zip(&self.rows).enumerate();
        match &self.form {
            Form::Cosine { projection, embeddings_kp, dimension, tied } => {
                let projected = projection.forward(x_nd);
                let of_set = |set: usize| if *tied { 0 } else { set as i64 * dimension };
                spans
                    .map(|(set, (start, rows))| {
                        let projected_np = unit_rows(&projected.narrow(1, of_set(set), *dimension));
                        let embeddings_kp = unit_rows(&embeddings_kp.narrow(0, start, *rows));
                        projected_np.matmul(&embeddings_kp.transpose(0, 1)) / self.temperature
                    })
                    .collect()
            }
            Form::Linear { projection } => {
                let logits = projection.forward(x_nd) / self.temperature;
                spans.map(|(_, (start, rows))| logits.narrow(1, start, *rows)).collect()
            }
        }
    }

    /// Scores N × D frames against their units of every set (N, `i64` each).
    pub fn score(&self, x_nd: &Tensor, units: &[Tensor]) -> Vec<Score> {
        self.logits(x_nd)
            .iter()
            .zip(units)
            .map(|(logits_nk, units_n)| {
                let classes_n = units_n + self.extra_rows;
                let loss = logits_nk.cross_entropy_loss(&classes_n, None::<Tensor>, Reduction::Sum, -100, 0.0);
                let correct = tch::no_grad(|| logits_nk.argmax(-1, false).eq_tensor(&classes_n).sum(tch::Kind::Int64));
                Score { loss, correct, frames: units_n.size()[0] }
            })
            .collect()
    }
}

/// Rows over their length, at least 1e-8, as the cosine of the references.
pub(crate) fn unit_rows(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true).clamp_min(1e-8)
}
