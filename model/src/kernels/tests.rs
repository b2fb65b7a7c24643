use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tch::Kind;

use super::*;
use crate::shim::Autocast;

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn far(x: &Tensor, y: &Tensor) -> f64 {
    assert_eq!(x.size(), y.size());
    (x.to_kind(Kind::Double) - y.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Gradients of the sum of `y · direction` to `inputs`.
fn gradients(y: &Tensor, direction: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
    Tensor::run_backward(&[(y * direction).sum(Kind::Float)], inputs, false, false)
}

fn leaf(size: &[i64]) -> Tensor {
    Tensor::randn(size, CPU).set_requires_grad(true)
}

/// The number of an element, as `kernels/random.h` lays them out over ChaCha's blocks.
fn number(key: u64, element: u64) -> u32 {
    let (group, place) = (element / 512, element % 512);
    let (word, half, lane) = (place / 32, place % 32 / 16, place % 16);
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&key.to_le_bytes());
    let mut generator = ChaCha8Rng::from_seed(seed);
    generator.set_word_pos(u128::from((16 * group + lane) * 16 + word));
    generator.next_u32() >> (16 * half) & 0xffff
}

#[test]
fn an_element_is_kept_by_chacha_s_number_of_its_place() {
    let key = 0x0123_4567_89ab_cdef;
    let x = Tensor::ones([3, 701], CPU);
    let y = Vec::<f32>::try_from(dropout_by(key, None, &x, 0.3).flatten(0, -1)).unwrap();
    let threshold = (0.3f64 * 65536.0 + 0.5) as u32;
    let scale = 65536.0 / (65536.0 - threshold as f32);
    for (element, &found) in y.iter().enumerate() {
        let kept = number(key, element as u64) >= threshold;
        assert_eq!(found, if kept { scale } else { 0.0 }, "element {element}");
    }
}

#[test]
fn dropout_keeps_what_it_says_and_its_gradient_is_what_it_multiplied_by() {
    let x = leaf(&[400, 513]);
    let y = dropout(&x, 0.1);
    let factor = gradients(&y, &Tensor::ones([1], CPU), &[&x]).remove(0);
    assert!(far(&y, &(&x * &factor)) == 0.0);
    let kept = factor.gt(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    assert!((kept - 0.9).abs() < 0.003, "{kept}");
    let mean = factor.mean(Kind::Double).double_value(&[]);
    assert!((mean - 1.0).abs() < 0.003, "{mean}");
}

#[test]
fn what_it_is_added_to_passes_its_gradient_on() {
    for (residual, kind) in
        [(Kind::Float, Kind::Float), (Kind::Float, Kind::BFloat16), (Kind::BFloat16, Kind::BFloat16)]
    {
        let x = Tensor::randn([7, 77], CPU).to_kind(kind).set_requires_grad(true);
        let z = Tensor::randn([7, 77], CPU).to_kind(residual).set_requires_grad(true);
        let y = dropout_by(3, Some(&z), &x, 0.2);
        let alone = dropout_by(3, None, &x.to_kind(Kind::Float), 0.2);
        assert_eq!(y.kind(), residual);
        let room = if residual == Kind::Float { 1e-6 } else { 0.05 };
        assert!(far(&y, &(z.to_kind(Kind::Float) + &alone)) < room, "{kind:?}");
        let found = gradients(&y, &Tensor::ones([1], CPU), &[&z, &x]);
        assert!(far(&found[0], &Tensor::ones([7, 77], CPU)) == 0.0 && found[1].kind() == kind);
    }
}

/// In double precision, with the shares that dropout kept given.
fn attention_by_hand(q: &Tensor, k: &Tensor, v: &Tensor, keys_bt: Option<&Tensor>, factor: &Tensor) -> Tensor {
    let scale = (q.size()[3] as f64).sqrt();
    let mut scores = q.matmul(&k.transpose(2, 3)) / scale;
    if let Some(keys_bt) = keys_bt {
        scores = scores.masked_fill(&keys_bt.logical_not().unsqueeze(1).unsqueeze(1), f64::NEG_INFINITY);
    }
    (scores.softmax(-1, None::<Kind>) * factor).matmul(v)
}

/// What dropout multiplies each share by.
fn kept_factor(size: &[i64], p: f64, key: u64) -> Tensor {
    let ones = Tensor::ones(size, CPU);
    if p > 0.0 { dropout_by(key, None, &ones, p) } else { ones }.to_kind(Kind::Double)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn attention_and_its_gradients_are_the_formula_s(
        rows in 1i64..3, heads in 1i64..4, queries in 1i64..70, frames in 1i64..70, width in 1i64..20,
        p in prop_oneof![Just(0.0), 0.0f64..0.5], padded in any::<bool>(), key: u64,
    ) {
        let size = |frames| [rows, heads, frames, width];
        let inputs = [leaf(&size(queries)), leaf(&size(frames)), leaf(&size(frames))];
        let direction = Tensor::randn(size(queries), CPU);
        let lengths: Vec<u64> = (0..rows).map(|row| (frames - row.min(frames - 1)) as u64).collect();
        let keys_bt = padded.then(|| crate::encoder::padding(&lengths, frames, Device::Cpu).logical_not());
        let factor = kept_factor(&[rows, heads, queries, frames], p, key);
        let [q, k, v] = &inputs;
        let found = attention_by(key, [q, k, v], keys_bt.as_ref(), p);
        let exact: Vec<Tensor> = inputs.iter().map(|x| x.detach().to_kind(Kind::Double).set_requires_grad(true)).collect();
        let expected = attention_by_hand(&exact[0], &exact[1], &exact[2], keys_bt.as_ref(), &factor);
        prop_assert!(far(&found, &expected) < 1e-4);
        let found = gradients(&found, &direction, &[q, k, v]);
        let exact_gradients = Tensor::run_backward(
            &[(expected * direction.to_kind(Kind::Double)).sum(Kind::Double)], &exact.iter().collect::<Vec<_>>(), false, false,
        );
        for (found, expected) in found.iter().zip(&exact_gradients) {
            prop_assert!(far(found, expected) < 1e-4);
        }
    }

    #[test]
    fn convolution_and_its_gradients_are_libtorch_s(
        rows in 1i64..3, frames in 12i64..60, channels in prop::sample::select(vec![1i64, 3, 16, 40]), outputs in 1i64..20,
        kernel in 1i64..12, stride in 1i64..7, bias in any::<bool>(),
    ) {
        let (x, weight, bias) = (leaf(&[rows, frames, channels]), leaf(&[outputs, channels, kernel]), bias.then(|| leaf(&[outputs])));
        let found = convolution(&x, &weight, bias.as_ref(), stride);
        let expected = x.transpose(1, 2).conv1d(&weight, bias.as_ref(), stride, 0, 1, 1).transpose(1, 2);
        prop_assert!(far(&found, &expected) < 1e-3);
        let direction = Tensor::randn(found.size(), CPU);
        let inputs: Vec<&Tensor> = [&x, &weight].into_iter().chain(&bias).collect();
        for (found, expected) in gradients(&found, &direction, &inputs).iter().zip(gradients(&expected, &direction, &inputs)) {
            prop_assert!(far(found, &expected) < 1e-3);
        }
    }

    #[test]
    fn group_norm_with_gelu_and_its_gradients_are_libtorch_s(
        rows in 1i64..3, frames in prop::sample::select(vec![9i64, 50, 512, 1300]), channels in 1i64..40, far_from_zero in any::<bool>(),
    ) {
        let offset = if far_from_zero { 5.0 } else { 0.0 };
        let x = (Tensor::randn([rows, frames, channels], CPU) + offset).set_requires_grad(true);
        let (weight, bias) = (leaf(&[channels]), leaf(&[channels]));
        let found = group_norm_gelu(&x, &weight, &bias);
        let expected =
            x.transpose(1, 2).contiguous().group_norm(channels, Some(&weight), Some(&bias), 1e-5, true).gelu("none").transpose(1, 2);
        prop_assert!(far(&found, &expected) < 1e-4);
        let direction = Tensor::randn(found.size(), CPU);
        let inputs = [&x, &weight, &bias];
        for (found, expected) in gradients(&found, &direction, &inputs).iter().zip(gradients(&expected, &direction, &inputs)) {
            let scale = 1.0 + expected.abs().max().double_value(&[]);
            prop_assert!(far(found, &expected) < 1e-4 * scale, "{} of {scale}", far(found, &expected));
        }
    }

    #[test]
    fn positions_and_their_gradients_are_libtorch_s(
        rows in 1i64..4, frames in 1i64..90, groups in 1i64..4, group in 1i64..30, kernel in 1i64..50, half in any::<bool>(),
    ) {
        let kind = if half { Kind::BFloat16 } else { Kind::Float };
        let x = Tensor::randn([rows, frames, groups * group], CPU).to_kind(kind).set_requires_grad(true);
        let weight = (Tensor::randn([groups * group, group, kernel], CPU) * (group as f64).recip()).set_requires_grad(true);
        let bias = leaf(&[groups * group]);
        let inputs = [&x, &weight, &bias];
        let exact = inputs.map(|x| x.detach().to_kind(Kind::Double).set_requires_grad(true));
        let found = positional(&x, &weight, &bias, groups);
        let expected = exact[0].transpose(1, 2).conv1d(&exact[1], Some(&exact[2]), 1, kernel / 2, 1, groups);
        let expected = expected.narrow(2, 0, frames).gelu("none").transpose(1, 2);
        prop_assert!(found.kind() == Kind::Float && far(&found, &expected) < 2e-5, "{}", far(&found, &expected));
        let direction = Tensor::randn(found.size(), CPU);
        let exact_gradients = gradients(&expected, &direction, &exact.each_ref());
        for (found, expected) in gradients(&found, &direction, &inputs).iter().zip(exact_gradients) {
            let room = if found.kind() == Kind::BFloat16 { 1e-2 } else { 1e-5 };
            let scale = 1.0 + expected.abs().max().double_value(&[]);
            prop_assert!(far(found, &expected) < room * scale, "{} of {scale}", far(found, &expected));
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (x, z) = (leaf(&[2, 3, 90, 16]), leaf(&[2, 1700, 24]));
    let taps = leaf(&[24, 12, 5]);
    let all = |threads: i32| {
        tch::set_num_threads(threads);
        let ones = Tensor::ones([24], CPU);
        let y = dropout_by(8, None, &attention_by(7, [&x; 3], None, 0.1), 0.2);
        let w = group_norm_gelu(&z, &ones, &ones);
        let p = positional(&z, &taps, &ones, 2);
        let total = y.sum(Kind::Float) + (&w * &w).sum(Kind::Float) + (&p * &p).sum(Kind::Float);
        let found = Tensor::run_backward(&[total], &[&x, &z, &taps], false, false);
        [y, w, p].into_iter().chain(found).map(|x| x.detach()).collect::<Vec<_>>()
    };
    let before = tch::get_num_threads();
    let (one, three) = (all(1), all(3));
    tch::set_num_threads(before);
    // Matrix products may sum in another order with other threads; here they are too small to be shared.
    for (one, three) in one.iter().zip(&three) {
        assert!(one.equal(three));
    }
}

#[test]
fn half_precision_stays_near_single_precision() {
    let (x, weight) = (leaf(&[2, 61, 16]), leaf(&[24, 16, 3]));
    let size = [2, 2, 30, 12];
    let (q, k, v) = (leaf(&size), leaf(&size), leaf(&size));
    let run = || {
        let y = convolution(&x, &weight, None, 2);
        let ones = Tensor::ones([24], CPU);
        let z = group_norm_gelu(&y, &ones, &ones);
        let a = attention_by(9, [&q, &k, &v], None, 0.1);
        let b = attention(&q.narrow(2, 0, 7), &k, &v, None, 0.0);
        (y, z, a, b)
    };
    let single = run();
    let half = {
        let _autocast = Autocast::set(Device::Cpu, true).unwrap();
        run()
    };
    for (half, single) in [(&half.0, &single.0), (&half.1, &single.1), (&half.2, &single.2), (&half.3, &single.3)] {
        assert_eq!(half.kind(), Kind::BFloat16);
        let distance = far(half, single) / single.abs().max().double_value(&[]);
        assert!(distance > 0.0 && distance < 0.02, "{distance}");
    }
    let after = run();
    assert_eq!(after.0.kind(), Kind::Float);
    let direction = Tensor::ones([1], CPU);
    let both = |run: &(Tensor, Tensor, Tensor, Tensor)| {
        let mut found = gradients(&run.0, &direction, &[&x, &weight]);
        found.extend(gradients(&run.3, &direction, &[&q, &k, &v]));
        found
    };
    let (of_half, of_single) = (both(&half), both(&single));
    for (half, single) in of_half.iter().zip(&of_single) {
        assert_eq!(half.kind(), Kind::Float);
        assert!(far(half, single) < 0.02 * (1.0 + single.abs().max().double_value(&[])));
    }
}
