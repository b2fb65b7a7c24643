//! What the stages of a plan are expected to cost, as people and programs read it.

use serde_json::{Value, json};

use super::super::print;
use crate::estimate::{Amount, Estimate, Sum};
use crate::outlook::Outlook;
use crate::plan::Plan;

/// Sustained operations a second, in units of 10¹², of one accelerator: an assumption, between what two published trainings of HuBERT BASE
/// come to by the same count. 100k steps in 9.5 h on 32 GPUs of 2021 (HuBERT section IV.C) are 11.8 on each, and 400k steps in 10 h on 16
/// H100 in bf16 (minimal_hubert) 90.
pub const TFLOPS: f64 = 40.0;

const FLOPS_OF_AN_HOUR: f64 = 3600.0 * 1e12;

/// The estimates of a plan's nodes, with the throughput that turns operations into time.
pub struct Costs<'a> {
    pub plan: &'a Plan,
    pub outlooks: &'a [Outlook],
    pub estimates: &'a [Estimate],
    /// Of one accelerator, in 10¹² operations a second.
    pub tflops: f64,
}

impl Costs<'_> {
    /// One row a kind of stage, then all together, and what of it is not stored yet.
    pub fn shown(&self) -> String {
        let mut rows: Vec<Vec<String>> = self.kinds().iter().map(|(kind, sum)| self.row(kind, sum)).collect();
        rows.push(self.row("total", &self.total()));
        rows.push(self.row("to execute", &self.remaining()));
        let table = print::table(
            &["estimate", "stages", "steps", "hours of audio", "GPU-hours", "disk"],
            &[1, 2, 3, 4, 5],
            rows,
        );
        let unknown = match self.total().audio_seconds.unknown + self.total().flops.unknown {
            0 => "",
            _ => "; unknown is what depends on files that are not here or on a corpus that is not read yet",
        };
        format!(
            "{table}\nestimated, not measured: GPU-hours at {} TFLOP/s sustained (--tflops), training as three forward passes over full batches, \
             without features, fitting of codebooks, validation and waiting for data{unknown}",
            self.tflops
        )
    }

    /// The same for programs, in seconds, operations and bytes.
    pub fn json(&self) -> Value {
        let sum = |sum: &Sum| {
            let mut value = json!(sum);
            value["gpu-hours"] = json!(self.hours(sum.flops));
            value
        };
        let kinds: serde_json::Map<String, Value> =
            self.kinds().iter().map(|(kind, of)| ((*kind).to_owned(), sum(of))).collect();
        json!({
            "tflops": self.tflops, "kinds": kinds, "total": sum(&self.total()), "to-execute": sum(&self.remaining()),
        })
    }

    fn kinds(&self) -> Vec<(&str, Sum)> {
        let word = |kind: &'static str| kind.split('/').next().unwrap_or(kind);
        let mut kinds: Vec<&str> = Vec::new();
        for node in &self.plan.nodes {
            if !kinds.contains(&word(node.kind)) {
                kinds.push(word(node.kind));
            }
        }
        let order = [
            "corpus",
            "checkpoint",
            "features",
            "units",
            "probe",
            "pretrain",
            "finetune",
            "language-model",
            "lexicon",
            "tune",
            "decode",
        ];
        kinds.sort_by_key(|kind| order.iter().position(|known| known == kind));
        let of = |kind: &str| {
            let nodes = self.plan.nodes.iter().zip(self.estimates);
            Sum::of(nodes.filter(|(node, _)| word(node.kind) == kind).map(|(_, estimate)| estimate))
        };
        kinds.into_iter().map(|kind| (kind, of(kind))).collect()
    }

    fn total(&self) -> Sum {
        Sum::of(self.estimates)
    }

    fn remaining(&self) -> Sum {
        let stages = self.estimates.iter().zip(self.outlooks);
        Sum::of(stages.filter(|(_, outlook)| !matches!(outlook, Outlook::Stored { .. })).map(|(estimate, _)| estimate))
    }

    fn hours(&self, flops: Amount) -> Amount {
        Amount { known: flops.known / (self.tflops * FLOPS_OF_AN_HOUR), ..flops }
    }

    fn row(&self, name: &str, sum: &Sum) -> Vec<String> {
        let audio = Amount { known: sum.audio_seconds.known / 3600.0, ..sum.audio_seconds };
        vec![
            name.to_owned(),
            sum.stages.to_string(),
            sum.steps.to_string(),
            told(audio, number),
            told(self.hours(sum.flops), number),
            told(sum.bytes, |bytes| print::bytes(bytes as u64)),
        ]
    }
}

fn told(amount: Amount, how: impl Fn(f64) -> String) -> String {
    match amount {
        Amount { known: 0.0, unknown: 1.. } => "unknown".into(),
        Amount { known: 0.0, unknown: 0 } => "0".into(),
        Amount { known, unknown: 0 } => how(known),
        Amount { known, .. } => format!("{} + unknown", how(known)),
    }
}

fn number(value: f64) -> String {
    match value {
        0.01..10.0 => format!("{value:.2}"),
        10.0.. => format!("{value:.0}"),
        _ => "< 0.01".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_told_apart_from_nothing() {
        let told = |known, unknown| told(Amount { known, unknown }, number);
        assert_eq!(told(0.0, 0), "0");
        assert_eq!(told(0.0, 2), "unknown");
        assert_eq!(told(12.4, 0), "12");
        assert_eq!(told(1.234, 1), "1.23 + unknown");
        assert_eq!(told(0.001, 0), "< 0.01");
    }
}
