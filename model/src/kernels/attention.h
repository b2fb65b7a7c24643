// Attention of queries N × Q′ × E to keys and values N × T′ × E, N being rows × heads, of which those behind the extent are zeros: products of an
// even number of frames are faster in bfloat16.

#pragma once

#include "random.h"

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace reprise {

// Queries and keys of a head that are no padding.
struct Extent {
    int64_t queries, keys;
};

struct Attended {
    // N × Q′ × E, and the N × Q′ × T′ shares before dropout, for the gradient.
    at::Tensor y, shares;
};

Attended attend(
    const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, Extent extent, const std::optional<at::Tensor> &keys,
    int64_t heads, Keep keep
);

// The gradients of query, key and value.
std::vector<at::Tensor> attend_gradient(
    const at::Tensor &gradient, const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, const at::Tensor &shares, Extent extent,
    Keep keep
);

} // namespace reprise
