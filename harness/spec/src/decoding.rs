//! `decoding`: how the scores of a fine-tuned model become text, and how that text is judged.
//!
//! A sequence of words W has the score ln p_CTC(W) + `lm` · log₁₀ P_LM(W) + `word` · |W| + `unknown` · (words that the language model lacks)
//! + `silence` · (spaces): terms and units of wav2letter and flashlight (arXiv:1609.03193), so that published weights are written as they stand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::{count, fraction, weight};
use crate::training::positive;
use crate::values::{Count, Fraction, Log10, Name, Nats, NgramOrder, Positive, SplitName, Weight};

/// How a fine-tuned model recognises, and how its error rates are judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Decoding {
    /// How the text is searched for.
    #[serde(skip_serializing_if = "is_default")]
    pub search: Search,
    /// The only words that can be recognised; without it any sequence of symbols can. Needs a beam.
    pub lexicon: Option<Lexicon>,
    /// What says how likely a sequence of words is. Needs a lexicon.
    pub language_model: Option<LanguageModel>,
    /// What the parts of a sequence of words add to its score.
    #[serde(skip_serializing_if = "is_default")]
    pub weights: Weights,
    /// Weights that are chosen for every fine-tuned model by the fewest wrong words on splits that nothing is claimed of.
    pub tune: Option<Tuning>,
    /// How the intervals are drawn.
    pub bootstrap: Bootstrap,
}

/// How the text is searched for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Search {
    /// The best symbol of every frame.
    #[default]
    Greedy,
    /// The best label, over all of its paths.
    Beam(Beam),
}

/// What is left out of an identity, so that experiments from before these words keep theirs.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A CTC prefix beam search. The published decodings keep 500 prefixes within 100, or 1,500 within 50.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Beam {
    /// The most prefixes that are kept after a frame.
    pub prefixes: Count,
    /// Prefixes that lie further below the best one are dropped, in nats.
    pub threshold: Positive,
    /// Hypotheses of every utterance that are stored.
    pub n_best: Count,
}

impl Default for Beam {
    fn default() -> Self {
        Self { prefixes: count(100), threshold: positive(20.0), n_best: count(1) }
    }
}

impl Beam {
    /// The same search for nothing but the best hypothesis.
    pub fn of_the_best(&self) -> Self {
        Self { n_best: count(1), ..self.clone() }
    }
}

/// The only words that can be recognised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lexicon {
    /// The words of the language model, each spelt as it is written; those with a letter that the model doesn't have are left out and counted.
    LanguageModel,
    /// A file below a data root: a word a line, followed by its symbols where it is spelt otherwise than it is written.
    File(Name),
}

/// An n-gram language model over words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LanguageModel {
    /// One that is estimated from transcripts.
    Estimate(Estimation),
    /// One that was made elsewhere.
    File(LanguageModelFile),
}

/// An interpolated modified Kneser-Ney model (Chen & Goodman 1998) of the transcripts of splits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Estimation {
    /// Splits with transcripts. Not those that are tested on.
    pub on: Vec<SplitName>,
    /// The longest n-grams.
    #[serde(default = "trigrams")]
    pub order: NgramOrder,
    /// The discounts of counts 1, 2, and 3 and more, for orders with too few n-grams to estimate them (KenLM takes 0.5, 1 and 1.5); without
    /// them a text that small is refused.
    #[serde(default)]
    pub discount_fallback: Option<[Weight; 3]>,
}

fn trigrams() -> NgramOrder {
    NgramOrder::try_from(3).expect("3 is an order")
}

/// An ARPA file, plain or gzip, below a data root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LanguageModelFile {
    /// The file's name.
    pub name: Name,
    /// The log₁₀ probability of `<unk>` in a model without one, such as LibriSpeech's 4-gram (KenLM takes −100); without it such a model is
    /// refused.
    #[serde(default)]
    pub missing_unknown: Option<Log10>,
}

/// What the parts of a sequence of words add to its score. The defaults are fairseq's; a lexicon without language model has only `word` and
/// `silence`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Weights {
    /// Times log₁₀ of the language model's probability, the end of the sentence included. A weight of ln P is this divided by ln 10 ≈ 2.303.
    pub lm: Weight,
    /// Nats for every word.
    pub word: Nats,
    /// Nats for every word that the language model lacks, beside what it says of `<unk>`.
    pub unknown: Nats,
    /// Nats for every space of the label. Flashlight's is paid for every frame of a space, so only 0 means the same there.
    pub silence: Nats,
}

impl Default for Weights {
    fn default() -> Self {
        let nats = |value: f64| Nats::try_from(value).expect("a finite number");
        Self { lm: weight(2.0), word: nats(-1.0), unknown: nats(0.0), silence: nats(0.0) }
    }
}

