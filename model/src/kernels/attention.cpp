// Scaled dot-product attention for training: two batched products, and between them one pass over the scores, which stay in cache a row
// at a time. libtorch's fused kernel for the CPU knows no dropout and learns in single precision, and its other path makes seven passes.

#include "attention.h"
#include "functions.h"
#include "parallel.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>
#include <vector>

namespace reprise {
namespace {

// N × Q′ × T′ scores, of which the rows behind Q and the columns behind T are padding.
struct Grid {
    int64_t queries, length, rows_of_head, columns;

    Grid(const at::Tensor &scores, Extent extent)
        : queries(extent.queries), length(extent.keys), rows_of_head(scores.size(1)), columns(scores.size(2)) {}

    // Where the scores of a query begin, queries being counted without padding.
    REPRISE_INLINE int64_t place(const Grid &grid, int64_t row) {
        return (row / grid.queries * grid.rows_of_head + row % grid.queries) * grid.columns;
    }

    // Zeros behind a row, and behind the last query of a head.
    template <typename T> REPRISE_INLINE void clear_behind(const Grid &grid, T *row, int64_t index) {
        const int64_t rows = index % grid.queries + 1 == grid.queries ? grid.rows_of_head - grid.queries : 0;
        for (int64_t i = grid.length; i < (rows + 1) * grid.columns; i++) row[i] = static_cast<T>(0.0f);
    }
};

// Scores of a row to their softmax p, and to p with dropout beside it. `length` is a multiple of WIDE in the buffer, −∞ behind the end.
template <bool DROPS, typename T>
REPRISE_INLINE void forward_rows(
    T *scores, T *dropped, const bool *keys, int64_t rows_of_keys, Keep keep, float factor, Grid grid, int64_t begin, int64_t end
) {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    const int64_t length = grid.length, padded = (length + WIDE - 1) / WIDE * WIDE;
    std::vector<float> buffer(padded);
    Numbers room(length);
    for (int64_t row = begin; row < end; row++) {
        const int64_t place = Grid::place(grid, row);
        T *s = scores + place, *d = DROPS ? dropped + place : nullptr;
        const bool *seen = keys == nullptr ? nullptr : keys + row / rows_of_keys * length;
        floats most = spread(lowest);
        for (int64_t i = 0; i < length; i += WIDE) {
            const int64_t left = length - i;
            floats x = left >= WIDE ? load(s + i) * factor : load_some(s + i, left, lowest) * factor;
            if (seen != nullptr) {
                float lanes[WIDE];
                store(lanes, x);
                for (int64_t j = 0; j < std::min(WIDE, left); j++) lanes[j] = seen[i + j] ? lanes[j] : lowest;
                x = load(lanes);
            }
            store(&buffer[i], x);
            most = larger(most, x);
        }
        const float top = largest(most);
        floats total = spread(0.0f);
        for (int64_t i = 0; i < padded; i += WIDE) {
            const floats y = exponential(load(&buffer[i]) - top);
            store(&buffer[i], y);
            total += y;
        }
        const float share = 1.0f / sum(total);
        const uint16_t *numbers = DROPS ? Numbers::of(room, keep, row * length, length) : nullptr;
        for (int64_t i = 0; i < length; i += WIDE) {
            const floats p = load(&buffer[i]) * share;
            put(s, i, length, p);
            if constexpr (DROPS) put(d, i, length, p * Keep::factor(keep, numbers + i));
        }
        Grid::clear_behind(grid, s, row);
        if constexpr (DROPS) Grid::clear_behind(grid, d, row);
    }
}

// Gradients of a row of p with dropout to those of its scores, in place; p with dropout is made again beside it.
template <bool DROPS, typename T>
REPRISE_INLINE void backward_rows(
    T *gradients, const T *shares, T *dropped, Keep keep, float factor, Grid grid, int64_t begin, int64_t end
) {
    const int64_t length = grid.length, padded = (length + WIDE - 1) / WIDE * WIDE;
    std::vector<float> buffer(padded);
    Numbers room(length);
    for (int64_t row = begin; row < end; row++) {
        const int64_t place = Grid::place(grid, row);
        T *g = gradients + place, *d = DROPS ? dropped + place : nullptr;
        const T *p = shares + place;
        const uint16_t *numbers = DROPS ? Numbers::of(room, keep, row * length, length) : nullptr;
        floats total = spread(0.0f);
        for (int64_t i = 0; i < length; i += WIDE) {
            const floats share = get(p, i, length);
            floats gradient = get(g, i, length);
            if constexpr (DROPS) {
                const floats kept = Keep::factor(keep, numbers + i);
                gradient *= kept;
                put(d, i, length, share * kept);
            }
            store(&buffer[i], gradient);
            total += gradient * share;
        }
        const float mean = sum(total);
        for (int64_t i = 0; i < length; i += WIDE) put(g, i, length, (load(&buffer[i]) - mean) * get(p, i, length) * factor);
        Grid::clear_behind(grid, g, row);
        if constexpr (DROPS) Grid::clear_behind(grid, d, row);
    }
}

#define ROWS(SUFFIX, T)                                                                                                                    \
    REPRISE_CLONES void forward_##SUFFIX(                                                                                                  \
        T *s, T *d, const bool *keys, int64_t rows_of_keys, Keep keep, float factor, Grid grid, int64_t begin, int64_t end            \
    ) {                                                                                                                                    \
        if (d != nullptr) forward_rows<true>(s, d, keys, rows_of_keys, keep, factor, grid, begin, end);                                  \
        else forward_rows<false>(s, d, keys, rows_of_keys, keep, factor, grid, begin, end);                                              \
    }                                                                                                                                      \
    REPRISE_CLONES void backward_##SUFFIX(                                                                                                 \
        T *g, const T *p, T *d, Keep keep, float factor, Grid grid, int64_t begin, int64_t end                                       \
    ) {                                                                                                                                    \
        if (d != nullptr) backward_rows<true>(g, p, d, keep, factor, grid, begin, end);                                                  \
        else backward_rows<false>(g, p, d, keep, factor, grid, begin, end);                                                              \
    }
