//! Frames to entries of codebooks that are trained along: the targets of wav2vec 2.0.
//!
//! Shape suffixes: N frames, C front-end width, G codebooks, V entries of each, E dimensions of an entry, D = G · E of a target.
//! Source: wav2vec 2.0 (arXiv:2006.11477) section 2; fairseq `GumbelVectorQuantizer`. Parameters bear the names of Hugging Face's
//! `Wav2Vec2GumbelVectorQuantizer`. Where the two differ this is fairseq: evaluation measures the perplexity of the probabilities, too, and
//! 1e-7 is added inside its logarithm, so that an entry that nothing chooses has a gradient.

use reprise_spec::strategy::Quantiser as Settings;
use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

use crate::layers::{Linear, parameter};

/// Parameters `weight_proj.*` (G·V × C) and `codevectors` (1 × G·V × E).
#[derive(Debug)]
pub struct Quantiser {
    projection: Linear,
    codevectors_1ve: Tensor,
    groups: i64,
    entries: i64,
}

/// How one entry of every codebook is chosen.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// The likeliest.
    Best,
    /// At random by its probability: the likeliest once Gumbel noise (N × G × V) is added. Its gradient is that of the softmax over both,
    /// divided by the temperature (straight-through).
    Sampled { noise_ngv: &'a Tensor, temperature: f64 },
}

/// What frames became.
#[derive(Debug)]
pub struct Quantised {
    /// The chosen entries side by side, N × D.
    pub vectors_nd: Tensor,
    /// Which they are, N × G `i64`.
    pub codes_ng: Tensor,
    /// Entries that the frames' mean probabilities use in effect, e to their entropy, summed over codebooks: 0 to G·V, with gradient.
    pub perplexity: Tensor,
}

/// How codes use the entries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Entries in use in effect, as [`Quantised::perplexity`] counts them: G where every frame has the same codes.
    pub perplexity: f64,
    /// Share of all entries that some frame has.
    pub used: f64,
}

impl Quantiser {
    /// Registers the parameters below `path` for frames of `width` channels: `codevectors` from U(0, 1), the projection's weight from
    /// N(0, 1), its bias 0 (fairseq).
    pub fn new(path: &Path, settings: &Settings, width: i64) -> Self {
        let [groups, entries, dimension] =
            [settings.groups, settings.entries, settings.dimension].map(|count| i64::from(count.get()));
        let rows = groups * entries;
        let projection = path / "weight_proj";
        Self {
            projection: Linear {
                weight: parameter(&projection, "weight", &[rows, width], Init::Randn { mean: 0.0, stdev: 1.0 }),
                bias: parameter(&projection, "bias", &[rows], Init::Const(0.0)),
            },
            codevectors_1ve: parameter(
                path,
                "codevectors",
                &[1, rows, dimension / groups],
                Init::Uniform { lo: 0.0, up: 1.0 },
            ),
            groups,
            entries,
        }
    }

    /// Codebooks.
    pub fn groups(&self) -> i64 {
        self.groups
    }

    /// Entries of all codebooks, G·V.
    pub fn size(&self) -> i64 {
        self.groups * self.entries
    }

    /// Gumbel noise for `frames` frames (N × G × V), drawn from libtorch's generator.
    pub fn noise(&self, frames: i64) -> Tensor {
        let options = (Kind::Float, self.codevectors_1ve.device());
        -Tensor::empty([frames, self.groups, self.entries], options).exponential_(1.0).log()
    }

    /// Quantises N × C frames.
    pub fn forward(&self, x_nc: &Tensor, choice: Choice) -> Quantised {
        let frames = x_nc.size()[0];
        let kind = self.codevectors_1ve.kind();
        let logits_ngv = self.projection.forward(x_nc).view([frames, self.groups, self.entries]);
        let (codes_ng, chosen_ngv) = match choice {
            Choice::Best => {
                let codes_ng = logits_ngv.argmax(-1, false);
                let chosen_ngv = self.one_hot(&codes_ng);
                (codes_ng, chosen_ngv)
            }
            Choice::Sampled { noise_ngv, temperature } => {
                let soft_ngv = ((&logits_ngv + noise_ngv) / temperature).softmax(-1, kind);
                let codes_ng = soft_ngv.argmax(-1, false);
                let chosen_ngv = self.one_hot(&codes_ng) + (&soft_ngv - soft_ngv.detach());
                (codes_ng, chosen_ngv)
            }
        };
        let entries_gve = self.codevectors_1ve.view([self.groups, self.entries, -1]);
        let vectors_gne = chosen_ngv.transpose(0, 1).matmul(&entries_gve);
        let vectors_nd = vectors_gne.transpose(0, 1).reshape([frames, -1]);
        let mean_gv =
            logits_ngv.softmax(-1, kind).sum_dim_intlist([0i64].as_slice(), false, kind) / frames.max(1) as f64;
        Quantised { vectors_nd, codes_ng, perplexity: perplexity(&mean_gv) }
    }

