//! What tch lacks of libtorch, from `shim.cpp`: its CUDA part on demand, determinism switches, autocast and the fused optimiser step.

use std::ffi::{CStr, c_char, c_void};

use tch::{Device, Tensor};

use crate::failure::StageError;

unsafe extern "C" {
    fn reprise_load_cuda() -> *mut c_char;
    fn reprise_deterministic(on: bool) -> *mut c_char;
    fn reprise_switches(values: *mut bool) -> *mut c_char;
    fn reprise_flush_denormal(on: bool, done: *mut bool) -> *mut c_char;
    fn reprise_keep_memory();
    fn reprise_autocasts(on_cuda: bool) -> bool;
    fn reprise_autocast(on_cuda: bool, on: bool, forget: bool, before: *mut bool) -> *mut c_char;
    fn reprise_clear_gradients(tensors: *const *mut c_void, count: usize) -> *mut c_char;
    fn reprise_adamw(
        parameters: *const *mut c_void,
        gradients: *const *mut c_void,
        first: *const *mut c_void,
        second: *const *mut c_void,
        steps: *const *mut c_void,
        count: usize,
        rate: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        epsilon: f64,
    ) -> *mut c_char;
    fn free(text: *mut c_void);
}

/// The exception that a function of `shim.cpp` returned.
pub(crate) fn checked(error: *mut c_char) -> Result<(), StageError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null result is a NUL-terminated string from malloc that nobody else holds.
    let text = unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        free(error.cast());
        text
    };
    Err(StageError::Failed(format!("libtorch: {}", text.lines().next().unwrap_or_default())))
}

/// Loads libtorch's CUDA part and makes sure that the device is there. Must come before anything else asks libtorch about CUDA or seeds it.
///
/// # Errors
/// A refusal, when the CUDA libraries can't be loaded or there is no such device.
pub fn load_cuda(index: u32) -> Result<(), StageError> {
    let refused = |reason: String| {
        let help = "pass `--device cpu`, or on a machine with an NVIDIA GPU run `cargo xtask libtorch`, which then installs the CUDA \
                    libraries too";
        StageError::refused(format!("cannot compute on cuda:{index}: {reason}"), help)
    };
    // SAFETY: takes no pointers.
    checked(unsafe { reprise_load_cuda() }).map_err(|error| refused(error.to_string()))?;
    match tch::Cuda::device_count() {
        count if i64::from(index) < count => Ok(()),
        0 => Err(refused("libtorch finds no CUDA device".into())),
        count => Err(refused(format!("the last of this machine's {count} CUDA devices is cuda:{}", count - 1))),
    }
}

/// Makes libtorch refuse operations without a deterministic form, and cuDNN choose deterministic algorithms without trying them out.
pub fn set_deterministic(on: bool) -> Result<(), StageError> {
    // SAFETY: takes no pointers.
    checked(unsafe { reprise_deterministic(on) })
}

/// The switches of libtorch that decide which algorithms compute, and whether each is on.
pub fn switches() -> Result<[(&'static str, bool); 5], StageError> {
    let mut values = [false; 5];
    // SAFETY: the function writes five values.
    checked(unsafe { reprise_switches(values.as_mut_ptr()) })?;
    let names = ["deterministic-algorithms", "cudnn-deterministic", "cudnn-benchmark", "tf32-matmul", "tf32-cudnn"];
    Ok(std::array::from_fn(|index| (names[index], values[index])))
}

/// Treats numbers below the smallest normal one as zero, which some CPUs need for speed; false where the CPU can't. Holds for the calling
/// thread and threads started later.
pub fn set_flush_denormal(on: bool) -> Result<bool, StageError> {
    let mut done = false;
    // SAFETY: `done` outlives the call.
    checked(unsafe { reprise_flush_denormal(on, &raw mut done) })?;
    Ok(done)
}

/// Keeps freed memory in this process from now on, where the C library allows that: training takes and frees the same pieces at every step.
pub fn keep_memory() {
    // SAFETY: takes nothing and changes the allocator's settings alone.
    unsafe { reprise_keep_memory() }
}

/// While it lives, products on a device compute in bfloat16 or again in single precision (PyTorch's autocast); gradients follow what was
/// computed.
#[derive(Debug)]
pub struct Autocast {
    on_cuda: bool,
    on: bool,
    before: bool,
}

impl Autocast {
    /// Switches it on or off until the guard is dropped.
    pub fn set(device: Device, on: bool) -> Result<Self, StageError> {
        let (on_cuda, mut before) = (device.is_cuda(), false);
        // SAFETY: `before` outlives the call.
        checked(unsafe { reprise_autocast(on_cuda, on, false, &raw mut before) })?;
        Ok(Self { on_cuda, on, before })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        let mut ended = false;
        // Weights are cast once while it is on; what was cast goes with the outermost guard. Nothing here can fail.
        // SAFETY: `ended` outlives the call.
        let _ =
            checked(unsafe { reprise_autocast(self.on_cuda, self.before, self.on && !self.before, &raw mut ended) });
    }
}

/// What `body` gives with autocast off. Like tch's operations it panics where libtorch refuses a switch, which it does not.
pub fn in_single_precision<T>(device: Device, body: impl FnOnce() -> T) -> T {
    let _autocast = Autocast::set(device, false).unwrap_or_else(|error| panic!("{error}"));
    body()
}

/// Whether products on a device compute in bfloat16.
pub fn autocasts(device: Device) -> bool {
    // SAFETY: it reads a number of this thread.
    unsafe { reprise_autocasts(device.is_cuda()) }
}

/// Takes the gradients of `parameters` away, so that the next backward pass writes them and needn't add.
pub fn clear_gradients(parameters: &[Tensor]) -> Result<(), StageError> {
    let pointers: Vec<*mut c_void> = parameters.iter().map(|x| x.as_ptr().cast_mut().cast()).collect();
    // SAFETY: as many pointers as the count says, to tensors that outlive the call.
    checked(unsafe { reprise_clear_gradients(pointers.as_ptr(), pointers.len()) })
}

/// Parameters of one optimiser step, as `torch.optim.AdamW` names them.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub epsilon: f64,
}

/// One fused AdamW step in place. The five lists go together, one entry a parameter; `steps` are `f32` scalars that already count this step.
pub fn adamw(
    parameters: &[Tensor],
    gradients: &[Tensor],
    first: &[Tensor],
    second: &[Tensor],
    steps: &[Tensor],
    settings: AdamW,
) -> Result<(), StageError> {
    let count = parameters.len();
    assert!([gradients, first, second, steps].iter().all(|list| list.len() == count), "one entry a parameter");
    let pointers =
        |list: &[Tensor]| -> Vec<*mut c_void> { list.iter().map(|x| x.as_ptr().cast_mut().cast()).collect() };
    let lists = [parameters, gradients, first, second, steps].map(pointers);
    let AdamW { rate, beta1, beta2, weight_decay, epsilon } = settings;
    // SAFETY: each list has `count` pointers to tensors that outlive the call; libtorch checks shapes and kinds itself.
    checked(unsafe {
        reprise_adamw(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            lists[3].as_ptr(),
            lists[4].as_ptr(),
            count,
            rate,
            beta1,
            beta2,
            weight_decay,
            epsilon,
        )
    })
}
