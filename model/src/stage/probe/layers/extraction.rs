//! One pass of every utterance through the network, in which everything that layers are measured by is gathered: means of segments, sampled
//! frames, and the clusters of frames.

use reprise_spec::arithmetic::{FRAME_STRIDE, FRAME_WINDOW, frame_centre, frames};
use reprise_spec::network::FeatureKind;
use reprise_spec::probing::Analysis;
use reprise_spec::stage::LayersStage;
use tch::{Device, Tensor};

use super::material::{Material, Sampling, Subject};
use crate::alignment::phone_at;
use crate::analysis::frames::{FrameSample, Rows, mel_at};
use crate::analysis::sample::{Grid, Pool, Portion};
use crate::analysis::similarity::Attention;
use crate::failure::StageError;
use crate::features::{Extractor, MEL_BINS};
use crate::hidden_states::HiddenStates;
use crate::kmeans::{self, Centroids, Moment};
use crate::stage::Work;

/// A phone and the cluster of a frame.
pub type Pair = (u8, u16);

/// What is gathered while utterances pass.
pub struct Extraction<'a> {
    settings: &'a LayersStage,
    hidden: &'a HiddenStates,
    material: &'a Material,
    mel: Option<Extractor>,
    samplings: Vec<Gathering<'a>>,
    looks: Vec<Vec<Look>>,
    done: u64,
}

/// Where the heads of a layer look in one utterance, on average, and where heads look that look everywhere alike.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub found: Attention,
    pub uniform: Attention,
}

/// What one sampling gathers.
struct Gathering<'a> {
    sampling: &'a Sampling,
    /// Of words and of phones.
    pools: Vec<Pool<'a>>,
    /// Of each layer.
    frames: Vec<Rows>,
    mel: Vec<Rows>,
    /// Of each layer, one for each size.
    codebooks: Vec<Vec<Centroids>>,
    pairs: Vec<Vec<Vec<Pair>>>,
}

/// What one sampling has gathered, layer by layer.
pub struct Gathered {
    /// N × D, in the order of the sample's segments.
    pub words: Vec<Tensor>,
    pub phones: Vec<Tensor>,
    /// N × D.
    pub frames: Vec<Tensor>,
    /// N × 80, at the layer's rate.
    pub mel: Vec<Tensor>,
    /// For each size of codebook, on utterances that didn't fit it.
    pub pairs: Vec<Vec<Vec<Pair>>>,
}

