// Positions: a grouped convolution over time with same padding, then GELU. Groups are narrow and taps many, which libtorch's kernels copy into
// matrices first; here a group's channels are laid out over time, and all three products are one loop over them.

#include "functions.h"
#include "parallel.h"
#include "vector.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace reprise {
namespace {

// `length` to the next multiple of WIDE.
int64_t padded(int64_t length) { return (length + WIDE - 1) / WIDE * WIDE; }

// Whether 32 registers hold sixteen numbers each; else tiles are smaller, and the bits the same.
bool wide_registers() {
#if defined(__x86_64__) && defined(__GNUC__)
    static const bool found = __builtin_cpu_supports("avx512vl");
    return found;
#else
    return false;
#endif
}

// Outputs that are computed together where `left` are left.
REPRISE_INLINE int64_t block_of(int64_t left, bool wide) {
    if (wide && left >= 12) return 12;
    if (!wide && left >= 6) return 6;
    return left >= 4 ? 4 : 1;
}

// Coefficients in the order in which tiles read them: block after block of outputs, each `count` × outputs. `of(output, j)` is one of them.
template <typename F> void pack(int64_t outputs, int64_t count, float *to, const F &of) {
    const bool wide = wide_registers();
    for (int64_t first = 0, block; first < outputs; first += block) {
        block = block_of(outputs - first, wide);
        for (int64_t j = 0; j < count; j++) {
            for (int64_t n = 0; n < block; n++) to[first * count + j * block + n] = of(first + n, j);
        }
    }
}

// x over `rows` rows, `stride` apart, of which `count` places are read from every place on.
struct Rows {
    const float *x;
    int64_t rows, stride, count;
};

// Half as many numbers: wider ones than a processor's registers the compiler takes through memory.
typedef float eight __attribute__((vector_size(32)));

// N outputs at as many places as V times T holds, `stride` apart: out[n][place] = Σ x[row][place + j] · coefficients[row][j][n] over rows,
// then over j.
template <int N, typename T, int V> REPRISE_INLINE void tile(Rows from, const float *coefficients, float *out, int64_t stride) {
    constexpr int64_t lanes = sizeof(T) / sizeof(float);
    T sums[N][V] = {};
    for (int64_t row = 0; row < from.rows; row++) {
        const float *x = from.x + row * from.stride;
        for (int64_t j = 0; j < from.count; j++, coefficients += N) {
            T at[V];
            for (int v = 0; v < V; v++) std::memcpy(&at[v], x + j + v * lanes, sizeof(T));
            for (int n = 0; n < N; n++) {
                for (int v = 0; v < V; v++) sums[n][v] += at[v] * coefficients[n];
            }
        }
    }
    for (int n = 0; n < N; n++) {
        for (int v = 0; v < V; v++) std::memcpy(out + n * stride + v * lanes, &sums[n][v], sizeof(T));
    }
}

template <int N> REPRISE_INLINE void tile_of(Rows from, const float *coefficients, float *out, int64_t stride, bool wide, bool two) {
    if (!wide) tile<N, eight, 2>(from, coefficients, out, stride);
    else if (two) tile<N, floats, 2>(from, coefficients, out, stride);
    else tile<N, floats, 1>(from, coefficients, out, stride);
}

// All `outputs` at places 0 to `places` − 1, and what fills the last WIDE of them.
REPRISE_CLONES void correlate(
    Rows from, const float *coefficients, int64_t outputs, int64_t places, float *out, int64_t stride, bool wide
) {
    const int64_t depth = from.rows * from.count, step = wide ? 2 * WIDE : WIDE;
    for (int64_t place = 0; place < places; place += step) {
        const Rows here = {from.x + place, from.rows, from.stride, from.count};
        const bool two = places - place > WIDE;
        for (int64_t first = 0, block; first < outputs; first += block) {
            block = block_of(outputs - first, wide);
            const float *of = coefficients + first * depth;
            float *to = out + first * stride + place;
            if (block == 12) tile_of<12>(here, of, to, stride, wide, two);
            else if (block == 6) tile_of<6>(here, of, to, stride, wide, two);
            else if (block == 4) tile_of<4>(here, of, to, stride, wide, two);
            else tile_of<1>(here, of, to, stride, wide, two);
        }
    }
}

// Adds the bias to z, in place, and gives its GELU.
REPRISE_CLONES void activate(float *z, float bias, float *y, int64_t frames) {
    for (int64_t t = 0; t < frames; t += WIDE) {
        const floats before = load(z + t) + bias;
        store(z + t, before);
        store(y + t, gelu(before));
    }
}

// g · GELU′(z) in place; gives its sum.
REPRISE_CLONES float slope(float *g, const float *z, int64_t frames) {
    floats total = {};
    for (int64_t t = 0; t < frames; t += WIDE) {
        const floats result = get(g, t, frames) * gelu_slope(load(z + t));
        put(g, t, frames, result);
        total += result;
    }
    return sum(total);
}

struct Shape {
    int64_t rows, frames, channels, groups, kernel;

