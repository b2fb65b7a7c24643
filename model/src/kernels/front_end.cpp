// The front-end over frames that hold their channels side by side: a strided convolution is then a matrix product or two over the frames
// as they lie, without a copy, and a normalisation over time walks the memory once.

#include "functions.h"
#include "parallel.h"
#include "vector.h"

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace reprise {
namespace {

// Taps of a kernel that a product takes together: at most as many as the stride, so that its rows don't overlap.
struct Taps {
    int64_t first, count;
};

std::vector<Taps> taps(int64_t kernel, int64_t stride) {
    std::vector<Taps> all;
    for (int64_t first = 0; first < kernel; first += stride) all.push_back({first, std::min(stride, kernel - first)});
    return all;
}

// The same where inputs are only read: of few channels all taps at once, because copies cost less than narrow products.
std::vector<Taps> taps_to_read(int64_t kernel, int64_t stride, int64_t channels) {
    return stride * channels < 64 ? std::vector<Taps>{{0, kernel}} : taps(kernel, stride);
}

// The inputs of `taps` at all output frames of one utterance: T′ × (taps · C), a view.
at::Tensor under(const at::Tensor &x_tc, Taps taps, int64_t frames, int64_t stride) {
    const int64_t channels = x_tc.size(1);
    return x_tc.as_strided(
        {frames, taps.count * channels}, {stride * channels, 1}, x_tc.storage_offset() + taps.first * channels
    );
}

// The same to be read by a product, which takes no rows that overlap.
at::Tensor read_under(const at::Tensor &x_tc, Taps taps, int64_t frames, int64_t stride) {
    const at::Tensor view = under(x_tc, taps, frames, stride);
    return taps.count > stride ? view.clone(at::MemoryFormat::Contiguous) : view;
}

struct Convolution : torch::autograd::Function<Convolution> {
    static at::Tensor forward(
        torch::autograd::AutogradContext *context, const at::Tensor &x, const at::Tensor &weight, int64_t stride
    ) {
        const at::Tensor x_btc = x.contiguous();
        const int64_t rows = x_btc.size(0), channels = x_btc.size(2), outputs = weight.size(0), kernel = weight.size(2);
        TORCH_CHECK(weight.size(1) == channels && x_btc.size(1) >= kernel, "a convolution's weight and input must fit");
        const int64_t frames = (x_btc.size(1) - kernel) / stride + 1;
        // (kernel · C) × N: the channels of a tap follow each other as in a frame.
        const at::Tensor flat = weight.permute({2, 1, 0}).reshape({kernel * channels, outputs});
        at::Tensor y_btn = at::empty({rows, frames, outputs}, x_btc.options());
        for (int64_t row = 0; row < rows; row++) {
            at::Tensor y = y_btn.select(0, row);
            for (const Taps group : taps_to_read(kernel, stride, channels)) {
                const at::Tensor part = flat.narrow(0, group.first * channels, group.count * channels);
                const at::Tensor input = read_under(x_btc.select(0, row), group, frames, stride);
                if (group.first == 0) at::mm_out(y, input, part);
                else y.addmm_(input, part);
            }
        }
        context->save_for_backward({x_btc, weight});
        context->saved_data["stride"] = stride;
        return y_btn;
    }

    static torch::autograd::variable_list
    backward(torch::autograd::AutogradContext *context, torch::autograd::variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const at::Tensor &x_btc = saved[0], &weight = saved[1];
        const int64_t stride = context->saved_data["stride"].toInt();
        const int64_t rows = x_btc.size(0), channels = x_btc.size(2), outputs = weight.size(0), kernel = weight.size(2);
        const at::Tensor g_btn = gradients[0].contiguous();
        const int64_t frames = g_btn.size(1);
        at::Tensor of_x, of_weight;
        if (context->needs_input_grad(0)) {
            // N × (kernel · C).
            const at::Tensor flat = weight.permute({0, 2, 1}).reshape({outputs, kernel * channels});
            of_x = at::empty_like(x_btc);
            // The first product writes the frames that it covers; behind them, or between them, nothing else would.
            const int64_t covered = kernel < stride ? 0 : frames * stride;
            of_x.narrow(1, covered, x_btc.size(1) - covered).zero_();
            for (int64_t row = 0; row < rows; row++) {
                for (const Taps group : taps(kernel, stride)) {
                    const at::Tensor part = flat.narrow(1, group.first * channels, group.count * channels);
                    at::Tensor target = under(of_x.select(0, row), group, frames, stride);
                    if (group.first == 0 && covered > 0) at::mm_out(target, g_btn.select(0, row), part);
                    else target.addmm_(g_btn.select(0, row), part);
                }
            }
        }
        if (context->needs_input_grad(1)) {
            at::Tensor flat = at::zeros({kernel * channels, outputs}, g_btn.options());
            for (int64_t row = 0; row < rows; row++) {
                for (const Taps group : taps_to_read(kernel, stride, channels)) {
                    flat.narrow(0, group.first * channels, group.count * channels)
                        .addmm_(read_under(x_btc.select(0, row), group, frames, stride).t(), g_btn.select(0, row));
                }
            }
            of_weight = flat.view({kernel, channels, outputs}).permute({2, 1, 0});
        }
        return {of_x, of_weight, {}};
    }
};

// Frames whose sums are taken together, whatever the number of threads.
constexpr int64_t BLOCK = 512;

// Sums over a block of frames of x − `shift` and of its square, for all channels. A shift near the mean keeps the digits of a small variance.
template <typename T>
REPRISE_INLINE void block_sums(const T *x, const float *shift, int64_t frames, int64_t channels, float *sums, float *squares) {
    for (int64_t c = 0; c < channels; c += WIDE) {
        floats s = spread(0.0f), q = spread(0.0f);
        const int64_t left = channels - c;
        const floats from = load_some(shift + c, left, 0.0f);
        for (int64_t t = 0; t < frames; t++) {
            const T *at = x + t * channels + c;
            const floats value = (left >= WIDE ? load(at) : load_some(at, left, 0.0f)) - from;
            s += value;
            q += value * value;
        }
        store_some(sums + c, s, std::min(WIDE, left));
        store_some(squares + c, q, std::min(WIDE, left));
    }
}

// One a channel: a (x − mean) + b is what GELU is taken of.
struct Affine {
    const float *mean, *a, *b;

    REPRISE_INLINE floats of(const Affine &affine, floats centred, int64_t c, int64_t left) {
        if (left >= WIDE) return centred * load(affine.a + c) + load(affine.b + c);
        return centred * load_some(affine.a + c, left, 0.0f) + load_some(affine.b + c, left, 0.0f);
    }

    template <typename T> REPRISE_INLINE floats centred(const Affine &affine, const T *x, int64_t c, int64_t left) {
        if (left >= WIDE) return load(x) - load(affine.mean + c);
        return load_some(x, left, 0.0f) - load_some(affine.mean + c, left, 0.0f);
    }
};

template <typename T> REPRISE_INLINE void apply_block(const T *x, T *y, int64_t frames, int64_t channels, Affine affine) {
    for (int64_t t = 0; t < frames; t++) {
        for (int64_t c = 0; c < channels; c += WIDE) {
            const int64_t at = t * channels + c, left = channels - c;
            const floats result = gelu(Affine::of(affine, Affine::centred(affine, x + at, c, left), c, left));
            if (left >= WIDE) store(y + at, result);
            else store_some(y + at, result, left);
        }
    }
}

// g = gradient · GELU′; sums over the block of g and of g (x − mean).
template <typename T>
REPRISE_INLINE void
slope_block(const T *x, const T *gradient, float *g, int64_t frames, int64_t channels, Affine affine, float *sums, float *products) {
    for (int64_t c = 0; c < channels; c += WIDE) {
        const int64_t left = channels - c;
        floats s = spread(0.0f), q = spread(0.0f);
        for (int64_t t = 0; t < frames; t++) {
            const int64_t at = t * channels + c;
            const floats centred = Affine::centred(affine, x + at, c, left);
            const floats above = left >= WIDE ? load(gradient + at) : load_some(gradient + at, left, 0.0f);
            const floats result = above * gelu_slope(Affine::of(affine, centred, c, left));
            if (left >= WIDE) store(g + at, result);
            else store_some(g + at, result, left);
            s += result;
            q += result * centred;
        }
        store_some(sums + c, s, std::min(WIDE, left));
        store_some(products + c, q, std::min(WIDE, left));
    }
}

// a g + b (x − mean) + d, one of each a channel.
template <typename T>
REPRISE_INLINE void combine_block(
    const float *g, const T *x, T *y, int64_t frames, int64_t channels, Affine affine, const float *b, const float *d
) {
    for (int64_t c = 0; c < channels; c += WIDE) {
        const int64_t left = channels - c;
        const floats factor = load_some(affine.a + c, left, 0.0f), of_x = load_some(b + c, left, 0.0f),
                     constant = load_some(d + c, left, 0.0f);
        for (int64_t t = 0; t < frames; t++) {
            const int64_t at = t * channels + c;
            const floats above = left >= WIDE ? load(g + at) : load_some(g + at, left, 0.0f);
            const floats result = above * factor + Affine::centred(affine, x + at, c, left) * of_x + constant;
            if (left >= WIDE) store(y + at, result);
            else store_some(y + at, result, left);
        }
    }
}

#define BLOCKS(SUFFIX, T)                                                                                                                  \
    REPRISE_CLONES void sums_##SUFFIX(                                                                                                     \
        const T *x, const float *shift, int64_t frames, int64_t channels, float *sums, float *squares                                      \
    ) {                                                                                                                                    \
        block_sums(x, shift, frames, channels, sums, squares);                                                                             \
    }                                                                                                                                      \
    REPRISE_CLONES void apply_##SUFFIX(const T *x, T *y, int64_t frames, int64_t channels, Affine affine) {                                \
        apply_block(x, y, frames, channels, affine);                                                                                       \
    }                                                                                                                                      \
    REPRISE_CLONES void slope_##SUFFIX(                                                                                                    \
        const T *x, const T *gradient, float *g, int64_t frames, int64_t channels, Affine affine, float *sums, float *products             \
    ) {                                                                                                                                    \
        slope_block(x, gradient, g, frames, channels, affine, sums, products);                                                             \
    }                                                                                                                                      \
    REPRISE_CLONES void combine_##SUFFIX(                                                                                                  \
        const float *g, const T *x, T *y, int64_t frames, int64_t channels, Affine affine, const float *b, const float *d                  \
    ) {                                                                                                                                    \
        combine_block(g, x, y, frames, channels, affine, b, d);                                                                            \
    }
