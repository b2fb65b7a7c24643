#include "rows.h"
#include "parallel.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>

namespace reprise {
namespace {

using Half = c10::BFloat16;

// Rows whose columns are summed together, whatever the number of threads.
constexpr int64_t BLOCK = 32;

// Rows that random numbers are made for together.
constexpr int64_t STRIP = 8;

// Calls `body(first row, rows, sums)` for every block; gives the sums of all blocks, in their order.
template <typename F> at::Tensor summed(int64_t rows, int64_t width, const at::TensorOptions &options, const F &body) {
    const int64_t blocks = (rows + BLOCK - 1) / BLOCK, padded = (width + WIDE - 1) / WIDE * WIDE;
    std::vector<float> parts(blocks * padded);
    parallel(blocks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; block++) {
            body(block * BLOCK, std::min(BLOCK, rows - block * BLOCK), &parts[block * padded]);
        }
    });
    at::Tensor sums = at::empty({width}, options.dtype(at::kFloat));
    float *to = sums.mutable_data_ptr<float>();
    std::fill_n(to, width, 0.0f);
    for (int64_t block = 0; block < blocks; block++) {
        for (int64_t c = 0; c < width; c++) to[c] += parts[block * padded + c];
    }
    return sums;
}

template <typename F> void each_row(int64_t rows, const F &body) { parallel(rows, STRIP, body); }

REPRISE_INLINE void add_to(float *sums, floats x) { store(sums, load(sums) + x); }

REPRISE_CLONES void lower(const float *x, Half *y, int64_t count) {
    for (int64_t i = 0; i < count; i += WIDE) put(y, i, count, get(x, i, count));
}

REPRISE_CLONES void widen(const Half *x, const float *base, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i += WIDE) {
        const floats wide = get(x, i, count);
        put(y, i, count, base != nullptr ? get(base, i, count) + wide : wide);
    }
}

// Where the elements of a head lie: of part p, row b · T + t and head h.
struct Heads {
    int64_t frames, room, heads, width, parts;

    Heads(int64_t frames, int64_t heads, int64_t width, int64_t parts)
        : frames(frames), room(frames + frames % 2), heads(heads), width(width), parts(parts) {}

    int64_t columns() const { return parts * heads * width; }

    // The place of the first of them in a tensor of heads.
    REPRISE_INLINE int64_t place(const Heads &h, int64_t row, int64_t head) {
        return ((row / h.frames * h.heads + head) * h.room + row % h.frames) * h.width;
    }
};

REPRISE_CLONES void split(const Half *x, const float *bias, Half *const *to, Heads heads, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        for (int64_t part = 0; part < heads.parts; part++) {
            for (int64_t head = 0; head < heads.heads; head++) {
                const int64_t column = (part * heads.heads + head) * heads.width;
                const Half *from = x + row * heads.columns() + column;
                Half *target = to[part] + Heads::place(heads, row, head);
                for (int64_t e = 0; e < heads.width; e += WIDE) {
                    const floats value = get(from, e, heads.width);
                    put(target, e, heads.width, bias != nullptr ? value + get(bias + column, e, heads.width) : value);
                }
                if ((row + 1) % heads.frames == 0) {
                    std::fill_n(target + heads.width, (heads.room - heads.frames) * heads.width, Half(0.0f));
                }
            }
        }
    }
}

REPRISE_CLONES void merge(const Half *const *from, Half *y, Heads heads, int64_t first, int64_t count, float *sums) {
    for (int64_t row = first; row < first + count; row++) {
        for (int64_t part = 0; part < heads.parts; part++) {
            for (int64_t head = 0; head < heads.heads; head++) {
                const int64_t column = (part * heads.heads + head) * heads.width;
                const Half *source = from[part] + Heads::place(heads, row, head);
                Half *to = y + row * heads.columns() + column;
                for (int64_t e = 0; e < heads.width; e += WIDE) {
                    const floats value = get(source, e, heads.width);
                    put(to, e, heads.width, value);
                    put(sums + column, e, heads.width, get(sums + column, e, heads.width) + value);
                }
            }
        }
    }
}

