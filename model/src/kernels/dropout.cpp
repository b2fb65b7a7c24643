// Dropout alone, and dropout with what it is added to. Nothing is kept for the backward pass but the key.

#include "functions.h"
#include "parallel.h"
#include "random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <mutex>

namespace reprise {

uint64_t draw_key() {
    auto generator = at::detail::getDefaultCPUGenerator();
    std::lock_guard<std::mutex> lock(generator.mutex());
    return at::check_generator<at::CPUGeneratorImpl>(generator)->random64();
}

namespace {

// y = factor · x (+ z) for elements `begin` to `end`, whose begin is a multiple of GROUP.
template <typename T, typename U>
REPRISE_INLINE void scale(const T *x, const U *z, U *y, Keep keep, int64_t begin, int64_t end) {
    uint16_t numbers[GROUP];
    for (int64_t group = begin; group < end; group += GROUP) {
        random(keep.key, static_cast<uint64_t>(group / GROUP), numbers);
        const int64_t count = std::min(GROUP, end - group);
        for (int64_t i = 0; i < count; i += WIDE) {
            const int64_t at = group + i, left = count - i;
            const floats factor = Keep::factor(keep, numbers + i);
            const bool whole = left >= WIDE;
            floats result = (whole ? load(x + at) : load_some(x + at, left, 0.0f)) * factor;
            if (z != nullptr) result = (whole ? load(z + at) : load_some(z + at, left, 0.0f)) + result;
            if (whole) store(y + at, result);
            else store_some(y + at, result, left);
        }
    }
}

#define SCALE(NAME, T, U)                                                                                                                  \
    REPRISE_CLONES void NAME(const T *x, const U *z, U *y, Keep keep, int64_t begin, int64_t end) { scale(x, z, y, keep, begin, end); }
SCALE(scale_ff, float, float)
SCALE(scale_bb, c10::BFloat16, c10::BFloat16)
SCALE(scale_bf, c10::BFloat16, float)
SCALE(scale_fb, float, c10::BFloat16)

template <typename T, typename U, typename F>
at::Tensor each(const at::Tensor &x, const at::Tensor &z, at::ScalarType kind, Keep keep, F kernel) {
    const at::Tensor flat = x.contiguous(), more = z.defined() ? z.contiguous() : z;
    at::Tensor y = at::empty_like(flat, flat.options().dtype(kind));
    const T *from = flat.const_data_ptr<T>();
    const U *added = more.defined() ? more.const_data_ptr<U>() : nullptr;
    U *to = y.mutable_data_ptr<U>();
    parallel(x.numel(), 16 * GROUP, [&](int64_t begin, int64_t end) { kernel(from, added, to, keep, begin, end); });
    return y;
}

// factor · x (+ z) in the kind of z, else in `kind`.
at::Tensor scaled(const at::Tensor &x, const at::Tensor &z, at::ScalarType kind, Keep keep) {
    using c10::BFloat16;
    const bool from = x.scalar_type() == at::kBFloat16, to = kind == at::kBFloat16;
    TORCH_CHECK(from || x.scalar_type() == at::kFloat, "dropout takes float or bfloat16");
    if (from && to) return each<BFloat16, BFloat16>(x, z, kind, keep, scale_bb);
    if (from) return each<BFloat16, float>(x, z, kind, keep, scale_bf);
    if (to) return each<float, BFloat16>(x, z, kind, keep, scale_fb);
    return each<float, float>(x, z, kind, keep, scale_ff);
}

struct Dropout : torch::autograd::Function<Dropout> {
    static at::Tensor forward(
        torch::autograd::AutogradContext *context, const at::Tensor &x, const std::optional<at::Tensor> &residual, double p, int64_t key
    ) {
        const Keep keep(static_cast<uint64_t>(key), p);
        context->saved_data["p"] = p;
        context->saved_data["key"] = key;
        context->saved_data["kind"] = static_cast<int64_t>(x.scalar_type());
        context->saved_data["added"] = residual.has_value();
        return residual ? scaled(x, *residual, residual->scalar_type(), keep) : scaled(x, {}, x.scalar_type(), keep);
    }

    static torch::autograd::variable_list
    backward(torch::autograd::AutogradContext *context, torch::autograd::variable_list gradients) {
        const Keep keep(static_cast<uint64_t>(context->saved_data["key"].toInt()), context->saved_data["p"].toDouble());
        const auto kind = static_cast<at::ScalarType>(context->saved_data["kind"].toInt());
        at::Tensor of_x = scaled(gradients[0], {}, kind, keep);
        return {of_x, context->saved_data["added"].toBool() ? gradients[0] : at::Tensor(), {}, {}};
    }
};

} // namespace

at::Tensor dropout(const at::Tensor &x, const std::optional<at::Tensor> &residual, double p, uint64_t key) {
    return Dropout::apply(x, residual, p, static_cast<int64_t>(key));
}

} // namespace reprise