BLOCKS(float, float)
BLOCKS(bfloat, c10::BFloat16)

template <typename T> struct Kernels;
template <> struct Kernels<float> {
    static constexpr auto sums = sums_float;
    static constexpr auto apply = apply_float;
    static constexpr auto slope = slope_float;
    static constexpr auto combine = combine_float;
};
template <> struct Kernels<c10::BFloat16> {
    static constexpr auto sums = sums_bfloat;
    static constexpr auto apply = apply_bfloat;
    static constexpr auto slope = slope_bfloat;
    static constexpr auto combine = combine_bfloat;
};

// Blocks of an utterance.
int64_t blocks_of(int64_t frames) { return (frames + BLOCK - 1) / BLOCK; }

// Calls `body(block, first frame, frames)` for every block of every row of B × T frames.
template <typename F> void each_block(int64_t rows, int64_t frames, const F &body) {
    const int64_t blocks = blocks_of(frames);
    parallel(rows * blocks, 1, [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; block++) {
            const int64_t first = block % blocks * BLOCK;
            body(block, block / blocks * frames + first, std::min(BLOCK, frames - first));
        }
    });
}

// Sums of the blocks' parts (blocks × C) of one row, in their order.
void add_blocks(const std::vector<float> &parts, int64_t row, int64_t blocks, int64_t channels, std::vector<double> &sums) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t block = row * blocks; block < (row + 1) * blocks; block++) {
        for (int64_t c = 0; c < channels; c++) sums[c] += parts[block * channels + c];
    }
}

