//! From the two sides of a comparison to p values.
//!
//! Seeds that both sides have are paired. Where all numbers are known, the test is Student's of the differences (for `~`, two one-sided ones
//! against the margin). Where some are only known to lie between two ends, a comparison is decided only if it is at every value between: the
//! values that a test decides so are a convex set, so that it is enough to look at the corners. Where an end is open, because something was
//! never reached, the test is the sign test: it counts the seeds that lie wholly on one side.

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::ALPHA;
use super::evidence::{Doubts, Side};
use super::span::{Span, number};
use crate::statistics::power::POWER;
use crate::statistics::{MeanDifference, Untestable};

/// Most seeds with numbers that are not exactly known: of each, both ends are tried with those of all others.
const MOST_OPEN: usize = 12;

/// What a test found.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    pub difference: Option<Difference>,
    /// Of the hypothesis that the comparison doesn't hold, either way counted.
    pub p_for: f64,
    /// Of the hypothesis that it holds.
    pub p_against: f64,
}

/// How a difference was tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// Student's t test of the differences of pairs, two-sided.
    PairedT,
    /// Two one-sided t tests of the differences of pairs against the margin.
    Equivalence,
    /// The sign test, two-sided.
    Sign,
}

/// Right less left over the seeds that have both.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// Of the seeds' differences.
    pub mean: Span,
    pub test: Test,
    /// Pairs.
    pub n: usize,
    /// Within which the two sides are called equal, where that is claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Of the true difference, and its confidence: 95 %, or 90 % where two one-sided tests are made. The widest of all corners where numbers
    /// lie between ends; none of a sign test, and where values don't vary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    pub confidence: f64,
    /// The smallest true difference that so many seeds would have shown with probability 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smallest_detectable: Option<f64>,
    /// The seeds that would have shown with probability 0.8 a difference as large as the one found, or for `~` that there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds_needed: Option<usize>,
    /// Without regard to doubts and other claims.
    pub p_for: f64,
    pub p_against: f64,
    /// Of the corner with the largest standard error.
    #[serde(skip)]
    widest: Option<MeanDifference>,
}

/// Tests whether the left side is below the right one, or within `margin` of it.
pub fn weigh(left: &Side, right: &Side, margin: Option<f64>, doubts: &mut Doubts) -> Weighed {
    let nothing = Weighed { difference: None, p_for: 1.0, p_against: 1.0 };
    let pairs: Vec<[Span; 2]> =
        left.by_seed.iter().filter_map(|(seed, left)| Some([*left, *right.by_seed.get(seed)?])).collect();
    let test = match margin {
        _ if pairs.iter().flatten().any(|span| !span.is_bounded()) => Test::Sign,
        Some(_) => Test::Equivalence,
        None => Test::PairedT,
    };
    let n = pairs.len();
    if n == 1 {
        doubts.add("one seed says nothing about how far seeds lie apart");
    }
    if n == 0 {
        return nothing;
    }
    let spans: Vec<Span> = pairs.iter().map(|[left, right]| right.minus(*left)).collect();
    let sum = spans.iter().fold(Span::exactly(0.0), |sum, span| sum.plus(*span));
    let mean = sum.times(Span::exactly(1.0 / n as f64));
    let confidence = if margin.is_some() { 1.0 - 2.0 * ALPHA } else { 1.0 - ALPHA };
    let bare = Difference {
        mean,
        test,
        n,
        margin,
        interval: None,
        confidence,
        smallest_detectable: None,
        seeds_needed: None,
        p_for: 1.0,
        p_against: 1.0,
        widest: None,
    };
    let difference = match test {
        Test::Sign => signs(&spans, bare),
        Test::PairedT | Test::Equivalence => corners(&pairs, bare, doubts),
    };
    let (p_for, p_against) = (difference.p_for, difference.p_against);
    Weighed { difference: Some(difference), p_for, p_against }
}

fn signs(spans: &[Span], bare: Difference) -> Difference {
    let margin = bare.margin.unwrap_or(0.0);
    let among = |holds: &dyn Fn(&Span) -> bool| spans.iter().filter(|span| holds(span)).count();
    let p = |count: usize| (2.0 * at_least(count, spans.len())).min(1.0);
    let [above, below] = [among(&|span| span.low > margin), among(&|span| span.high < -margin)];
    let (p_for, p_against) = match bare.margin {
        None => (p(above), p(below)),
        // A side that is open is never within a margin.
        Some(_) => (1.0, p(above.max(below))),
    };
    Difference { p_for, p_against, ..bare }
}

/// The probability of `count` or more heads in `n` throws of a coin.
fn at_least(count: usize, n: usize) -> f64 {
    match (count.checked_sub(1), Binomial::new(0.5, n as u64)) {
        (Some(less), Ok(heads)) => heads.sf(less as u64),
        _ => 1.0,
    }
}