impl<'a> Extraction<'a> {
    /// Nothing gathered yet.
    pub fn new(
        settings: &'a LayersStage,
        hidden: &'a HiddenStates,
        material: &'a Material,
        samplings: &'a [Sampling],
        device: Device,
    ) -> Self {
        let width = hidden.width() as usize;
        let grid = |state| Grid { stride: hidden.stride(state), window: FRAME_WINDOW, width };
        let grids: Vec<Grid> = hidden.states().iter().map(grid).collect();
        let has = |analysis: Analysis| settings.analyses.contains(&analysis);
        let gathering = |sampling: &'a Sampling| {
            let pool =
                |sample: &'a Option<_>, portion| sample.as_ref().map(|sample| Pool::new(sample, portion, &grids));
            let words = pool(&sampling.words, Portion::Whole);
            let phones = pool(&sampling.phones, Portion::MiddleThird);
            let rows = |width| {
                let count = sampling.frames.as_ref().map(|frames| frames.count);
                count.into_iter().flat_map(|count| grids.iter().map(move |_| Rows::new(count, width))).collect()
            };
            Gathering {
                sampling,
                pools: words.into_iter().chain(phones).collect(),
                frames: rows(width),
                mel: if has(Analysis::CcaMel) { rows(MEL_BINS) } else { Vec::new() },
                codebooks: Vec::new(),
                pairs: Vec::new(),
            }
        };
        let mel = has(Analysis::CcaMel).then(|| Extractor::new(FeatureKind::LogMel, device));
        let samplings = samplings.iter().map(gathering).collect();
        let looks = if has(Analysis::Attention) { vec![Vec::new(); grids.len() - 1] } else { Vec::new() };
        Self { settings, hidden, material, mel, samplings, looks, done: 0 }
    }

    /// Lets the utterances pass that codebooks are fitted on, or the others.
    pub fn pass(&mut self, fits: bool, work: &mut Work) -> Result<(), StageError> {
        let material = self.material;
        for subject in material.subjects.iter().filter(|subject| subject.fits == fits) {
            work.report.check_stop()?;
            if self.needs(subject) {
                self.take(subject, work.device)?;
            }
            self.done += 1;
            work.report.progress(self.done, material.subjects.len() as u64, "utterances", &subject.name);
        }
        Ok(())
    }

    /// Fits the codebooks of frames, where any are asked for. Call between the two passes.
    pub fn fit_codebooks(&mut self, work: &mut Work) -> Result<(), StageError> {
        if !self.settings.analyses.contains(&Analysis::Pnmi) {
            return Ok(());
        }
        let sizes = &self.settings.layers.clusters.frames;
        let clustering = &self.settings.layers.clustering;
        let total = (self.samplings.len() * self.hidden.states().len() * sizes.len()) as u64;
        let mut done = 0;
        for gathering in &mut self.samplings {
            for rows in &gathering.frames {
                let frames_nd = rows.tensor().to_device(work.device);
                let mut codebooks = Vec::new();
                for size in sizes {
                    let mut watch = |_: Moment| work.report.check_stop();
                    let size = size.get() as usize;
                    let fit = kmeans::fit(&frames_nd, size, clustering, gathering.sampling.seed, &mut watch)?;
                    codebooks.push(fit.centroids);
                    done += 1;
                    work.report.progress(done, total, "codebooks", "fitting");
                }
                gathering.codebooks.push(codebooks);
                gathering.pairs.push(vec![Vec::new(); sizes.len()]);
            }
        }
        Ok(())
    }

    /// What was gathered, one for each sampling; and of every layer from the first on, where heads look in each utterance.
    pub fn finish(self) -> Result<(Vec<Gathered>, Vec<Vec<Look>>), StageError> {
        let tensors = |rows: Vec<Rows>| rows.into_iter().map(Rows::into_tensor).collect();
        let finish = |Gathering { sampling, pools, frames, mel, pairs, .. }| {
            let mut pools = pools.into_iter().map(Pool::finish);
            let mut pooled = |wanted: bool| if wanted { pools.next() } else { None }.unwrap_or_else(|| Ok(Vec::new()));
            let words = pooled(sampling.words.is_some())?;
            let phones = pooled(sampling.phones.is_some())?;
            Ok(Gathered { words, phones, frames: tensors(frames), mel: tensors(mel), pairs })
        };
        let gathered: Result<Vec<Gathered>, StageError> = self.samplings.into_iter().map(finish).collect();
        Ok((gathered?, self.looks))
    }

    /// Whether anything is gathered from an utterance.
    fn needs(&self, subject: &Subject) -> bool {
        let of = |gathering: &Gathering| {
            let sampled = |frames: &FrameSample| frames.at.contains_key(&subject.name);
            gathering.pools.iter().any(|pool| pool.wants(&subject.name))
                || subject.fits && gathering.sampling.frames.as_ref().is_some_and(sampled)
                || !subject.fits && !gathering.codebooks.is_empty()
        };
        !self.looks.is_empty() || self.samplings.iter().any(of)
    }

    fn take(&mut self, subject: &Subject, device: Device) -> Result<(), StageError> {
        let Self { hidden, material, .. } = *self;
        let counts: Vec<u64> = hidden.states().iter().map(|state| hidden.frames(state, subject.samples)).collect();
        for pool in self.samplings.iter_mut().flat_map(|gathering| &mut gathering.pools) {
            if pool.wants(&subject.name) {
                pool.begin(&subject.name, subject.samples, &counts)?;
            }
        }
        if counts.contains(&0) {
            return Ok(());
        }
        let wave = material.wave(subject)?;
        let mel = self.mel.as_ref().filter(|_| subject.fits).map(|mel| -> Result<Tensor, StageError> {
            let wave_1s = Tensor::f_from_slice(&wave)?.f_to_device(device)?.unsqueeze(0);
            Ok(tch::no_grad(|| mel.forward(&wave_1s)).squeeze_dim(0))
        });
        let mel = mel.transpose()?;
        let states = if self.looks.is_empty() { hidden.whole(wave)? } else { self.look(wave, &counts)? };
        let phones = phones_of(material, subject);
        for gathering in &mut self.samplings {
            gathering.pool(&states)?;
            if subject.fits {
                gathering.sample(&subject.name, hidden, &states, mel.as_ref())?;
            } else {
                gathering.label(&phones, hidden, &states);
            }
        }
        Ok(())
    }

    /// The states of a wave, with a note of where heads look.
    fn look(&mut self, wave: Vec<f32>, counts: &[u64]) -> Result<Vec<Tensor>, StageError> {
        let (states, glances) = self.hidden.look(wave)?;
        let (depth, pieces) = (self.looks.len(), glances.len() / self.looks.len());
        for (layer, looks) in self.looks.iter_mut().enumerate() {
            let heads: Vec<&Attention> = glances.iter().skip(layer).step_by(depth).flatten().collect();
            let mean = |of: fn(&Attention) -> f64| heads.iter().map(|head| of(head)).sum::<f64>() / heads.len() as f64;
            let found = Attention { distance: mean(|head| head.distance), diagonality: mean(|head| head.diagonality) };
            looks.push(Look { found, uniform: Attention::uniform(counts[layer + 1].div_ceil(pieces as u64)) });
        }
        Ok(states)
    }
}

