//! What training waits for on a CPU, in C++ (`kernels/`): dropout, attention with dropout, positions, and the front-end over frames that
//! hold their channels side by side. On other devices the same functions are libtorch's operations.
//!
//! libtorch's own dropout draws one number after the other on one thread; here an element's number depends on a key and its place alone, so
//! that threads share the work, the number of threads changes no bit, and the backward pass makes the numbers again instead of keeping them.
//! The key comes from libtorch's generator, once a call. Everything here takes `f32` or, under [`crate::shim::Autocast`], bfloat16.

use std::ffi::{c_char, c_void};
use std::ptr;

use tch::{Device, Tensor};

use crate::shim;

mod blocks;
mod recompute;

pub use blocks::{Asked, AttentionBlock, FeedForwardBlock};
pub use recompute::recomputed;

type Pointer = *mut c_void;

unsafe extern "C" {
    fn reprise_draw_key(key: *mut u64) -> *mut c_char;
    fn reprise_dropout(x: Pointer, residual: Pointer, p: f64, key: u64, out: *mut Pointer) -> *mut c_char;
    fn reprise_attention(
        query: Pointer,
        key: Pointer,
        value: Pointer,
        keys: Pointer,
        p: f64,
        random_key: u64,
        out: *mut Pointer,
    ) -> *mut c_char;
    fn reprise_convolution(x: Pointer, weight: Pointer, bias: Pointer, stride: i64, out: *mut Pointer) -> *mut c_char;
    fn reprise_group_norm_gelu(
        x: Pointer,
        weight: Pointer,
        bias: Pointer,
        epsilon: f64,
        out: *mut Pointer,
    ) -> *mut c_char;
    fn reprise_positional(x: Pointer, weight: Pointer, bias: Pointer, groups: i64, out: *mut Pointer) -> *mut c_char;
}

/// `x` with dropout: elements are zero with probability `p`, to the next multiple of 2⁻¹⁶, and the others scaled to keep the mean.
pub fn dropout(x: &Tensor, p: f64) -> Tensor {
    match x.device() {
        Device::Cpu => dropout_by(draw_key(), None, x, p),
        _ => x.dropout(p, true),
    }
}

/// `residual` plus [`dropout`] of `x`, in the kind of `residual`.
pub fn add_dropout(residual: &Tensor, x: &Tensor, p: f64) -> Tensor {
    match x.device() {
        Device::Cpu => dropout_by(draw_key(), Some(residual), x, p),
        _ => residual + x.dropout(p, true),
    }
}

/// Attention of queries (B × H × Q × E) to keys and values (B × H × T × E each) with dropout of its shares, `keys_bt` true where frames may
/// be attended to. For the CPU.
pub fn attention(query: &Tensor, key: &Tensor, value: &Tensor, keys_bt: Option<&Tensor>, p: f64) -> Tensor {
    let random_key = if p > 0.0 { draw_key() } else { 0 };
    attention_by(random_key, [query, key, value], keys_bt, p)
}

fn attention_by(random_key: u64, [query, key, value]: [&Tensor; 3], keys_bt: Option<&Tensor>, p: f64) -> Tensor {
    let keys = keys_bt.map_or(ptr::null_mut(), pointer);
    // SAFETY: as above.
    made(|out| unsafe { reprise_attention(pointer(query), pointer(key), pointer(value), keys, p, random_key, out) })
}

/// Convolution over time without padding: B × T × C to B × T′ × N with a weight of N × C × kernel, T′ = ⌊(T − kernel)/stride⌋ + 1. For the CPU.
pub fn convolution(x_btc: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: i64) -> Tensor {
    let bias = bias.map_or(ptr::null_mut(), pointer);
    // SAFETY: as above.
    made(|out| unsafe { reprise_convolution(pointer(x_btc), pointer(weight), bias, stride, out) })
}

/// GELU of each channel of B × T × C normalised over its row's frames (group norm with as many groups as channels, ε = 1e-5). For the CPU.
pub fn group_norm_gelu(x_btc: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    // SAFETY: as above.
    made(|out| unsafe { reprise_group_norm_gelu(pointer(x_btc), pointer(weight), pointer(bias), 1e-5, out) })
}

/// GELU of a grouped convolution over time with same padding: B × T × D to B × T × D with a weight of D × D/groups × kernel and a bias of D.
/// Frame t reads frames t − ⌊kernel/2⌋ to t − ⌊kernel/2⌋ + kernel − 1. Computes and gives `f32` whatever autocast says. For the CPU.
pub fn positional(x_btd: &Tensor, weight_dck: &Tensor, bias: &Tensor, groups: i64) -> Tensor {
    // SAFETY: as above.
    made(|out| unsafe { reprise_positional(pointer(x_btd), pointer(weight_dck), pointer(bias), groups, out) })
}

/// The key of the next dropout, from libtorch's generator.
fn draw_key() -> u64 {
    let mut key = 0;
    // SAFETY: `key` outlives the call.
    if let Err(error) = shim::checked(unsafe { reprise_draw_key(&raw mut key) }) {
        panic!("{error}");
    }
    key
}

fn dropout_by(key: u64, residual: Option<&Tensor>, x: &Tensor, p: f64) -> Tensor {
    let residual = residual.map_or(ptr::null_mut(), pointer);
    // SAFETY: pointers are null or of tensors that outlive the call.
    made(|out| unsafe { reprise_dropout(pointer(x), residual, p, key, out) })
}

fn pointer(x: &Tensor) -> Pointer {
    x.as_ptr().cast_mut().cast()
}

/// The tensor that `make` writes. Like tch's operations it panics where libtorch refuses shapes or kinds, which are ours.
fn made(make: impl FnOnce(*mut Pointer) -> *mut c_char) -> Tensor {
    let mut out = ptr::null_mut();
    if let Err(error) = shim::checked(make(&raw mut out)) {
        panic!("{error}");
    }
    // SAFETY: without an error `out` is a tensor that nobody else holds.
    unsafe { Tensor::from_ptr(out.cast()) }
}

#[cfg(test)]
mod tests;
