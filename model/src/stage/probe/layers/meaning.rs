//! What layers say about the meaning of words: correlations with vectors of words, and with how alike people find them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;

use reprise_spec::layers::{Curve, Labels};
use reprise_spec::probing::Analysis;
use reprise_spec::stage::Role;
use tch::Tensor;

use super::Evidence;
use super::scoring::{One, Scorer};
use crate::analysis::sample::Sample;
use crate::analysis::view::View;
use crate::analysis::word_similarity::{cosines, spearman};
use crate::failure::StageError;
use crate::meaning::pairs::{self, WordPair};
use crate::meaning::vectors::WordVectors;
use crate::quality::{Spread, Verdict};
use crate::random::Draws;
use crate::stage::Work;
use crate::stage::word_pairs::PAIRS;

/// What is known of words beside where they are said; each as far as an analysis reads it.
#[derive(Debug, Default)]
pub struct Meanings {
    pub vectors: Option<WordVectors>,
    pub pairs: Option<Vec<WordPair>>,
}

impl Meanings {
    /// What is among the inputs.
    pub fn read(work: &Work) -> Result<Self, StageError> {
        let vectors = work.find(&Role::WordVectors).map(|input| WordVectors::read(&input.path));
        let pairs = work.find(&Role::WordPairs).map(|input| {
            let path = input.path.join(PAIRS);
            let file = File::open(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
            let damaged = |problem| StageError::Failed(format!("{}: {problem}", path.display()));
            pairs::parse(BufReader::new(file)).map_err(damaged)
        });
        Ok(Self { vectors: vectors.transpose()?, pairs: pairs.transpose()? })
    }

    /// Which words of a sample have vectors, and which pairs are in it.
    pub fn labels(&self, words: &Sample) -> BTreeMap<String, Labels> {
        let tokens = tokens(words);
        let with_vectors = self.vectors.as_ref().map(|vectors| {
            let (with, without): (Vec<_>, Vec<_>) =
                words.labels.iter().zip(&tokens).partition(|(word, _)| vectors.row(word).is_some());
            Labels {
                segments: with.iter().map(|(_, tokens)| **tokens).sum(),
                analysed: with.into_iter().map(|(word, _)| word.clone()).collect(),
                dropped: without.into_iter().map(|(word, tokens)| (word.clone(), *tokens)).collect(),
            }
        });
        let in_pairs = self.pairs.as_ref().map(|pairs| {
            let of = |word: &String| place(words, word).map_or(0, |label| tokens[label]);
            let rarer = |pair: &WordPair| pair.words.iter().map(of).min().unwrap_or_default();
            let (with, without): (Vec<_>, Vec<_>) = pairs.iter().partition(|pair| rarer(pair) > 0);
            let mut labels: Vec<usize> =
                with.iter().flat_map(|pair| &pair.words).filter_map(|word| place(words, word)).collect();
            labels.sort_unstable();
            labels.dedup();
            Labels {
                segments: labels.into_iter().map(|label| tokens[label]).sum(),
                analysed: with.into_iter().map(|pair| pair.words.join(" ")).collect(),
                dropped: without.into_iter().map(|pair| (pair.words.join(" "), rarer(pair))).collect(),
            }
        });
        let kinds = [("words with vectors", with_vectors), ("pairs of words", in_pairs)];
        kinds.into_iter().filter_map(|(kind, labels)| Some((kind.to_owned(), labels?))).collect()
    }
}

/// The segments of a sample whose words have a vector.
pub struct Covered {
    /// Among those of the sample.
    pub rows: Vec<i64>,
    /// The word of each, numbered among those that have a vector.
    pub strata: Vec<u32>,
    /// The vector of each word.
    vectors_wd: Tensor,
}

impl Covered {
    pub fn of(words: &Sample, vectors: &WordVectors) -> Self {
        let rows_of: Vec<Option<usize>> = words.labels.iter().map(|word| vectors.row(word)).collect();
        let mut number = 0;
        let numbers: Vec<Option<u32>> = rows_of
            .iter()
            .map(|row| {
                row.map(|_| {
                    number += 1;
                    number - 1
                })
            })
            .collect();
        let segments = (0..).zip(words.strata());
        let (rows, strata) = segments
            .filter_map(|(row, label)| Some((row, numbers[label as usize]?)))
            .unzip::<i64, u32, Vec<_>, Vec<_>>();
        let of_words: Vec<i64> = rows_of.iter().flatten().map(|row| *row as i64).collect();
        Self { rows, strata, vectors_wd: vectors.vectors_wd.index_select(0, &Tensor::from_slice(&of_words)) }
    }

