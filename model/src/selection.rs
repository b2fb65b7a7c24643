//! Utterances with the unit of every frame, and the frames of a batch that are scored.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use reprise_spec::arithmetic::{SAMPLE_RATE, frames_at};
use reprise_spec::values::SplitName;
use tch::{Device, Tensor};

use crate::batch::{Candidate, Crop};
use crate::corpus::Corpora;
use crate::encoder::Places;
use crate::failure::StageError;
use crate::framing::{Covered, Framing, Rows};
use crate::hubert::Masks;
use crate::labels::Labels;
use crate::mask;

/// Largest difference in seconds between an utterance and its labels.
const TOLERANCE: f64 = 0.1;

/// Some splits and the labels of all their utterances, which were found to fit.
pub struct Labelled {
    pub corpora: Arc<Corpora>,
    /// One entry a set of units; none where nothing but audio is needed.
    pub sets: Vec<Arc<Labels>>,
    pub framing: Framing,
    candidates: Vec<Candidate>,
    /// Split and id of each candidate, as labels are asked for.
    places: Vec<(usize, String)>,
}

impl Labelled {
    /// Refuses an utterance without labels, or whose labels last another time than its audio (fairseq only warns).
    pub fn new(corpora: Corpora, sets: Vec<Arc<Labels>>, framing: Framing) -> Result<Self, StageError> {
        let (mut candidates, mut places) = (Vec::new(), Vec::new());
        for (split_index, (split, corpus)) in corpora.splits.iter().enumerate() {
            for utterance in &corpus.utterances {
                let id = &utterance.id;
                for labels in &sets {
                    fits(labels, split, id, utterance.samples, framing.stride)?;
                }
                candidates.push(Candidate { id: format!("{split}/{id}"), samples: utterance.samples });
                places.push((split_index, id.clone()));
            }
        }
        Ok(Self { corpora: Arc::new(corpora), sets, framing, candidates, places })
    }

    /// In the order of [`Corpora::iter`].
    pub fn candidates(&self) -> Vec<Candidate> {
        self.candidates.clone()
    }

    pub fn candidate(&self, index: usize) -> &Candidate {
        &self.candidates[index]
    }

    /// The frames of each row of a batch that are neither padding nor without a label.
    pub fn rows(&self, crops: &[Crop]) -> Rows {
        let labelled = |crop: &Crop| {
            let sets = self
                .sets
                .iter()
                .map(|labels| self.framing.labelled(crop, self.labels(labels, crop.utterance).len(), labels.rate()));
            sets.fold(Covered::ALL, Covered::and)
        };
        self.framing.rows(crops, &crops.iter().map(labelled).collect::<Vec<_>>())
    }

    /// The unit of a set at a frame that starts `offset` samples into a crop.
    fn unit(&self, crop: &Crop, set: usize, offset: u64) -> i64 {
        let labels = &self.sets[set];
        i64::from(self.labels(labels, crop.utterance)[self.framing.label(crop, offset, labels.rate())])
    }

    fn labels<'a>(&self, labels: &'a Labels, utterance: usize) -> &'a [u16] {
        let (split, id) = &self.places[utterance];
        // Every utterance was looked up when this was made.
        labels.of(&self.corpora.splits[*split].0, id).expect("a labelled utterance")
    }
}

/// Refuses labels that are missing or last another time than the audio, whose frames are `stride` samples apart.
fn fits(labels: &Labels, split: &SplitName, id: &str, samples: u64, stride: u64) -> Result<(), StageError> {
    let found = labels
        .of(split, id)
        .ok_or_else(|| StageError::Failed(format!("{id} of {split} has no labels among the units")))?;
    let audio = samples as f64 / f64::from(SAMPLE_RATE);
    let labelled = found.len() as f64 / f64::from(labels.rate());
    let frames = frames_at(samples, stride);
    let needed = frames.saturating_sub(1) * stride * u64::from(labels.rate()) / u64::from(SAMPLE_RATE);
    if (audio - labelled).abs() > TOLERANCE || (frames > 0 && found.len() as u64 <= needed) {
        return Err(StageError::refused(
            format!("{id} of {split} lasts {audio:.3} s, but its {} labels last {labelled:.3} s", found.len()),
            "the units were made from other audio; make them anew",
        ));
    }
    Ok(())
}

