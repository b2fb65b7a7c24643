//! A training step of HuBERT as benchmarks take it: forward, loss at masked frames with the front-end's penalty, backward, clipping and AdamW,
//! on noise.

#![allow(dead_code)] // every benchmark uses a part

use std::rc::Rc;

use reprise_model::encoder::{Keep, Mode, Places};
use reprise_model::head::Head;
use reprise_model::hubert::{Hubert, Masks, Taps};
use reprise_model::optimiser::Adam;
use reprise_model::shim::Autocast;
use reprise_spec::network::Network;
use reprise_spec::training::Pretraining;
use reprise_spec::values::Clusters;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::versus::{Measured, timed};

/// One size of network, batch and precision.
#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    pub what: &'static str,
    pub network: Network,
    pub pretraining: Pretraining,
    pub device: Device,
    /// Passes forward and backward whose gradients one step takes.
    pub passes: usize,
    /// Of a pass.
    pub rows: i64,
    pub samples: i64,
    pub clusters: u64,
    pub half: bool,
    pub recompute: bool,
    pub wanted: f64,
    pub rounds: usize,
}

impl Case {
    /// HuBERT BASE on the CPU, two rows of ten seconds.
    pub fn base(name: &'static str, what: &'static str, half: bool) -> Self {
        Self {
            name,
            what,
            network: Network::default(),
            pretraining: Pretraining::default(),
            device: Device::Cpu,
            passes: 1,
            rows: 2,
            samples: 160_000,
            clusters: 500,
            half,
            recompute: false,
            wanted: 1.3,
            rounds: 7,
        }
    }
}

/// A network that is trained on noise.
pub struct Ours {
    case: Case,
    store: VarStore,
    hubert: Hubert,
    head: Head,
    adam: Adam,
    wave_bs: Tensor,
    masks: Masks,
    places: Rc<Places>,
    units_n: Tensor,
}

impl Ours {
    /// Random weights and noise.
    pub fn new(case: Case) -> Self {
        tch::manual_seed(1);
        let device = case.device;
        let store = VarStore::new(device);
        let hubert = Hubert::new(&store.root(), &case.network);
        let clusters = [Clusters::try_from(case.clusters).expect("in range")];
        let head = Head::new(&store.root(), &case.network, &case.pretraining.head, &clusters);
        let adam = Adam::new(&store, &case.pretraining.optimiser);
        let wave_bs = Tensor::randn([case.rows, case.samples], (Kind::Float, device));
        let frames = reprise_spec::arithmetic::frames(case.samples as u64) as i64;
        // Every other frame, as many as the published settings hide.
        let time_bt = Tensor::arange(frames, (Kind::Int64, device)).remainder(2).eq(0).repeat([case.rows, 1]);
        let masked = time_bt.sum(Kind::Int64).int64_value(&[]);
        let units_n = Tensor::randint(case.clusters as i64, [masked], (Kind::Int64, device));
        let hidden = vec![(0..frames).map(|frame| frame % 2 == 0).collect(); case.rows as usize];
        let places = Places::new(&hidden, frames as usize, device).expect("some frames").into();
        let masks = Masks { time_bt: Some(time_bt), channel_bd: None };
        Self { case, store, hubert, head, adam, wave_bs, masks, places, units_n }
    }

    /// The loss of a pass.
    pub fn forward(&self) -> Tensor {
        let skipped = vec![false; self.hubert.depth()];
        let keep = if self.case.recompute { Keep::Inputs { shown: &[] } } else { Keep::All };
        let mode = Mode::Train { skipped: &skipped, keep };
        let pass = {
            let _autocast = self.case.half.then(|| Autocast::set(self.case.device, true).expect("autocast"));
            self.hubert.forward(&self.wave_bs, None, &self.masks, mode, Taps::OutputAt(&self.places))
        };
        let score = self.head.score(&self.places.of(&pass.outputs[0]), &[self.units_n.shallow_clone()]).remove(0);
        (score.loss / score.frames as f64 + pass.penalty * 10.0) / self.case.passes as f64
    }

    /// Moves the parameters along the gradients of all passes.
    pub fn optimise(&mut self) {
        self.hubert.scale_front_end_gradients(0.1);
        let gradients = self.adam.gradients();
        self.adam.step_at(5e-4, gradients).expect("a step");
    }

    /// A step; gives the loss.
    pub fn step(&mut self) -> f64 {
        let mut losses = Vec::with_capacity(self.case.passes);
        for _ in 0..self.case.passes {
            let loss = self.forward();
            loss.backward();
            losses.push(loss.detach());
        }
        self.optimise();
        // On a GPU this waits for what was asked for before.
        Tensor::stack(&losses, 0).sum(Kind::Float).double_value(&[])
    }

    pub fn measure(&mut self) -> Measured {
        let (loss, mut measured) = timed(|| self.step());
        measured.insert("loss".into(), loss);
        measured
    }

    pub fn parameters(&self) -> usize {
        self.store.trainable_variables().iter().map(Tensor::numel).sum()
    }
}