ROWS(float, float)
ROWS(bfloat, c10::BFloat16)

// Room for what dropout leaves of the shares: none where that is all of them.
at::Tensor room(const at::Tensor &shares, Keep keep) { return keep.threshold > 0 ? at::empty_like(shares) : at::Tensor(); }

float factor(const at::Tensor &query) { return 1.0f / std::sqrt(static_cast<float>(query.size(2))); }

template <typename T> T *start_of(at::Tensor &x) { return x.defined() ? x.mutable_data_ptr<T>() : nullptr; }

// Scores to shares in place; gives the shares with dropout.
at::Tensor shares(at::Tensor &scores, Extent extent, const std::optional<at::Tensor> &keys, int64_t heads, Keep keep, float factor) {
    at::Tensor dropped = room(scores, keep);
    const Grid grid(scores, extent);
    const int64_t rows = scores.size(0) * grid.queries, rows_of_keys = heads * grid.queries;
    const bool *seen = keys ? keys->const_data_ptr<bool>() : nullptr;
    if (scores.scalar_type() == at::kBFloat16) {
        auto *s = scores.mutable_data_ptr<c10::BFloat16>(), *d = start_of<c10::BFloat16>(dropped);
        parallel(rows, 16, [&](int64_t begin, int64_t end) {
            forward_bfloat(s, d, seen, rows_of_keys, keep, factor, grid, begin, end);
        });
    } else {
        auto *s = scores.mutable_data_ptr<float>(), *d = start_of<float>(dropped);
        parallel(rows, 16, [&](int64_t begin, int64_t end) {
            forward_float(s, d, seen, rows_of_keys, keep, factor, grid, begin, end);
        });
    }
    return dropped.defined() ? dropped : scores;
}

