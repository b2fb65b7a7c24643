//! Which published values are about what a variant is about, and whether the variant's own compare with them.

use std::fmt;

use reprise_spec::experiment::Setting;
use reprise_spec::network::{Dropout, FrontEnd, Network};
use reprise_spec::strategy::{self, Carry, Horizon};
use reprise_spec::training::Pretraining;
use serde::Serialize;

use super::recipe::{Finetuning, Predicted, same_set};
use super::{
    Decoding, Entry, Family, Iteration, Labelled, Metric, PretrainingCorpus, Recipe, Size, Units, UnitsOf, entries,
    recipe,
};
use crate::measures::Address;

/// A published value beside a variant of ours.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Beside {
    pub entry: &'static Entry,
    /// Where the runs of the variant have the number that it would be held against; absent where they have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    pub verdict: Verdict,
    /// Why the two don't compare; empty where they do, or would.
    pub because: Vec<String>,
}

/// Whether a number of ours compares with a published one. Never an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Corpus, model and recipe are the published ones, as far as those are known.
    Comparable,
    /// The variant has a published size, and no run of it is finished.
    NotExecuted,
    NotComparable,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comparable => "comparable",
            Self::NotExecuted => "not executed",
            Self::NotComparable => "not comparable",
        })
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.entry, self.verdict)?;
        if !self.because.is_empty() {
            write!(f, ": {}", self.because.join("; "))?;
        }
        Ok(())
    }
}

/// What the files say where a source doesn't name its split.
const UNSTATED: &str = "unstated";

/// The published values of the architecture and the metrics of a setting, those that compare first, then by how little they differ from it.
///
/// Of a published size those of the same size and amount of transcribed speech; of another size those of BASE. `executed` says whether a run of
/// the setting is finished.
pub fn beside(setting: &Setting, executed: bool) -> Vec<Beside> {
    let Some(family) = Family::of(setting) else { return Vec::new() };
    let size = Size::of(&setting.model.encoder);
    let labelled = Labelled::of(&setting.corpus.finetune);
    let mut found: Vec<Beside> = entries()
        .iter()
        .filter(|entry| measures(setting, entry.metric) && !is_supervised(entry))
        .filter(|entry| labelled.is_none() || entry.labelled.is_none() || entry.labelled == labelled)
        .filter_map(|entry| {
            let because = match entry.recipe.as_deref().and_then(recipe) {
                Some(recipe) if recipe.family == family && recipe.size == size.unwrap_or(Size::Base) => {
                    of_recipe(setting, entry, recipe)
                }
                // Units belong to no recipe.
                None if entry.units.is_some() && family == Family::Hubert => of_units(setting, entry),
                _ => return None,
            };
            let verdict = match (executed, because.is_empty()) {
                (false, _) if size.is_some() => Verdict::NotExecuted,
                (true, true) => Verdict::Comparable,
                _ => Verdict::NotComparable,
            };
            Some(Beside { entry, address: address(setting, entry), verdict, because })
        })
        .collect();
    found.sort_by_key(|beside| (beside.verdict, beside.because.len(), beside.entry.confidence));
    found
}

/// Whether a value is of a supervised teacher, which the language has no words for.
fn is_supervised(entry: &Entry) -> bool {
    entry.iterations.iter().any(|iteration| iteration.targets == Predicted::Supervised)
        || entry.units.is_some_and(|units| units.of == UnitsOf::Supervised)
}

/// Whether runs of a setting measure this.
fn measures(setting: &Setting, metric: Metric) -> bool {
    match metric {
        Metric::Wer => !setting.corpus.finetune.is_empty() && !setting.corpus.test.is_empty(),
        Metric::Pnmi | Metric::PhonePurity | Metric::ClusterPurity | Metric::LabelSegment => {
            setting.probing.unit_quality.is_some()
        }
        Metric::MaskedAccuracy | Metric::UnmaskedAccuracy | Metric::MaskedLoss | Metric::Loss => {
            !setting.corpus.validate.is_empty()
        }
    }
}

