// Passes over rows in bfloat16 between the products of a block, each of which does at once what the block needs there: biases, heads, GELU,
// dropout, the residual, and the sums of columns that are gradients of biases. Everything is computed in single precision.

#pragma once

#include "random.h"

#include <ATen/core/Tensor.h>

#include <vector>

namespace reprise {

// Rows, and the sums of their columns.
struct Summed {
    at::Tensor rows, sums;
};

// Tensors of single precision below each other, in bfloat16: all have as many columns.
at::Tensor half(const std::vector<at::Tensor> &parts);

// In single precision, added to `base` where there is one.
at::Tensor widened(const at::Tensor &x, const at::Tensor &base = {});

// B · T × (P · H · E), plus a bias where there is one, to P of B · H × T′ × E: T′ is the next even number, and what is behind T zeros.
std::vector<at::Tensor> split_heads(const at::Tensor &x, const at::Tensor &bias, int64_t rows, int64_t heads, int64_t parts);

// P of B · H × T′ × E to B · T × (P · H · E).
Summed merge_heads(const std::vector<at::Tensor> &parts, int64_t rows, int64_t frames, int64_t heads);

// GELU of x + bias, with dropout.
at::Tensor gelu_rows(const at::Tensor &x, const at::Tensor &bias, Keep keep);

// The gradient of x from that of `gelu_rows`, in its place.
Summed gelu_gradient(const at::Tensor &gradient, const at::Tensor &x, const at::Tensor &bias, Keep keep);

// residual + dropout of (x + bias), in single precision.
at::Tensor add_rows(const at::Tensor &residual, const at::Tensor &x, const at::Tensor &bias, Keep keep);

// The gradient of x from that of `add_rows`.
Summed add_gradient(const at::Tensor &gradient, Keep keep);

} // namespace reprise
