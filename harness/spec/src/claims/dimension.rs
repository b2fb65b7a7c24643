//! What numbers are of, so that unlike ones are neither added nor compared.

use std::fmt;

use super::{Axis, Quantity, Summary, What};

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Errors over what was said.
    ErrorRate,
    /// A part of a whole: purity, mutual information over entropy, accuracy.
    Share,
    /// What an analysis of layers gives.
    Score,
    /// The place of a layer.
    Layer,
    Steps,
    AudioSeconds,
    DeviceSeconds,
    /// One quantity over another of its dimension.
    Ratio,
}

impl Dimension {
    pub fn of(quantity: &Quantity) -> Self {
        match &quantity.what {
            What::Errors { .. } => Self::ErrorRate,
            What::Units { .. } | What::MaskedAccuracy { .. } => Self::Share,
            What::Layer { .. } => Self::Score,
            What::Curve { summary: Summary::BestLayer, .. } => Self::Layer,
            What::Curve { .. } => Self::Score,
            What::Total(axis) | What::Reach { axis, .. } => Self::along(*axis),
            What::Metric { metric, .. } => Self::of_metric(metric),
        }
    }

    fn along(axis: Axis) -> Self {
        match axis {
            Axis::Steps => Self::Steps,
            Axis::AudioSeconds => Self::AudioSeconds,
            Axis::DeviceSeconds => Self::DeviceSeconds,
        }
    }

    fn of_metric(metric: &str) -> Self {
        let parts: Vec<&str> = metric.split(['-', '@']).collect();
        let has = |words: &[&str]| words.iter().any(|word| parts.contains(word));
        match () {
            () if has(&["wer", "cer", "ser"]) => Self::ErrorRate,
            () if metric.ends_with("best-layer") => Self::Layer,
            () if metric == "audio-seconds" => Self::AudioSeconds,
            () if !metric.contains('@') && has(&["pnmi", "purity", "accuracy"]) => Self::Share,
            () => Self::Score,
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ErrorRate => "an error rate",
            Self::Share => "a share",
            Self::Score => "a score",
            Self::Layer => "a layer",
            Self::Steps => "steps",
            Self::AudioSeconds => "seconds of audio",
            Self::DeviceSeconds => "seconds on the device",
            Self::Ratio => "a ratio",
        })
    }
}
