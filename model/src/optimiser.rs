//! Adam with decoupled weight decay, its state ours, so that a run can continue to the bit.
//!
//! Source: fairseq `Adam`: p −= η·λ·p, then p −= η·√(1−β₂ᵗ)/(1−β₁ᵗ) · m/(√v + ε), with ε outside the bias correction. libtorch's fused
//! step has √v/√(1−β₂ᵗ) + ε′ below m, which is the same with ε′ = ε/√(1−β₂ᵗ), and PyTorch's own placement with ε′ = ε.
//!
//! A parameter without a gradient (a layer that was skipped) takes part with a gradient of zero, as in fairseq with flat parameters.

use reprise_spec::training::{self, EpsilonPlacement};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use crate::failure::StageError;
use crate::shim::{self, AdamW};

/// The optimiser of some parameters, in the order of their names.
#[derive(Debug)]
pub struct Adam {
    settings: training::Adam,
    names: Vec<String>,
    parameters: Vec<Tensor>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    step: u64,
}

/// One parameter with its moments, for checkpoints.
#[derive(Debug)]
pub struct Slot<'a> {
    pub name: &'a str,
    pub parameter: &'a Tensor,
    pub first: &'a Tensor,
    pub second: &'a Tensor,
}

/// The gradients of all parameters, in the order of their names.
#[derive(Debug)]
pub struct Gradients {
    all: Vec<Tensor>,
    /// Of all of them together, before clipping.
    pub norm: f64,
}

impl Adam {
    /// Optimises the trainable parameters of `store`; frozen ones are left alone for good.
    pub fn new(store: &VarStore, settings: &training::Adam) -> Self {
        let mut named: Vec<(String, Tensor)> =
            store.variables().into_iter().filter(|(_, parameter)| parameter.requires_grad()).collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let (names, parameters): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        let zeros = || parameters.iter().map(Tensor::zeros_like).map(|moment| moment.detach()).collect();
        Self { settings: settings.clone(), first: zeros(), second: zeros(), names, parameters, step: 0 }
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Says how many steps were taken before, after the moments were restored through [`Adam::slots`].
    pub fn continue_after(&mut self, step: u64) {
        self.step = step;
    }

    /// Parameters and moments in the order of names.
    pub fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        (0..self.names.len()).map(|index| Slot {
            name: &self.names[index],
            parameter: &self.parameters[index],
            first: &self.first[index],
            second: &self.second[index],
        })
    }

    /// The gradients of the last backward pass; nothing is moved yet.
    pub fn gradients(&self) -> Gradients {
        let of = |parameter: &Tensor| {
            let gradient = parameter.grad();
            if gradient.defined() { gradient } else { parameter.zeros_like().detach() }
        };
        let all: Vec<Tensor> = self.parameters.iter().map(of).collect();
        let norms: Vec<Tensor> = all.iter().map(|gradient| gradient.norm()).collect();
        let norm = Tensor::stack(&norms, 0).norm().double_value(&[]);
        Gradients { all, norm }
    }

    /// Clips the gradients, moves the parameters at `rate`, and clears the gradients.
    pub fn step_at(&mut self, rate: f64, Gradients { all, norm }: Gradients) -> Result<(), StageError> {
        if let Some(most) = self.settings.clip {
            let scale = most.get() / (norm + 1e-6);
            if scale < 1.0 {
                for gradient in &all {
                    let _ = gradient.shallow_clone().g_mul_scalar_(scale);
                }
            }
        }
        self.step += 1;
        let count = |parameter: &Tensor| Tensor::full([0i64; 0], self.step as f64, (Kind::Float, parameter.device()));
        let count = self.parameters.first().map(count);
        let steps: Vec<Tensor> = count.iter().cycle().take(all.len()).map(Tensor::shallow_clone).collect();
        let (beta1, beta2) = (self.settings.beta1.get(), self.settings.beta2.get());
        let epsilon = self.settings.epsilon.get();
        let settings = AdamW {
            rate,
            beta1,
            beta2,
            weight_decay: self.settings.weight_decay.get(),
            epsilon: match self.settings.epsilon_placement {
                EpsilonPlacement::Outside => epsilon / (1.0 - beta2.powi(self.step as i32)).sqrt(),
                EpsilonPlacement::Inside => epsilon,
            },
        };
        shim::adamw(&self.parameters, &all, &self.first, &self.second, &steps, settings)?;
        self.clear()
    }

