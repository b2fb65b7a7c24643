//! `probing.analyses` and `probing.layers`: what is measured on every layer of pretrained models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::{count, fraction};
use crate::strategy::Clustering;
use crate::values::{Clusters, Count, Fraction, Name, SplitName};

/// One way to look at every layer of a network. What each compares is what the public layer-wise toolkit compares, as far as that has it
/// (papers.md section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Analysis {
    /// PWCCA of word segments' means with one-hot words.
    CcaWord,
    /// PWCCA of the means of phone segments' middle thirds with one-hot phones.
    CcaPhone,
    /// PWCCA of frames with 80 log-mel energies.
    CcaMel,
    /// PWCCA of frames with layer 0, the input of the Transformer stack.
    CcaIntra,
    /// Mutual information of clustered word segments with words, over the entropy of words.
    MiWord,
    /// Mutual information of clustered middle thirds of phone segments with phones, over the entropy of phones.
    MiPhone,
    /// PNMI, phone purity and cluster purity of clustered frames at 50 Hz against 39 phones and silence.
    Pnmi,
    /// Share of triples (middle thirds A and X of segments of one phone, B of another, whoever speaks and whatever stands around them) in which
    /// X's cosine is larger with A than with B; mean over ordered pairs of phones. 0.5 is chance.
    Abx,
    /// Effective rank of frames.
    EffectiveRank,
    /// Linear CKA of frames of every two layers.
    Cka,
    /// How far heads look, in milliseconds, and how near to the diagonal, as a negative share of the frames; means over heads and utterances.
    Attention,
    /// Linear CKA of frames of every layer with the same layer of the model that pretraining ended with. The null is the mean over all shuffles
    /// of its frames.
    CkaSteps,
    /// PWCCA of word segments' means with vectors that say what the words mean. The null gives words each other's vectors, so that telling words
    /// apart is in it and their meaning is not.
    CcaSemantic,
    /// Spearman's correlation of the cosine of two words' means with how alike people find the two. The null shuffles what people said.
    WordSimilarity,
}

impl Analysis {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::CcaWord => "cca-word",
            Self::CcaPhone => "cca-phone",
            Self::CcaMel => "cca-mel",
            Self::CcaIntra => "cca-intra",
            Self::MiWord => "mi-word",
            Self::MiPhone => "mi-phone",
            Self::Pnmi => "pnmi",
            Self::Abx => "abx",
            Self::EffectiveRank => "effective-rank",
            Self::Cka => "cka",
            Self::Attention => "attention",
            Self::CkaSteps => "cka-steps",
            Self::CcaSemantic => "cca-semantic",
            Self::WordSimilarity => "word-similarity",
        }
    }

    /// The names of the curves that it gives: with the size of the codebook, or the principal components, where there are any.
    pub fn curves(self, layers: &Layers) -> Vec<String> {
        let sized = |names: &[&str], sizes: &[Clusters], ending: &str| -> Vec<String> {
            let named = |name: &&str| sizes.iter().map(|size| format!("{name}-{}{ending}", size.get())).collect();
            names.iter().flat_map::<Vec<String>, _>(named).collect()
        };
        let both = |sizes: &[Clusters]| [sized(&[self.word()], sizes, ""), sized(&[self.word()], sizes, "-corrected")];
        match self {
            Self::CcaWord | Self::CcaPhone | Self::CcaMel | Self::CcaIntra | Self::CcaSemantic => {
                let components = layers.components.map(|components| components.get());
                let layer = components.map_or(String::new(), |count| format!("-pca{count}"));
                let target = match self {
                    Self::CcaIntra => components,
                    Self::CcaSemantic => layers.word_vector_components.map(|components| components.get()),
                    _ => None,
                };
                let target = target.map_or(String::new(), |count| format!("-target-pca{count}"));
                vec![format!("{}{layer}{target}", self.word())]
            }
            Self::MiWord => both(&layers.clusters.words).concat(),
            Self::MiPhone => both(&layers.clusters.phones).concat(),
            Self::Pnmi => {
                let sizes = &layers.clusters.frames;
                [both(sizes).concat(), sized(&["phone-purity", "cluster-purity"], sizes, "")].concat()
            }
            Self::Attention => ["attention-distance", "attention-diagonality"].map(String::from).into(),
            Self::Abx | Self::EffectiveRank | Self::Cka | Self::CkaSteps | Self::WordSimilarity => {
                vec![self.word().into()]
            }
        }
    }

    /// Whether it needs to know where words are.
    pub fn reads_words(self) -> bool {
        matches!(self, Self::CcaWord | Self::MiWord | Self::CcaSemantic | Self::WordSimilarity)
    }

    /// Whether it needs to know where phones are.
    pub fn reads_phones(self) -> bool {
        matches!(self, Self::CcaPhone | Self::MiPhone | Self::Pnmi | Self::Abx)
    }

    /// Whether it is made of segments that bear phones.
    pub fn pools_phones(self) -> bool {
        self.reads_phones() && self != Self::Pnmi
    }

    /// Whether it is made of a sample of single frames.
    pub fn samples_frames(self) -> bool {
        match self {
            Self::CcaMel | Self::CcaIntra | Self::Pnmi | Self::EffectiveRank | Self::Cka | Self::CkaSteps => true,
            Self::CcaWord | Self::CcaPhone | Self::CcaSemantic | Self::WordSimilarity => false,
            Self::MiWord | Self::MiPhone | Self::Abx | Self::Attention => false,
        }
    }

    /// Whether it fits codebooks, for which some utterances are set apart.
    pub fn clusters(self) -> bool {
        matches!(self, Self::MiWord | Self::MiPhone | Self::Pnmi)
    }

    /// Whether it is a canonical correlation.
    pub fn is_cca(self) -> bool {
        matches!(self, Self::CcaWord | Self::CcaPhone | Self::CcaMel | Self::CcaIntra | Self::CcaSemantic)
    }
}