/// A search through a grid of weights: every combination of what is listed. A weight that is not listed stays what `weights` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tuning {
    /// Splits with transcripts, neither learnt from nor tested on.
    pub on: Vec<SplitName>,
    /// Weights of the language model.
    #[serde(default)]
    pub lm: Vec<Weight>,
    /// Nats for every word.
    #[serde(default)]
    pub word: Vec<Nats>,
    /// Nats for every space.
    #[serde(default)]
    pub silence: Vec<Nats>,
}

impl Tuning {
    /// Every point of the grid, the last word turning fastest.
    pub fn grid(&self, fixed: &Weights) -> Vec<Weights> {
        fn or<T: Copy>(listed: &[T], fixed: T) -> Vec<T> {
            if listed.is_empty() { vec![fixed] } else { listed.to_vec() }
        }
        let (words, silences) = (or(&self.word, fixed.word), or(&self.silence, fixed.silence));
        let mut grid = Vec::new();
        for lm in or(&self.lm, fixed.lm) {
            for &word in &words {
                grid.extend(silences.iter().map(|&silence| Weights { lm, word, silence, unknown: fixed.unknown }));
            }
        }
        grid
    }
}

impl Decoding {
    /// The files from elsewhere that it reads.
    pub fn files(&self) -> impl Iterator<Item = &Name> {
        let model = self.language_model.as_ref().and_then(|model| match model {
            LanguageModel::File(file) => Some(&file.name),
            LanguageModel::Estimate(_) => None,
        });
        let lexicon = self.lexicon.as_ref().and_then(|lexicon| match lexicon {
            Lexicon::File(name) => Some(name),
            Lexicon::LanguageModel => None,
        });
        model.into_iter().chain(lexicon)
    }

    /// The splits whose transcripts it reads beside those that are tested on.
    pub fn splits(&self) -> impl Iterator<Item = &SplitName> {
        let estimated = self.language_model.as_ref().and_then(|model| match model {
            LanguageModel::Estimate(estimation) => Some(&estimation.on),
            LanguageModel::File(_) => None,
        });
        estimated.into_iter().chain(self.tune.as_ref().map(|tuning| &tuning.on)).flatten()
    }
}

/// Percentile bootstrap intervals of WER and CER.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Bootstrap {
    /// Resamples.
    pub draws: Count,
    /// Share of the draws that the interval holds.
    pub level: Fraction,
    /// What is drawn with replacement.
    pub unit: ResamplingUnit,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: count(10_000), level: fraction(0.95), unit: ResamplingUnit::Speaker }
    }
}

impl Bootstrap {
    /// The ends of the percentile interval of what was drawn, with linear interpolation between neighbours (NumPy's default); `draws` is not
    /// empty, and is sorted on return.
    pub fn interval(&self, draws: &mut [f64]) -> (f64, f64) {
        draws.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let position = share.clamp(0.0, 1.0) * (draws.len() - 1) as f64;
            let below = position.floor() as usize;
            let above = (below + 1).min(draws.len() - 1);
            draws[below] + (position - below as f64) * (draws[above] - draws[below])
        };
        let tail = (1.0 - self.level.get()) / 2.0;
        (quantile(tail), quantile(1.0 - tail))
    }
}

/// What a bootstrap draws with replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResamplingUnit {
    /// Whole speakers, and within each drawn speaker utterances.
    Speaker,
    /// Single utterances, as if they were independent.
    Utterance,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ends_of_an_interval_lie_between_draws() {
        let half = Bootstrap { level: fraction(0.5), ..Bootstrap::default() };
        assert_eq!(half.interval(&mut [3.0, 1.0, 0.0, 2.0]), (0.75, 2.25));
        assert_eq!(half.interval(&mut [5.0]), (5.0, 5.0));
    }

    #[test]
    fn a_grid_has_every_combination_and_keeps_what_is_fixed() {
        let tuning: Tuning =
            serde_json::from_value(json!({ "on": ["dev"], "lm": [0, 1.5], "silence": [-1, 0] })).unwrap();
        let fixed: Weights = serde_json::from_value(json!({ "word": 0.5, "unknown": -3 })).unwrap();
        let told =
            |weights: &Weights| [weights.lm.get(), weights.word.get(), weights.unknown.get(), weights.silence.get()];
        let grid: Vec<_> = tuning.grid(&fixed).iter().map(told).collect();
        assert_eq!(
            grid,
            [[0.0, 0.5, -3.0, -1.0], [0.0, 0.5, -3.0, 0.0], [1.5, 0.5, -3.0, -1.0], [1.5, 0.5, -3.0, 0.0]]
        );
    }
}