// Calls `body(place, column, factor)` for sixteen elements after the other, `factor` being what dropout multiplies them by.
template <bool DROPS, typename F>
REPRISE_INLINE void strips(int64_t first, int64_t count, int64_t width, Keep keep, const F &body) {
    Numbers numbers(DROPS ? STRIP * width : 0);
    for (int64_t strip = first; strip < first + count; strip += STRIP) {
        const int64_t rows = std::min(STRIP, first + count - strip);
        const uint16_t *drawn = DROPS ? Numbers::of(numbers, keep, strip * width, rows * width) : nullptr;
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t c = 0; c < width; c += WIDE) {
                body((strip + row) * width, c, DROPS ? Keep::factor(keep, drawn + row * width + c) : spread(1.0f));
            }
        }
    }
}

template <bool DROPS>
REPRISE_INLINE void gelu_of(const Half *x, const float *bias, Half *y, int64_t width, Keep keep, int64_t first, int64_t count) {
    strips<DROPS>(first, count, width, keep, [&](int64_t row, int64_t c, floats factor) __attribute__((always_inline)) {
        const floats result = gelu(get(x + row, c, width) + get(bias, c, width));
        put(y + row, c, width, DROPS ? result * factor : result);
    });
}

template <bool DROPS>
REPRISE_INLINE void
slope_of(Half *g, const Half *x, const float *bias, int64_t width, Keep keep, int64_t first, int64_t count, float *sums) {
    strips<DROPS>(first, count, width, keep, [&](int64_t row, int64_t c, floats factor) __attribute__((always_inline)) {
        const floats slope = gelu_slope(get(x + row, c, width) + get(bias, c, width));
        const floats result = get(g + row, c, width) * (DROPS ? slope * factor : slope);
        put(g + row, c, width, result);
        add_to(sums + c, result);
    });
}

template <bool DROPS>
REPRISE_INLINE void
add_of(const float *residual, const Half *x, const float *bias, float *y, int64_t width, Keep keep, int64_t first, int64_t count) {
    strips<DROPS>(first, count, width, keep, [&](int64_t row, int64_t c, floats factor) __attribute__((always_inline)) {
        const floats value = get(x + row, c, width) + get(bias, c, width);
        put(y + row, c, width, get(residual + row, c, width) + (DROPS ? value * factor : value));
    });
}

template <bool DROPS>
REPRISE_INLINE void lower_of(const float *g, Half *y, int64_t width, Keep keep, int64_t first, int64_t count, float *sums) {
    strips<DROPS>(first, count, width, keep, [&](int64_t row, int64_t c, floats factor) __attribute__((always_inline)) {
        const floats above = get(g + row, c, width), result = DROPS ? above * factor : above;
        put(y + row, c, width, result);
        add_to(sums + c, result);
    });
}

#define STRIPS(NAME, OF, PARAMETERS, ARGUMENTS)                                                                                            \
    REPRISE_CLONES void NAME PARAMETERS {                                                                                                  \
        if (keep.threshold > 0) OF<true> ARGUMENTS;                                                                                        \
        else OF<false> ARGUMENTS;                                                                                                          \
    }
STRIPS(
    gelu_strips, gelu_of, (const Half *x, const float *bias, Half *y, int64_t width, Keep keep, int64_t first, int64_t count),
    (x, bias, y, width, keep, first, count)
)
STRIPS(
    slope_strips, slope_of,
    (Half * g, const Half *x, const float *bias, int64_t width, Keep keep, int64_t first, int64_t count, float *sums),
    (g, x, bias, width, keep, first, count, sums)
)
STRIPS(
    add_strips, add_of,
    (const float *residual, const Half *x, const float *bias, float *y, int64_t width, Keep keep, int64_t first, int64_t count),
    (residual, x, bias, y, width, keep, first, count)
)
STRIPS(
    lower_strips, lower_of, (const float *g, Half *y, int64_t width, Keep keep, int64_t first, int64_t count, float *sums),
    (g, y, width, keep, first, count, sums)
)

// Elements that a thread takes at least where nothing but their number counts.
constexpr int64_t GRAIN = 16 * GROUP;

} // namespace

at::Tensor half(const std::vector<at::Tensor> &parts) {
    int64_t height = 0;
    const int64_t width = parts[0].size(-1);
    for (const at::Tensor &part : parts) height += part.numel() / width;
    at::Tensor y = at::empty({height, width}, parts[0].options().dtype(at::kBFloat16));
    Half *to = y.mutable_data_ptr<Half>();
    for (const at::Tensor &part : parts) {
        const at::Tensor flat = part.contiguous();
        const float *from = flat.const_data_ptr<float>();
        parallel(flat.numel(), GRAIN, [&](int64_t begin, int64_t end) { lower(from + begin, to + begin, end - begin); });
        to += flat.numel();
    }
    return y;
}