// Gradients of shares to those of scores in place; gives the shares with dropout.
at::Tensor scores_of(at::Tensor &gradients, const at::Tensor &shares, Extent extent, Keep keep, float factor) {
    at::Tensor dropped = room(shares, keep);
    const Grid grid(shares, extent);
    const int64_t rows = shares.size(0) * grid.queries;
    if (shares.scalar_type() == at::kBFloat16) {
        auto *g = gradients.mutable_data_ptr<c10::BFloat16>(), *d = start_of<c10::BFloat16>(dropped);
        const auto *p = shares.const_data_ptr<c10::BFloat16>();
        parallel(rows, 16, [&](int64_t begin, int64_t end) { backward_bfloat(g, p, d, keep, factor, grid, begin, end); });
    } else {
        auto *g = gradients.mutable_data_ptr<float>(), *d = start_of<float>(dropped);
        const auto *p = shares.const_data_ptr<float>();
        parallel(rows, 16, [&](int64_t begin, int64_t end) { backward_float(g, p, d, keep, factor, grid, begin, end); });
    }
    return dropped.defined() ? dropped : shares;
}

} // namespace

Attended attend(
    const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, Extent extent, const std::optional<at::Tensor> &keys,
    int64_t heads, Keep keep
) {
    at::Tensor scores = at::bmm(query, key.transpose(1, 2));
    const at::Tensor dropped = shares(scores, extent, keys, heads, keep, factor(query));
    return {at::bmm(dropped, value), scores};
}

std::vector<at::Tensor> attend_gradient(
    const at::Tensor &gradient, const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, const at::Tensor &shares, Extent extent, Keep keep
) {
    at::Tensor of_scores = at::bmm(gradient, value.transpose(1, 2));
    const at::Tensor dropped = scores_of(of_scores, shares, extent, keep, factor(query));
    return {
        at::bmm(of_scores, key),
        at::bmm(of_scores.transpose(1, 2), query),
        at::bmm(dropped.transpose(1, 2), gradient),
    };
}

namespace {

Extent extent(const at::Tensor &query, const at::Tensor &key) { return {query.size(1), key.size(1)}; }

struct Attention : torch::autograd::Function<Attention> {
    // Queries N × Q × E, keys and values N × T × E, N being rows × heads.
    static at::Tensor forward(
        torch::autograd::AutogradContext *context, const at::Tensor &query, const at::Tensor &key, const at::Tensor &value,
        const std::optional<at::Tensor> &keys, int64_t heads, double p, int64_t random_key
    ) {
        const Attended attended = attend(query, key, value, extent(query, key), keys, heads, Keep(static_cast<uint64_t>(random_key), p));
        context->save_for_backward({query, key, value, attended.shares});
        context->saved_data["p"] = p;
        context->saved_data["key"] = random_key;
        return attended.y;
    }

    static torch::autograd::variable_list
    backward(torch::autograd::AutogradContext *context, torch::autograd::variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const Keep keep(static_cast<uint64_t>(context->saved_data["key"].toInt()), context->saved_data["p"].toDouble());
        auto found = attend_gradient(gradients[0].contiguous(), saved[0], saved[1], saved[2], saved[3], extent(saved[0], saved[1]), keep);
        found.resize(7);
        return found;
    }
};

} // namespace

at::Tensor attention(
    const at::Tensor &query, const at::Tensor &key, const at::Tensor &value, const std::optional<at::Tensor> &keys, double p,
    uint64_t random_key
) {
    const int64_t rows = query.size(0), heads = query.size(1), queries = query.size(2), width = query.size(3);
    const auto flat = [&](const at::Tensor &x) { return x.reshape({rows * heads, x.size(2), width}); };
    const std::optional<at::Tensor> seen = keys ? std::optional(keys->contiguous()) : std::nullopt;
    const at::Tensor y =
        Attention::apply(flat(query), flat(key), flat(value), seen, heads, p, static_cast<int64_t>(random_key));
    return y.view({rows, heads, queries, width});
}

} // namespace reprise
