//! Statements as text, with no more brackets than they need.

use std::fmt::{self, Display, Formatter};

use super::lexer::is_word;
use super::{Comparison, Errors, Quantity, Statement, Term, What};
use crate::finetuning::Top;

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, comparison) in self.0.iter().enumerate() {
            write!(f, "{}{comparison}", if index > 0 { " and " } else { "" })?;
        }
        Ok(())
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(one, other) => write!(f, "{one} < {other}"),
            Self::Near(one, other, margin) => write!(f, "{one} ~ {other} within {}", number(*margin)),
        }
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => f.write_str(&number(*value)),
            Self::Quantity(quantity) => write!(f, "{quantity}"),
            Self::Mean(term) => write!(f, "mean({term})"),
            Self::Negative(term) => write!(f, "-{}", Binding(term, 3)),
            Self::Plus(one, other) => write!(f, "{} + {}", Binding(one, 1), Binding(other, 2)),
            Self::Minus(one, other) => write!(f, "{} - {}", Binding(one, 1), Binding(other, 2)),
            Self::Times(one, other) => write!(f, "{} * {}", Binding(one, 2), Binding(other, 3)),
            Self::Over(one, other) => write!(f, "{} / {}", Binding(one, 2), Binding(other, 3)),
        }
    }
}

/// A term that stands where others bind it as tightly as the number says: in brackets where it binds less.
struct Binding<'a>(&'a Term, u8);

impl Display for Binding<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let own = match self.0 {
            Term::Plus(..) | Term::Minus(..) => 1,
            Term::Times(..) | Term::Over(..) => 2,
            Term::Negative(_) | Term::Number(_) | Term::Quantity(_) | Term::Mean(_) => 3,
        };
        if own < self.1 { write!(f, "({})", self.0) } else { write!(f, "{}", self.0) }
    }
}

impl Display for Quantity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        self.of.iter().try_for_each(|variant| write!(f, " of {}", name(variant)))
    }
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors { of, .. } => write!(f, "{of}")?,
            Self::Units { score, iteration } => write!(f, "{}({iteration})", score.word())?,
            Self::MaskedAccuracy { iteration } => write!(f, "masked-accuracy({iteration})")?,
            Self::Layer { metric, layer, .. } => write!(f, "layer({}, {layer})", name(metric))?,
            Self::Curve { summary, metric, .. } => write!(f, "{}({})", summary.word(), name(metric))?,
            Self::Total(axis) => f.write_str(axis.word())?,
            Self::Reach { axis, of, level } => write!(f, "{}-to-reach({of}, {level})", axis.word())?,
            Self::Metric { stage, metric } => write!(f, "metric({})", quoted(&format!("{stage}/{metric}")))?,
        }
        match self {
            Self::Errors { at: Some(steps), .. }
            | Self::Layer { at: Some(steps), .. }
            | Self::Curve { at: Some(steps), .. } => write!(f, " at {steps}"),
            _ => Ok(()),
        }
    }
}

impl Display for Errors {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let top = match self.top {
            Top::Kept => String::new(),
            Top::Reset(layers) => format!(", top-reset {}", layers.get()),
            Top::Removed(layers) => format!(", top-removed {}", layers.get()),
        };
        write!(f, "{}({}{top})", self.rate.word(), name(self.split.as_str()))
    }
}

/// A name, in quotes where it isn't one word.
fn name(text: &str) -> String {
    if is_word(text) { text.to_owned() } else { quoted(text) }
}

/// A text in quotes that it doesn't have itself. No text of a statement has both, because there they would have ended it.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') { '"' } else { '\'' };
    format!("{quote}{text}{quote}")
}

fn number(value: f64) -> String {
    if value == 0.0 || (1e-7..1e15).contains(&value) { format!("{value}") } else { format!("{value:e}") }
}