struct GroupNormGelu : torch::autograd::Function<GroupNormGelu> {
    static at::Tensor forward(
        torch::autograd::AutogradContext *context, const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, double epsilon
    ) {
        const at::Tensor x_btc = x.contiguous();
        at::Tensor y_btc = at::empty_like(x_btc);
        // Mean and 1/σ of every channel of every row: B × 2 × C.
        at::Tensor moments = at::empty({x_btc.size(0), 2, x_btc.size(2)}, x_btc.options().dtype(at::kFloat));
        if (x_btc.scalar_type() == at::kBFloat16) run<c10::BFloat16>(x_btc, weight, bias, epsilon, moments, y_btc);
        else run<float>(x_btc, weight, bias, epsilon, moments, y_btc);
        context->save_for_backward({x_btc, weight, bias, moments});
        return y_btc;
    }

    static torch::autograd::variable_list
    backward(torch::autograd::AutogradContext *context, torch::autograd::variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const at::Tensor gradient = gradients[0].contiguous();
        at::Tensor of_x = at::empty_like(saved[0]);
        at::Tensor of_weight = at::zeros({saved[0].size(2)}, saved[3].options()), of_bias = at::zeros_like(of_weight);
        if (saved[0].scalar_type() == at::kBFloat16) back<c10::BFloat16>(saved, gradient, of_x, of_weight, of_bias);
        else back<float>(saved, gradient, of_x, of_weight, of_bias);
        return {of_x, of_weight, of_bias, {}};
    }

