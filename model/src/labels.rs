//! Units on disk: a codebook, and the label of every frame of the splits that it labelled.
//!
//! A folder of units holds `units.json` ([`Units`]), `codebook.safetensors` (`centroids`, K × D, `f32`), `labels.npy` (`u16`, all frames of
//! all labelled splits one after the other) and `utterances.tsv` (split, id, frames; in the order of the labels).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::path::Path;

use reprise_spec::stage::UnitSource;
use reprise_spec::values::SplitName;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::failure::StageError;
use crate::kmeans::Centroids;
use crate::npy;

const ABOUT: &str = "units.json";
const CODEBOOK: &str = "codebook.safetensors";
const LABELS: &str = "labels.npy";
const UTTERANCES: &str = "utterances.tsv";
const HEADER: &str = "split\tid\tframes";

/// What the labels are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Units {
    pub clusters: u32,
    /// Labels a second.
    pub rate: u32,
    pub source: UnitSource,
    /// Splits whose frames the codebook was fitted on; nothing is measured on them.
    pub fit_on: Vec<SplitName>,
}

impl Units {
    fn read(dir: &Path) -> Result<Self, StageError> {
        let path = dir.join(ABOUT);
        let bytes = fs::read(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| StageError::Failed(format!("{} does not describe units: {error}", path.display())))
    }
}

/// A fitted codebook: turns frames into labels.
#[derive(Debug)]
pub struct Codebook {
    pub units: Units,
    pub centroids: Centroids,
}

impl Codebook {
    /// Reads the codebook of a folder of units onto `device`.
    ///
    /// # Errors
    /// Files that are missing or do not belong together, named.
    pub fn read(dir: &Path, device: Device) -> Result<Self, StageError> {
        let units = Units::read(dir)?;
        let path = dir.join(CODEBOOK);
        let centroids = Tensor::read_safetensors(&path)?.into_iter().find(|(name, _)| name == "centroids");
        match centroids {
            Some((_, centroids)) if centroids.dim() == 2 && centroids.size()[0] == i64::from(units.clusters) => {
                Ok(Self { units, centroids: Centroids::new(&centroids.to_device(device)) })
            }
            _ => Err(StageError::Failed(format!("{} has no {} centroids", path.display(), units.clusters))),
        }
    }

    /// Writes `units.json` and `codebook.safetensors`.
    pub fn write(&self, dir: &Path) -> Result<(), StageError> {
        let path = dir.join(ABOUT);
        let about = serde_json::to_vec_pretty(&self.units).map_err(|error| StageError::Failed(error.to_string()))?;
        fs::write(&path, about).map_err(|error| StageError::io("cannot write", &path, &error))?;
        let centroids = self.centroids.tensor().to_device(Device::Cpu);
        Ok(Tensor::write_safetensors(&[("centroids", &centroids)], dir.join(CODEBOOK))?)
    }

    /// The label of every frame of `frames` (N × D): its nearest centroid, the first one on ties.
    pub fn assign(&self, frames: &Tensor) -> Vec<u16> {
        self.centroids.assign(frames).labels()
    }
}

/// The labels of every frame of some splits.
#[derive(Debug)]
pub struct Labels {
    units: Units,
    labels: Vec<u16>,
    spans: BTreeMap<SplitName, BTreeMap<String, Range<usize>>>,
}

impl Labels {
    /// Reads the labels of a folder of units.
    ///
    /// # Errors
    /// Files that are missing or contradict each other, named.
    pub fn read(dir: &Path) -> Result<Self, StageError> {
        let units = Units::read(dir)?;
        let labels = npy::Reader::<u16>::open(&dir.join(LABELS))?.read_all()?;
        let path = dir.join(UTTERANCES);
        let table = fs::read_to_string(&path).map_err(|error| StageError::io("cannot read", &path, &error))?;
        let mut spans: BTreeMap<SplitName, BTreeMap<String, Range<usize>>> = BTreeMap::new();
        let mut start = 0;
        for (number, line) in table.lines().enumerate().skip(1) {
            let (split, id, frames) = row(line).ok_or_else(|| {
                StageError::Failed(format!("{} line {}: expected split, id, frames", path.display(), number + 1))
            })?;
            spans.entry(split).or_default().insert(id.to_owned(), start..start + frames);
            start += frames;
        }
        if start != labels.len() {
            return Err(StageError::Failed(format!(
                "{} has {} labels, but {UTTERANCES} beside it counts {start}",
                dir.join(LABELS).display(),
                labels.len()
            )));
        }
        if let Some(label) = labels.iter().find(|label| u32::from(**label) >= units.clusters) {
            let path = dir.join(LABELS);
            return Err(StageError::Failed(format!("{} has label {label} of {}", path.display(), units.clusters)));
        }
        Ok(Self { units, labels, spans })
    }

