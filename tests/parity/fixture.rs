//! Reading fixtures, and how far a tensor is from one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reprise_spec::network::Dropout;
use reprise_spec::values::Fraction;
use tch::{Kind, Tensor};

/// Tensors by name.
pub type Arrays = BTreeMap<String, Tensor>;

/// A path below tests/fixtures.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// The arrays of an .npz below tests/fixtures.
pub fn arrays(name: &str) -> Arrays {
    Tensor::read_npz(path(name)).unwrap().into_iter().collect()
}

/// For passes in train mode that draw nothing.
pub fn no_dropout() -> Dropout {
    let none = Fraction::try_from(0.0).unwrap();
    Dropout { residual: none, attention: none, activation: none, input: none }
}

/// B × S samples, zeros behind each wave.
pub fn pad(waves: &[Tensor]) -> Tensor {
    let longest = waves.iter().map(|wave| wave.size()[0]).max().unwrap();
    let padded: Vec<Tensor> = waves.iter().map(|wave| wave.constant_pad_nd([0, longest - wave.size()[0]])).collect();
    Tensor::stack(&padded, 0)
}

/// The largest difference between two tensors of one shape; infinite where one isn't a number.
pub fn worst(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.size(), theirs.size());
    (ours - theirs).abs().nan_to_num(f64::INFINITY, None, None).max().double_value(&[])
}

/// What `summary` in tests/fixtures/generate/fixture.py keeps of a large tensor: root mean square, mean, and about 128 elements.
pub fn summary(x: &Tensor) -> Tensor {
    let flat = x.detach().flatten(0, -1);
    let step = (flat.size()[0] as u64).div_ceil(128) as i64 | 1;
    let wide = flat.to_kind(Kind::Double);
    let moments = Tensor::stack(&[wide.square().mean(Kind::Double).sqrt(), wide.mean(Kind::Double)], 0);
    Tensor::cat(&[moments.to_kind(Kind::Float), flat.slice(0, None, None, step)], 0)
}
