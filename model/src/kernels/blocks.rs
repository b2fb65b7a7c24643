//! The halves of a Transformer block in bfloat16, each one function with a backward pass by hand. For training on a CPU.

use std::ffi::c_char;
use std::ptr;

use tch::Tensor;

use super::{Pointer, draw_key, made, pointer};
use crate::layers::Linear;

unsafe extern "C" {
    fn reprise_attention_block(
        residual: Pointer,
        x: Pointer,
        queries: Pointer,
        kept: Pointer,
        weights: *const Pointer,
        seen: Pointer,
        heads: i64,
        p: *const f64,
        keys: *const u64,
        out: *mut Pointer,
    ) -> *mut c_char;
    fn reprise_feed_forward_block(
        residual: Pointer,
        x: Pointer,
        weights: *const Pointer,
        p: *const f64,
        keys: *const u64,
        out: *mut Pointer,
    ) -> *mut c_char;
}

/// Self-attention that is added, with dropout, to a residual.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBlock<'a> {
    pub query: &'a Linear,
    pub key: &'a Linear,
    pub value: &'a Linear,
    pub out: &'a Linear,
    pub heads: i64,
    /// Probability of dropout of shares.
    pub inner_dropout: f64,
    /// Probability of dropout of what is added.
    pub outer_dropout: f64,
}

/// Frames that a last layer asks for alone: queries B × Q × D, and the N places in their B · Q rows that it gives.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub queries: &'a Tensor,
    pub kept: &'a Tensor,
}

impl AttentionBlock<'_> {
    /// `residual` (B × T × D, or N × D where N are asked for) and what frames (B × T × D) attend to, in `f32`; `keys_bt` is true where
    /// frames may be attended to.
    pub fn add(&self, residual: &Tensor, x_btd: &Tensor, asked: Option<Asked<'_>>, keys_bt: Option<&Tensor>) -> Tensor {
        self.add_by(keys([self.inner_dropout, self.outer_dropout]), residual, x_btd, asked, keys_bt)
    }

    pub(super) fn add_by(
        &self,
        random_keys: [u64; 2],
        residual: &Tensor,
        x_btd: &Tensor,
        asked: Option<Asked<'_>>,
        keys_bt: Option<&Tensor>,
    ) -> Tensor {
        let weights = weights(&[self.query, self.key, self.value, self.out]);
        let of = |tensor: Option<&Tensor>| tensor.map_or(ptr::null_mut(), pointer);
        let (queries, kept) = (of(asked.map(|asked| asked.queries)), of(asked.map(|asked| asked.kept)));
        let (seen, p) = (of(keys_bt), [self.inner_dropout, self.outer_dropout]);
        let (weights, p, random_keys) = (weights.as_ptr(), p.as_ptr(), random_keys.as_ptr());
        let (residual, x) = (pointer(residual), pointer(x_btd));
        // SAFETY: pointers are null or of tensors that outlive the call, as the lists do; eight weights, two probabilities, two keys.
        made(|out| unsafe {
            reprise_attention_block(residual, x, queries, kept, weights, seen, self.heads, p, random_keys, out)
        })
    }
}

/// Two projections with GELU between them, which are added, with dropout, to a residual.
#[derive(Clone, Copy, Debug)]
pub struct FeedForwardBlock<'a> {
    pub intermediate: &'a Linear,
    pub output: &'a Linear,
    /// Probability of dropout behind GELU.
    pub inner_dropout: f64,
    /// Probability of dropout of what is added.
    pub outer_dropout: f64,
}

impl FeedForwardBlock<'_> {
    /// `residual` and what the projections make of `x`, of one shape in `f32`.
    pub fn add(&self, residual: &Tensor, x: &Tensor) -> Tensor {
        self.add_by(keys([self.inner_dropout, self.outer_dropout]), residual, x)
    }

    pub(super) fn add_by(&self, random_keys: [u64; 2], residual: &Tensor, x: &Tensor) -> Tensor {
        let (weights, p) = (weights(&[self.intermediate, self.output]), [self.inner_dropout, self.outer_dropout]);
        let (weights, p, random_keys) = (weights.as_ptr(), p.as_ptr(), random_keys.as_ptr());
        // SAFETY: of tensors that outlive the call, as the lists do; four weights, two probabilities, two keys.
        made(|out| unsafe { reprise_feed_forward_block(pointer(residual), pointer(x), weights, p, random_keys, out) })
    }
}