/// Where runs of a setting have the number that a published one is about.
fn address(setting: &Setting, entry: &Entry) -> Option<Address> {
    let ends = |iteration: usize| (1..=setting.iterations.len()).contains(&iteration).then_some(iteration);
    let stage = match entry.metric {
        Metric::Wer => {
            let tested = setting.corpus.test.iter().any(|split| split.as_str() == entry.split);
            tested.then(|| format!("decode {}", entry.split))?
        }
        Metric::Pnmi | Metric::PhonePurity | Metric::ClusterPurity => {
            let units = entry.units?;
            let predicts = |iteration: &Iteration| {
                units.clusters == iteration.clusters.unwrap_or(0) && same_source(units, iteration)
            };
            let ours = setting.iterations.iter().map(Iteration::of).position(|iteration| predicts(&iteration))?;
            format!("unit quality iteration {}", ours + 1)
        }
        Metric::MaskedAccuracy | Metric::UnmaskedAccuracy => {
            format!("pretrain iteration {}", ends(entry.iterations.len())?)
        }
        // Ours are in nats and without the penalty, and segments aren't measured.
        Metric::MaskedLoss | Metric::Loss | Metric::LabelSegment => return None,
    };
    Some(Address::new(stage, entry.metric.name()))
}

fn same_source(units: Units, iteration: &Iteration) -> bool {
    match units.of {
        UnitsOf::Mfcc => iteration.targets == Predicted::Mfcc,
        UnitsOf::Layer => iteration.targets == Predicted::Layer && units.height == iteration.height,
        UnitsOf::Supervised => false,
    }
}

/// Why a model of ours doesn't compare with a published one.
fn of_recipe(setting: &Setting, entry: &Entry, recipe: &Recipe) -> Vec<String> {
    let mut because = of_model(setting, recipe);
    because.extend(of_pretraining(setting, entry, recipe));
    match entry.metric {
        Metric::Wer => because.extend(of_recognition(setting, entry, recipe)),
        _ => because.push("it is of another set than ours is validated on".into()),
    }
    if !entry.confidence.can_be_golden() {
        because.push("the published value is known at second hand".into());
    }
    because
}

fn of_model(setting: &Setting, recipe: &Recipe) -> Vec<String> {
    let mut because = Vec::new();
    let encoder = &setting.model.encoder;
    if recipe.family == Family::Hubert && !matches!(setting.model.front_end, FrontEnd::Wave(_)) {
        because.push("the front-end takes log-mel frames, not waves".into());
    }
    if Size::of(encoder) != Some(recipe.size) {
        let [layers, width] = [encoder.layers.get(), encoder.width.get()];
        because.push(format!("the model has {layers} layers of width {width}, not {}", recipe.size));
    } else if recipe.size == Size::Base && matches!(recipe.family, Family::Hubert | Family::Wav2vec2) {
        // Dropout is part of how it is trained; what else BASE has is the default.
        let ours = Network { dropout: Dropout::default(), ..setting.model.clone() };
        if ours != Network::default() {
            because.push("the network differs from BASE as released in more than its size".into());
        }
    }
    because
}