    Shape(const at::Tensor &x_btd, const at::Tensor &weight_dck, int64_t groups)
        : rows(x_btd.size(0)), frames(x_btd.size(1)), channels(x_btd.size(2)), groups(groups), kernel(weight_dck.size(2)) {}

    // Channels of a group.
    int64_t group() const { return channels / groups; }
    // Taps that lie before the frame itself.
    int64_t before() const { return kernel / 2; }
    // A channel over time with its padding, as far as tiles read it.
    int64_t row() const { return padded(frames) + padded(kernel); }
    // Where the first of a group's channels lies at the first frame of a row.
    int64_t start(int64_t row, int64_t group) const { return row * frames * channels + group * this->group(); }
};

// `count` channels from B × T × D frames to rows over time, `padding` places before them, zeros around them.
void over_time(const Shape &shape, const float *x, int64_t count, int64_t padding, float *to) {
    const int64_t row = shape.row();
    std::fill_n(to, count * row, 0.0f);
    for (int64_t t = 0; t < shape.frames; t++) {
        for (int64_t c = 0; c < count; c++) to[c * row + padding + t] = x[t * shape.channels + c];
    }
}

// A group's channels over time back to frames.
void to_frames(const Shape &shape, const float *rows, float *to) {
    const int64_t stride = padded(shape.frames), group = shape.group();
    for (int64_t t = 0; t < shape.frames; t++) {
        for (int64_t c = 0; c < group; c++) to[t * shape.channels + c] = rows[c * stride + t];
    }
}

// Calls `body(row, group, buffer)` for every group of every row; `buffer` has room for a group's channels over time, twice.
template <typename F> void each_group(const Shape &shape, const F &body) {
    parallel(shape.rows * shape.groups, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> buffer(2 * shape.group() * shape.row());
        for (int64_t task = begin; task < end; task++) body(task / shape.groups, task % shape.groups, buffer.data());
    });
}

struct Positional : torch::autograd::Function<Positional> {
    static at::Tensor forward(
        torch::autograd::AutogradContext *context, const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, int64_t groups
    ) {
        const at::Tensor x_btd = x.contiguous(), weight_dck = weight.contiguous();
        const Shape shape(x_btd, weight_dck, groups);
        TORCH_CHECK(
            shape.group() * groups == shape.channels && weight_dck.size(0) == shape.channels && weight_dck.size(1) == shape.group(),
            "a grouped convolution's weight and input must fit"
        );
        const int64_t group = shape.group(), depth = group * shape.kernel, length = padded(shape.frames);
        const float *from = x_btd.const_data_ptr<float>(), *w = weight_dck.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
        std::vector<float> packed(shape.channels * depth);
        parallel(groups, 1, [&](int64_t begin, int64_t end) {
            for (int64_t g = begin; g < end; g++) {
                const float *of = w + g * group * depth;
                pack(group, depth, &packed[g * group * depth], [&](int64_t output, int64_t j) { return of[output * depth + j]; });
            }
        });
        at::Tensor y_btd = at::empty_like(x_btd);
        // What GELU is taken of, over time as it is computed.
        at::Tensor z_bdt = at::empty({shape.rows, shape.channels, length}, x_btd.options());
        float *to = y_btd.mutable_data_ptr<float>(), *before = z_bdt.mutable_data_ptr<float>();
        const bool wide = wide_registers();
        each_group(shape, [&](int64_t row, int64_t g, float *x_ct) {
            float *y_ct = x_ct + group * shape.row(), *z_ct = before + (row * shape.channels + g * group) * length;
            over_time(shape, from + shape.start(row, g), group, shape.before(), x_ct);
            const Rows rows = {x_ct, group, shape.row(), shape.kernel};
            correlate(rows, &packed[g * group * depth], group, shape.frames, z_ct, length, wide);
            for (int64_t c = 0; c < group; c++) activate(z_ct + c * length, b[g * group + c], y_ct + c * length, shape.frames);
            to_frames(shape, y_ct, to + shape.start(row, g));
        });
        context->save_for_backward({x_btd, weight_dck, z_bdt});
        context->saved_data["groups"] = groups;
        return y_btd;
    }

