//! Rules about iterations: what they predict, and where in the network.

use super::Rules;
use crate::arithmetic::SAMPLE_RATE;
use crate::network::{FrontEnd, LayerNormPlacement};
use crate::strategy::{Quantiser, Strategy, Targets, UnitTargets};
use crate::training::{Head, PredictAt, ResolutionTargets};

impl Rules<'_> {
    pub(super) fn strategy(&mut self) {
        let Strategy::Baseline(baseline) = &self.experiment.strategy else { return };
        let all = "strategy.baseline.iterations";
        if baseline.iterations.is_empty() {
            self.broken(all, &[], "there is no iteration", "list at least one, or write `strategy: scratch`");
        }
        for (index, iteration) in baseline.iterations.iter().enumerate() {
            if iteration.steps.get() == 0 {
                let help = "give it steps, or take the iteration out";
                self.broken(&format!("{all}[{index}].steps"), &[], "an iteration needs at least 1 step", help);
            }
            let at = format!("{all}[{index}].targets");
            match &iteration.targets {
                Targets::Quantiser(quantiser) => self.quantiser(&format!("{at}.quantiser"), quantiser),
                Targets::Ensemble(sets) => {
                    if sets.is_empty() {
                        self.broken(&format!("{at}.ensemble"), &[], "the ensemble is empty", "list its sets of units");
                    }
                    for (member, set) in sets.iter().enumerate() {
                        self.units(&format!("{at}.ensemble[{member}].{}", set.word()), index, set);
                    }
                }
                targets => {
                    for set in targets.sets() {
                        self.units(&format!("{at}.{}", set.word()), index, &set);
                    }
                }
            }
            self.heads(&at, &iteration.targets);
        }
    }

    /// One set of units of the iteration at `index`.
    fn units(&mut self, at: &str, index: usize, set: &UnitTargets) {
        let layers = self.experiment.model.encoder.layers.get();
        if set.fit().get() == 0.0 {
            self.broken(&format!("{at}.fit"), &[], "no utterance fits the codebook", "raise the share above 0");
        }
        match set {
            UnitTargets::MfccSubspace(targets) if targets.splice.get().is_multiple_of(2) => {
                let help = "use an odd number: as many before a frame as after it";
                self.broken(&format!("{at}.splice"), &[], "an even number of frames has no middle", help);
            }
            UnitTargets::Layer(_) if index == 0 => {
                let message = "the first iteration has no earlier iteration whose layer it could cluster";
                self.broken(at, &[], message, "start from `mfcc` or `log-mel`");
            }
            UnitTargets::Layer(targets) if targets.height.get() > layers => {
                let message = format!("height {} is above the {layers} layers of the model", targets.height.get());
                self.broken(&format!("{at}.height"), &["model.encoder.layers"], message, format!("use 0 to {layers}"));
            }
            UnitTargets::Layer(targets)
                if !u64::from(SAMPLE_RATE).is_multiple_of(self.experiment.model.layer_stride(targets.height.get())) =>
            {
                let (height, model) = (targets.height.get(), &self.experiment.model);
                let rate = f64::from(SAMPLE_RATE) / model.layer_stride(height) as f64;
                let message = format!("layer {height} gives {rate:.2} frames a second, and labels need a whole number");
                let help = "take a layer of a block with a higher rate";
                self.broken(&format!("{at}.height"), &["model.hierarchy.ratios"], message, help);
            }
            UnitTargets::Layer(targets) if targets.after_final_norm => {
                let model = &self.experiment.model;
                let (norm, height) = (model.encoder.norm, targets.height.get());
                if norm == LayerNormPlacement::Post || height != layers || model.hierarchy.is_some() {
                    let message = format!("there is no final norm behind layer {height}");
                    let help = "only the last layer of a pre-norm encoder has one: take `after-final-norm` out";
                    self.broken(&format!("{at}.after-final-norm"), &["model.encoder.norm"], message, help);
                }
            }
            _ => {}
        }
    }

    fn quantiser(&mut self, at: &str, quantiser: &Quantiser) {
        self.divides(
            (&format!("{at}.groups"), quantiser.groups.get()),
            (&format!("{at}.dimension"), quantiser.dimension.get()),
        );
        let pretraining = &self.experiment.pretraining;
        let refused = [
            (!matches!(pretraining.head, Head::Cosine(_)), "pretraining.head", "compares by cosine"),
            (
                matches!(&pretraining.head, Head::Cosine(head) if head.extra_rows > 0),
                "pretraining.head.cosine.extra-rows",
                "has no table of units that could have more rows",
            ),
            (
                matches!(&pretraining.head, Head::Cosine(head) if head.tied),
                "pretraining.head.cosine.tied",
                "has one projection to begin with",
            ),
            (pretraining.predict_at != PredictAt::Output, "pretraining.predict-at", "is taken at the output"),
            (
                pretraining.loss.unmasked.get() > 0.0,
                "pretraining.loss.unmasked",
                "has no targets at frames that aren't masked",
            ),
            (pretraining.loss.masked.get() != 1.0, "pretraining.loss.masked", "is not weighted"),
            (self.experiment.model.hierarchy.is_some(), "model.hierarchy", "is defined for one frame rate"),
            (
                !matches!(self.experiment.model.front_end, FrontEnd::Wave(_)),
                "model.front-end",
                "quantises the outputs of the convolutions over the wave",
            ),
        ];
        for (_, place, why) in refused.into_iter().filter(|(wrong, ..)| *wrong) {
            let message = format!("the contrastive loss of a quantiser {why}");
            self.broken(place, &[at], message, "take this setting out, or predict units");
        }
    }

    /// Whether the places where frames are scored exist and the units suit them.
    fn heads(&mut self, targets_at: &str, targets: &Targets) {
        let layers = self.experiment.model.encoder.layers.get();
        let at = "pretraining.predict-at";
        match self.experiment.pretraining.predict_at.clone() {
            PredictAt::Output => {}
            PredictAt::Layers(heights) => {
                let at = format!("{at}.layers");
                if heights.is_empty() {
                    self.broken(&at, &[], "no layer is named", "name at least one, or write `predict-at: output`");
                }
                for (index, height) in heights.iter().enumerate() {
                    let here = format!("{at}[{index}]");
                    if height.get() == 0 || height.get() > layers {
                        let message = format!("the model has no layer {} to score frames at", height.get());
                        self.broken(&here, &["model.encoder.layers"], message, format!("use 1 to {layers}"));
                    }
                    if index > 0 && heights[index - 1] >= *height {
                        self.broken(&here, &[], "the layers aren't in ascending order", "name each once, lowest first");
                    }
                }
                if self.experiment.model.hierarchy.is_some() {
                    let message =
                        "losses at chosen layers aren't defined for a hierarchy, whose layers run at several rates";
                    self.broken(&at, &["model.hierarchy"], message, "use `predict-at: { resolutions: shared }`");
                }
            }
            PredictAt::Resolutions(which) => {
                let at = format!("{at}.resolutions");
                let Some(hierarchy) = &self.experiment.model.hierarchy else {
                    let help = "give the model a `hierarchy`, or write `predict-at: output`";
                    return self.broken(&at, &["model"], "the model has one frame rate", help);
                };
                let (rates, sets) = (hierarchy.ratios.len() + 1, targets.sets().len());
                if which == ResolutionTargets::Separate && sets != rates && !matches!(targets, Targets::Quantiser(_)) {
                    let message = format!("each of {rates} rates predicts units of its own; sets of units: {sets}");
                    let help = "list an `ensemble` with one member a rate, the highest first, or share the units";
                    self.broken(targets_at, &[&at], message, help);
                }
            }
        }
    }
}
