//! Rules about iterations: what they predict, and where in the network.

use super::Rules;
use crate::arithmetic::SAMPLE_RATE;
use crate::network::{FrontEnd, LayerNormPlacement};
use crate::strategy::{
    CarriedHead, CarriedOptimiser, CarriedWeights, Carry, Expanded, Iteration, Origin, Quantiser, Strategy, Targets,
    UnitTargets,
};
use crate::training::{Head, PredictAt, ResolutionTargets};
use crate::values::Steps;

/// Most points of a grid of evaluation.
const MOST_POINTS: u64 = 1_000;
/// Most iterations of a strategy.
const MOST_ITERATIONS: usize = 1_000;

impl Rules<'_> {
    pub(super) fn strategy(&mut self) {
        let strategy = self.experiment.strategy.clone();
        if !self.named(&strategy) {
            return;
        }
        let variants = strategy.expand();
        if strategy != Strategy::Scratch && variants.iter().all(|variant| variant.iterations.is_empty()) {
            let at = match &strategy {
                Strategy::ClusterHeight(_) => "strategy.cluster-height.heights".to_owned(),
                Strategy::Progressive(_) => "strategy.progressive.ladder".to_owned(),
                _ => strategy.setting_at(0, "steps").trim_end_matches("[0].steps").to_owned(),
            };
            self.broken(&at, &[], "there is no iteration", "list at least one, or write `strategy: scratch`");
        }
        for Expanded { iterations, .. } in &variants {
            for (index, iteration) in iterations.iter().enumerate() {
                self.iteration(&strategy, index, iteration);
            }
            for index in 1..iterations.len() {
                self.start(&strategy, index, &iterations[index - 1], &iterations[index]);
            }
            if let Some(first) = iterations.first().filter(|first| first.carry != Carry::default()) {
                let message = "the first iteration has none before it to take anything from";
                let at = strategy.setting_at(0, "carry");
                if first.carry.weights != CarriedWeights::None {
                    self.broken(&at, &[], message, "take `carry` out of the first iteration");
                }
            }
            self.evaluation(iterations);
        }
    }

    /// Rules about the words of a named strategy. Whether it can be expanded.
    fn named(&mut self, strategy: &Strategy) -> bool {
        let (every, total, count) = match strategy {
            Strategy::ShortIterations(of) => (of.every, of.steps, of.iterations.get() as usize),
            Strategy::Progressive(of) => (of.every, of.steps, of.ladder.len()),
            Strategy::ClusterHeight(of) => {
                for (index, height) in of.heights.iter().enumerate() {
                    if let Some(first) = of.heights[..index].iter().position(|earlier| earlier == height) {
                        let at = |index| format!("strategy.cluster-height.heights[{index}]");
                        let message = format!("the height {} is listed twice", height.get());
                        self.broken(&at(index), &[&at(first)], message, "keep one of the two");
                    }
                }
                return true;
            }
            _ => return true,
        };
        if count > MOST_ITERATIONS {
            let message = format!("{count} iterations; a strategy has at most {MOST_ITERATIONS}");
            self.broken(&strategy.setting_at(0, "iterations"), &[], message, "use fewer and longer ones");
            return false;
        }
        let before = u64::from(every.get()) * (count as u64).saturating_sub(1);
        if let Some(total) = total.map(|total| u64::from(total.get()))
            && total <= before
        {
            let (at, every_at) = (strategy.setting_at(0, "steps"), strategy.setting_at(0, "every"));
            let message =
                format!("{total} steps leave none for the last of {count} iterations: the others take {before}");
            self.broken(&at, &[&every_at], message, "raise `steps`, shorten `every`, or list fewer iterations");
        }
        true
    }

    fn iteration(&mut self, strategy: &Strategy, index: usize, iteration: &Iteration) {
        if iteration.steps.get() == 0 {
            let help = "give it steps, or take the iteration out";
            self.broken(&strategy.setting_at(index, "steps"), &[], "an iteration needs at least 1 step", help);
        }
        let at = strategy.targets_at(index);
        // Heights of `cluster-height` are written beside each other, not in targets.
        let beside = matches!(strategy, Strategy::ClusterHeight(_)) && index > 0;
        let below = |word: &str| if beside { at.clone() } else { format!("{at}.{word}") };
        match &iteration.targets {
            Targets::Quantiser(quantiser) => self.quantiser(&below("quantiser"), quantiser),
            Targets::Ensemble(sets) => {
                if sets.is_empty() {
                    self.broken(&below("ensemble"), &[], "the ensemble is empty", "list its sets of units");
                }
                for (member, set) in sets.iter().enumerate() {
                    self.units(&below(&format!("ensemble[{member}].{}", set.word())), index, set);
                }
            }
            targets => {
                for set in targets.sets() {
                    self.units(&below(set.word()), index, &set);
                }
            }
        }
        self.heads(&at, &iteration.targets);
    }

    /// Whether what an iteration takes over from the one before fits.
    fn start(&mut self, strategy: &Strategy, index: usize, before: &Iteration, iteration: &Iteration) {
        let carry = &iteration.carry;
        let at = |setting: &str| strategy.setting_at(index, &format!("carry.{setting}"));
        let kept =
            [(carry.optimiser == CarriedOptimiser::Keep, "optimiser"), (carry.head == CarriedHead::Keep, "head")];
        if carry.weights == CarriedWeights::None {
            for (_, what) in kept.into_iter().filter(|(keeps, _)| *keeps) {
                let message = format!("the {what} can't be kept: no weights are carried over");
                self.broken(&at(what), &[&at("weights")], message, "carry weights over, or start anew");
            }
            return;
        }
        if let CarriedWeights::Layers(layers) = &carry.weights {
            let highest = self.experiment.model.encoder.layers;
            if layers.is_empty() {
                self.broken(&at("weights"), &[], "no layer is named", "name layers, or write `all` or `none`");
            }
            for (place, layer) in layers.iter().enumerate() {
                let here = at(&format!("weights.layers[{place}]"));
                if layer.get() > highest.get() {
                    let message = format!("the model has no layer {}", layer.get());
                    self.broken(&here, &["model.encoder.layers"], message, format!("use 0 to {}", highest.get()));
                }
                if layers[..place].contains(layer) {
                    self.broken(
                        &here,
                        &[],
                        format!("the layer {} is listed twice", layer.get()),
                        "keep one of the two",
                    );
                }
            }
        }
        let clusters = |targets: &Targets| targets.sets().iter().map(UnitTargets::clusters).collect::<Vec<_>>();
        let quantises = |targets: &Targets| matches!(targets, Targets::Quantiser(_));
        let fits = match (&before.targets, &iteration.targets) {
            (Targets::Quantiser(before), Targets::Quantiser(now)) => before == now,
            (before, now) => !quantises(before) && !quantises(now) && clusters(before) == clusters(now),
        };
        if carry.head == CarriedHead::Keep && !fits {
            let message = format!(
                "the head of iteration {index} doesn't fit iteration {}: they predict other counts of units",
                index + 1
            );
            self.broken(
                &at("head"),
                &[&strategy.targets_at(index)],
                message,
                "renew the head, or use equal cluster counts",
            );
        }
    }

    /// Whether the points of evaluation lie within pretraining.
    fn evaluation(&mut self, iterations: &[Iteration]) {
        let total: u64 = iterations.iter().map(|iteration| u64::from(iteration.steps.get())).sum();
        if let Some(every) = self.experiment.evaluation.every
            && total / u64::from(every.get()) > MOST_POINTS
        {
            let message = format!(
                "{} points of evaluation; an experiment has at most {MOST_POINTS}",
                total / u64::from(every.get())
            );
            self.broken("evaluation.every", &["strategy"], message, "evaluate less often");
        }
        let branch = self.experiment.evaluation.cool_down.map_or(0, |steps| u64::from(steps.get()));
        if iterations.iter().any(|iteration| Steps::try_from(u64::from(iteration.steps.get()) + branch).is_err()) {
            self.broken(
                "evaluation.cool-down",
                &["strategy"],
                "too many steps after an iteration's last",
                "cool down in fewer steps",
            );
        }
        for (index, at) in self.experiment.evaluation.at.clone().into_iter().enumerate() {
            // In a matrix a strategy with fewer steps than another just lacks the point.
            if at.get() == 0 || (self.alone && u64::from(at.get()) > total) {
                let message = format!("step {} isn't a step of pretraining, which has {total}", at.get());
                self.broken(&format!("evaluation.at[{index}]"), &["strategy"], message, format!("use 1 to {total}"));
            }
        }
    }

    /// One set of units of the iteration at `index`.
    fn units(&mut self, at: &str, index: usize, set: &UnitTargets) {
        let layers = self.experiment.model.encoder.layers.get();
        let beside = at.ends_with(".heights");
        let of = |word: &str| if beside { at.to_owned() } else { format!("{at}.{word}") };
        if set.fit().get() == 0.0 {
            self.broken(&of("fit"), &[], "no utterance fits the codebook", "raise the share above 0");
        }
        match set {
            UnitTargets::MfccSubspace(targets) if targets.splice.get().is_multiple_of(2) => {
                let help = "use an odd number: as many before a frame as after it";
                self.broken(&of("splice"), &[], "an even number of frames has no middle", help);
            }
            UnitTargets::Layer(targets) => {
                // A checkpoint's network is known when its folder is read.
                let Some(origin) = targets.of.iteration(index + 1) else { return };
                if origin == 0 || origin > index {
                    let (message, help) = match targets.of {
                        Origin::Iteration(_) => (
                            format!("iteration {} isn't before iteration {}", origin, index + 1),
                            "name an earlier one",
                        ),
                        _ => (
                            "the first iteration has no earlier iteration whose layer it could cluster".to_owned(),
                            "start from `mfcc` or `log-mel`, or name a checkpoint",
                        ),
                    };
                    return self.broken(at, &[], message, help);
                }
                let model = &self.experiment.model;
                let height = targets.height.get();
                if height > layers {
                    let message = format!("height {height} is above the {layers} layers of the model");
                    self.broken(&of("height"), &["model.encoder.layers"], message, format!("use 0 to {layers}"));
                } else if !u64::from(SAMPLE_RATE).is_multiple_of(model.layer_stride(height)) {
                    let rate = f64::from(SAMPLE_RATE) / model.layer_stride(height) as f64;
                    let message =
                        format!("layer {height} gives {rate:.2} frames a second, and labels need a whole number");
                    let help = "take a layer of a block with a higher rate";
                    self.broken(&of("height"), &["model.hierarchy.ratios"], message, help);
                } else if targets.after_final_norm
                    && (model.encoder.norm == LayerNormPlacement::Post || height != layers || model.hierarchy.is_some())
                {
                    let message = format!("there is no final norm behind layer {height}");
                    let help = "only the last layer of a pre-norm encoder has one: take `after-final-norm` out";
                    self.broken(&of("after-final-norm"), &["model.encoder.norm"], message, help);
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
