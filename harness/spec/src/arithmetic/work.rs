//! What stages of training and extraction cost, from their settings alone: estimates for plans, never a measurement.

use super::flops::{front_end_flops, trunk_flops};
use super::{SAMPLE_RATE, frames_at, head_parameters, layer_flops, parameters, quantiser_parameters};
use crate::finetuning::Top;
use crate::network::{FrontEnd, Network};
use crate::stage::{FinetuneStage, PretrainStage, PretrainTargets};
use crate::training::{CosineHead, Head};

/// Bytes of a trained number.
const FLOAT: u64 = 4;
/// Symbols of the character vocabulary: 26 letters, space, apostrophe and blank.
const SYMBOLS: u64 = 29;
/// Length that fine-tuning's utterances are counted with, in samples: 15.625 s, the longest crop of published pretraining. The cost of an
/// hour of audio grows slowly with the length of its pieces, by attention alone.
const UTTERANCE: u64 = 250_000;

/// What a stage of training does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Optimiser steps.
    pub steps: u64,
    /// Audio trained on, repetitions counted; at most, because every batch is counted as full.
    pub audio_seconds: f64,
    /// Floating-point operations, with a backward pass counted as two forward ones.
    pub flops: f64,
}

impl Work {
    /// Pretraining from step `after` of the iteration, where an equal shorter stage ended, to the end of the stage.
    ///
    /// A step is three forward passes over a full batch, all of whose frames are scored. Validation isn't counted.
    pub fn of_pretraining(stage: &PretrainStage, after: u64) -> Self {
        let batching = &stage.pretraining.batching;
        let (network, samples) = (&stage.network, batching.longest.samples());
        let rows = batching.seconds.get() / batching.longest.get();
        let frames = frames_at(samples, network.frame_stride());
        let above = trunk_flops(network, samples, network.encoder.layers.get()) + 2 * frames * heads(stage);
        let front_end = front_end_flops(network, samples) * if front_end_learns(network) { 3 } else { 1 };
        let steps = u64::from(stage.steps.get()).saturating_sub(after);
        Self {
            steps,
            audio_seconds: steps as f64 * batching.seconds.get(),
            flops: steps as f64 * rows * (front_end + 3 * above) as f64,
        }
    }

    /// Fine-tuning. What is frozen costs its forward pass alone; layers that are drawn anew are not.
    pub fn of_finetuning(stage: &FinetuneStage) -> Self {
        let (network, finetuning) = (&stage.tuned(), &stage.finetuning);
        let rows = finetuning.batch_seconds.samples() as f64 / UTTERANCE as f64;
        let front_end = front_end_flops(network, UTTERANCE);
        let trunk = trunk_flops(network, UTTERANCE, network.encoder.layers.get());
        let output = 2 * frames_at(UTTERANCE, network.frame_stride()) * output_parameters(network);
        let [steps, freeze] = [finetuning.steps, finetuning.freeze_steps].map(|steps| u64::from(steps.get()));
        let below = match stage.top {
            Top::Reset(reset) => network.encoder.layers.get().saturating_sub(reset.get()),
            Top::Kept | Top::Removed(_) => network.encoder.layers.get(),
        };
        let reset = trunk - trunk_flops(network, UTTERANCE, below);
        let frozen = front_end + trunk + 2 * reset + 3 * output;
        let whole = front_end * if finetuning.freeze_front_end { 1 } else { 3 } + 3 * (trunk + output);
        let free = steps.saturating_sub(freeze);
        Self {
            steps,
            audio_seconds: steps as f64 * finetuning.batch_seconds.get(),
            flops: rows * (freeze.min(steps) as f64 * frozen as f64 + free as f64 * whole as f64),
        }
    }
}

/// Bytes that a pretraining leaves: the weights, and the two moments of the optimiser from which a longer training goes on.
pub fn saved_bytes(stage: &PretrainStage) -> u64 {
    3 * FLOAT * (parameters(&stage.network) + heads(stage))
}

