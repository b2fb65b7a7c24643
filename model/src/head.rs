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
        let spans = starts.zip(&self.rows);
        match &self.form {
            Form::Cosine { projection, embeddings_kp, dimension, tied } => {
                let projected = projection.forward(x_nd);
                let of_set = |set: usize| if *tied { 0 } else { set as i64 * dimension };
                spans
                    .enumerate()
                    .map(|(set, (start, rows))| {
                        let projected_np = unit_rows(&projected.narrow(1, of_set(set), *dimension));
                        let embeddings_kp = unit_rows(&embeddings_kp.narrow(0, start, *rows));
                        projected_np.matmul(&embeddings_kp.transpose(0, 1)) / self.temperature
                    })
                    .collect()
            }
            Form::Linear { projection } => {
                let logits = projection.forward(x_nd) / self.temperature;
                spans.map(|(start, rows)| logits.narrow(1, start, *rows)).collect()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use reprise_spec::values::{Count, Positive};
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    use super::*;

    const SETS: [u64; 2] = [5, 3];

    fn network() -> Network {
        let mut network = Network::default();
        network.encoder.width = Count::try_from(6).unwrap();
        network
    }

    fn cosine(extra_rows: u32, tied: bool) -> training::Head {
        let dimension = Count::try_from(4).unwrap();
        training::Head::Cosine(CosineHead { dimension, extra_rows, tied, ..CosineHead::default() })
    }

    fn linear(extra_rows: u32) -> training::Head {
        training::Head::Linear(LinearHead { temperature: Positive::try_from(0.5).unwrap(), extra_rows })
    }

    fn head(settings: &training::Head) -> (VarStore, Head) {
        let store = VarStore::new(Device::Cpu);
        let sets = SETS.map(|clusters| Clusters::try_from(clusters).unwrap());
        let head = Head::new(&store.root(), &network(), settings, &sets);
        (store, head)
    }

    fn shapes(store: &VarStore) -> BTreeMap<String, Vec<i64>> {
        store.variables().into_iter().map(|(name, parameter)| (name, parameter.size())).collect()
    }

    fn matrix(x: &Tensor) -> Vec<Vec<f64>> {
        Vec::try_from(x.detach().to_kind(Kind::Double)).unwrap()
    }

    fn product(x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).map(|(x, y)| x * y).sum()
    }

    /// HuBERT equation 3 in 64 bits, for one frame and one set.
    fn by_hand(store: &VarStore, frame: &[f64], set: usize, settings: &training::Head) -> Vec<f64> {
        let variables = store.variables();
        let weight = matrix(&variables["final_proj.weight"]);
        let bias: Vec<f64> = Vec::try_from(variables["final_proj.bias"].detach().to_kind(Kind::Double)).unwrap();
        let projected: Vec<f64> = weight.iter().zip(&bias).map(|(row, bias)| product(row, frame) + bias).collect();
        let (extra, temperature) = match settings {
            training::Head::Cosine(head) => (u64::from(head.extra_rows), head.temperature.get()),
            training::Head::Linear(head) => (u64::from(head.extra_rows), head.temperature.get()),
        };
        let start = SETS[..set].iter().map(|clusters| clusters + extra).sum::<u64>() as usize;
        let rows = start..start + (SETS[set] + extra) as usize;
        let training::Head::Cosine(head) = settings else {
            return rows.map(|row| projected[row] / temperature).collect();
        };
        let dimension = head.dimension.get() as usize;
        let projected = if head.tied { &projected[..] } else { &projected[set * dimension..][..dimension] };
        let embeddings = matrix(&variables["label_embs_concat"]);
        let cosine = |e: &[f64]| product(projected, e) / (product(projected, projected) * product(e, e)).sqrt();
        rows.map(|row| cosine(&embeddings[row]) / temperature).collect()
    }

    /// Extra rows stand in the denominator and are never right; every form sums the same cross-entropy.
    #[test]
    fn scores_are_the_formula_s() {
        let frames_nd = Tensor::randn([7, 6], (Kind::Float, Device::Cpu));
        for settings in [cosine(0, false), cosine(4, false), cosine(0, true), cosine(4, true), linear(0), linear(4)] {
            let (store, head) = head(&settings);
            let units: Vec<Vec<i64>> =
                SETS.iter().map(|&clusters| (0..7).map(|n| n % clusters as i64).collect()).collect();
            let tensors: Vec<Tensor> = units.iter().map(|units| Tensor::from_slice(units)).collect();
            let extra = head.extra_rows as usize;
            for (set, score) in head.score(&frames_nd, &tensors).iter().enumerate() {
                let (mut loss, mut correct) = (0.0, 0);
                for (frame, unit) in matrix(&frames_nd).iter().zip(&units[set]) {
                    let logits = by_hand(&store, frame, set, &settings);
                    assert_eq!(logits.len(), SETS[set] as usize + extra);
                    let class = *unit as usize + extra;
                    loss += logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[class];
                    correct +=
                        i64::from((0..logits.len()).all(|other| other == class || logits[other] < logits[class]));
                }
                let found = score.loss.double_value(&[]);
                assert!((found - loss).abs() < 1e-3, "{settings:?}, set {set}: {found} against {loss}");
                assert_eq!((score.correct.int64_value(&[]), score.frames), (correct, 7));
            }
        }
    }

    #[test]
    fn tied_sets_share_one_projection() {
        let tensors = |settings| shapes(&head(&settings).0);
        let (tied, untied) = (tensors(cosine(4, true)), tensors(cosine(4, false)));
        assert_eq!((&tied["final_proj.weight"], &untied["final_proj.weight"]), (&vec![4, 6], &vec![8, 6]));
        assert_eq!((&tied["label_embs_concat"], &untied["label_embs_concat"]), (&vec![16, 4], &vec![16, 4]));
        assert_eq!(tensors(linear(1))["final_proj.weight"], [10, 6]);
    }

    #[test]
    fn gradients_reach_every_row_and_the_frames() {
        for settings in [cosine(4, false), cosine(4, true), linear(4)] {
            let (store, head) = head(&settings);
            let frames_nd = Tensor::randn([9, 6], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let units = SETS.map(|clusters| Tensor::arange(9, (Kind::Int64, Device::Cpu)).remainder(clusters as i64));
            let losses: Vec<Tensor> = head.score(&frames_nd, &units).into_iter().map(|score| score.loss).collect();
            Tensor::stack(&losses, 0).sum(Kind::Float).backward();
            for (name, parameter) in store.variables() {
                let rows = parameter.grad().abs().view([parameter.size()[0], -1]).amax([1i64].as_slice(), false);
                assert!(rows.min().double_value(&[]) > 0.0, "{settings:?}: {name}");
            }
            assert!(frames_nd.grad().abs().min().double_value(&[]) > 0.0);
        }
    }
}
