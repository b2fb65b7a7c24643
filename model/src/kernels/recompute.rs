//! Parts of a network that are computed twice, so that what they compute need not be kept (activation checkpointing; Chen et al. 2016,
//! arXiv:1604.06174).

use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use tch::Tensor;

use super::{Pointer, made, pointer};

type Run = unsafe extern "C" fn(*mut c_void, Pointer, Pointer, *mut Pointer) -> *mut c_char;
type Drop = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn reprise_recomputed(
        x: Pointer,
        more: Pointer,
        state: *mut c_void,
        run: Run,
        drop: Drop,
        out: *mut Pointer,
    ) -> *mut c_char;
    fn strdup(text: *const c_char) -> *mut c_char;
}

/// What `part` computes from `x` and, where there is more, from that too. Nothing of it is kept for the backward pass, which calls `part`
/// again with the same inputs, the same random numbers and the same precision, so that every bit is the same. Gradients reach `x`, `more` and
/// all parameters that `part` uses.
///
/// A backward pass to some parameters alone would reach those in `part` all the same.
pub fn recomputed<F>(x: &Tensor, more: Option<&Tensor>, part: F) -> Tensor
where
    F: Fn(&Tensor, Option<&Tensor>) -> Tensor + 'static,
{
    let state = Box::into_raw(Box::new(part)).cast();
    let more = more.map_or(ptr::null_mut(), pointer);
    // SAFETY: pointers are null or of tensors that outlive the call. `state` belongs to the other side, which drops it once. It is called and
    // dropped while this thread waits in a pass, on it or (on other devices) on a thread of libtorch's, never on two at a time.
    made(|out| unsafe { reprise_recomputed(pointer(x), more, state, run::<F>, drop::<F>, out) })
}

/// Calls a part. A panic becomes an exception of libtorch's, which ends the pass.
unsafe extern "C" fn run<F>(state: *mut c_void, x: Pointer, more: Pointer, out: *mut Pointer) -> *mut c_char
where
    F: Fn(&Tensor, Option<&Tensor>) -> Tensor,
{
    // SAFETY: `state` is what `recomputed` made, and the tensors are the caller's, of which these are further handles.
    let (part, x, more) = unsafe {
        let handle = |pointer: Pointer| Tensor::clone_from_ptr(pointer.cast());
        (&*state.cast::<F>(), handle(x), (!more.is_null()).then(|| handle(more)))
    };
    match catch_unwind(AssertUnwindSafe(|| part(&x, more.as_ref()))) {
        Ok(y) => {
            // SAFETY: the caller gives a place for one tensor and takes it over.
            unsafe { *out = pointer(&y) };
            std::mem::forget(y);
            ptr::null_mut()
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").replace('\0', " ");
            let text = CString::new(text).unwrap_or_default();
            // SAFETY: `text` ends with NUL and outlives the call; the caller frees the copy.
            unsafe { strdup(text.as_ptr()) }
        }
    }
}

unsafe extern "C" fn drop<F>(state: *mut c_void) {
    // SAFETY: `state` is what `recomputed` made, and this is its one end.
    std::mem::drop(unsafe { Box::from_raw(state.cast::<F>()) });
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::kernels::dropout;
    use crate::shim::Autocast;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn leaf(size: &[i64]) -> Tensor {
        Tensor::randn(size, CPU).set_requires_grad(true)
    }

    /// A product, dropout and something that is added; with the gradients of everything, and the next number that libtorch draws.
    fn passed(recompute: bool, half: bool) -> Vec<Tensor> {
        tch::manual_seed(3);
        let (x, more, weight, other) = (leaf(&[7, 5]), leaf(&[7, 3]), leaf(&[3, 5]), leaf(&[3, 5]));
        let part = {
            let weight = weight.shallow_clone();
            move |x: &Tensor, more: Option<&Tensor>| {
                dropout(&x.linear::<&Tensor>(&weight, None), 0.4).tanh() * more.unwrap()
            }
        };
        let y = {
            let _autocast = half.then(|| Autocast::set(Device::Cpu, true).unwrap());
            // Of leaves autocast remembers what it cast them to, and sums their gradients in half precision; a layer's input is none.
            let x = &x * 1.0;
            let once = if recompute { recomputed(&x, Some(&more), part) } else { part(&x, Some(&more)) };
            once + x.linear::<&Tensor>(&other, None)
        };
        (y.square() * 0.5).sum(Kind::Float).backward();
        vec![y, x.grad(), more.grad(), weight.grad(), other.grad(), Tensor::rand([1], CPU)]
    }

    #[test]
    fn what_is_computed_twice_has_the_same_bits_and_gradients() {
        for half in [false, true] {
            // Other tests of this process draw from the same generator, but not all the time.
            let same = |_| passed(false, half).iter().zip(&passed(true, half)).all(|(kept, again)| kept.equal(again));
            assert!((0..1_000).any(same), "half {half}");
        }
    }

    #[test]
    fn parameters_learn_though_no_input_does() {
        let (x, weight) = (Tensor::ones([2, 5], CPU), leaf(&[3, 5]));
        let inside = weight.shallow_clone();
        recomputed(&x, None, move |x, _| x.linear::<&Tensor>(&inside, None)).sum(Kind::Float).backward();
        assert!(weight.grad().equal(&Tensor::full([3, 5], 2.0, CPU)));
    }

    #[test]
    fn a_frozen_part_passes_nothing_back() {
        let (x, weight, other) = (Tensor::ones([2, 5], CPU), Tensor::ones([3, 5], CPU), leaf(&[3]));
        let y = recomputed(&x, None, move |x, _| x.linear::<&Tensor>(&weight, None));
        (y * &other).sum(Kind::Float).backward();
        assert!(other.grad().equal(&Tensor::full([3], 10.0, CPU)) && !x.grad().defined());
    }

    #[test]
    fn without_gradients_it_is_computed_once() {
        let calls = std::rc::Rc::new(std::cell::Cell::new(0));
        let seen = calls.clone();
        let part = move |x: &Tensor, _: Option<&Tensor>| {
            seen.set(seen.get() + 1);
            x * 2.0
        };
        let x = leaf(&[4]);
        let y = tch::no_grad(|| recomputed(&x, None, part.clone()));
        assert!(!y.requires_grad() && calls.get() == 1 && std::rc::Rc::strong_count(&calls) == 2);
        recomputed(&x, None, part).sum(Kind::Float).backward();
        assert_eq!((calls.get(), std::rc::Rc::strong_count(&calls)), (3, 1), "called again, and let go");
    }

    #[test]
    #[should_panic(expected = "the part fails")]
    fn a_panic_in_a_part_ends_the_pass() {
        let _ = recomputed(&leaf(&[4]), None, |_, _| panic!("the part fails"));
    }
}