/// A place in the network where frames are taken, and the sets of units that they are scored against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Frames of the front-end in one of the tap's.
    pub ratio: u64,
    pub sets: Range<usize>,
}

/// Which frames of a batch are hidden, and what the hidden and the visible ones should be recognised as at every tap.
pub struct Selection {
    pub masks: Masks,
    /// B rows, true where a frame of the front-end is hidden.
    pub hidden: Vec<Vec<bool>>,
    /// The hidden frames, where there are any.
    pub places: Option<Rc<Places>>,
    /// One entry a tap.
    pub views: Vec<View>,
}

/// The frames of one tap. Padding is neither masked nor unmasked.
pub struct View {
    pub masked: Chosen,
    pub unmasked: Chosen,
}

/// Some frames of a batch.
pub struct Chosen {
    /// N places in the tap's B · T rows.
    pub places_n: Tensor,
    /// For each set of the tap, N units.
    pub units: Vec<Tensor>,
}

impl Chosen {
    /// N.
    pub fn len(&self) -> usize {
        self.places_n.size()[0] as usize
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Selection {
    /// `hidden` has one row a crop, each as long as [`Labelled::rows`] says.
    ///
    /// Where a hierarchy lowers the rate, it samples masks down with the frames and repeats them on the way up: the loss takes the mask of
    /// `lowest` frames from the first of them (fairseq `multires_hubert`), although the mask embedding replaced the frames of `hidden`.
    pub fn new(
        labelled: &Labelled,
        crops: &[Crop],
        hidden: Vec<Vec<bool>>,
        taps: &[Tap],
        lowest: u64,
        device: Device,
    ) -> Self {
        let width = hidden.iter().map(Vec::len).max().unwrap_or(0);
        let views = taps
            .iter()
            .map(|tap| {
                let (mut masked, mut unmasked) = (Growing::new(tap), Growing::new(tap));
                for (row, (crop, hidden)) in crops.iter().zip(&hidden).enumerate() {
                    let frames = hidden.len().div_ceil(tap.ratio as usize) as u64;
                    for t in 0..frames {
                        let first = (t * tap.ratio / lowest) * lowest;
                        let side = if hidden[first as usize] { &mut masked } else { &mut unmasked };
                        side.places.push((row * width.div_ceil(tap.ratio as usize)) as i64 + t as i64);
                        for (units, set) in side.units.iter_mut().zip(tap.sets.clone()) {
                            units.push(labelled.unit(crop, set, t * tap.ratio * labelled.framing.stride));
                        }
                    }
                }
                View { masked: masked.tensors(device), unmasked: unmasked.tensors(device) }
            })
            .collect();
        let masks = Masks { time_bt: Some(mask::tensor(&hidden, width, device)), channel_bd: None };
        let places = Places::new(&hidden, width, device).map(Rc::new);
        Self { masks, hidden, places, views }
    }
}

/// [`Chosen`] while it grows.
struct Growing {
    places: Vec<i64>,
    units: Vec<Vec<i64>>,
}

impl Growing {
    fn new(tap: &Tap) -> Self {
        Self { places: Vec::new(), units: vec![Vec::new(); tap.sets.len()] }
    }

    fn tensors(self, device: Device) -> Chosen {
        let tensor = |values: &Vec<i64>| Tensor::from_slice(values).to_device(device);
        Chosen { places_n: tensor(&self.places), units: self.units.iter().map(tensor).collect() }
    }
}

impl Chosen {
    /// The unit of each frame in the tap's first set, on the CPU.
    pub fn units(&self) -> Vec<i64> {
        // A vector of `i64` was made into this tensor.
        self.units
            .first()
            .map_or_else(Vec::new, |units| Vec::try_from(&units.to_device(Device::Cpu)).expect("whole numbers"))
    }
}
