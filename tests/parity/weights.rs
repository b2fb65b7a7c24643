//! Weights and waves that `tests/fixtures/generate/weights.py` computes too; the rule stands there.
//!
//! Not from libtorch's generator: it is one for the whole process, and tests run side by side.

use tch::Tensor;
use tch::nn::VarStore;

/// `f32` of mean 0 and variance 1, the same for a name whatever else was drawn.
pub fn noise(name: &str, shape: &[i64]) -> Tensor {
    let seed = u64::from(crc32fast::hash(name.as_bytes())) << 32;
    let count = shape.iter().product::<i64>() as u64;
    let unit = |index: u64| {
        let mut z = index.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let upper = (z ^ (z >> 31)) >> 40;
        (upper as f32 * 2f32.powi(-24) - 0.5) * 12f64.sqrt() as f32
    };
    Tensor::from_slice(&(1..=count).map(unit).collect::<Vec<f32>>()).view(shape)
}

/// What the parameter `name` is filled with.
pub fn weight(name: &str, shape: &[i64]) -> Tensor {
    let x = noise(name, shape);
    match name.rsplit('.').next() {
        Some("bias") => x * 0.1,
        Some("weight_g") => x * 0.1 + 1.0,
        Some("weight") if shape.len() == 1 => x * 0.1 + 1.0,
        Some("weight" | "weight_v") => x * (2.0 / shape[1..].iter().product::<i64>() as f64).sqrt(),
        _ => x,
    }
}

/// Gives every parameter the weights of its name.
pub fn fill(store: &VarStore) {
    tch::no_grad(|| {
        for (name, mut parameter) in store.variables() {
            parameter.copy_(&weight(&name, &parameter.size()));
        }
    });
}

#[test]
fn noise_is_that_of_the_generators() {
    let ours: Vec<f32> = Vec::try_from(noise("encoder.layer_norm.weight", &[6])).unwrap();
    let theirs = [-0.706_685_36, -0.770_805_4, 0.287_2, -0.589_519_86, 1.187_555_7, 0.797_858];
    assert_eq!(ours, theirs);
}
