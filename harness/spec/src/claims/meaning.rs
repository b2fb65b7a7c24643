//! What a statement means to the identity of an experiment.

use super::{Comparison, Quantity, Statement, Term, What};
use crate::canon::{self, Canon};

impl Statement {
    /// The comparisons, each once, in an order of their own, with variants as `variant` tells them: what they are called is no meaning.
    pub fn meaning(&self, variant: &dyn Fn(Option<&str>) -> Option<String>) -> Canon {
        let told = |comparison: &Comparison| match comparison {
            Comparison::Below(one, other) => Comparison::Below(one.told(variant), other.told(variant)),
            Comparison::Near(one, other, margin) => Comparison::Near(one.told(variant), other.told(variant), *margin),
        };
        let mut comparisons: Vec<Canon> = self.0.iter().map(|comparison| canon::of(&told(comparison))).collect();
        comparisons.sort_by_cached_key(Canon::to_bytes);
        comparisons.dedup();
        Canon::List(comparisons)
    }
}

impl Term {
    fn told(&self, variant: &dyn Fn(Option<&str>) -> Option<String>) -> Self {
        let below = |term: &Self| Box::new(term.told(variant));
        match self {
            Self::Number(value) => Self::Number(*value),
            Self::Quantity(Quantity { what, of }) => {
                let what = match what {
                    What::Reach { axis, of, level } => What::Reach { axis: *axis, of: of.clone(), level: below(level) },
                    other => other.clone(),
                };
                Self::Quantity(Quantity { what, of: variant(of.as_deref()) })
            }
            Self::Mean(term) => Self::Mean(below(term)),
            Self::Negative(term) => Self::Negative(below(term)),
            Self::Plus(one, other) => Self::Plus(below(one), below(other)),
            Self::Minus(one, other) => Self::Minus(below(one), below(other)),
            Self::Times(one, other) => Self::Times(below(one), below(other)),
            Self::Over(one, other) => Self::Over(below(one), below(other)),
        }
    }
}
