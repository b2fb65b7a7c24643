//! The small types that settings are made of: numbers that know their range, and names that cannot hurt.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares a whole number with a range, refused outside it wherever it is read.
macro_rules! count {
    ($(#[$doc:meta])* $name:ident, $low:literal ..= $high:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "u64", into = "u64")]
        #[schemars(extend("minimum" = $low, "maximum" = $high))]
        pub struct $name(u32);

        impl $name {
            /// The number itself.
            pub fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = String;

            fn try_from(value: u64) -> Result<Self, String> {
                if ($low..=$high).contains(&value) {
                    Ok(Self(value as u32))
                } else {
                    Err(format!("{value} is out of range: {} is from {} to {}", $what, $low, $high))
                }
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                u64::from(value.0)
            }
        }
    };
}

/// Declares a finite number with a range, refused outside it wherever it is read.
macro_rules! real {
    ($(#[$doc:meta])* $name:ident, |$value:ident| $inside:expr, $what:literal, { $($schema:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "f64", into = "f64")]
        #[schemars(extend($($schema)*))]
        pub struct $name(f64);

        impl $name {
            /// The number itself.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = String;

            fn try_from($value: f64) -> Result<Self, String> {
                if $value.is_finite() && $inside {
                    Ok(Self($value))
                } else {
                    Err(format!("{} is out of range: {}", $value, $what))
                }
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }
    };
}

count!(/// A number of optimiser steps; zero is allowed where a phase may be absent.
    Steps, 0..=100_000_000, "a number of steps");
count!(/// A number of things of which at least one is needed: layers, heads, channels, dimensions, frames.
    Count, 1..=1_000_000, "a count");
count!(/// The number of clusters of a codebook; labels are stored as `u16`.
    Clusters, 2..=65_535, "a number of clusters");
count!(/// A layer whose features are clustered: 0 is the input of the Transformer stack, 1… are block outputs.
    Height, 0..=1_000, "a height");
count!(/// A number of layers that may be none.
    Layers, 0..=1_000, "a number of layers");
count!(/// The length of the longest n-grams of a language model.
    NgramOrder, 1..=6, "an order of n-grams");
count!(/// An order of differences over time: 0 for the features themselves.
    Order, 0..=2, "an order of differences");
real!(/// A share in `0.0..=1.0`.
    Fraction, |value| (0.0..=1.0).contains(&value), "a fraction is from 0 to 1", { "minimum" = 0, "maximum" = 1 });
real!(/// What a learning rate is lowered by: above 0 and below 1.
    Factor, |value| value > 0.0 && value < 1.0, "a factor is above 0 and below 1", { "exclusiveMinimum" = 0, "exclusiveMaximum" = 1 });
real!(/// A number above zero: a learning rate, a temperature, an epsilon.
    Positive, |value| value > 0.0 && value <= 1e12, "it must be above 0 and at most 1e12", { "exclusiveMinimum" = 0, "maximum" = 1e12 });
real!(/// A weight of zero or more.
    Weight, |value| (0.0..=1e12).contains(&value), "a weight is from 0 to 1e12", { "minimum" = 0, "maximum" = 1e12 });
real!(/// Something that is added to a score, in nats.
    Nats, |value| (-1e6..=1e6).contains(&value), "it is from -1e6 to 1e6", { "minimum" = -1e6, "maximum" = 1e6 });
real!(/// The logarithm of a probability to the base 10.
    Log10, |value| (-1e3..=0.0).contains(&value), "log10 of a probability is from -1000 to 0", { "minimum" = -1e3, "maximum" = 0 });
real!(/// A length of audio in seconds, above zero and at most a day. Arithmetic is done in samples ([`Seconds::samples`]).
    Seconds, |value| value > 0.0 && value <= 86_400.0 * 366.0, "seconds are above 0 and at most a year", { "exclusiveMinimum" = 0 });

impl Seconds {
    /// The nearest number of samples at 16 kHz.
    pub fn samples(self) -> u64 {
        (self.0 * f64::from(crate::arithmetic::SAMPLE_RATE)).round() as u64
    }
}

/// Declares a text type that is checked wherever it is read.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:ident, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = $pattern))]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(value: String) -> Result<Self, String> {
                $check(&value)?;
                Ok(Self(value))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(/// The name of an experiment or corpus: letters, digits, `-`, `_` and `.`, starting with a letter or digit, at most 64 of them.
    Name, check_name, "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$");
text!(/// A split of a corpus: one or more names with `/` between them, such as `train-clean-100` or `1h/0/clean`.
    SplitName, check_split, "^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$");
text!(/// A path relative to the file that names it, with `/` between its parts; it never starts at the root and has no control characters.
    RelativePath, check_path, "^[^/\\\\\\x00-\\x1f][^\\\\\\x00-\\x1f]*$");

fn check_name(value: &str) -> Result<(), String> {
    let first = value.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if first && rest && value.len() <= 64 {
        Ok(())
    } else {
        Err(format!(
            "{:?} is not a name: use at most 64 ASCII letters, digits, `-`, `_` and `.`, starting with a letter or digit",
            start(value)
        ))
    }
}

fn check_split(value: &str) -> Result<(), String> {
    value.split('/').try_for_each(check_name).map_err(|_| {
        format!(
            "{:?} is not a split: use names of letters, digits, `-`, `_` and `.`, with `/` between them",
            start(value)
        )
    })
}

fn check_path(value: &str) -> Result<(), String> {
    let bad = value.is_empty()
        || value.len() > 1024
        || value.starts_with('/')
        || value.chars().any(|c| c.is_control() || c == '\\');
    if bad {
        Err(format!(
            "{:?} is not a relative path: use `/` between its parts, and start neither with `/` nor at a drive",
            start(value)
        ))
    } else {
        Ok(())
    }
}

/// As much of a value as a message shows.
fn start(value: &str) -> String {
    value.chars().take(80).collect()
}
