//! How alike the layers of two models of one training are.

use reprise_spec::layers::Curve;
use reprise_spec::probing::Analysis;
use reprise_spec::stage::Role;
use tch::Tensor;

use super::extraction::at_layer;
use super::material::{Material, Sampling};
use super::scoring::{One, Scorer};
use crate::analysis::streamed::{Likeness, Streamed};
use crate::failure::StageError;
use crate::hidden_states::{HiddenStates, every_layer};
use crate::quality::{Spread, Verdict};

/// CKA of every layer with the same layer of the model among the inputs, on the same frames. Utterances pass through both models; of their frames
/// only sums are held.
pub fn curve(
    hidden: &HiddenStates,
    material: &Material,
    samplings: &[Sampling],
    scorer: &mut Scorer,
) -> Result<Curve, StageError> {
    let (work, analysis) = (&mut *scorer.work, Analysis::CkaSteps);
    let reference = HiddenStates::load(work.input(&Role::Reference)?, work.device, |network| Ok(every_layer(network)))?;
    if reference.settings != hidden.settings {
        return Err(StageError::Failed("the models that are compared are different networks".into()));
    }
    let strides: Vec<u64> = hidden.states().iter().map(|state| hidden.stride(state)).collect();
    let width = hidden.width() as i64;
    let mut sums: Vec<Vec<Streamed>> =
        samplings.iter().map(|_| strides.iter().map(|_| Streamed::new(width, width)).collect()).collect();
    let subjects: Vec<_> = material.subjects.iter().filter(|subject| subject.fits).collect();
    for (done, subject) in (1..).zip(&subjects) {
        work.report.check_stop()?;
        let drawn = |sampling: &Sampling| sampling.frames.as_ref()?.at.get(&subject.name).map(|(_, at)| at.clone());
        let drawn: Vec<Option<Vec<u64>>> = samplings.iter().map(drawn).collect();
        if drawn.iter().any(Option::is_some) {
            let wave = material.wave(subject)?;
            let (states, others) = (hidden.whole(wave.clone())?, reference.whole(wave)?);
            for (at, sums) in drawn.iter().zip(&mut sums) {
                let Some(at) = at else { continue };
                for (layer, sum) in sums.iter_mut().enumerate() {
                    let at = Tensor::from_slice(&at_layer(at, &strides, layer)).to_device(work.device);
                    let rows = |states: &[Tensor]| states[layer].f_index_select(0, &at);
                    sum.add(&rows(&states)?, &rows(&others)?)?;
                }
            }
        }
        work.report.progress(done, subjects.len() as u64, "utterances", &subject.name);
    }
    scorer.curve(analysis, analysis.word(), samplings.len(), &|layer, index| {
        let Likeness { cka, null } = sums[index][layer].likeness()?;
        Ok(One {
            samples: samplings[index].frames.as_ref().map_or(0, |frames| frames.count as u64),
            sizes: vec![width as u64, width as u64],
            values: vec![cka],
            null: Some(Spread::of(&[null])),
            verdict: Verdict::Sound,
        })
    })
}
