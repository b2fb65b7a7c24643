//! Where a rerun lies: a store of its own, below the store of the original.

use std::fs;
use std::path::PathBuf;

use reprise_spec::identity::{OutputDigest, StageKey};
use serde::Serialize;

use super::{Means, RunId, Store, StoreError, files};
use crate::provenance::BUILD;

/// The file that ends a rerun.
const VERDICT: &str = "verdict.json";

/// The store of one rerun.
pub struct Area {
    pub store: Store,
    /// Which of the original's reruns this is, from 1.
    pub number: u32,
}

impl Area {
    /// The newest rerun of `run` if it has no verdict yet and was begun by this build with these means, else a new one.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn open(store: &Store, run: &RunId, means: Means) -> Result<Self, StoreError> {
        let folder = store.root.join("reruns").join(run.to_string());
        let numbers = fs::read_dir(&folder).into_iter().flatten().flatten();
        let newest = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max().unwrap_or(0);
        let area = |number: u32| Self { store: Store::at(folder.join(number.to_string())), number };
        let before = area(newest);
        let goes_on = newest > 0 && !before.verdict().exists() && before.was_begun_with(means)?;
        Ok(if goes_on { before } else { area(newest + 1) })
    }

    fn verdict(&self) -> PathBuf {
        self.store.root().join(VERDICT)
    }

    /// Whether every attempt so far was made by this build with these means, so that going on mixes nothing.
    fn was_begun_with(&self, means: Means) -> Result<bool, StoreError> {
        let runs = self.store.runs()?;
        Ok(runs.iter().all(|run| {
            run.record.as_ref().is_ok_and(|record| {
                record.provenance.build == BUILD && record.attempts.iter().all(|attempt| attempt.means == Some(means))
            })
        }))
    }

    /// Writes the verdict down, after which nothing is added to the rerun, and frees the space of outputs that are `equal` to the original's
    /// and stored there: their manifests and logs stay.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn close<V: Serialize>(
        &self,
        verdict: &V,
        equal: &[(StageKey, OutputDigest)],
        original: &Store,
    ) -> Result<(), StoreError> {
        files::write_json(&self.verdict(), verdict)?;
        for (key, digest) in equal {
            if original.output(key, digest).is_some_and(|output| output.is_whole())
                && let Some(output) = self.store.output(key, digest)
            {
                let out = output.out();
                fs::remove_dir_all(&out).map_err(|error| StoreError::io("remove", &out, error))?;
            }
        }
        Ok(())
    }
}