    /// Clears the gradients without a step.
    pub fn clear(&mut self) -> Result<(), StageError> {
        shim::clear_gradients(&self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use reprise_spec::values::{Fraction, Positive, Weight};
    use tch::Device;
    use tch::nn::Init;

    use super::*;

    /// fairseq's formula, or PyTorch's, in f64, for one number.
    fn reference(settings: &training::Adam, gradients: &[f64], rate: f64) -> f64 {
        let (b1, b2) = (settings.beta1.get(), settings.beta2.get());
        let (mut p, mut m, mut v) = (0.5, 0.0, 0.0);
        for (index, &gradient) in gradients.iter().enumerate() {
            let t = index as i32 + 1;
            let clipped = gradient * settings.clip.map_or(1.0, |most| (most.get() / (gradient.abs() + 1e-6)).min(1.0));
            p -= rate * settings.weight_decay.get() * p;
            m = b1 * m + (1.0 - b1) * clipped;
            v = b2 * v + (1.0 - b2) * clipped * clipped;
            let (first, second, epsilon) = (1.0 - b1.powi(t), (1.0 - b2.powi(t)).sqrt(), settings.epsilon.get());
            p -= match settings.epsilon_placement {
                EpsilonPlacement::Outside => rate * second / first * m / (v.sqrt() + epsilon),
                EpsilonPlacement::Inside => rate / first * m / (v.sqrt() / second + epsilon),
            };
        }
        p
    }

    fn five_steps(settings: &training::Adam) -> f64 {
        let store = VarStore::new(Device::Cpu);
        let p = store.root().var("p", &[1], Init::Const(0.5));
        let mut adam = Adam::new(&store, settings);
        for gradient in GRADIENTS {
            (&p * gradient).sum(Kind::Float).backward();
            let gradients = adam.gradients();
            assert!((gradients.norm - gradient.abs()).abs() < 1e-6);
            adam.step_at(0.05, gradients).unwrap();
        }
        p.double_value(&[0])
    }

    const GRADIENTS: [f64; 5] = [0.3, -0.02, 5.0, 0.0, 0.7];

    #[test]
    fn five_steps_are_the_formula_s_with_epsilon_in_either_place() {
        let settings = |epsilon_placement| training::Adam {
            epsilon: Positive::try_from(0.01).unwrap(), // large, so that its place shows
            epsilon_placement,
            weight_decay: Weight::try_from(0.1).unwrap(),
            beta2: Fraction::try_from(0.98).unwrap(),
            clip: Some(Positive::try_from(2.0).unwrap()),
            ..training::Adam::default()
        };
        let found = [EpsilonPlacement::Outside, EpsilonPlacement::Inside].map(|placement| {
            let settings = settings(placement);
            let (found, expected) = (five_steps(&settings), reference(&settings, &GRADIENTS, 0.05));
            assert!((found - expected).abs() < 1e-6, "{placement:?}: {found} against {expected}");
            found
        });
        assert!((found[0] - found[1]).abs() > 1e-3, "{found:?}");
    }

    #[test]
    fn gradients_that_were_cleared_move_nothing() {
        let store = VarStore::new(Device::Cpu);
        let p = store.root().var("p", &[1], Init::Const(0.5));
        let mut adam = Adam::new(&store, &training::Adam::default());
        (&p * f64::NAN).sum(Kind::Float).backward();
        assert!(adam.gradients().norm.is_nan());
        adam.clear().unwrap();
        assert_eq!((adam.step(), p.double_value(&[0]), adam.gradients().norm), (0, 0.5, 0.0));
    }
}