  private:
    // What the kernels are given of every row: mean, factor and offset of every channel.
    struct Rows {
        int64_t channels;
        std::vector<float> means, factors, offsets;

        Rows(const at::Tensor &moments, const at::Tensor &weight, const at::Tensor &bias)
            : channels(moments.size(2)), means(moments.size(0) * channels), factors(means.size()), offsets(means.size()) {
            const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
            for (int64_t row = 0; row < moments.size(0); row++) {
                const float *kept = moments.const_data_ptr<float>() + row * 2 * channels;
                for (int64_t c = 0; c < channels; c++) {
                    means[row * channels + c] = kept[c];
                    factors[row * channels + c] = kept[channels + c] * w[c];
                    offsets[row * channels + c] = b[c];
                }
            }
        }

        Affine of(int64_t row) const {
            return {means.data() + row * channels, factors.data() + row * channels, offsets.data() + row * channels};
        }
    };

    template <typename T>
    static void run(
        const at::Tensor &x_btc, const at::Tensor &weight, const at::Tensor &bias, double epsilon, at::Tensor &moments, at::Tensor &y_btc
    ) {
        const int64_t rows = x_btc.size(0), frames = x_btc.size(1), channels = x_btc.size(2), blocks = blocks_of(frames);
        const T *x = x_btc.const_data_ptr<T>();
        T *y = y_btc.mutable_data_ptr<T>();
        std::vector<float> shifts(rows * channels), sums(rows * blocks * channels), squares(rows * blocks * channels);
        for (int64_t row = 0; row < rows; row++) std::copy_n(x + row * frames * channels, channels, &shifts[row * channels]);
        each_block(rows, frames, [&](int64_t block, int64_t first, int64_t count) {
            const float *shift = &shifts[block / blocks * channels];
            Kernels<T>::sums(x + first * channels, shift, count, channels, &sums[block * channels], &squares[block * channels]);
        });
        std::vector<double> sum(channels), square(channels);
        for (int64_t row = 0; row < rows; row++) {
            add_blocks(sums, row, blocks, channels, sum);
            add_blocks(squares, row, blocks, channels, square);
            float *kept = moments.mutable_data_ptr<float>() + row * 2 * channels;
            for (int64_t c = 0; c < channels; c++) {
                const double mean = sum[c] / frames;
                kept[c] = static_cast<float>(shifts[row * channels + c] + mean);
                kept[channels + c] =
                    static_cast<float>(1.0 / std::sqrt(std::max(square[c] / frames - mean * mean, 0.0) + epsilon));
            }
        }
        const Rows of_rows(moments, weight, bias);
        each_block(rows, frames, [&](int64_t block, int64_t first, int64_t count) {
            Kernels<T>::apply(x + first * channels, y + first * channels, count, channels, of_rows.of(block / blocks));
        });
    }

