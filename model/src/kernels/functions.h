// Functions with gradients for the CPU; shapes as in `kernels.rs`.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace reprise {

// A key from libtorch's CPU generator.
uint64_t draw_key();

// x with dropout, added to `residual` where there is one.
at::Tensor dropout(const at::Tensor &x, const std::optional<at::Tensor> &residual, double p, uint64_t key);

// softmax(q kᵀ / √E) with dropout, times v, of B × H × Q × E and twice B × H × T × E; `keys` is B × T `bool`, true where frames may be
// attended to.
at::Tensor attention(
    const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, const std::optional<at::Tensor> &keys, double p,
    uint64_t random_key
);

// Convolution over time of frames that hold their channels side by side.
at::Tensor
convolution(const at::Tensor &x, const at::Tensor &weight, const std::optional<at::Tensor> &bias, int64_t stride);

// GELU of each channel normalised over time.
at::Tensor group_norm_gelu(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, double epsilon);

// GELU of a grouped convolution over time with same padding, in single precision; an even kernel reads one frame more before than behind.
at::Tensor positional(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, int64_t groups);

// A part of a network that the program computes: `run` writes a tensor for the caller to delete, or returns the text of an error for the
// caller to free; `drop` ends it.
struct Part {
    void *state;
    char *(*run)(void *state, at::Tensor *x, at::Tensor *more, at::Tensor **out);
    void (*drop)(void *state);
};

// What `part` computes from x, computed again for the backward pass.
at::Tensor recomputed(const at::Tensor &x, const std::optional<at::Tensor> &more, Part part);

} // namespace reprise