/// Bytes of a fine-tuned model.
pub fn recogniser_bytes(network: &Network) -> u64 {
    FLOAT * (parameters(network) + output_parameters(network))
}

/// Operations to run `seconds` of audio, in pieces of 15.625 s, through a network up to layer `height`.
pub fn extraction_flops(network: &Network, height: u32, seconds: f64) -> f64 {
    let piece = UTTERANCE as f64 / f64::from(SAMPLE_RATE);
    layer_flops(network, UTTERANCE, height) as f64 * seconds / piece
}

fn heads(stage: &PretrainStage) -> u64 {
    let PretrainStage { network, pretraining, targets, .. } = stage;
    match (targets, &pretraining.head) {
        (PretrainTargets::Units(clusters), head) => {
            let clusters: Vec<u64> = clusters.iter().map(|clusters| (*clusters).into()).collect();
            head_parameters(network, head, &pretraining.predict_at, &clusters)
        }
        (PretrainTargets::Quantiser(quantiser), Head::Cosine(CosineHead { dimension, .. })) => {
            quantiser_parameters(network, quantiser, u64::from(dimension.get()))
        }
        // Refused by the rules of the language: a quantiser is compared with by cosine.
        (PretrainTargets::Quantiser(_), Head::Linear(_)) => 0,
    }
}

fn output_parameters(network: &Network) -> u64 {
    SYMBOLS * (u64::from(network.encoder.width.get()) + 1)
}

