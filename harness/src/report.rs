//! Reports: what an experiment, or runs beside each other, came to, as a page that stands alone, as Markdown, and as data.
//!
//! A report reads the store and nothing else: no clock, no place on a disk, so the same store gives the same bytes. Its numbers are those that
//! stages stored, and means, differences and intervals of them; each says which numbers of which runs it is made of.
//!
//! - [`subject`] gathers the runs, one file a section makes [`parts`] of them, [`figure`] draws.
//! - [`render`] fills the templates, [`write`] lays the files out.

use reprise_spec::identity::{OutputDigest, StageKey};
use serde::Serialize;

use crate::store::{RunId, Status};

pub mod checks;
pub mod curves;
pub mod figure;
pub mod history;
pub mod layers;
pub mod parts;
pub mod planned;
pub mod recognition;
pub mod render;
pub mod runs;
pub mod settings;
pub mod shown;
pub mod stages;
pub mod subject;
pub mod unchecked;
pub mod units;
pub mod verdict;
pub mod write;

use checks::Checks;
use curves::Logged;
use parts::{Part, Section};
use subject::{Kind, Subject};
use verdict::Verdict;

/// History of the format of `report.json`: 1, the first.
pub const FORMAT: u64 = 1;

/// All that a report says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    pub format: u64,
    pub kind: Kind,
    pub title: String,
    /// What the experiment asks, and what its file says to people.
    pub question: String,
    pub notes: String,
    /// The identity of the experiment, where all runs have one.
    pub spec: Option<String>,
    pub verdict: Verdict,
    /// What was assumed where a study that is followed doesn't say it.
    pub reconstruction: Vec<String>,
    pub runs: Vec<RunOf>,
    pub sections: Vec<Section>,
}

/// A run that a report tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunOf {
    pub id: RunId,
    pub group: String,
    pub seed: u64,
    pub status: Status,
    pub stages: Vec<StageOf>,
}

/// Where the numbers of a stage stand: `stages/<key>/<first digits of the digest>/` of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StageOf {
    pub name: String,
    pub key: StageKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<OutputDigest>,
}

impl Report {
    /// Of what the subject's runs stored.
    pub fn of(subject: &Subject<'_>, logs: &[Vec<Logged>], checks: Checks) -> Self {
        let verdict = Verdict::of(subject, checks.tallies);
        let unchecked = unchecked::section(subject, logs, &verdict);
        let mut sections = checks.sections;
        sections.extend(history::section(subject));
        sections.extend(recognition::section(subject));
        sections.extend(curves::section(subject, logs));
        sections.extend(units::section(subject));
        sections.extend(layers::section(subject));
        sections.extend(stages::section(subject));
        sections.extend(settings::section(subject));
        sections.extend(settings::environment(subject));
        sections.push(unchecked);
        sections.extend(checks.beside);
        sections.extend(stages::cost(subject));
        sections.push(settings::again(subject));
        sections.extend(runs::section(subject));
        let experiment = subject.experiment.as_ref();
        let text =
            |of: fn(&reprise_spec::experiment::Experiment) -> &String| experiment.map(of).cloned().unwrap_or_default();
        let run = |(place, run): (usize, &subject::Run)| RunOf {
            id: run.record.id.clone(),
            group: subject.groups[place].name.clone(),
            seed: run.record.seed,
            status: run.record.status,
            stages: run
                .record
                .stages
                .iter()
                .map(|stage| StageOf { name: stage.name.clone(), key: stage.key, digest: stage.state.digest() })
                .collect(),
        };
        Self {
            format: FORMAT,
            kind: subject.kind,
            title: subject.title.clone(),
            question: text(|experiment| &experiment.question).trim().to_owned(),
            notes: text(|experiment| &experiment.notes).trim().to_owned(),
            spec: experiment.map(|experiment| experiment.spec_hash().to_string()),
            verdict,
            reconstruction: reconstruction(subject),
            runs: subject.all().map(run).collect(),
            sections,
        }
    }

    /// The same without what figures draw: for templates, which show drawings and tables.
    fn without_dots(&self) -> Self {
        let mut report = self.clone();
        report.sections.iter_mut().for_each(|section| clear(&mut section.parts));
        report
    }
}

fn clear(parts: &mut [Part]) {
    for part in parts {
        match part {
            Part::Figure(figure) => figure.lines.clear(),
            Part::Figures(figures) => figures.iter_mut().for_each(|figure| figure.lines.clear()),
            Part::Folded(folded) => clear(&mut folded.parts),
            _ => {}
        }
    }
}

/// What variants assume, each assumption once.
fn reconstruction(subject: &Subject<'_>) -> Vec<String> {
    let mut assumed: Vec<String> = Vec::new();
    for variant in subject.groups.iter().filter_map(|group| group.variant.as_ref()) {
        for text in &variant.reconstruction {
            if !assumed.contains(text) {
                assumed.push(text.clone());
            }
        }
    }
    assumed
}