    template <typename T>
    static void back(
        const torch::autograd::variable_list &saved, const at::Tensor &gradient, at::Tensor &of_x, at::Tensor &of_weight, at::Tensor &of_bias
    ) {
        const at::Tensor &x_btc = saved[0];
        const int64_t rows = x_btc.size(0), frames = x_btc.size(1), channels = x_btc.size(2), blocks = blocks_of(frames);
        const T *x = x_btc.const_data_ptr<T>(), *above = gradient.const_data_ptr<T>();
        T *to = of_x.mutable_data_ptr<T>();
        const Rows of_rows(saved[3], saved[1], saved[2]);
        at::Tensor slopes = at::empty(x_btc.sizes(), x_btc.options().dtype(at::kFloat));
        float *g = slopes.mutable_data_ptr<float>();
        std::vector<float> sums(rows * blocks * channels), products(rows * blocks * channels);
        each_block(rows, frames, [&](int64_t block, int64_t first, int64_t count) {
            Kernels<T>::slope(
                x + first * channels, above + first * channels, g + first * channels, count, channels, of_rows.of(block / blocks),
                &sums[block * channels], &products[block * channels]
            );
        });
        const float *w = saved[1].const_data_ptr<float>();
        float *dw = of_weight.mutable_data_ptr<float>(), *db = of_bias.mutable_data_ptr<float>();
        std::vector<float> of_centred(rows * channels), constants(rows * channels);
        std::vector<double> sum(channels), product(channels);
        for (int64_t row = 0; row < rows; row++) {
            add_blocks(sums, row, blocks, channels, sum);
            add_blocks(products, row, blocks, channels, product);
            const float *scales = saved[3].const_data_ptr<float>() + (row * 2 + 1) * channels;
            for (int64_t c = 0; c < channels; c++) {
                const double scale = scales[c], normal = product[c] * scale;
                dw[c] += static_cast<float>(normal);
                db[c] += static_cast<float>(sum[c]);
                of_centred[row * channels + c] = static_cast<float>(-scale * scale * w[c] * normal / frames);
                constants[row * channels + c] = static_cast<float>(-scale * w[c] * sum[c] / frames);
            }
        }
        each_block(rows, frames, [&](int64_t block, int64_t first, int64_t count) {
            const int64_t row = block / blocks;
            Kernels<T>::combine(
                g + first * channels, x + first * channels, to + first * channels, count, channels, of_rows.of(row),
                &of_centred[row * channels], &constants[row * channels]
            );
        });
    }
};

} // namespace

at::Tensor
convolution(const at::Tensor &x, const at::Tensor &weight, const std::optional<at::Tensor> &bias, int64_t stride) {
    const at::Tensor y = Convolution::apply(x, weight, stride);
    return bias ? at::add(y, *bias) : y;
}

at::Tensor group_norm_gelu(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, double epsilon) {
    return GroupNormGelu::apply(x, weight, bias, epsilon);
}

} // namespace reprise
