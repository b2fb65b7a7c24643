//! CTC prefix beam search: the best label, not the best path.
//!
//! The search walks the frames and keeps prefixes of labels. Each prefix has two masses, of its paths that end in a blank and of those that
//! end in its last symbol, because only after a blank can the same symbol come again. Prefixes that are equal are one, so their masses add.
//! Source: Graves et al. 2006 section 3.2, Hannun et al. 2014 (arXiv:1408.2873) algorithm 1, in the log domain.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

/// The index of the CTC blank.
const BLANK: u32 = crate::vocabulary::BLANK as u32;

/// Natural logarithms of the probabilities of V symbols at T frames, the blank's first.
#[derive(Clone, Copy, Debug)]
pub struct LogProbabilities<'a> {
    values_tv: &'a [f32],
    symbols: usize,
}

/// What no model gives as log-probabilities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongScores {
    #[error("{values} scores are not whole frames of {symbols} symbols")]
    Shape { values: usize, symbols: usize },
    #[error("frame {frame} gives symbol {symbol} a score that is not a number or above any")]
    Value { frame: usize, symbol: usize },
}

impl<'a> LogProbabilities<'a> {
    /// `values_tv` hold T frames of `symbols` values, frame after frame; −∞ is a probability of zero. A constant added to a frame is
    /// added to the score of every label.
    ///
    /// # Errors
    /// Refuses values that are no whole frames, NaN and +∞.
    pub fn new(values_tv: &'a [f32], symbols: usize) -> Result<Self, WrongScores> {
        if symbols == 0 || !values_tv.len().is_multiple_of(symbols) {
            return Err(WrongScores::Shape { values: values_tv.len(), symbols });
        }
        match values_tv.iter().position(|value| value.is_nan() || *value == f32::INFINITY) {
            Some(at) => Err(WrongScores::Value { frame: at / symbols, symbol: at % symbols }),
            None => Ok(Self { values_tv, symbols }),
        }
    }

    /// The frames in order, V values each.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        self.values_tv.chunks_exact(self.symbols)
    }

    /// V, the blank among them.
    pub fn symbols(&self) -> usize {
        self.symbols
    }
}

/// How much of the search is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Width {
    /// The most prefixes kept after a frame.
    pub prefixes: usize,
    /// Prefixes further below the frame's best are dropped, in nats; ∞ keeps all.
    pub threshold: f64,
}

/// A label and the logarithm of its probability, summed over the paths that the search has kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis<L> {
    pub label: L,
    /// In nats.
    pub score: f64,
}

/// Which prefixes there are, how each goes on, and what that adds to its score.
pub trait Grammar {
    /// Equal exactly where the labels so far are; the order settles ties.
    type Prefix: Copy + Eq + Ord + Hash;
    /// What a whole label stands for.
    type Label: Clone + Ord;

    /// The empty prefix.
    fn start(&self) -> Self::Prefix;
    /// The last symbol of a prefix.
    fn last(&self, prefix: Self::Prefix) -> Option<u32>;
    /// Gives every prefix that is one symbol longer, with that symbol and the nats to add.
    fn extend(&mut self, prefix: Self::Prefix, next: &mut dyn FnMut(u32, Self::Prefix, f64));
    /// What a prefix stands for when the utterance ends after it, with the nats to add.
    fn finish(&self, prefix: Self::Prefix, whole: &mut dyn FnMut(Self::Label, f64));
    /// A prefix without what was begun and can't be the end of a label, with the nats to add.
    fn without_rest(&self, prefix: Self::Prefix) -> (Self::Prefix, f64) {
        (prefix, 0.0)
    }
}

/// Logarithms of the masses of a prefix.
#[derive(Clone, Copy, Debug)]
struct Masses {
    blank: f64,
    symbol: f64,
}

impl Masses {
    const NONE: Self = Self { blank: f64::NEG_INFINITY, symbol: f64::NEG_INFINITY };

    fn total(&self) -> f64 {
        ln_add(self.blank, self.symbol)
    }
}

/// ln(eᵃ + eᵇ).
pub fn ln_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The prefixes of one frame, in the order in which they were met: hashing decides nothing.
struct Frontier<P> {
    places: HashMap<P, usize>,
    prefixes: Vec<(P, Masses)>,
}

impl<P: Copy + Eq + Ord + Hash> Frontier<P> {
    fn masses(&mut self, prefix: P) -> &mut Masses {
        let place = *self.places.entry(prefix).or_insert_with(|| {
            self.prefixes.push((prefix, Masses::NONE));
            self.prefixes.len() - 1
        });
        &mut self.prefixes[place].1
    }

    /// The best, best first.
    fn pruned(self, width: Width) -> Vec<(P, Masses)> {
        let mut scored: Vec<(f64, P, Masses)> =
            self.prefixes.into_iter().map(|(prefix, masses)| (masses.total(), prefix, masses)).collect();
        scored.retain(|(score, ..)| *score > f64::NEG_INFINITY);
        scored.sort_unstable_by(|left, right| descending(left.0, right.0).then_with(|| left.1.cmp(&right.1)));
        let floor = scored.first().map_or(0.0, |best| best.0) - width.threshold;
        let kept = scored.into_iter().take(width.prefixes.max(1)).take_while(|(score, ..)| *score >= floor);
        kept.map(|(_, prefix, masses)| (prefix, masses)).collect()
    }
}

