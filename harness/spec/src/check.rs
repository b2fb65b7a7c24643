//! Rules about more than one value: what no single type can refuse.

use std::collections::BTreeSet;

use crate::arithmetic::{FRAME_STRIDE, FRAME_WINDOW, conv_window, frames};
use crate::experiment::Experiment;
use crate::network::{FrontEnd, WaveFrontEnd};
use crate::node::{Node, Path};
use crate::problem::Problem;
use crate::strategy::{Strategy, Targets};
use crate::training::SpanMasking;
use crate::values::{Seconds, SplitName};

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
        if let FrontEnd::Wave(wave) = &self.experiment.model.front_end {
            self.wave(wave);
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
        let fewest = frames(batching.shortest.samples());
        if fewest == 0 {
            let message = format!("{} s of audio are shorter than one frame", batching.shortest.get());
            self.broken(&shortest, &[], message, "one frame covers 0.025 s");
        } else {
            let masking = self.experiment.pretraining.masking.clone();
            self.mask_fits("pretraining.masking", &masking, fewest, &shortest, "frames of the shortest utterance");
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
        let layers = self.experiment.model.encoder.layers.get();
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
            let at = format!("{all}[{index}].targets.layer");
            let (fit, fit_at) = match &iteration.targets {
                Targets::Mfcc(targets) => (targets.fit, format!("{all}[{index}].targets.mfcc.fit")),
                Targets::LogMel(targets) => (targets.fit, format!("{all}[{index}].targets.log-mel.fit")),
                Targets::Layer(targets) => (targets.fit, format!("{at}.fit")),
            };
            if fit.get() == 0.0 {
                self.broken(&fit_at, &[], "no utterance fits the codebook", "raise the share above 0");
            }
            let Targets::Layer(targets) = &iteration.targets else { continue };
            if index == 0 {
                let help = "start from `mfcc` or `log-mel`";
                self.broken(
                    &at,
                    &[],
                    "the first iteration has no earlier iteration whose layer it could cluster",
                    help,
                );
            } else if targets.height.get() > layers {
                let message = format!("height {} is above the {layers} layers of the model", targets.height.get());
                self.broken(&format!("{at}.height"), &["model.encoder.layers"], message, format!("use 0 to {layers}"));
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
