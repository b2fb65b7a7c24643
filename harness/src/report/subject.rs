//! What a report is about: groups of runs, with what their stages stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use reprise_spec::evaluation::{Point, Rate};
use reprise_spec::experiment::{Experiment, Variant};
use reprise_spec::finetuning::Top;
use reprise_spec::identity::VariantHash;
use reprise_spec::metrics::Log;
use reprise_spec::recognition::{Recognised, Scores};
use reprise_spec::stage::{Role, Stage};
use serde::Serialize;

use super::parts::Source;
use crate::cohort::{Cohort, LeftOut};
use crate::measures::Address;
use crate::results::{Judgement, Recognition, Results, find};
use crate::store::{RunId, RunRecord, Seen, StageRecord, Status, Store, StoreError, StoredOutput, Summary};

/// What kind of report it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The variants of an experiment over its seeds.
    Experiment,
    Run,
    /// Runs beside each other.
    Comparison,
    /// All finished runs of an experiment, by when they were made.
    History,
}

/// What a report is about.
pub struct Subject<'a> {
    pub kind: Kind,
    /// Of the experiment, or of the runs.
    pub title: String,
    /// Absent where runs recorded none, or are of several.
    pub experiment: Option<Experiment>,
    /// The file of the experiment as a person types it from the top of its repository.
    pub file: Option<String>,
    pub groups: Vec<Group>,
    /// Of a history: finished runs that are not among their group's, with its place, oldest first.
    pub earlier: Vec<(usize, Run)>,
    pub left_out: Vec<LeftOut>,
    /// What claims and goldens look at; empty where the subject is no experiment.
    pub cohort: Cohort,
    pub store: &'a Store,
}

/// Runs of one variant, or one run among others.
pub struct Group {
    pub name: String,
    pub hash: VariantHash,
    pub variant: Option<Variant>,
    /// One a seed, ascending.
    pub runs: Vec<Run>,
    /// Declared seeds without a finished run.
    pub missing: Vec<u64>,
}

/// A run, with what its stages stored.
pub struct Run {
    pub record: RunRecord,
    pub results: Results,
    /// The output of each stage, as far as it is stored.
    pub outputs: Vec<Option<StoredOutput>>,
}

/// A rate with the ends of its own interval, and where it stands.
pub type Rated = (f64, Option<(f64, f64)>, Source);

/// What a model recognised of one split.
pub struct Decoded<'a> {
    pub stage: &'a StageRecord,
    pub top: Top,
    pub scores: Scores,
    pub rows: Vec<Recognised>,
}

impl Run {
    pub fn load(record: RunRecord, store: &Store) -> Self {
        let results = Results::of(&record, store);
        let output = |stage: &StageRecord| store.output(&stage.key, &stage.state.digest()?);
        let outputs = record.stages.iter().map(output).collect();
        Self { record, results, outputs }
    }

    /// Stages whose output is stored.
    pub fn stored(&self) -> impl Iterator<Item = (&StageRecord, &StoredOutput)> {
        self.record.stages.iter().zip(&self.outputs).filter_map(|(stage, output)| Some((stage, output.as_ref()?)))
    }

    /// A number of a stage.
    pub fn source(&self, stage: &str, metric: &str) -> Source {
        Source { run: self.record.id.clone(), number: Address::new(stage, metric) }
    }

    /// The last judged model's recognition of a split.
    pub fn last(&self, split: &str) -> Option<(&Judgement, &Recognition)> {
        let judgement = self.results.last()?;
        Some((judgement, judgement.recognition.iter().find(|recognition| recognition.split == split)?))
    }

    /// The stages that decoded a split, with where their models lie and what became of their top layers.
    pub fn decodings(&self) -> impl Iterator<Item = (&StageRecord, &StoredOutput, Top)> {
        let tops: BTreeMap<_, _> = self
            .stored()
            .filter_map(|(stage, output)| match &output.manifest.settings {
                Stage::Finetune(finetune) => Some((stage.key, finetune.top)),
                _ => None,
            })
            .collect();
        let top = move |output: &StoredOutput| {
            let model = output.manifest.inputs.iter().find(|input| input.role == Role::Finetuned);
            model.and_then(|input| tops.get(&input.key)).copied().unwrap_or_default()
        };
        let decodes = |(_, output): &(_, &StoredOutput)| matches!(output.manifest.settings, Stage::Decode(_));
        self.stored().filter(decodes).map(move |(stage, output)| (stage, output, top(output)))
    }

