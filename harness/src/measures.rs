//! The numbers of a run, each with its address: the stage that gave it and the name of the score.
//!
//! Goldens, claims, diffs and reports speak of numbers by these addresses: `decode test/wer`, `unit quality iteration 2/pnmi`,
//! `layers/cca-word@3` (of layer 3), `layers/cka@3:1` (of layers 3 and 1).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::identity::{OutputDigest, StageKey};
use reprise_spec::layers::{self, Findings, LayerScore};
use reprise_spec::stage::{ProbeStage, Stage};
use serde::{Deserialize, Serialize};

use crate::store::{RunRecord, StageRecord, Store, StoredOutput};

/// Where a number stands in a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The stage, as the run names it.
    pub stage: String,
    /// The score, as the stage names it.
    pub metric: String,
}

/// One number of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measure {
    /// May be NaN or infinite: what a stage stored is told as it is.
    pub value: f64,
    /// The ends of its own interval, where the stage gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// The stage that gave it.
    pub key: StageKey,
    /// The output that it was read from.
    pub digest: OutputDigest,
    /// Where in pretraining the measured model lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<Point>,
    /// Why the number supports nothing, where the stage says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The numbers of a run by address.
pub type Measures = BTreeMap<Address, Measure>;

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Lower,
    Higher,
    /// Neither: a count, a size, a layer.
    Neither,
}

impl Address {
    pub fn new(stage: impl Into<String>, metric: impl Into<String>) -> Self {
        Self { stage: stage.into(), metric: metric.into() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stage, self.metric)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('/') {
            Some((stage, metric)) if !stage.is_empty() && !metric.is_empty() => Ok(Self::new(stage, metric)),
            _ => Err(format!("{text:?} names no number: write STAGE/METRIC, such as `decode test/wer`")),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl Measure {
    /// Whether a claim may compare this number with those of annealed models: not that of a model in mid-schedule.
    pub fn compares(&self) -> bool {
        self.point.is_none_or(|point| point.rate != Rate::Running)
    }
}

impl Direction {
    /// Of a metric by its name, however it is qualified.
    pub fn of(metric: &str) -> Self {
        let name = metric.split('@').next().unwrap_or(metric);
        let parts: Vec<&str> = name.split('-').collect();
        let has = |words: &[&str]| words.iter().any(|word| parts.contains(word));
        match () {
            () if has(&["null", "layer", "unit", "utterances", "seconds", "words", "frames", "guess"]) => Self::Neither,
            () if has(&["wer", "cer", "ser", "loss", "inertia", "perplexity", "dead", "hypotheses", "drop"]) => {
                Self::Lower
            }
            () if has(&["accuracy", "pnmi", "purity", "corrected", "cca", "mi", "abx", "rank", "area", "best"]) => {
                Self::Higher
            }
            () => Self::Neither,
        }
    }
}

/// The numbers of a run as far as its outputs are stored. Where a stage tells no number, or is no longer stored, there is none.
pub fn of(run: &RunRecord, store: &Store) -> Measures {
    let output = |stage: &StageRecord| store.output(&stage.key, &stage.state.digest()?);
    of_outputs(run, &run.stages.iter().map(output).collect::<Vec<_>>())
}

/// The numbers of a run from the output of each of its stages, as far as they are stored.
pub fn of_outputs(run: &RunRecord, outputs: &[Option<StoredOutput>]) -> Measures {
    let mut measures = Measures::new();
    for (stage, output) in run.stages.iter().zip(outputs) {
        let Some(output) = output else { continue };
        let (key, digest) = (output.manifest.key, output.manifest.digest);
        let measure = |value, interval, refused| Measure { value, interval, key, digest, point: stage.point, refused };
        for score in &output.manifest.summary {
            let address = Address::new(&stage.name, &score.name);
            measures.insert(address, measure(score.value, score.interval, None));
        }
        for (metric, score) in of_layers(output) {
            if let Some(mean) = score.mean {
                measures.insert(Address::new(&stage.name, metric), measure(mean, None, score.refused));
            }
        }
    }
    measures
}

/// The scores of every layer, where the output is of a layer-wise analysis.
fn of_layers(output: &StoredOutput) -> Vec<(String, LayerScore)> {
    if !matches!(output.manifest.settings, Stage::Probe(ProbeStage::Layers(_))) {
        return Vec::new();
    }
    let bytes = std::fs::read(output.out().join(layers::FILE));
    let findings = bytes.ok().and_then(|bytes| serde_json::from_slice::<Findings>(&bytes).ok());
    let curves = findings.into_iter().flat_map(|findings| findings.curves);
    curves
        .flat_map(|curve| {
            let named = move |score: LayerScore| {
                let other = score.other.map_or(String::new(), |other| format!(":{other}"));
                (format!("{}@{}{other}", curve.metric, score.layer), score)
            };
            curve.layers.into_iter().map(named)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_without_a_stage_or_a_metric_is_refused() {
        for text in ["", "wer", "/wer", "decode test/"] {
            assert!(text.parse::<Address>().unwrap_err().contains("STAGE/METRIC"), "{text:?}");
        }
    }

    #[test]
    fn a_metric_is_better_one_way_or_neither() {
        for metric in ["wer", "cer", "validation-loss", "inertia-held-out", "cca-word-top-drop", "dead-clusters"] {
            assert_eq!(Direction::of(metric), Direction::Lower, "{metric}");
        }
        for metric in ["pnmi", "masked-accuracy", "phone-purity", "cca-word@3", "cca-phone-area", "mi-word", "abx@0"] {
            assert_eq!(Direction::of(metric), Direction::Higher, "{metric}");
        }
        for metric in
            ["utterances", "pnmi-null", "cca-word-best-layer", "audio-seconds", "most-frequent-unit", "aligned"]
        {
            assert_eq!(Direction::of(metric), Direction::Neither, "{metric}");
        }
    }

    proptest! {
        #[test]
        fn an_address_is_read_as_it_was_written(stage in "[a-z][a-z0-9 /(),-]{0,40}", metric in "[a-z][a-z0-9@:-]{0,30}") {
            let address = Address::new(stage, metric);
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
    }
}