impl Gathering<'_> {
    fn pool(&mut self, states: &[Tensor]) -> Result<(), StageError> {
        for pool in self.pools.iter_mut().filter(|pool| pool.is_open()) {
            for (layer, state_td) in states.iter().enumerate() {
                pool.add(layer, state_td)?;
            }
            pool.end()?;
        }
        Ok(())
    }

    /// Takes the sampled frames; their moments lie on the grid of the slowest layer.
    fn sample(
        &mut self,
        name: &str,
        hidden: &HiddenStates,
        states: &[Tensor],
        mel: Option<&Tensor>,
    ) -> Result<(), StageError> {
        let Some((first, at)) = self.sampling.frames.as_ref().and_then(|frames| frames.at.get(name)) else {
            return Ok(());
        };
        let strides: Vec<u64> = hidden.states().iter().map(|state| hidden.stride(state)).collect();
        for (layer, (state_td, stride)) in states.iter().zip(&strides).enumerate() {
            let at = at_layer(at, &strides, layer);
            self.frames[layer].put(*first, state_td, &at)?;
            if let (Some(rows), Some(mel_tm)) = (self.mel.get_mut(layer), mel) {
                rows.put(*first, &mel_at(mel_tm, *stride, state_td.size()[0] as u64), &at)?;
            }
        }
        Ok(())
    }

    /// Pairs the phone of each frame of 20 ms with the cluster of the layer's frame that it lies in.
    fn label(&mut self, phones: &[Option<u8>], hidden: &HiddenStates, states: &[Tensor]) {
        let layers = hidden.states().iter().zip(states).zip(self.codebooks.iter().zip(&mut self.pairs));
        for ((state, state_td), (codebooks, pairs)) in layers {
            let stride = hidden.stride(state);
            for (centroids, pairs) in codebooks.iter().zip(pairs) {
                let labels = centroids.assign(state_td).labels();
                let label = |t: usize| labels[(t as u64 * FRAME_STRIDE / stride) as usize];
                pairs.extend(phones.iter().enumerate().filter_map(|(t, phone)| Some(((*phone)?, label(t)))));
            }
        }
    }
}

/// The frames of a layer at the moments that were drawn on the grid of the slowest.
pub fn at_layer(at: &[u64], strides: &[u64], layer: usize) -> Vec<i64> {
    let slowest = strides.iter().copied().max().unwrap_or(FRAME_STRIDE);
    at.iter().map(|t| (t * (slowest / strides[layer])) as i64).collect()
}

/// The phone at the centre of every frame of 20 ms; none where the aligner found none, or phones aren't read.
fn phones_of(material: &Material, subject: &Subject) -> Vec<Option<u8>> {
    let Some(intervals) = material.phones.get(&subject.name) else { return Vec::new() };
    let phone = |t| phone_at(intervals, frame_centre(t)).map(|phone| phone.index() as u8);
    (0..frames(subject.samples)).map(phone).collect()
}
