//! Rules about more than one value: what no single type can refuse.

use std::collections::BTreeSet;

use crate::arithmetic::{FRAME_STRIDE, FRAME_WINDOW, SAMPLE_RATE, conv_window, frames_at};
use crate::experiment::Experiment;
use crate::network::{FrontEnd, Hierarchy, LayerNormPlacement, LogMelFrontEnd, Subsampling, WaveFrontEnd};
use crate::node::{Node, Path};
use crate::problem::Problem;
use crate::strategy::{Quantiser, Strategy, Targets, UnitTargets};
use crate::training::{Head, LabelAlignment, PredictAt, ResolutionTargets, SpanMasking};
use crate::values::{Seconds, SplitName};

/// Fewest samples of a crop that starts at any sample: 0.2 s, within which labels of 40 ms have at least one.
const SHORTEST_UNSNAPPED: u64 = 3_200;
/// Most seeds of one experiment.
pub const MOST_SEEDS: usize = 1_000;

/// Every rule that `experiment` breaks; `tree` is where it was written.
pub fn check(experiment: &Experiment, tree: &Node) -> Vec<Problem> {
    let mut rules = Rules { experiment, tree, problems: Vec::new() };
    rules.network();
    rules.pretraining();
    rules.strategy();
    rules.finetuning();
    rules.corpus();
    rules.probing();
    rules.seeds();
    rules.problems
}

struct Rules<'a> {
    experiment: &'a Experiment,
    tree: &'a Node,
    problems: Vec<Problem>,
}

fn path(text: &str) -> Path {
    let Ok(path) = text.parse();
    path
}