    /// The labels of one utterance, if it was labelled.
    pub fn of(&self, split: &SplitName, id: &str) -> Option<&[u16]> {
        let span = self.spans.get(split)?.get(id)?;
        Some(&self.labels[span.clone()])
    }

    /// Labels a second.
    pub fn rate(&self) -> u32 {
        self.units.rate
    }

    /// Labels are below this.
    pub fn clusters(&self) -> u32 {
        self.units.clusters
    }
}

fn row(line: &str) -> Option<(SplitName, &str, usize)> {
    let mut fields = line.split('\t');
    let row = (SplitName::try_from(fields.next()?.to_owned()).ok()?, fields.next()?, fields.next()?.parse().ok()?);
    fields.next().is_none().then_some(row)
}

/// Labels as they are made, utterance by utterance.
#[derive(Debug, Default)]
pub struct LabelWriter {
    labels: Vec<u16>,
    table: String,
}

impl LabelWriter {
    /// Adds the labels of the next utterance.
    pub fn push(&mut self, split: &SplitName, id: &str, labels: &[u16]) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.table, "{split}\t{id}\t{}", labels.len());
        self.labels.extend_from_slice(labels);
    }

    /// Writes `labels.npy` and `utterances.tsv`.
    pub fn write(self, dir: &Path) -> Result<(), StageError> {
        let mut file = npy::Writer::<u16>::create(&dir.join(LABELS), None)?;
        file.write(&self.labels)?;
        file.finish()?;
        let path = dir.join(UTTERANCES);
        fs::write(&path, format!("{HEADER}\n{}", self.table))
            .map_err(|error| StageError::io("cannot write", &path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reprise_spec::network::FeatureKind;

    fn units() -> Units {
        Units { clusters: 3, rate: 100, source: UnitSource::Features(FeatureKind::Mfcc), fit_on: Vec::new() }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (train, dev) =
            (SplitName::try_from("train".to_owned()).unwrap(), SplitName::try_from("a/dev".to_owned()).unwrap());
        let centroids = Tensor::from_slice2(&[[0f32, 1.], [2., 3.], [4., 5.]]);
        let codebook = Codebook { units: units(), centroids: Centroids::new(&centroids) };
        codebook.write(dir.path()).unwrap();
        let mut writer = LabelWriter::default();
        writer.push(&train, "1-1-1", &[0, 1, 2]);
        writer.push(&train, "1-1-2", &[]);
        writer.push(&dev, "1-1-1", &[2, 2]);
        writer.write(dir.path()).unwrap();

        let labels = Labels::read(dir.path()).unwrap();
        assert_eq!((labels.rate(), labels.clusters()), (100, 3));
        assert_eq!(labels.of(&train, "1-1-1"), Some(&[0u16, 1, 2][..]));
        assert_eq!(labels.of(&train, "1-1-2"), Some(&[][..]));
        assert_eq!(labels.of(&dev, "1-1-1"), Some(&[2u16, 2][..]));
        assert_eq!(labels.of(&dev, "1-1-2"), None);
        let again = Codebook::read(dir.path(), Device::Cpu).unwrap();
        assert_eq!(again.units, units());
        assert_eq!(again.centroids.tensor(), &centroids);
        assert_eq!(again.assign(&Tensor::from_slice2(&[[4f32, 4.], [0., 0.]])), [2, 0]);
    }

    #[test]
    fn labels_that_do_not_match_their_table_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let split = SplitName::try_from("train".to_owned()).unwrap();
        let codebook = Codebook {
            units: units(),
            centroids: Centroids::new(&Tensor::zeros([3, 1], (tch::Kind::Float, Device::Cpu))),
        };
        codebook.write(dir.path()).unwrap();
        let write = |labels: &[u16]| {
            let mut writer = LabelWriter::default();
            writer.push(&split, "a", labels);
            writer.write(dir.path()).unwrap();
        };
        write(&[0, 3]);
        assert!(Labels::read(dir.path()).unwrap_err().to_string().contains("has label 3 of 3"));
        write(&[0, 1]);
        let table = dir.path().join(UTTERANCES);
        fs::write(&table, fs::read_to_string(&table).unwrap().replace("\t2", "\t3")).unwrap();
        assert!(Labels::read(dir.path()).unwrap_err().to_string().contains("has 2 labels"));
    }
}
