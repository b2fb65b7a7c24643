//! How far two values of a metric may lie apart and still count as the same result.
//!
//! The margins allow for another order of floating-point sums (threads, instruction sets, libraries) amplified by training, and are far
//! below what seeds, data or settings change. They are the project's choice and are printed beside every verdict that uses them.

use serde::{Deserialize, Serialize};

/// Shares, accuracies and error rates, all from 0 to 1 as a rule: half a percentage point.
const RATE: f64 = 0.005;

/// Losses, inertia, perplexity: one percent of the original.
const RELATIVE: f64 = 0.01;

/// Clusters that lose their last frame, or gain a first one.
const RARE: f64 = 1.0;

/// A margin on either side of the original.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Margin {
    /// No difference at all: counts that no arithmetic enters.
    Exact,
    Absolute(f64),
    /// As a share of the original's magnitude.
    Relative(f64),
}

impl Margin {
    /// The margin of a metric; `None` for one that says nothing beside others.
    pub fn of(metric: &str) -> Option<Self> {
        let parts: Vec<&str> = metric.split('-').collect();
        let has = |words: &[&str]| words.iter().any(|word| parts.contains(word));
        match () {
            () if metric == "trained" => None,            // compares two others
            () if metric.ends_with("best-layer") => None, // two layers that are almost equal change places at the least difference
            () if has(&["utterances", "seconds", "excluded", "words", "aligned", "phones", "frames", "dimensions"]) => {
                Some(Self::Exact)
            }
            () if metric == "dead-clusters" => Some(Self::Absolute(RARE)),
            () if has(&[
                "wer",
                "cer",
                "ser",
                "accuracy",
                "purity",
                "pnmi",
                "unit",
                "hypotheses",
                "cca",
                "mi",
                "abx",
                "cka",
            ]) =>
            {
                Some(Self::Absolute(RATE))
            }
            () => Some(Self::Relative(RELATIVE)),
        }
    }

    /// The greatest difference from `original` that is allowed.
    pub fn around(self, original: f64) -> f64 {
        match self {
            Self::Exact => 0.0,
            Self::Absolute(margin) => margin,
            Self::Relative(share) => share * original.abs(),
        }
    }

    /// Whether a value is the same result as the original.
    pub fn allows(self, original: f64, again: f64) -> bool {
        original.to_bits() == again.to_bits() || (again - original).abs() <= self.around(original)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_metric_has_its_margin() {
        let names =
            ["utterances", "phones", "wer", "masked-accuracy", "pnmi-null", "validation-loss", "inertia-held-out"];
        let margins = names.map(Margin::of);
        let (exact, rate, relative) = (Margin::Exact, Margin::Absolute(RATE), Margin::Relative(RELATIVE));
        assert_eq!(margins, [exact, exact, rate, rate, rate, relative, relative].map(Some));
        assert_eq!(Margin::of("trained"), None);
    }

    #[test]
    fn margins_are_closed_and_know_no_nan() {
        assert!(Margin::Absolute(0.5).allows(1.0, 1.5) && !Margin::Absolute(0.5).allows(1.0, 1.51));
        assert!(Margin::Relative(0.01).allows(-200.0, -202.0) && !Margin::Relative(0.01).allows(0.0, 1e-9));
        assert!(Margin::Exact.allows(f64::NAN, f64::NAN) && !Margin::Absolute(1.0).allows(1.0, f64::NAN));
    }
}