fn front_end_learns(network: &Network) -> bool {
    match &network.front_end {
        FrontEnd::Wave(wave) => wave.gradient_scale.get() > 0.0,
        FrontEnd::LogMel(_) | FrontEnd::Units(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::finetuning::Finetuning;
    use crate::stage::{Span, Start};
    use crate::strategy::Quantiser;
    use crate::training::{Pretraining, steps};
    use crate::values::Clusters;

    fn base() -> PretrainStage {
        PretrainStage {
            network: Network::default(),
            pretraining: Pretraining::default(),
            targets: PretrainTargets::Units(vec![Clusters::try_from(500).unwrap()]),
            steps: steps(100_000),
            start: Start::Random,
            span: Span { before: 0, total: 100_000, cool_down_after: None },
            train_on: Vec::new(),
            validate_on: Vec::new(),
        }
    }

    fn changed<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T, pointer: &str, to: Value) -> T {
        let mut tree = serde_json::to_value(value).unwrap();
        *tree.pointer_mut(pointer).unwrap() = to;
        serde_json::from_value(tree).unwrap()
    }

    /// By hand for 250,000 samples, in multiplications with an addition: frames 49,999, 24,999, 12,499, 6,249, 3,124, 1,562 and 781 behind
    /// the convolutions, so 512 · 10 · 49,999 + 512² · 3 · (24,999 + 12,499 + 6,249 + 3,124) + 512² · 2 · (1,562 + 781) = 38.35 G;
    /// projection 781 · 512 · 768 = 0.31 G; positions 781 · 768 · 48 · 128 = 3.69 G; layers 12 · (781 · 7,077,888 + 2 · 781² · 768) =
    /// 77.58 G; head 781 · 325,120 = 0.25 G. A step is 179.2 such rows, forward and twice that backward.
    #[test]
    fn a_step_of_base_is_what_a_hand_adds_up_to() {
        let products: [u64; 5] =
            [38_345_255_936, 307_101_696, 3_685_220_352, 77_576_767_488, 781 * (768 * 256 + 256 + 500 * 256)];
        let forward = 2 * products.iter().sum::<u64>();
        let work = Work::of_pretraining(&base(), 0);
        assert_eq!(work.steps, 100_000);
        assert_eq!(work.audio_seconds, 2.8e8);
        let by_hand = 1e5 * 179.2 * 3.0 * forward as f64;
        assert!((work.flops / by_hand - 1.0).abs() < 1e-9, "{} {by_hand}", work.flops);
    }

    /// HuBERT section IV.C: 100k steps took 9.5 h on 32 GPUs.
    #[test]
    fn the_published_time_is_about_twelve_teraflops_a_second_on_each_gpu() {
        let sustained = Work::of_pretraining(&base(), 0).flops / (9.5 * 3600.0 * 32.0);
        assert!((11.5e12..12.0e12).contains(&sustained), "{sustained:e}");
    }

    #[test]
    fn only_the_steps_after_a_shorter_stage_are_counted() {
        let [whole, rest] = [0, 60_000].map(|after| Work::of_pretraining(&base(), after));
        assert_eq!((rest.steps, rest.audio_seconds), (40_000, 0.4 * whole.audio_seconds));
        assert!((rest.flops / whole.flops - 0.4).abs() < 1e-12);
        assert_eq!(Work::of_pretraining(&base(), 100_000), Work::default());
    }

    #[test]
    fn a_front_end_without_gradient_is_only_passed_forward() {
        let still = changed(&base(), "/network/front-end/wave/gradient-scale", json!(0.0));
        let saved = Work::of_pretraining(&base(), 0).flops - Work::of_pretraining(&still, 0).flops;
        let backward = 1e5 * 179.2 * 2.0 * front_end_flops(&Network::default(), 250_000) as f64;
        assert!((saved / backward - 1.0).abs() < 1e-9, "{saved:e} {backward:e}");
    }

    #[test]
    fn frozen_parts_of_fine_tuning_cost_a_third() {
        let stage = FinetuneStage {
            network: Network::default(),
            finetuning: Finetuning { steps: steps(30), freeze_steps: steps(10), ..Finetuning::default() },
            top: Top::Kept,
            train_on: Vec::new(),
            validate_on: Vec::new(),
        };
        let work = Work::of_finetuning(&stage);
        assert_eq!((work.steps, work.audio_seconds), (30, 48_000.0));
        let (front_end, trunk) = (2.0 * 38_345_255_936.0, 2.0 * 81_569_089_536.0);
        let output = 2.0 * 781.0 * 29.0 * 769.0;
        let by_hand = 102.4 * (30.0 * front_end + (10.0 + 20.0 * 3.0) * trunk + 30.0 * 3.0 * output);
        assert!((work.flops / by_hand - 1.0).abs() < 1e-9, "{} {by_hand}", work.flops);
        let frozen =
            FinetuneStage { finetuning: Finetuning { freeze_steps: steps(30), ..stage.finetuning.clone() }, ..stage };
        let by_hand = 102.4 * 30.0 * (front_end + trunk + 3.0 * output);
        assert!((Work::of_finetuning(&frozen).flops / by_hand - 1.0).abs() < 1e-9);
    }

    #[test]
    fn weights_and_two_moments_are_saved() {
        // The released checkpoint has 94,697,600 numbers with the 4 rows of fairseq's special symbols, 256 numbers each.
        assert_eq!(saved_bytes(&base()), 3 * 4 * (94_697_600 - 4 * 256));
        assert_eq!(recogniser_bytes(&Network::default()), 4 * (94_371_712 + 29 * 769));
        let quantiser = PretrainTargets::Quantiser(Quantiser::default());
        // 512 → 640 logits, 640 entries of 256, 256 → 256, 768 → 256.
        let own = (512 * 640 + 640) + 320 * 2 * 128 + (256 * 256 + 256) + (768 * 256 + 256);
        let wav2vec = PretrainStage { targets: quantiser, ..base() };
        let expected = 94_371_712 + own;
        assert_eq!(
            saved_bytes(&wav2vec),
            12 * expected,
            "{}",
            quantiser_parameters(&Network::default(), &Quantiser::default(), 256)
        );
    }

    #[test]
    fn a_lower_layer_costs_less_to_extract() {
        let network = Network::default();
        let [none, six, all] = [0, 6, 12].map(|height| extraction_flops(&network, height, 15.625));
        assert!((six - (none + all) / 2.0).abs() < 1.0, "{none} {six} {all}");
        assert_eq!(all, super::super::forward_flops(&network, 250_000) as f64);
        assert!(extraction_flops(&network, 99, 3600.0) == extraction_flops(&network, 12, 3600.0));
    }
}