    /// Words with a vector.
    pub fn words(&self) -> usize {
        self.vectors_wd.size()[0] as usize
    }

    /// The vector of each segment's word.
    pub fn view(&self) -> Result<View, StageError> {
        self.view_of(&(0..self.words() as i64).collect::<Vec<_>>())
    }

    /// The same with the vectors exchanged among the words.
    pub fn exchanged(&self, seed: u64) -> Result<View, StageError> {
        let mut order: Vec<i64> = (0..self.words() as i64).collect();
        Draws::new(seed, "analysis exchanged vectors", &[], "").shuffle(&mut order);
        self.view_of(&order)
    }

    fn view_of(&self, order: &[i64]) -> Result<View, StageError> {
        let at: Vec<i64> = self.strata.iter().map(|word| order[*word as usize]).collect();
        View::new(&self.vectors_wd.index_select(0, &Tensor::from_slice(&at)))
    }
}

/// The pairs whose words both are in a sample, by their labels, and what people say of them.
pub fn in_sample(words: &Sample, pairs: &[WordPair]) -> (Vec<[usize; 2]>, Vec<f64>) {
    let both = |pair: &WordPair| {
        let [first, second] = &pair.words;
        Some(([place(words, first)?, place(words, second)?], pair.score))
    };
    pairs.iter().filter_map(both).unzip()
}

/// Spearman's correlation of the cosines of words' means with what people say, at every layer.
pub fn similarity(evidence: &Evidence, scorer: &mut Scorer) -> Result<Curve, StageError> {
    let Evidence { settings, material, samplings, gathered, .. } = evidence;
    let analysis = Analysis::WordSimilarity;
    let draws = u64::from(settings.layers.null_draws.get());
    scorer.curve(analysis, analysis.word(), samplings.len(), &|layer, index| {
        let (sampling, rows) = (&samplings[index], &gathered[index].words[layer]);
        let (Some(words), Some(pairs)) = (&sampling.words, &material.meanings.pairs) else {
            return Err(StageError::Failed("there are no pairs of words among the inputs".into()));
        };
        let (at, scores) = in_sample(words, pairs);
        let cosines = cosines(rows, &words.strata(), words.labels.len(), &at)?;
        let null = |draw: u64| {
            let mut shuffled = scores.clone();
            Draws::new(sampling.seed, "analysis null", &[draw], "").shuffle(&mut shuffled);
            spearman(&cosines, &shuffled)
        };
        let nulls: Vec<f64> = (0..draws).map(null).collect::<Result<_, _>>()?;
        Ok(One {
            samples: at.len() as u64,
            sizes: vec![rows.size()[1] as u64],
            values: vec![spearman(&cosines, &scores)?],
            null: Some(Spread::of(&nulls)),
            verdict: Verdict::Sound,
        })
    })
}

/// The label that a word has in a sample.
fn place(words: &Sample, word: &String) -> Option<usize> {
    words.labels.binary_search(word).ok()
}

/// Segments of each label.
fn tokens(words: &Sample) -> Vec<u64> {
    let mut tokens = vec![0; words.labels.len()];
    words.strata().into_iter().for_each(|label| tokens[label as usize] += 1);
    tokens
}
