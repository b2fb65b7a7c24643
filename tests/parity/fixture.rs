//! Reading fixtures, and how far a tensor is from one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