/// The t tests at every corner of what the numbers may be: what all of them decide is decided.
fn corners(pairs: &[[Span; 2]], bare: Difference, doubts: &mut Doubts) -> Difference {
    let open: Vec<usize> =
        (0..pairs.len()).filter(|&pair| pairs[pair].iter().any(|span| span.known().is_none())).collect();
    if open.len() > MOST_OPEN {
        doubts.add(format!("{} seeds reached it between two points; so many aren't weighed", open.len()));
        return bare;
    }
    let mut found = Corners::default();
    for corner in 0..1usize << open.len() {
        let [mut left, mut right] = [0, 1].map(|side| pairs.iter().map(|pair| pair[side].low).collect::<Vec<_>>());
        for (bit, &pair) in open.iter().enumerate() {
            let [a, b] = pairs[pair];
            (left[pair], right[pair]) = if (corner >> bit) & 1 == 0 { (a.high, b.low) } else { (a.low, b.high) };
        }
        match MeanDifference::paired(&right, &left) {
            Ok(test) => found.add(test, &bare),
            // Equal differences, where others were possible, lie inside of what a test decides.
            Err(Untestable::NoVariance { difference }) if !open.is_empty() => found.add_equal(difference, &bare),
            Err(why) => {
                if pairs.len() > 1 {
                    doubts.add(why.to_string());
                }
                return bare;
            }
        }
    }
    found.difference(bare)
}

/// The largest p values over corners, of tests against bounds on either side, and what else is worst.
#[derive(Default)]
struct Corners {
    /// Against a true difference of at most 0, or of at most minus the margin.
    above_least: f64,
    /// Against one of at least 0, or of at least the margin.
    below_most: f64,
    /// Against at most the margin, and at least minus the margin: what lies beyond.
    above_margin: f64,
    below_margin: f64,
    interval: Option<(f64, f64)>,
    widest: Option<MeanDifference>,
}

impl Corners {
    fn add(&mut self, test: MeanDifference, bare: &Difference) {
        self.weigh(bare, |bound| test.p_above(bound), |bound| test.p_below(bound));
        let (low, high) = test.interval(bare.confidence);
        self.interval = Some(self.interval.map_or((low, high), |(a, b)| (a.min(low), b.max(high))));
        if self.widest.is_none_or(|widest| test.standard_error > widest.standard_error) {
            self.widest = Some(test);
        }
    }

    fn add_equal(&mut self, difference: f64, bare: &Difference) {
        let p = |holds: bool| if holds { 0.0 } else { 1.0 };
        self.weigh(bare, |bound| p(difference > bound), |bound| p(difference < bound));
    }

    fn weigh(&mut self, bare: &Difference, above: impl Fn(f64) -> f64, below: impl Fn(f64) -> f64) {
        let margin = bare.margin.unwrap_or(0.0);
        self.above_least = self.above_least.max(above(-margin));
        self.below_most = self.below_most.max(below(margin));
        self.above_margin = self.above_margin.max(above(margin));
        self.below_margin = self.below_margin.max(below(-margin));
    }

    fn difference(self, bare: Difference) -> Difference {
        let two_sided = |p: f64| (2.0 * p).min(1.0);
        let (p_for, p_against) = match bare.margin {
            None => (two_sided(self.above_least), two_sided(self.below_most)),
            Some(_) => (self.above_least.max(self.below_most), two_sided(self.above_margin.min(self.below_margin))),
        };
        Difference { interval: self.interval, widest: self.widest, p_for, p_against, ..bare }
    }
}

impl Difference {
    /// With what so many seeds could have seen, and how many would be needed: of the corner whose seeds lie farthest apart.
    pub fn planned(self) -> Self {
        let Some(test) = self.widest else { return self };
        let seeds_needed = match self.margin {
            None => test.seeds_to_detect(test.difference, ALPHA, POWER),
            Some(margin) => test.seeds_for_equivalence(margin, ALPHA, POWER),
        };
        Self { smallest_detectable: Some(test.smallest_detectable(ALPHA, POWER)), seeds_needed, ..self }
    }

    /// What was found and how, in a sentence.
    pub fn sentence(&self) -> String {
        let Self { mean, test, n, margin, interval, confidence, .. } = self;
        let how = match test {
            Test::PairedT => "t test",
            Test::Equivalence => "two one-sided t tests",
            Test::Sign => "sign test",
        };
        let interval = interval.map_or(String::new(), |(low, high)| {
            format!(" ({:.0} % interval {} to {})", 100.0 * confidence, number(low), number(high))
        });
        let margin = margin.map_or(String::new(), |margin| format!(" against a margin of {}", number(margin)));
        let p = self.p_for.min(self.p_against);
        let mut sentence =
            format!("right less left is {mean}{interval}; {how} of {n} pairs{margin}, p {}", probability(p));
        if let (true, Some(smallest)) = (p > ALPHA, self.smallest_detectable) {
            sentence.push_str(&format!("; {} or more would have been seen", number(smallest)));
        }
        if let (true, Some(seeds)) = (p > ALPHA, self.seeds_needed) {
            sentence.push_str(&format!("; {seeds} seeds would be needed"));
        }
        sentence
    }
}

/// A p value as people write it.
pub fn probability(p: f64) -> String {
    if p < 0.001 { "below 0.001".into() } else { format!("{p:.3}") }
}