at::Tensor widened(const at::Tensor &x, const at::Tensor &base) {
    at::Tensor y = at::empty(x.sizes(), x.options().dtype(at::kFloat));
    const Half *from = x.const_data_ptr<Half>();
    const float *more = base.defined() ? base.const_data_ptr<float>() : nullptr;
    float *to = y.mutable_data_ptr<float>();
    parallel(x.numel(), GRAIN, [&](int64_t begin, int64_t end) {
        widen(from + begin, more != nullptr ? more + begin : nullptr, to + begin, end - begin);
    });
    return y;
}

std::vector<at::Tensor> split_heads(const at::Tensor &x, const at::Tensor &bias, int64_t rows, int64_t heads, int64_t parts) {
    const Heads places(x.size(0) / rows, heads, x.size(1) / parts / heads, parts);
    std::vector<at::Tensor> split_parts;
    std::vector<Half *> to;
    for (int64_t part = 0; part < parts; part++) {
        split_parts.push_back(at::empty({rows * heads, places.room, places.width}, x.options()));
        to.push_back(split_parts.back().mutable_data_ptr<Half>());
    }
    const Half *from = x.const_data_ptr<Half>();
    const float *added = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
    each_row(x.size(0), [&](int64_t begin, int64_t end) { split(from, added, to.data(), places, begin, end); });
    return split_parts;
}

Summed merge_heads(const std::vector<at::Tensor> &parts, int64_t rows, int64_t frames, int64_t heads) {
    const Heads places(frames, heads, parts[0].size(2), static_cast<int64_t>(parts.size()));
    std::vector<const Half *> from;
    for (const at::Tensor &part : parts) from.push_back(part.const_data_ptr<Half>());
    at::Tensor y = at::empty({rows * places.frames, places.columns()}, parts[0].options());
    Half *to = y.mutable_data_ptr<Half>();
    const at::Tensor sums = summed(y.size(0), y.size(1), y.options(), [&](int64_t first, int64_t count, float *sums) {
        merge(from.data(), to, places, first, count, sums);
    });
    return {y, sums};
}

at::Tensor gelu_rows(const at::Tensor &x, const at::Tensor &bias, Keep keep) {
    at::Tensor y = at::empty_like(x);
    const Half *from = x.const_data_ptr<Half>();
    const float *added = bias.const_data_ptr<float>();
    Half *to = y.mutable_data_ptr<Half>();
    each_row(x.size(0), [&](int64_t begin, int64_t end) { gelu_strips(from, added, to, x.size(1), keep, begin, end - begin); });
    return y;
}

Summed gelu_gradient(const at::Tensor &gradient, const at::Tensor &x, const at::Tensor &bias, Keep keep) {
    Half *g = gradient.mutable_data_ptr<Half>();
    const Half *from = x.const_data_ptr<Half>();
    const float *added = bias.const_data_ptr<float>();
    const at::Tensor sums = summed(x.size(0), x.size(1), x.options(), [&](int64_t first, int64_t count, float *sums) {
        slope_strips(g, from, added, x.size(1), keep, first, count, sums);
    });
    return {gradient, sums};
}

at::Tensor add_rows(const at::Tensor &residual, const at::Tensor &x, const at::Tensor &bias, Keep keep) {
    at::Tensor y = at::empty_like(residual);
    const float *base = residual.const_data_ptr<float>(), *added = bias.const_data_ptr<float>();
    const Half *from = x.const_data_ptr<Half>();
    float *to = y.mutable_data_ptr<float>();
    each_row(x.size(0), [&](int64_t begin, int64_t end) {
        add_strips(base, from, added, to, x.size(1), keep, begin, end - begin);
    });
    return y;
}

Summed add_gradient(const at::Tensor &gradient, Keep keep) {
    const int64_t width = gradient.size(-1), rows = gradient.numel() / width;
    at::Tensor y = at::empty({rows, width}, gradient.options().dtype(at::kBFloat16));
    const float *g = gradient.const_data_ptr<float>();
    Half *to = y.mutable_data_ptr<Half>();
    const at::Tensor sums = summed(rows, width, gradient.options(), [&](int64_t first, int64_t count, float *sums) {
        lower_strips(g, to, width, keep, first, count, sums);
    });
    return {y, sums};
}

} // namespace reprise
