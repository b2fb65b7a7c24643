//! Utterances with the unit of every frame, and the frames of a batch that are scored.

use std::sync::Arc;

use reprise_spec::arithmetic::{SAMPLE_RATE, frames};
use tch::{Device, Tensor};

use crate::batch::{Candidate, Crop};
use crate::corpus::Corpora;
use crate::failure::StageError;
use crate::head::{Head, Score};
use crate::hubert::Masks;
use crate::labels::Labels;
use crate::mask;

/// Largest difference in seconds between an utterance and its labels.
const TOLERANCE: f64 = 0.1;

/// Some splits and the labels of all their utterances, which were found to fit.
pub struct Labelled {
    pub corpora: Arc<Corpora>,
    pub labels: Arc<Labels>,
    candidates: Vec<Candidate>,
    /// Split and id of each candidate, as labels are asked for.
    places: Vec<(usize, String)>,
}

impl Labelled {
    /// Refuses an utterance without labels, or whose labels last another time than its audio (fairseq only warns).
    pub fn new(corpora: Corpora, labels: impl Into<Arc<Labels>>) -> Result<Self, StageError> {
        let labels = labels.into();
        let (mut candidates, mut places) = (Vec::new(), Vec::new());
        for (split_index, (split, corpus)) in corpora.splits.iter().enumerate() {
            for utterance in &corpus.utterances {
                let id = &utterance.id;
                let found = labels
                    .of(split, id)
                    .ok_or_else(|| StageError::Failed(format!("{id} of {split} has no labels among the units")))?;
                let audio = utterance.samples as f64 / f64::from(SAMPLE_RATE);
                let labelled = found.len() as f64 / f64::from(labels.rate());
                let needed = frames(utterance.samples).saturating_sub(1) * u64::from(labels.rate() / 50);
                if (audio - labelled).abs() > TOLERANCE
                    || (frames(utterance.samples) > 0 && found.len() as u64 <= needed)
                {
                    return Err(StageError::refused(
                        format!(
                            "{id} of {split} lasts {audio:.3} s, but its {} labels last {labelled:.3} s",
                            found.len()
                        ),
                        "the units were made from other audio; make them anew",
                    ));
                }
                candidates.push(Candidate { id: format!("{split}/{id}"), samples: utterance.samples });
                places.push((split_index, id.clone()));
            }
        }
        Ok(Self { corpora: Arc::new(corpora), labels, candidates, places })
    }

    /// In the order of [`Corpora::iter`].
    pub fn candidates(&self) -> Vec<Candidate> {
        self.candidates.clone()
    }

    pub fn candidate(&self, index: usize) -> &Candidate {
        &self.candidates[index]
    }

    /// The units of the frames of a crop.
    pub fn units(&self, crop: &Crop) -> Vec<i64> {
        let (split, id) = &self.places[crop.utterance];
        let split = &self.corpora.splits[*split].0;
        // Every utterance was looked up when this was made.
        let labels = self.labels.of(split, id).expect("a labelled utterance");
        (0..crop.frames()).map(|t| i64::from(labels[crop.label(t, self.labels.rate())])).collect()
    }
}

/// Which frames of a batch are hidden, and what the hidden and the visible ones should be recognised as. Padding is neither.
pub struct Selection {
    pub masks: Masks,
    pub masked: Targets,
    pub unmasked: Targets,
}

/// Some frames of a batch, as places in its B · T rows, and their units.
pub struct Targets {
    places_n: Tensor,
    units_n: Tensor,
}

impl Selection {
    /// `hidden` has one row a crop, each as long as the crop has frames.
    pub fn new(labelled: &Labelled, crops: &[Crop], hidden: Vec<Vec<bool>>, device: Device) -> Self {
        let width = hidden.iter().map(Vec::len).max().unwrap_or(0);
        let (mut masked, mut unmasked) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for (row, (crop, hidden)) in crops.iter().zip(&hidden).enumerate() {
            for (t, (unit, &hidden)) in labelled.units(crop).into_iter().zip(hidden).enumerate() {
                let (places, units) = if hidden { &mut masked } else { &mut unmasked };
                places.push((row * width + t) as i64);
                units.push(unit);
            }
        }
        let targets = |(places, units): (Vec<i64>, Vec<i64>)| Targets {
            places_n: Tensor::from_slice(&places).to_device(device),
            units_n: Tensor::from_slice(&units).to_device(device),
        };
        let masks = Masks { time_bt: Some(mask::tensor(&hidden, width, device)), channel_bd: None };
        Self { masks, masked: targets(masked), unmasked: targets(unmasked) }
    }
}

impl Targets {
    /// Scores these frames of B × T × D outputs; only they are projected.
    pub fn score(&self, head: &Head, output_btd: &Tensor) -> Score {
        let width = output_btd.size()[2];
        head.score(&output_btd.reshape([-1, width]).index_select(0, &self.places_n), &self.units_n)
    }

    /// The unit of each frame, on the CPU.
    pub fn units(&self) -> Vec<i64> {
        // A vector of `i64` was made into this tensor.
        Vec::try_from(&self.units_n.to_device(Device::Cpu)).expect("whole numbers")
    }
}