    /// How these codes (N × G) use the entries.
    pub fn usage(&self, codes_ng: &Tensor) -> Usage {
        let counts: Vec<Tensor> =
            (0..self.groups).map(|group| codes_ng.select(1, group).bincount(None::<Tensor>, self.entries)).collect();
        let counts_gv = Tensor::stack(&counts, 0);
        let mean_gv = counts_gv.to_kind(Kind::Float) / codes_ng.size()[0].max(1) as f64;
        let used = counts_gv.gt(0).sum(Kind::Int64).int64_value(&[]);
        Usage { perplexity: perplexity(&mean_gv).double_value(&[]), used: used as f64 / self.size() as f64 }
    }

    fn one_hot(&self, codes_ng: &Tensor) -> Tensor {
        codes_ng.one_hot(self.entries).to_kind(self.codevectors_1ve.kind())
    }
}

/// The perplexities of G distributions over V entries, summed; a scalar.
fn perplexity(mean_gv: &Tensor) -> Tensor {
    let entropy_g = -(mean_gv * (mean_gv + 1e-7).log()).sum_dim_intlist([-1i64].as_slice(), false, mean_gv.kind());
    entropy_g.exp().sum(mean_gv.kind())
}

#[cfg(test)]
mod tests {
    use tch::nn::VarStore;
    use tch::{Device, no_grad};

    use super::*;

    fn quantiser(groups: u64, entries: u64) -> (VarStore, Quantiser) {
        let count = |value: u64| value.try_into().unwrap();
        let settings = Settings {
            groups: count(groups),
            entries: count(entries),
            dimension: count(4 * groups),
            ..Settings::default()
        };
        let store = VarStore::new(Device::Cpu);
        let quantiser = Quantiser::new(&store.root(), &settings, 6);
        (store, quantiser)
    }

    #[test]
    fn a_target_is_the_chosen_entries_side_by_side() {
        tch::manual_seed(1);
        let (_store, quantiser) = quantiser(3, 5);
        let x_nc = Tensor::randn([7, 6], (Kind::Float, Device::Cpu));
        let noise_ngv = quantiser.noise(7);
        for choice in [Choice::Best, Choice::Sampled { noise_ngv: &noise_ngv, temperature: 1.3 }] {
            let quantised = quantiser.forward(&x_nc, choice);
            for n in 0..7 {
                for g in 0..3 {
                    let entry = 5 * g + quantised.codes_ng.int64_value(&[n, g]);
                    let expected = quantiser.codevectors_1ve.get(0).get(entry);
                    assert!(quantised.vectors_nd.get(n).narrow(0, 4 * g, 4).equal(&expected), "{choice:?}, frame {n}");
                }
            }
        }
    }

    #[test]
    fn entries_are_sampled_by_their_probability() {
        tch::manual_seed(2);
        let (_store, quantiser) = quantiser(1, 3);
        no_grad(|| {
            let _ = quantiser.projection.weight.shallow_clone().zero_();
            let odds = Tensor::from_slice(&[0.6f32, 0.3, 0.1]).log();
            quantiser.projection.bias.shallow_clone().copy_(&odds);
        });
        let frames = 40_000;
        let x_nc = Tensor::zeros([frames, 6], (Kind::Float, Device::Cpu));
        let noise_ngv = quantiser.noise(frames);
        let codes_ng = quantiser.forward(&x_nc, Choice::Sampled { noise_ngv: &noise_ngv, temperature: 0.1 }).codes_ng;
        for (entry, expected) in [0.6, 0.3, 0.1].into_iter().enumerate() {
            let share = codes_ng.eq(entry as i64).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
            // Five standard errors.
            assert!((share - expected).abs() < 0.0125, "entry {entry}: {share} against {expected}");
        }
    }

    #[test]
    fn usage_counts_the_entries_in_use() {
        let (_store, quantiser) = quantiser(2, 4);
        let usage = |codes: &[i64]| quantiser.usage(&Tensor::from_slice(codes).view([-1, 2]));
        let (same, varied) = (usage(&[3, 1, 3, 1, 3, 1]), usage(&[0, 0, 1, 0, 2, 3, 3, 3]));
        assert!((same.perplexity - 2.0).abs() < 1e-5 && same.used == 0.25, "{same:?}");
        assert!((varied.perplexity - (4.0 + 2.0)).abs() < 1e-5 && varied.used == 0.75, "{varied:?}");
    }
}