fn keys(probabilities: [f64; 2]) -> [u64; 2] {
    probabilities.map(|p| if p > 0.0 { draw_key() } else { 0 })
}

fn weights(projections: &[&Linear]) -> Vec<Pointer> {
    projections.iter().flat_map(|linear| [pointer(&linear.weight), pointer(&linear.bias)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::super::dropout_by;
    use super::*;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn leaf(size: &[i64], scale: f64) -> Tensor {
        (Tensor::randn(size, CPU) * scale).set_requires_grad(true)
    }

    fn linear(inputs: i64, outputs: i64) -> Linear {
        let scale = (inputs as f64).sqrt().recip();
        Linear { weight: leaf(&[outputs, inputs], scale), bias: leaf(&[outputs], 0.5) }
    }

    /// The same in double precision, to learn by itself.
    fn exact(x: &Tensor) -> Tensor {
        x.detach().to_kind(Kind::Double).set_requires_grad(true)
    }

    fn project(x: &Tensor, weights: &[Tensor]) -> Tensor {
        x.linear(&weights[0], Some(&weights[1]))
    }

    /// What dropout multiplies by.
    fn factor(size: &[i64], p: f64, key: u64) -> Tensor {
        let ones = Tensor::ones(size, CPU);
        if p > 0.0 { dropout_by(key, None, &ones, p) } else { ones }.to_kind(Kind::Double)
    }

    /// Output and gradients are those of double precision to a fortieth of their size, and what rounding leaves of sums that cancel, as those of
    /// a key's bias do.
    fn compare(found: &Tensor, expected: &Tensor, inputs: &[&Tensor], exact: &[&Tensor]) -> Result<(), TestCaseError> {
        let direction = Tensor::randn(found.size(), CPU);
        let gradients = |y: &Tensor, direction: &Tensor, inputs: &[&Tensor]| {
            Tensor::run_backward(&[(y * direction).sum(Kind::Double)], inputs, false, false)
        };
        let mut pairs = vec![(found.detach(), expected.detach())];
        let of_found = gradients(found, &direction, inputs);
        pairs.extend(of_found.into_iter().zip(gradients(expected, &direction.to_kind(Kind::Double), exact)));
        for (index, (found, expected)) in pairs.iter().enumerate() {
            prop_assert_eq!((found.size(), found.kind()), (expected.size(), Kind::Float), "{}", index);
            let size = |x: &Tensor| x.square().mean(Kind::Double).sqrt().double_value(&[]);
            let (distance, room) = (size(&(found.to_kind(Kind::Double) - expected)), 0.025 * size(expected) + 0.2);
            prop_assert!(distance < room, "{} where {} may be, number {}", distance, room, index);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn feed_forward_and_its_gradients_are_the_formula_s(
            rows in 1i64..80, width in 1i64..40, inner in 5i64..70, alone in any::<bool>(),
            inner_dropout in prop_oneof![Just(0.0), 0.0f64..0.5], outer_dropout in prop_oneof![Just(0.0), 0.0f64..0.5], keys: [u64; 2],
        ) {
            let (intermediate, output) = (linear(width, inner), linear(inner, width));
            let x = leaf(&[rows, width], 1.0);
            let residual = if alone { x.shallow_clone() } else { leaf(&[rows, width], 1.0) };
            let block = FeedForwardBlock { intermediate: &intermediate, output: &output, inner_dropout, outer_dropout };
            let found = block.add_by(keys, &residual, &x);
            let mut inputs = vec![&x, &intermediate.weight, &intermediate.bias, &output.weight, &output.bias];
            if !alone {
                inputs.push(&residual);
            }
            let exact: Vec<Tensor> = inputs.iter().map(|x| exact(x)).collect();
            let active = project(&exact[0], &exact[1..3]).gelu("none") * factor(&[rows, inner], inner_dropout, keys[0]);
            let added = project(&active, &exact[3..5]) * factor(&[rows, width], outer_dropout, keys[1]);
            let expected = exact.get(5).unwrap_or(&exact[0]) + added;
            compare(&found, &expected, &inputs, &exact.iter().collect::<Vec<_>>())?;
        }

        #[test]
        fn attention_and_its_gradients_are_the_formula_s(
            rows in 1i64..4, frames in 1i64..40, heads in 1i64..4, width in 1i64..20, asks in any::<bool>(), padded in any::<bool>(),
            alone in any::<bool>(), inner_dropout in prop_oneof![Just(0.0), 0.0f64..0.5],
            outer_dropout in prop_oneof![Just(0.0), 0.0f64..0.5], random_keys: [u64; 2],
        ) {
            let all = heads * width;
            let [query, key, value, out] = [(); 4].map(|()| linear(all, all));
            let x = leaf(&[rows, frames, all], 1.0);
            // Every other frame and the first, of which the last row gives one less where it has more.
            let places = Tensor::arange_start_step(0, frames, 2, (Kind::Int64, Device::Cpu));
            let asked = asks.then(|| x.index_select(1, &places).detach().set_requires_grad(true));
            let queries = asked.as_ref().map_or(frames, |asked| asked.size()[1]);
            let kept = Tensor::arange((rows * queries - 1).max(1), (Kind::Int64, Device::Cpu));
            let size = if asks { vec![kept.size()[0], all] } else { vec![rows, frames, all] };
            let residual = if alone && !asks { x.shallow_clone() } else { leaf(&size, 1.0) };
            let lengths: Vec<u64> = (0..rows).map(|row| (frames - row.min(frames - 1)) as u64).collect();
            let keys_bt = padded.then(|| crate::encoder::padding(&lengths, frames, Device::Cpu).logical_not());
            let block = AttentionBlock {
                query: &query, key: &key, value: &value, out: &out, heads, inner_dropout, outer_dropout,
            };
            let asked_for = asked.as_ref().map(|queries| Asked { queries, kept: &kept });
            let found = block.add_by(random_keys, &residual, &x, asked_for, keys_bt.as_ref());
            let mut inputs = vec![&x];
            inputs.extend([&query, &key, &value, &out].into_iter().flat_map(|linear| [&linear.weight, &linear.bias]));
            inputs.extend(&asked);
            if asks || !alone {
                inputs.push(&residual);
            }
            let exact: Vec<Tensor> = inputs.iter().map(|x| exact(x)).collect();
            let asking = if asks { &exact[9] } else { &exact[0] };
            let split = |x: &Tensor, weights: &[Tensor]| {
                project(x, weights).view([rows, -1, heads, width]).transpose(1, 2)
            };
            let (q, k, v) = (split(asking, &exact[1..3]), split(&exact[0], &exact[3..5]), split(&exact[0], &exact[5..7]));
            let mut scores = q.matmul(&k.transpose(2, 3)) / (width as f64).sqrt();
            if let Some(keys_bt) = &keys_bt {
                scores = scores.masked_fill(&keys_bt.logical_not().unsqueeze(1).unsqueeze(1), f64::NEG_INFINITY);
            }
            let shares = scores.softmax(-1, None::<Kind>) * factor(&[rows, heads, queries, frames], inner_dropout, random_keys[0]);
            let y = shares.matmul(&v).transpose(1, 2).reshape([rows, queries, all]);
            let y = if asks { y.flatten(0, 1).index_select(0, &kept) } else { y };
            let added = project(&y, &exact[7..9]) * factor(&size, outer_dropout, random_keys[1]);
            let onto = if asks || !alone { &exact[exact.len() - 1] } else { &exact[0] };
            compare(&found, &(onto + added), &inputs, &exact.iter().collect::<Vec<_>>())?;
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (query, key, value, out) = (linear(24, 24), linear(24, 24), linear(24, 24), linear(24, 24));
        let (intermediate, output) = (linear(24, 40), linear(40, 24));
        let x = leaf(&[3, 71, 24], 1.0);
        let all = |threads: i32| {
            tch::set_num_threads(threads);
            let block = AttentionBlock {
                query: &query,
                key: &key,
                value: &value,
                out: &out,
                heads: 2,
                inner_dropout: 0.1,
                outer_dropout: 0.1,
            };
            let y = block.add_by([1, 2], &x, &x, None, None);
            let block = FeedForwardBlock {
                intermediate: &intermediate,
                output: &output,
                inner_dropout: 0.1,
                outer_dropout: 0.1,
            };
            let y = block.add_by([3, 4], &y, &y);
            let inputs = [&x, &query.weight, &key.bias, &value.weight, &out.bias, &intermediate.bias, &output.bias];
            Tensor::run_backward(&[(&y * &y).sum(Kind::Float)], &inputs, false, false)
        };
        let before = tch::get_num_threads();
        let (one, three) = (all(1), all(3));
        tch::set_num_threads(before);
        // Matrix products may sum in another order with other threads; here they are too small to be shared.
        for (one, three) in one.iter().zip(&three) {
            assert!(one.equal(three));
        }
    }
}