fn of_pretraining(setting: &Setting, entry: &Entry, recipe: &Recipe) -> Vec<String> {
    let mut because = Vec::new();
    match recipe.corpus.map(PretrainingCorpus::splits) {
        Some((name, splits)) => {
            let corpus = &setting.corpus;
            if corpus.name.as_str() != name {
                because.push(format!("the corpus is {}, not {name}", corpus.name));
            } else if !same_set(&corpus.pretrain, &splits) {
                because.push(format!("it isn't pretrained on {}", splits.join(", ")));
            }
        }
        None => because.push("what it was pretrained on isn't known".into()),
    }
    let said =
        |iterations: &[Iteration]| iterations.iter().map(ToString::to_string).collect::<Vec<_>>().join(", then ");
    let ours: Vec<Iteration> = setting.iterations.iter().map(Iteration::of).collect();
    if entry.iterations.is_empty() {
        because.push(format!("pretraining is {}; of the published one nothing is known", said(&ours)));
    } else if !entry.iterations.iter().all(Iteration::is_whole) {
        because.push(format!(
            "pretraining is {}; of the published one only {} is known",
            said(&ours),
            said(&entry.iterations)
        ));
    } else if ours != entry.iterations {
        because.push(format!("pretraining is {}, not {}", said(&ours), said(&entry.iterations)));
    }
    let fresh = |iteration: &strategy::Iteration| {
        iteration.carry == Carry::default() && iteration.schedule.horizon == Horizon::Iteration
    };
    if !setting.iterations.iter().all(fresh) {
        because.push("iterations go on from one another, or share a learning-rate schedule".into());
    }
    let Pretraining { masking, batching, schedule, loss, .. } = &setting.pretraining;
    let numbers = [
        ("masks", "masks cover", masking.prob.get(), recipe.mask),
        ("batches", "seconds of a batch are", batching.seconds.get(), recipe.batch),
        ("learning rate", "the highest learning rate is", schedule.peak.get(), recipe.rate),
        ("loss", "the weight of masked frames is", loss.masked.get(), Some(entry.masked_weight)),
        ("loss", "the weight of other frames is", loss.unmasked.get(), Some(1.0 - entry.masked_weight)),
    ];
    let (mut differing, mut unknown) = (Vec::new(), Vec::new());
    for (what, is, ours, published) in numbers {
        match published {
            None => unknown.push(what),
            Some(published) if ours != published => differing.push(format!("{is} {ours}, not {published}")),
            Some(_) => {}
        }
    }
    if !differing.is_empty() {
        because.push(differing.join(", and "));
    }
    if !unknown.is_empty() {
        because.push(format!("of its pretraining these aren't known: {}", unknown.join(", ")));
    }
    because
}

fn of_recognition(setting: &Setting, entry: &Entry, recipe: &Recipe) -> Vec<String> {
    let mut because = Vec::new();
    let corpus = &setting.corpus;
    if let Some(labelled) = entry.labelled {
        if Labelled::of(&corpus.finetune) != Some(labelled) {
            because.push(format!("it isn't fine-tuned on the {} of the benchmark", labelled.word()));
        }
        match recipe.finetuning.get(&labelled) {
            None => because.push(format!("how it was fine-tuned on {} isn't known", labelled.word())),
            Some(&Finetuning { steps, rate }) => {
                let ours = (setting.finetuning.steps.get(), setting.finetuning.schedule.peak.get());
                if ours != (steps, rate) {
                    because.push(format!(
                        "fine-tuning takes {} steps up to a rate of {}, not {steps} up to {rate}",
                        ours.0, ours.1
                    ));
                }
            }
        }
    }
    if entry.split == UNSTATED {
        because.push("the split that it was tested on isn't known".into());
    } else if !corpus.test.iter().any(|split| split.as_str() == entry.split) {
        because.push(format!("{} is not tested on", entry.split));
    }
    let with_model = setting.decoding.language_model.is_some() || setting.decoding.lexicon.is_some();
    match entry.decoding {
        Some(Decoding::None) if with_model => {
            because.push("it is decoded with words, the published one without".into())
        }
        Some(Decoding::None) => {}
        None | Some(Decoding::Unstated) => {
            because.push("whether it was decoded with a language model isn't known".into())
        }
        Some(_) if !with_model => because.push("it is decoded without a language model".into()),
        Some(_) => because.push("the weights of its language model weren't published".into()),
    }
    because
}

/// Why units of ours don't compare with published ones.
fn of_units(setting: &Setting, entry: &Entry) -> Vec<String> {
    let mut because = Vec::new();
    if setting.corpus.name.as_str() != "LibriSpeech" {
        because.push(format!("the corpus is {}, not LibriSpeech", setting.corpus.name));
    }
    let splits: Vec<&str> = entry.split.split('+').collect();
    let quality = setting.probing.unit_quality.as_ref();
    if entry.split == UNSTATED {
        because.push("the split that it was measured on isn't known".into());
    } else if !quality.is_some_and(|quality| same_set(&quality.splits, &splits)) {
        because.push(format!("units aren't measured on {}", splits.join(" and ")));
    }
    if address(setting, entry).is_none() {
        because.push("no iteration predicts such units".into());
    }
    because.push(match entry.phones {
        Some(phones) => format!("it counts {phones} classes of phones, ours are 39 and silence"),
        None => "its phone inventory isn't known".into(),
    });
    if !entry.confidence.can_be_golden() {
        because.push("the published value is known at second hand".into());
    }
    because
}