    /// The name of the stage that decoded a split with the model of this point.
    pub fn decoding(&self, split: &str, point: Option<Point>, top: Top) -> Option<&str> {
        let of_split = |output: &StoredOutput| matches!(&output.manifest.settings, Stage::Decode(decode) if decode.split.as_str() == split);
        let mut stages =
            self.decodings().filter(|(stage, output, of)| stage.point == point && *of == top && of_split(output));
        stages.next().map(|(stage, _, _)| stage.name.as_str())
    }

    /// What every decoding stage recognised. A file that can't be read is left out.
    pub fn decoded(&self) -> Vec<Decoded<'_>> {
        let read = |(stage, output, top): (_, &StoredOutput, _)| {
            let scores = fs::read(output.out().join("scores.json")).ok()?;
            let rows = fs::read_to_string(output.out().join("hypotheses.tsv")).ok();
            let rows = rows.and_then(|text| Recognised::read(&text).ok()).unwrap_or_default();
            Some(Decoded { stage, top, scores: serde_json::from_slice(&scores).ok()?, rows })
        };
        self.decodings().filter_map(read).collect()
    }

    /// A score of the last judged model, with where it stands.
    pub fn rate(&self, split: &str, name: &str) -> Option<Rated> {
        let (judgement, recognition) = self.last(split)?;
        let score = find(&recognition.scores, name)?;
        let stage = self.decoding(split, judgement.point, Top::Kept)?;
        Some((score.value, score.interval, self.source(stage, name)))
    }
}

/// What the trainer logged while an output was made, with what a shorter training logged that was gone on from.
pub fn logged(output: &StoredOutput, store: &Store) -> BTreeMap<String, BTreeMap<u64, f64>> {
    let log = fs::read(output.path.join("metrics.log")).unwrap_or_default();
    let mut series = Log::decode(&log).series;
    if let Some(shorter) =
        output.manifest.continued.and_then(|continued| store.output(&continued.key, &continued.digest))
    {
        for (name, points) in logged(&shorter, store) {
            let known = series.entry(name).or_default();
            points.into_iter().for_each(|(step, value)| {
                known.entry(step).or_insert(value);
            });
        }
    }
    series
}

impl<'a> Subject<'a> {
    /// The variants of an experiment with their newest comparable runs.
    ///
    /// # Errors
    /// When the store can't be listed.
    pub fn experiment(experiment: Experiment, file: &str, store: &'a Store) -> Result<Self, StoreError> {
        let cohort = Cohort::of(&experiment, store)?;
        let named = |group: &crate::cohort::Group| match group.name.is_empty() {
            true => experiment.name.to_string(),
            false => group.name.clone(),
        };
        let groups = cohort.groups.iter().cloned().map(|group| Group {
            name: named(&group),
            hash: group.variant,
            variant: experiment.variants.iter().find(|variant| variant.setting.hash() == group.variant).cloned(),
            runs: load(group.runs.into_values().collect(), store),
            missing: group.missing,
        });
        let groups = groups.collect();
        let (title, file) = (experiment.name.to_string(), Some(file.to_owned()));
        let (kind, left_out) = (Kind::Experiment, cohort.left_out.clone());
        let (experiment, earlier) = (Some(experiment), Vec::new());
        Ok(Self { kind, title, experiment, file, groups, earlier, left_out, cohort, store })
    }

    /// The same, with every other finished run of the variants.
    ///
    /// # Errors
    /// When the store can't be listed.
    pub fn history(experiment: Experiment, file: &str, store: &'a Store) -> Result<Self, StoreError> {
        let mut subject = Self::experiment(experiment, file, store)?;
        let known: BTreeSet<&RunId> = subject.all().map(|(_, run)| &run.record.id).collect();
        let mut earlier: Vec<(usize, RunRecord)> = Vec::new();
        let variants: Vec<VariantHash> = subject.groups.iter().map(|group| group.hash).collect();
        let like = |run: &Summary| run.seen == Seen::Finished && variants.contains(&run.variant);
        for record in store.records(like)? {
            let place = subject.groups.iter().position(|group| group.hash == record.variant);
            let wanted = record.status == Status::Finished && !known.contains(&record.id);
            earlier.extend(place.filter(|_| wanted).map(|place| (place, record)));
        }
        earlier.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
        let (places, records): (Vec<usize>, Vec<RunRecord>) = earlier.into_iter().unzip();
        subject.earlier = places.into_iter().zip(load(records, store)).collect();
        subject.kind = Kind::History;
        Ok(subject)
    }

