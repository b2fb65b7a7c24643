// Functions with gradients for the CPU; shapes as in `kernels.rs`.

#pragma once

#include "random.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

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

// Where a last layer asks: queries of its own, and which of their rows it gives.
struct Asked {
    std::optional<at::Tensor> queries, kept;
};

// `residual` plus dropout of the feed-forward network of x: weight and bias of the inner, weight and bias of the outer projection; in bfloat16
// within. As [`dropout`]: `inner` behind GELU, `outer` of what is added.
at::Tensor
feed_forward_block(const at::Tensor &residual, const at::Tensor &x, const std::vector<at::Tensor> &weights, Keep inner, Keep outer);

// `residual` plus dropout of self-attention of x: weights and biases of queries, keys, values and output; `inner` drops shares.
at::Tensor attention_block(
    const at::Tensor &residual, const at::Tensor &x, const Asked &asked, const std::vector<at::Tensor> &weights,
    const std::optional<at::Tensor> &keys, int64_t heads, Keep inner, Keep outer
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