    static torch::autograd::variable_list
    backward(torch::autograd::AutogradContext *context, torch::autograd::variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const at::Tensor &x_btd = saved[0], &weight_dck = saved[1], g_btd = gradients[0].contiguous();
        const Shape shape(x_btd, weight_dck, context->saved_data["groups"].toInt());
        at::Tensor of_x = at::empty_like(x_btd), of_weight = at::zeros(weight_dck.sizes(), x_btd.options());
        at::Tensor of_bias = at::zeros({shape.channels}, x_btd.options());
        // Gradients of what GELU is taken of, in the order in which the weight's tiles read them.
        std::vector<float> packed(x_btd.numel());
        to_inputs(shape, g_btd, weight_dck, saved[2], packed, of_x, of_bias);
        to_weight(shape, x_btd, packed, of_weight);
        return {of_x, of_weight, of_bias, {}};
    }

  private:
    // The same convolution of the gradients, with inputs and outputs exchanged and taps in the other direction.
    static void to_inputs(
        const Shape &shape, const at::Tensor &g_btd, const at::Tensor &weight_dck, const at::Tensor &z_bdt, std::vector<float> &of_z,
        at::Tensor &of_x, at::Tensor &of_bias
    ) {
        const int64_t group = shape.group(), kernel = shape.kernel, depth = group * kernel, length = padded(shape.frames);
        const float *w = weight_dck.const_data_ptr<float>(), *from = g_btd.const_data_ptr<float>(), *z = z_bdt.const_data_ptr<float>();
        std::vector<float> packed(shape.channels * depth), sums(shape.rows * shape.channels);
        parallel(shape.groups, 1, [&](int64_t begin, int64_t end) {
            for (int64_t g = begin; g < end; g++) {
                const float *of = w + g * group * depth;
                pack(group, depth, &packed[g * group * depth], [&](int64_t input, int64_t j) {
                    return of[j / kernel * depth + input * kernel + kernel - 1 - j % kernel];
                });
            }
        });
        float *to = of_x.mutable_data_ptr<float>();
        const int64_t before = kernel - 1 - shape.before();
        const bool wide = wide_registers();
        each_group(shape, [&](int64_t row, int64_t g, float *g_ct) {
            float *x_ct = g_ct + group * shape.row();
            over_time(shape, from + shape.start(row, g), group, before, g_ct);
            for (int64_t c = 0; c < group; c++) {
                const int64_t channel = row * shape.channels + g * group + c;
                sums[channel] = slope(g_ct + c * shape.row() + before, z + channel * length, shape.frames);
            }
            pack(group, shape.frames, &of_z[shape.frames * (row * shape.channels + g * group)], [&](int64_t output, int64_t t) {
                return g_ct[output * shape.row() + before + t];
            });
            const Rows rows = {g_ct, group, shape.row(), kernel};
            correlate(rows, &packed[g * group * depth], group, shape.frames, x_ct, length, wide);
            to_frames(shape, x_ct, to + shape.start(row, g));
        });
        float *b = of_bias.mutable_data_ptr<float>();
        for (int64_t i = 0; i < shape.rows * shape.channels; i++) b[i % shape.channels] += sums[i];
    }

    // The gradients of a group times an input channel at every tap, row after row.
    static void to_weight(const Shape &shape, const at::Tensor &x_btd, const std::vector<float> &of_z, at::Tensor &of_weight) {
        const int64_t group = shape.group(), kernel = shape.kernel, stride = padded(kernel);
        const float *x = x_btd.const_data_ptr<float>();
        float *to = of_weight.mutable_data_ptr<float>();
        const bool wide = wide_registers();
        parallel(shape.channels, 1, [&](int64_t begin, int64_t end) {
            std::vector<float> x_t(shape.row()), products(group * stride);
            for (int64_t channel = begin; channel < end; channel++) {
                const int64_t first = channel / group * group;
                for (int64_t row = 0; row < shape.rows; row++) {
                    over_time(shape, x + row * shape.frames * shape.channels + channel, 1, shape.before(), x_t.data());
                    const float *g = &of_z[shape.frames * (row * shape.channels + first)];
                    correlate({x_t.data(), 1, 0, shape.frames}, g, group, kernel, products.data(), stride, wide);
                    for (int64_t output = 0; output < group; output++) {
                        float *sums = to + ((first + output) * group + channel - first) * kernel;
                        for (int64_t k = 0; k < kernel; k++) sums[k] += products[output * stride + k];
                    }
                }
            }
        });
    }
};

} // namespace

at::Tensor positional(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, int64_t groups) {
    return Positional::apply(x.to(at::kFloat), weight, bias, groups);
}

} // namespace reprise