    /// One run, or several beside each other.
    pub fn runs(records: Vec<RunRecord>, store: &'a Store) -> Self {
        let kind = if records.len() == 1 { Kind::Run } else { Kind::Comparison };
        let mut experiments: Vec<Option<(Experiment, String)>> = Vec::new();
        for record in &records {
            let recipe = store.recipe(record).ok().flatten();
            experiments.push(recipe.map(|recipe| (recipe.experiment, typed(&recipe.file))));
        }
        let first = experiments.first().cloned().flatten();
        let same = records.windows(2).all(|pair| pair[0].spec == pair[1].spec);
        let title = match (kind, records.as_slice()) {
            (Kind::Run, [record]) => record.title(),
            (_, [first, ..]) if same => format!("{}: {} runs", first.experiment, records.len()),
            _ => format!("{} runs of several experiments", records.len()),
        };
        let groups = records.into_iter().zip(experiments).map(|(record, experiment)| {
            let of = |variant: &Variant| variant.setting.hash() == record.variant;
            Group {
                name: if kind == Kind::Run { called(&record) } else { named(&record) },
                hash: record.variant,
                variant: experiment.and_then(|(experiment, _)| experiment.variants.into_iter().find(of)),
                missing: Vec::new(),
                runs: vec![Run::load(record, store)],
            }
        });
        let groups = groups.collect();
        let (experiment, file) = first.filter(|_| same).unzip();
        let (earlier, left_out, cohort) = (Vec::new(), Vec::new(), Cohort::default());
        Self { kind, title, experiment, file, groups, earlier, left_out, cohort, store }
    }

    /// The runs of every group with its place, and earlier ones.
    pub fn every(&self) -> impl Iterator<Item = (usize, &Run)> {
        self.all().chain(self.earlier.iter().map(|(place, run)| (*place, run)))
    }

    /// The runs of every group with its place.
    pub fn all(&self) -> impl Iterator<Item = (usize, &Run)> {
        self.groups.iter().enumerate().flat_map(|(place, group)| group.runs.iter().map(move |run| (place, run)))
    }

    /// Whether any group has several runs to take a mean of.
    pub fn several(&self) -> bool {
        self.groups.iter().any(|group| group.runs.len() > 1)
    }

    /// The decoded splits of all last models, sorted.
    pub fn splits(&self) -> Vec<String> {
        let recognitions = self.all().filter_map(|(_, run)| run.results.last()).flat_map(|last| &last.recognition);
        let mut splits: Vec<String> = recognitions.map(|recognition| recognition.split.clone()).collect();
        splits.sort();
        splits.dedup();
        splits
    }
}

/// Loads runs side by side: most of it waits for files.
fn load(records: Vec<RunRecord>, store: &Store) -> Vec<Run> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = records.len().div_ceil(threads).max(1);
    let loaded = std::thread::scope(|scope| {
        let chunks = records.chunks(share);
        let load =
            |chunk: &[RunRecord]| chunk.iter().map(|record| Run::load(record.clone(), store)).collect::<Vec<_>>();
        let started: Vec<_> = chunks.map(|chunk| scope.spawn(move || load(chunk))).collect();
        started.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Result<Vec<_>, _>>()
    });
    match loaded {
        Ok(loaded) => loaded.into_iter().flatten().collect(),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A run alone: its variant, or its experiment where that has one variant.
fn called(record: &RunRecord) -> String {
    if record.variant_name.is_empty() { record.experiment.clone() } else { record.variant_name.clone() }
}

/// A run among others: each another name.
fn named(record: &RunRecord) -> String {
    let parts = [record.variant_name.as_str(), &format!("seed {}", record.seed)].map(str::to_owned);
    let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    format!("{name} ({})", &record.id.as_str()[9..])
}

/// The file as a person types it from the top of its repository: nothing of it says where that lies.
fn typed(file: &std::path::Path) -> String {
    let parts: Vec<String> = file.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let from = parts.iter().rposition(|part| part == "experiments").unwrap_or(parts.len().saturating_sub(1));
    parts[from..].join("/")
}

/// Whether the learning rate of a point has fallen, so that its model compares with others.
pub fn compares(point: Option<Point>) -> bool {
    point.is_none_or(|point| point.rate != Rate::Running)
}
