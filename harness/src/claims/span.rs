//! Numbers that are known to lie between two ends, such as the steps after which something was reached.

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

/// From `low` to `high`; the same for a number that is known. An end may be infinite: `low` below, `high` above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub low: f64,
    pub high: f64,
}

impl Span {
    pub fn exactly(value: f64) -> Self {
        Self { low: value, high: value }
    }

    /// The number, where it is known.
    pub fn known(self) -> Option<f64> {
        (self.low == self.high).then_some(self.low)
    }

    pub fn is_bounded(self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }

    pub fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    pub fn minus(self, other: Self) -> Self {
        self.plus(other.negative())
    }

    pub fn negative(self) -> Self {
        Self { low: -self.high, high: -self.low }
    }

    pub fn times(self, other: Self) -> Self {
        let product = |a: f64, b: f64| if a == 0.0 || b == 0.0 { 0.0 } else { a * b };
        let Self { low, high } = other;
        let ends = [product(self.low, low), product(self.low, high), product(self.high, low), product(self.high, high)];
        Self {
            low: ends.into_iter().fold(f64::INFINITY, f64::min),
            high: ends.into_iter().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// `None` where the other may be zero.
    pub fn over(self, other: Self) -> Option<Self> {
        let parts = other.low <= 0.0 && other.high >= 0.0;
        (!parts).then(|| self.times(Self { low: 1.0 / other.high, high: 1.0 / other.low }))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.known() {
            Some(value) => f.write_str(&number(value)),
            None if self.high == f64::INFINITY => write!(f, "above {}", number(self.low)),
            None if self.low == f64::NEG_INFINITY => write!(f, "below {}", number(self.high)),
            None => write!(f, "{} to {}", number(self.low), number(self.high)),
        }
    }
}

/// A number as a sentence has it: whole where it is so or large, with four digits otherwise.
pub fn number(value: f64) -> String {
    if !value.is_finite() || (value.fract() == 0.0 && value.abs() < 1e15) {
        return format!("{value}");
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    if digits > 9 { format!("{value:.2e}") } else { format!("{value:.*}", digits.max(0) as usize) }
}

impl Serialize for Span {
    /// Infinite ends are left open.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let end = |value: f64| value.is_finite().then_some(value);
        let mut span = serializer.serialize_struct("Span", 2)?;
        span.serialize_field("low", &end(self.low))?;
        span.serialize_field("high", &end(self.high))?;
        span.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_span_says_what_is_known() {
        let told = |low, high| Span { low, high }.to_string();
        assert_eq!(told(0.30518, 0.30518), "0.3052");
        assert_eq!(told(240_000.0, 320_000.0), "240000 to 320000");
        assert_eq!(told(650_000.0, f64::INFINITY), "above 650000");
        assert_eq!(told(f64::NEG_INFINITY, -1e-12), "below -1.00e-12");
        let json = serde_json::to_string(&Span { low: 1.0, high: f64::INFINITY }).unwrap();
        assert_eq!(json, r#"{"low":1.0,"high":null}"#);
    }

    fn spans() -> impl Strategy<Value = (Span, f64)> {
        (-9.0f64..9.0, 0.0f64..5.0, 0.0f64..=1.0)
            .prop_map(|(low, width, at)| (Span { low, high: low + width }, low + at * width))
    }

    proptest! {
        #[test]
        fn what_lies_in_spans_lies_in_what_is_made_of_them((a, x) in spans(), (b, y) in spans()) {
            let holds = |span: Span, value: f64| span.low - 1e-9 <= value && value <= span.high + 1e-9;
            prop_assert!(holds(a.plus(b), x + y) && holds(a.minus(b), x - y) && holds(a.times(b), x * y));
            if let Some(quotient) = a.over(b) {
                let slack = 1e-9 * (1.0 + (x / y).abs());
                prop_assert!(quotient.low - slack <= x / y && x / y <= quotient.high + slack);
            } else {
                prop_assert!(b.low <= 0.0 && b.high >= 0.0);
            }
        }
    }
}
