//! Checks a bundle against itself, without executing anything.
//!
//! 1. *files*: every file has its checksum, none is missing, none is there beside them ([`files`]).
//! 2. *outputs*: the digest of every output, from its files; of one with files left out each file that is there, and the rest is not checked.
//! 3. *identities*: the experiment's hash from its canonical bytes, every stage's key from its settings, inputs and seed, and every run's stages
//!    from a plan that is made anew ([`identities`]).
//! 4. *numbers*: every score from the data that it summarises ([`numbers`]).
//! 5. *report* and *metadata*: what was made of the store, made again ([`made`]).
//!
//! What could not be checked is said, with the reason, and is no pass.

use std::collections::BTreeMap;
use std::fmt;

use reprise_spec::identity::BundleId;
use serde::Serialize;

use super::publish::Renderer;
use super::{About, Bundle, BundleError};
use crate::store::{Manifest, RunRecord, Store, StoredOutput, manifest};

mod alignment;
mod cells;
mod files;
mod identities;
mod made;
mod numbers;
mod outputs;
mod tables;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    Files,
    Outputs,
    Identities,
    Numbers,
    Report,
    Metadata,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Outputs => "outputs",
            Self::Identities => "identities",
            Self::Numbers => "numbers",
            Self::Report => "report",
            Self::Metadata => "metadata",
        })
    }
}

/// What came out in one area.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// Checks that were made and passed.
    pub passed: u64,
    pub failed: Vec<Finding>,
    pub not_checked: Vec<Finding>,
}

/// What was found of one thing, or why nothing was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    pub of: String,
    pub says: String,
}

/// Everything that came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verification {
    pub bundle: BundleId,
    pub areas: BTreeMap<Area, Tally>,
}

impl Verification {
    /// Whether nothing failed.
    pub fn holds(&self) -> bool {
        self.areas.values().all(|tally| tally.failed.is_empty())
    }

    fn passed(&mut self, area: Area) {
        self.areas.entry(area).or_default().passed += 1;
    }

    fn failed(&mut self, area: Area, of: impl Into<String>, says: impl Into<String>) {
        let finding = Finding { of: of.into(), says: says.into() };
        self.areas.entry(area).or_default().failed.push(finding);
    }

    fn not_checked(&mut self, area: Area, of: impl Into<String>, says: impl Into<String>) {
        let finding = Finding { of: of.into(), says: says.into() };
        self.areas.entry(area).or_default().not_checked.push(finding);
    }

    /// Counts a check, which failed where `wrong` says why.
    fn check(&mut self, area: Area, of: &str, wrong: Option<String>) {
        match wrong {
            None => self.passed(area),
            Some(says) => self.failed(area, of, says),
        }
    }
}

/// A bundle whose records could be read.
struct Read<'a> {
    bundle: &'a Bundle,
    about: &'a About,
    store: &'a Store,
    runs: &'a [RunRecord],
    outputs: &'a [StoredOutput],
}

/// Checks a bundle. `report` renders its report again.
///
/// Where files are not what their checksums say, nothing else is looked at: what follows from damaged files says nothing.
///
/// # Errors
/// When the bundle can't be read as one at all.
pub fn verify(bundle: &Bundle, report: Renderer<'_>) -> Result<Verification, BundleError> {
    let sums = bundle.sums()?;
    let mut verification = Verification { bundle: sums.id(), areas: BTreeMap::new() };
    files::check(bundle, &sums, &mut verification)?;
    if !verification.holds() {
        return Ok(verification);
    }
    let (about, store) = (bundle.about()?, bundle.store());
    let (runs, outputs) = (bundle.runs(&about)?, stored(bundle)?);
    let read = Read { bundle, about: &about, store: &store, runs: &runs, outputs: &outputs };
    outputs::check(&read, &mut verification);
    identities::check(&read, &mut verification)?;
    numbers::check(&read, &mut verification);
    made::check(&read, &sums, report, &mut verification)?;
    Ok(verification)
}

/// Every output of the bundle's store, whether or not a run needs it.
fn stored(bundle: &Bundle) -> Result<Vec<StoredOutput>, BundleError> {
    let ending = format!("/{}", manifest::FILE);
    let begins = format!("{}/stages/", super::STORE);
    let manifests = bundle.files().keys().filter(|name| name.starts_with(&begins) && name.ends_with(&ending));
    manifests
        .map(|name| {
            super::text(&bundle.root().join(name), name)?;
            let path = bundle.root().join(name);
            let manifest = Manifest::read(&path).map_err(|error| BundleError::refused(error.to_string()))?;
            Ok(StoredOutput { path: path.with_file_name(""), manifest })
        })
        .collect()
}

/// What an output is called in findings.
fn name_of(output: &StoredOutput, runs: &[RunRecord]) -> String {
    let Manifest { key, kind, .. } = &output.manifest;
    let named = runs.iter().flat_map(|run| &run.stages).find(|stage| stage.key == *key);
    named.map_or_else(|| format!("{kind} {}", key.short()), |stage| stage.name.clone())
}