fn descending(left: f64, right: f64) -> Ordering {
    right.total_cmp(&left)
}

/// The `nbest` most likely labels of `grammar`, best first; none where every label has probability zero.
///
/// Exact when `width` keeps every prefix; otherwise paths over dropped prefixes are missing from the scores. Where every kept prefix ends in
/// something unfinished, that is left out (as flashlight does). Labels of equal score stand in their own order.
pub fn search<G: Grammar>(
    scores_tv: LogProbabilities,
    grammar: &mut G,
    width: Width,
    nbest: usize,
) -> Vec<Hypothesis<G::Label>> {
    let mut beam = vec![(grammar.start(), Masses { blank: 0.0, symbol: f64::NEG_INFINITY })];
    for frame in scores_tv.frames() {
        let ln = |symbol: u32| f64::from(frame[symbol as usize]);
        let mut frontier = Frontier { places: HashMap::new(), prefixes: Vec::with_capacity(beam.len() * 4) };
        for &(prefix, masses) in &beam {
            let stay = frontier.masses(prefix);
            stay.blank = ln_add(stay.blank, masses.total() + ln(BLANK));
            if let Some(last) = grammar.last(prefix) {
                stay.symbol = ln_add(stay.symbol, masses.symbol + ln(last));
            }
        }
        // What staying gives is a lower bound of the frame's best, so what is too far below it would be dropped anyway.
        let best = frontier.prefixes.iter().map(|(_, masses)| masses.total()).fold(f64::NEG_INFINITY, f64::max);
        let floor = best - width.threshold;
        for &(prefix, masses) in &beam {
            let last = grammar.last(prefix);
            grammar.extend(prefix, &mut |symbol, longer, weight| {
                let from = if last == Some(symbol) { masses.blank } else { masses.total() };
                let score = from + ln(symbol) + weight;
                if score > f64::NEG_INFINITY && score >= floor {
                    let masses = frontier.masses(longer);
                    masses.symbol = ln_add(masses.symbol, score);
                }
            });
        }
        beam = frontier.pruned(width);
    }
    let mut found = finished(grammar, beam.iter().map(|&(prefix, masses)| (prefix, masses.total())));
    if found.is_empty() {
        let without_rest = |&(prefix, masses): &(_, Masses)| {
            let (prefix, weight) = grammar.without_rest(prefix);
            (prefix, masses.total() + weight)
        };
        found = finished(grammar, beam.iter().map(without_rest));
    }
    found.sort_by(|left, right| descending(left.score, right.score));
    found.truncate(nbest);
    found
}

/// What prefixes of these scores stand for when the utterance ends after them.
fn finished<G: Grammar>(grammar: &G, beam: impl Iterator<Item = (G::Prefix, f64)>) -> Vec<Hypothesis<G::Label>> {
    let mut whole = std::collections::BTreeMap::new();
    for (prefix, mass) in beam {
        grammar.finish(prefix, &mut |label, weight| {
            let score = whole.entry(label).or_insert(f64::NEG_INFINITY);
            *score = ln_add(*score, mass + weight);
        });
    }
    let found = whole.into_iter().map(|(label, score)| Hypothesis { label, score });
    found.filter(|hypothesis| hypothesis.score > f64::NEG_INFINITY).collect()
}

/// Every sequence of symbols: beam search without lexicon and language model. Serves one utterance.
#[derive(Debug)]
pub struct AnySymbols {
    symbols: u32,
    /// The prefixes that have been extended; a prefix is its place in here, plus one.
    nodes: Vec<AnyPrefix>,
    places: HashMap<AnyPrefix, u32>,
}

/// All symbols but the last as a place among the prefixes, 0 for none; and the last symbol, the blank for the empty prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnyPrefix {
    parent: u32,
    symbol: u32,
}

impl AnySymbols {
    /// `symbols` of the model, the blank among them.
    pub fn new(symbols: usize) -> Self {
        Self { symbols: symbols as u32, nodes: Vec::new(), places: HashMap::new() }
    }
}

impl Grammar for AnySymbols {
    type Prefix = AnyPrefix;
    type Label = Vec<i64>;

    fn start(&self) -> AnyPrefix {
        AnyPrefix { parent: 0, symbol: BLANK }
    }

    fn last(&self, prefix: AnyPrefix) -> Option<u32> {
        (prefix.symbol != BLANK).then_some(prefix.symbol)
    }

    fn extend(&mut self, prefix: AnyPrefix, next: &mut dyn FnMut(u32, AnyPrefix, f64)) {
        let parent = *self.places.entry(prefix).or_insert_with(|| {
            self.nodes.push(prefix);
            self.nodes.len() as u32
        });
        for symbol in BLANK + 1..self.symbols {
            next(symbol, AnyPrefix { parent, symbol }, 0.0);
        }
    }

    fn finish(&self, mut prefix: AnyPrefix, whole: &mut dyn FnMut(Vec<i64>, f64)) {
        let mut label = Vec::new();
        while prefix.symbol != BLANK {
            label.push(i64::from(prefix.symbol));
            prefix = self.nodes[prefix.parent as usize - 1];
        }
        label.reverse();
        whole(label, 0.0);
    }
}

#[cfg(test)]
#[path = "beam_tests.rs"]
pub(super) mod tests;