impl Rules<'_> {
    /// Notes a broken rule at `at`, in which the values at `also` take part. The same words about the same place are said once.
    fn broken(&mut self, at: &str, also: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let place = self.tree.locate(&path(at));
        let mut problem = Problem::new(place.clone(), message).label(format!("`{at}`")).help(help);
        for other in also {
            let at = self.tree.locate(&path(other));
            if at != place {
                problem = problem.also(at, format!("`{other}`"));
            }
        }
        match self.problems.iter_mut().find(|known| known.at == problem.at && known.message == problem.message) {
            Some(known) => known.also.extend(problem.also),
            None => self.problems.push(problem),
        }
    }

    fn divides(&mut self, part: (&str, u32), whole: (&str, u32)) {
        if !whole.1.is_multiple_of(part.1) {
            let message = format!("`{}` ({}) doesn't divide `{}` ({})", part.0, part.1, whole.0, whole.1);
            self.broken(part.0, &[whole.0], message, "change one so that the quotient is whole");
        }
    }

    fn network(&mut self) {
        let encoder = &self.experiment.model.encoder;
        let width = ("model.encoder.width", encoder.width.get());
        self.divides(("model.encoder.heads", encoder.heads.get()), width);
        self.divides(("model.encoder.positional.groups", encoder.positional.groups.get()), width);
        match &self.experiment.model.front_end {
            FrontEnd::Wave(wave) => self.wave(wave),
            FrontEnd::LogMel(mel) => self.log_mel(mel),
            FrontEnd::Units(_) => {}
        }
        if let Some(relative) = &encoder.relative_positions {
            let at = "model.encoder.relative-positions";
            let (buckets, furthest) = (relative.buckets.get(), relative.max_distance.get());
            if !buckets.is_multiple_of(4) {
                let message = format!("{buckets} buckets can't be shared by two directions, near and far");
                let help = "a quarter of the buckets is for near distances of each direction: use a multiple of 4";
                self.broken(&format!("{at}.buckets"), &[], message, help);
            } else if furthest <= buckets / 4 {
                let near = buckets / 4;
                let message = format!("the largest distance, {furthest}, isn't beyond the {near} that have a bucket each");
                let help = format!("raise it above {near}, or use fewer buckets");
                self.broken(&format!("{at}.max-distance"), &[&format!("{at}.buckets")], message, help);
            }
        }
        if let Some(hierarchy) = &self.experiment.model.hierarchy {
            self.hierarchy(hierarchy);
        }
    }

    fn log_mel(&mut self, mel: &LogMelFrontEnd) {
        let at = "model.front-end.log-mel.subsampling";
        if let Subsampling::Convolution(convolution) = &mel.subsampling {
            let (kernels, strides) = (format!("{at}.convolution.kernels"), format!("{at}.convolution.strides"));
            if convolution.kernels.len() != convolution.strides.len() {
                let message = format!(
                    "there are {} kernels and {} strides",
                    convolution.kernels.len(),
                    convolution.strides.len()
                );
                return self.broken(&kernels, &[&strides], message, "give every convolution one kernel and one stride");
            }
            if convolution.kernels.iter().any(|kernel| kernel.get().is_multiple_of(2)) {
                let help = "an output frame is centred on an input frame: use odd kernels";
                self.broken(&kernels, &[], "a kernel is even", help);
            }
            if !convolution.channels.get().is_multiple_of(2) {
                let at = format!("{at}.convolution.channels");
                self.broken(&at, &[], "gating halves the channels, which are odd in number", "use an even number");
            }
        }
        let factor = mel.subsampling.factor();
        if factor != 2 && factor != 4 {
            let message = format!("{factor} frames of 10 ms become one");
            self.broken(at, &[], message, "frames are 20 or 40 ms: make it 2 or 4");
        }
    }

    fn hierarchy(&mut self, hierarchy: &Hierarchy) {
        let (at, total) = ("model.hierarchy.layers", "model.encoder.layers");
        let (blocks, rates) = (hierarchy.layers.len(), hierarchy.ratios.len());
        if rates == 0 {
            let help = "name one ratio a step down, 1 to keep the rate, or take the hierarchy out";
            return self.broken("model.hierarchy.ratios", &[], "a hierarchy needs at least one ratio", help);
        }
        if blocks != 2 * rates + 1 {
            let message = format!("{rates} ratios make {} blocks, but {blocks} have layers", 2 * rates + 1);
            let help = "list the layers of every block on the way down and up again";
            self.broken(at, &["model.hierarchy.ratios"], message, help);
        }
        let sum: u64 = hierarchy.layers.iter().map(|layers| u64::from(layers.get())).sum();
        let layers = u64::from(self.experiment.model.encoder.layers.get());
        if sum != layers {
            let message = format!("the blocks have {sum} layers together, `{total}` says {layers}");
            self.broken(at, &[total], message, "make both the same");
        }
        let lowest = hierarchy.ratios.iter().fold(1u64, |product, ratio| product.saturating_mul(ratio.get().into()));
        if lowest > 8 {
            let message = format!("{lowest} frames of the front-end become one");
            self.broken("model.hierarchy.ratios", &[], message, "keep their product within 8");
        }
        if hierarchy.sampling.kernel.get().is_multiple_of(2) {
            let help = "use an odd one (1 as released, 7 as the code's default)";
            self.broken("model.hierarchy.sampling.kernel", &[], "the kernel is even", help);
        }
    }

    fn wave(&mut self, wave: &WaveFrontEnd) {
        let (at_kernels, at_strides) = ("model.front-end.wave.kernels", "model.front-end.wave.strides");
        let numbers = |list: &[crate::values::Count]| list.iter().map(|n| u64::from(n.get())).collect::<Vec<_>>();
        let (kernels, strides) = (numbers(&wave.kernels), numbers(&wave.strides));
        if kernels.len() != strides.len() {
            let message = format!("there are {} kernels and {} strides", kernels.len(), strides.len());
            return self.broken(at_kernels, &[at_strides], message, "give every convolution one kernel and one stride");
        }
        let product = strides.iter().fold(1u64, |product, stride| product.saturating_mul(*stride));
        if product != FRAME_STRIDE {
            let message = format!("the strides multiply to {product} samples a frame, not {FRAME_STRIDE}");
            return self.broken(at_strides, &[], message, "frames are 20 ms: choose strides whose product is 320");
        }
        let window = conv_window(&kernels, &strides);
        if window != FRAME_WINDOW {
            let message = format!("a frame covers {window} samples, not {FRAME_WINDOW}");
            let help = "labels go with frames of 400 samples: the published kernels are [10, 3, 3, 3, 3, 2, 2] with strides [5, 2, 2, 2, 2, 2, 2]";
            self.broken(at_kernels, &[at_strides], message, help);
        }
    }

    fn pretraining(&mut self) {
        if self.experiment.strategy == Strategy::Scratch {
            return;
        }
        let batching = &self.experiment.pretraining.batching;
        let [shortest, longest, batch] =
            ["shortest", "longest", "seconds"].map(|word| format!("pretraining.batching.{word}"));
        self.at_most((&shortest, batching.shortest), (&longest, batching.longest));
        self.at_most((&longest, batching.longest), (&batch, batching.seconds));
        let fewest = frames_at(batching.shortest.samples(), self.experiment.model.frame_stride());
        if fewest == 0 {
            let message = format!("{} s of audio are shorter than one frame", batching.shortest.get());
            self.broken(&shortest, &[], message, "one frame covers 0.025 s");
        } else {
            let masking = self.experiment.pretraining.masking.clone();
            self.mask_fits("pretraining.masking", &masking, fewest, &shortest, "frames of the shortest utterance");
        }
        if batching.label_alignment != LabelAlignment::Snapped && batching.shortest.samples() < SHORTEST_UNSNAPPED {
            let message = format!("{} s of audio may be left without a label where crops start at any sample", batching.shortest.get());
            let help = "raise `shortest` to at least 0.2, or write `label-alignment: snapped`";
            self.broken(&shortest, &["pretraining.batching.label-alignment"], message, help);
        }
        let loss = &self.experiment.pretraining.loss;
        if loss.masked.get() == 0.0 && loss.unmasked.get() == 0.0 {
            let message = "no frame counts: both loss weights are 0";
            self.broken("pretraining.loss.masked", &["pretraining.loss.unmasked"], message, "raise one of them");
        }
    }

    fn at_most(&mut self, small: (&str, Seconds), large: (&str, Seconds)) {
        if small.1 > large.1 {
            let message = format!("`{}` ({} s) is above `{}` ({} s)", small.0, small.1.get(), large.0, large.1.get());
            self.broken(small.0, &[large.0], message, "lower the first or raise the second");
        }
    }

    fn mask_fits(&mut self, at: &str, masking: &SpanMasking, positions: u64, limit: &str, what: &str) {
        let length = u64::from(masking.length.get());
        if length >= positions && (masking.prob.get() > 0.0 || masking.min_masks > 0) {
            let message = format!("a mask of {length} doesn't fit in the {positions} {what}");
            self.broken(&format!("{at}.length"), &[limit], message, "mask shorter spans or raise the other");
        }
    }

    fn strategy(&mut self) {
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
                    let message =
                        format!("{rates} rates predict units of their own, but there are {sets} sets of units");
                    let help = "list an `ensemble` with one member a rate, the highest first, or share the units";
                    self.broken(targets_at, &[&at], message, help);
                }
            }
        }
    }

    fn finetuning(&mut self) {
        let finetuning = &self.experiment.finetuning;
        if self.experiment.corpus.finetune.is_empty() {
            return;
        }
        if finetuning.steps.get() == 0 {
            self.broken(
                "finetuning.steps",
                &["corpus.finetune"],
                "fine-tuning needs at least 1 step",
                "give it steps, or empty `corpus.finetune`",
            );
        } else if finetuning.freeze_steps > finetuning.steps {
            let message = format!(
                "`finetuning.freeze-steps` ({}) is above `finetuning.steps` ({})",
                finetuning.freeze_steps.get(),
                finetuning.steps.get()
            );
            self.broken(
                "finetuning.freeze-steps",
                &["finetuning.steps"],
                message,
                "freeze for fewer steps or train for more",
            );
        }
        let schedule = &finetuning.schedule;
        let busy = schedule.warm_up.get() + schedule.hold.get();
        if busy > 1.0 + 1e-9 {
            let message = format!("warm-up and hold take {busy} of the steps, more than all of them");
            self.broken(
                "finetuning.schedule.warm-up",
                &["finetuning.schedule.hold"],
                message,
                "lower one so that they add up to at most 1",
            );
        }
        let width = u64::from(self.experiment.model.encoder.width.get());
        let masking = finetuning.channel_masking.clone();
        self.mask_fits("finetuning.channel-masking", &masking, width, "model.encoder.width", "channels of the encoder");
    }

    fn corpus(&mut self) {
        let corpus = self.experiment.corpus.clone();
        let roles = [
            ("pretrain", &corpus.pretrain),
            ("finetune", &corpus.finetune),
            ("validate", &corpus.validate),
            ("test", &corpus.test),
            ("untranscribed", &corpus.untranscribed),
        ];
        for (role, splits) in roles {
            for (index, split) in splits.iter().enumerate() {
                if let Some(first) = splits[..index].iter().position(|earlier| earlier == split) {
                    let at = |index| format!("corpus.{role}[{index}]");
                    self.broken(
                        &at(index),
                        &[&at(first)],
                        format!("the split `{split}` is listed twice"),
                        "keep one of the two",
                    );
                }
            }
        }
        if corpus.pretrain.is_empty() && self.experiment.strategy != Strategy::Scratch {
            let message = "there is nothing to pretrain on: `corpus.pretrain` is empty";
            self.broken("corpus.pretrain", &["strategy"], message, "name a split, or write `strategy: scratch`");
        }
        if corpus.finetune.is_empty() && !corpus.test.is_empty() {
            let message = "`corpus.test` can't be decoded: nothing is fine-tuned, because `corpus.finetune` is empty";
            self.broken(
                "corpus.test",
                &["corpus.finetune"],
                message,
                "name a split to fine-tune on, or empty `corpus.test`",
            );
        }
        if corpus.validate.is_empty() && (!corpus.finetune.is_empty() || self.experiment.strategy != Strategy::Scratch)
        {
            let message = "there is nothing to watch training on: `corpus.validate` is empty";
            self.broken("corpus.validate", &[], message, "name a split that is neither learnt from nor tested on");
        }
        if corpus.finetune.is_empty() && self.experiment.strategy == Strategy::Scratch {
            let message = "the experiment trains nothing: it neither pretrains nor fine-tunes";
            self.broken(
                "strategy",
                &["corpus.finetune"],
                message,
                "name a split in `corpus.finetune`, or choose another strategy",
            );
        }
        for learnt in [roles[0], roles[1]] {
            for judged in [roles[2], roles[3]] {
                self.apart(learnt, judged, |split| format!("`{split}` is both learnt from and judged on"));
            }
        }
        self.apart(roles[2], roles[3], |split| format!("`{split}` is both watched while training and tested on"));
        for transcribed in [roles[1], roles[2], roles[3]] {
            let needed = transcribed.0 != "validate" || !corpus.finetune.is_empty();
            if needed {
                self.apart(transcribed, roles[4], |split| {
                    format!("`{split}` needs transcripts and is said to have none")
                });
            }
        }
        let probed = self.experiment.probing.unit_quality.iter().flat_map(|quality| &quality.splits);
        let used: BTreeSet<&SplitName> = roles[..4].iter().flat_map(|(_, splits)| *splits).chain(probed).collect();
        for split in corpus.lists.keys().filter(|split| !used.contains(split)) {
            let help = format!(
                "take it out, or use the split: {}",
                crate::schema::quoted(used.iter().map(|split| split.as_str()))
            );
            let at = self.tree.locate_key(&Path(
                [path("corpus.lists").0, vec![crate::node::Segment::Key(split.to_string())]].concat(),
            ));
            self.problems.push(
                Problem::new(at, format!("`corpus.lists` names the split `{split}`, which nothing uses")).help(help),
            );
        }
        for (index, split) in corpus.untranscribed.iter().enumerate().filter(|(_, split)| !used.contains(split)) {
            let message = format!("`corpus.untranscribed` names the split `{split}`, which nothing uses");
            self.broken(&format!("corpus.untranscribed[{index}]"), &[], message, "take it out, or use the split");
        }
    }

    fn apart(
        &mut self,
        one: (&str, &Vec<SplitName>),
        other: (&str, &Vec<SplitName>),
        message: impl Fn(&SplitName) -> String,
    ) {
        for (index, split) in one.1.iter().enumerate() {
            if let Some(position) = other.1.iter().position(|candidate| candidate == split) {
                let (here, there) = (format!("corpus.{}[{index}]", one.0), format!("corpus.{}[{position}]", other.0));
                self.broken(&there, &[&here], message(split), "take it out of one of the two lists");
            }
        }
    }

    fn probing(&mut self) {
        let Some(quality) = self.experiment.probing.unit_quality.clone() else { return };
        let at = "probing.unit-quality.splits";
        if quality.splits.is_empty() {
            self.broken(
                at,
                &[],
                "unit quality needs a split to measure on",
                "name an aligned split that isn't pretrained on",
            );
        }
        if self.experiment.strategy == Strategy::Scratch {
            let message = "there are no units to measure: the strategy is `scratch`";
            self.broken(
                "probing.unit-quality",
                &["strategy"],
                message,
                "take the probe out, or choose another strategy",
            );
        }
        for (index, split) in quality.splits.iter().enumerate() {
            let here = format!("{at}[{index}]");
            if let Some(first) = quality.splits[..index].iter().position(|earlier| earlier == split) {
                self.broken(
                    &here,
                    &[&format!("{at}[{first}]")],
                    format!("the split `{split}` is listed twice"),
                    "keep one of the two",
                );
            }
            if let Some(position) = self.experiment.corpus.pretrain.iter().position(|fitted| fitted == split) {
                let message = format!("`{split}` both fits the codebook and measures it");
                self.broken(
                    &here,
                    &[&format!("corpus.pretrain[{position}]")],
                    message,
                    "measure on a split that isn't pretrained on",
                );
            }
        }
    }

    fn seeds(&mut self) {
        let seeds = &self.experiment.seeds;
        if seeds.is_empty() {
            self.broken("seeds", &[], "there is no seed, so nothing would run", "write for example `seeds: [1]`");
        }
        if seeds.len() > MOST_SEEDS {
            let message = format!("there are {} seeds; an experiment has at most {MOST_SEEDS}", seeds.len());
            return self.broken("seeds", &[], message, "split the experiment");
        }
        for (index, seed) in seeds.iter().enumerate() {
            if let Some(first) = seeds[..index].iter().position(|earlier| earlier == seed) {
                let at = |index| format!("seeds[{index}]");
                self.broken(
                    &at(index),
                    &[&at(first)],
                    format!("the seed {seed} is listed twice"),
                    "one run a seed: keep one",
                );
            }
        }
    }
}
