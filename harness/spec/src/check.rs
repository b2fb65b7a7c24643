//! Rules about more than one value: what no single type can refuse.

use std::collections::BTreeMap;

use crate::arithmetic::frames_at;
use crate::claims::Claim;
use crate::experiment::{Variant, Written};
use crate::node::{Node, Path};
use crate::problem::Problem;
use crate::strategy::Strategy;
use crate::training::{LabelAlignment, SpanMasking};
use crate::values::{Name, Seconds};

mod claims;
mod corpus;
mod decoding;
mod finetuning;
mod layers;
mod network;
mod probing;
mod targets;

pub(crate) use claims::{misread, unknown_stages};

/// Fewest samples of a crop that starts at any sample: 0.2 s, within which labels of 40 ms have at least one.
const SHORTEST_UNSNAPPED: u64 = 3_200;
/// Most seeds of one experiment.
pub const MOST_SEEDS: usize = 1_000;

/// Every rule that one variant breaks; `tree` is where it was written. `alone` says that the file has no other.
pub fn check(experiment: &Written, tree: &Node, alone: bool) -> Vec<Problem> {
    let mut rules = Rules { experiment, alone, tree, problems: Vec::new() };
    rules.network();
    rules.pretraining();
    rules.strategy();
    rules.finetuning();
    rules.decoding();
    rules.corpus();
    rules.probing();
    rules.layers();
    rules.seeds();
    rules.problems
}

/// Every rule that the variants of a file break together, and its claims about them.
pub fn variants(variants: &[Variant], made: &BTreeMap<Name, Claim>, tree: &Node) -> Vec<Problem> {
    let Some(first) = variants.first() else { return Vec::new() };
    let corpus = |variant: &Variant| variant.setting.corpus.name.clone();
    let mut problems = Vec::new();
    if let Some(other) = variants.iter().find(|variant| corpus(variant) != corpus(first)) {
        let (name, one, another) = (&other.name, corpus(first), corpus(other));
        let message = format!("the variants use several corpora: `{name}` uses `{another}`, another `{one}`");
        let problem = Problem::new(tree.locate(&path("corpus.name")), message);
        problems.push(problem.help("one experiment has one corpus: write a second file"));
    }
    for split in variants.iter().flat_map(|variant| variant.setting.corpus.lists.keys()) {
        let lists = |variant: &Variant| variant.setting.corpus.lists.get(split).cloned();
        let mut named = variants.iter().filter_map(lists);
        if named.next().is_some_and(|first| named.any(|other| other != first)) {
            let problem =
                Problem::new(tree.locate(&path("corpus.lists")), format!("the variants list `{split}` differently"));
            problems.push(problem.help("one experiment has one corpus: use one list a split"));
            break;
        }
    }
    problems.extend(claims::claims(made, variants, tree));
    problems
}

struct Rules<'a> {
    experiment: &'a Written,
    alone: bool,
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
            // A default that nobody wrote anything about has no place to point at.
            let said = other.split(['.', '[']).next().is_some_and(|word| self.tree.get(word).is_some());
            let at = self.tree.locate(&path(other));
            if said && at != place {
                problem = problem.also(at, format!("`{other}`"));
            }
        }
        match self.problems.iter_mut().find(|known| known.at == problem.at && known.message == problem.message) {
            Some(known) => known
                .also
                .extend(problem.also.into_iter().filter(|label| !known.also.contains(label)).collect::<Vec<_>>()),
            None => self.problems.push(problem),
        }
    }

    fn divides(&mut self, part: (&str, u32), whole: (&str, u32)) {
        if !whole.1.is_multiple_of(part.1) {
            let message = format!("`{}` ({}) doesn't divide `{}` ({})", part.0, part.1, whole.0, whole.1);
            self.broken(part.0, &[whole.0], message, "change one so that the quotient is whole");
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
        let parts = batching.accumulation.get();
        if batching.longest <= batching.seconds && batching.longest.samples() > batching.samples() {
            let (seconds, each) = (batching.longest.get(), batching.seconds.get() / f64::from(parts));
            let message = format!("each of {parts} batches has {each} s, which is less than `longest` ({seconds})");
            let help = "lower `accumulation` or `longest`, or raise `seconds`";
            self.broken("pretraining.batching.accumulation", &[&longest, &batch], message, help);
        }
        let fewest = frames_at(batching.shortest.samples(), self.experiment.model.frame_stride());
        if fewest == 0 {
            let message = format!("{} s of audio are shorter than one frame", batching.shortest.get());
            self.broken(&shortest, &[], message, "one frame covers 0.025 s");
        } else {
            let masking = self.experiment.pretraining.masking.clone();
            self.mask_fits("pretraining.masking", &masking, fewest, &shortest, "frames of the shortest utterance");
        }
        if batching.label_alignment != LabelAlignment::Snapped && batching.shortest.samples() < SHORTEST_UNSNAPPED {
            let seconds = batching.shortest.get();
            let message = format!("{seconds} s of audio may be left without a label where crops start at any sample");
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