/// On what layers are analysed, and how. Every number is a mean over samplings (of tokens, frames and codebooks) and, for canonical
/// correlations, over trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Layers {
    /// Pooled, and so of one corpus and the same voices, because nulls don't tell these apart. What pretraining saw of them is marked.
    pub splits: Vec<SplitName>,
    /// How many utterances may lack an alignment; they are listed and left out.
    #[serde(default)]
    pub unaligned_at_most: u32,
    /// How many tokens of a label are analysed.
    #[serde(default)]
    pub tokens: Tokens,
    /// Frames in a sample of single frames; as many of every layer are held in memory.
    #[serde(default = "frames")]
    pub frames: Count,
    /// How often tokens, frames and the starts of codebooks are drawn.
    #[serde(default = "three")]
    pub samplings: Count,
    /// Parts that samples are divided into, each label evenly. A trial fits a canonical correlation on all but two of them, chooses its
    /// regularisation on one and is scored on the other.
    #[serde(default = "folds")]
    pub folds: Count,
    /// Trials, each with two parts of its own to choose and to be scored on.
    #[serde(default = "three")]
    pub trials: Count,
    /// What the weights of PWCCA are made of.
    #[serde(default)]
    pub weighting: Weighting,
    /// Principal components that layers are reduced to before canonical correlations: another metric, whose name ends in `-pca` and their
    /// number.
    #[serde(default)]
    pub components: Option<Count>,
    /// Share of the utterances that single frames are sampled from and codebooks are fitted on; codebooks are measured on the others.
    #[serde(default = "half")]
    pub fit: Fraction,
    /// Sizes of codebooks.
    #[serde(default)]
    pub clusters: LayerClusters,
    /// How codebooks are fitted.
    #[serde(default = "clustering")]
    pub clustering: Clustering,
    /// Draws of the shuffled-label null of mutual information and purities.
    #[serde(default = "null_draws")]
    pub null_draws: Count,
    /// Vectors of words, for `cca-semantic`: a file below a data root with a word and its numbers a line, as GloVe has them. Words are looked up
    /// in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_vectors: Option<Name>,
    /// Principal components that the vectors of words are reduced to, which the metric's name says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_vector_components: Option<Count>,
    /// How alike people find two words, for `word-similarity`: a file below a data root with two words and a number a line, separated by tabs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_pairs: Option<Name>,
    /// The fewest pairs that `word-similarity` is measured on.
    #[serde(default = "least_pairs", skip_serializing_if = "is_least_pairs")]
    pub least_word_pairs: Count,
}

impl Layers {
    /// The files from elsewhere that these analyses read.
    pub fn files<'a>(&'a self, analyses: &'a [Analysis]) -> impl Iterator<Item = &'a Name> {
        let asked = |analysis| analyses.contains(&analysis);
        let vectors = self.word_vectors.iter().filter(move |_| asked(Analysis::CcaSemantic));
        vectors.chain(self.word_pairs.iter().filter(move |_| asked(Analysis::WordSimilarity)))
    }

    /// Without the names of files, which stages know by their content.
    pub fn nameless(&self) -> Self {
        Self { word_vectors: None, word_pairs: None, ..self.clone() }
    }
}

/// How many tokens of a label are analysed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tokens {
    /// Of a word.
    pub words: TokenRange,
    /// Of a phone.
    pub phones: TokenRange,
}

/// Labels with fewer than the minimum are dropped and listed; of those with more than the maximum so many are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenRange {
    /// Labels with fewer tokens are left out.
    pub minimum: Count,
    /// Most tokens of a label.
    pub maximum: Count,
}

/// Sizes of codebooks, each of which is a metric of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LayerClusters {
    /// Of single frames, for `pnmi`.
    pub frames: Vec<Clusters>,
    /// Of word segments, for `mi-word`.
    pub words: Vec<Clusters>,
    /// Of phone segments, for `mi-phone`.
    pub phones: Vec<Clusters>,
}

/// What the weights of PWCCA are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// As in the toolkit: the raw view, and its projections with the mean of the view's i-th dimension added to the i-th direction.
    ///
    /// It depends on where the view's zero is and, because a mean is added, on the sign of each direction, which a singular value
    /// decomposition leaves open and which can move the score by hundredths. Here the first large coefficient of a direction in the
    /// weighted view is positive; the toolkit takes the sign that LAPACK gives.
    #[default]
    Toolkit,
    /// The view and its projections, both centred.
    Centred,
}

impl Default for Tokens {
    fn default() -> Self {
        let range = |minimum, maximum| TokenRange { minimum: count(minimum), maximum: count(maximum) };
        Self { words: range(10, 15), phones: range(10, 200) }
    }
}

impl Default for LayerClusters {
    fn default() -> Self {
        let clusters = |value: u64| Clusters::try_from(value).into_iter().collect();
        Self { frames: clusters(100), words: clusters(5_000), phones: clusters(500) }
    }
}

fn frames() -> Count {
    count(10_000)
}

fn folds() -> Count {
    count(10)
}

fn three() -> Count {
    count(3)
}

fn half() -> Fraction {
    fraction(0.5)
}

fn clustering() -> Clustering {
    Clustering { starts: three(), ..Clustering::default() }
}

fn null_draws() -> Count {
    count(20)
}

fn least_pairs() -> Count {
    count(20)
}

/// Absent from identities then, so that experiments from before the word keep theirs.
fn is_least_pairs(count: &Count) -> bool {
    *count == least_pairs()
}
