// What tch lacks, in plain C: every function returns null, or the text of an exception that the caller frees.
// Headers are narrow on purpose: the whole of ATen takes minutes to compile.

#include "kernels/functions.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>

#include <dlfcn.h>
#include <malloc.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

namespace {

char *copy(const char *text) {
    char *out = static_cast<char *>(std::malloc(std::strlen(text) + 1));
    if (out != nullptr) std::strcpy(out, text);
    return out;
}

template <typename F> char *guarded(F body) {
    try {
        body();
        return nullptr;
    } catch (const std::exception &error) {
        return copy(error.what());
    } catch (...) {
        return copy("an unknown C++ exception");
    }
}

std::vector<at::Tensor> list(at::Tensor *const *tensors, size_t count) {
    std::vector<at::Tensor> out;
    out.reserve(count);
    for (size_t i = 0; i < count; i++) out.push_back(*tensors[i]);
    return out;
}

std::optional<at::Tensor> optional(const at::Tensor *tensor) {
    return tensor != nullptr ? std::optional(*tensor) : std::nullopt;
}

// As autocast would hand it to a matrix product on the CPU.
at::Tensor lowered(const at::Tensor &x) {
    if (!at::autocast::is_autocast_enabled(at::kCPU)) return x;
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), x, at::kCPU);
}

} // namespace

extern "C" {

// The linker leaves libtorch_cuda out of the program, which must start without CUDA. Loading it registers its kernels.
char *reprise_load_cuda() {
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr) return nullptr;
    const char *error = dlerror();
    return copy(error != nullptr ? error : "libtorch_cuda.so can't be loaded");
}

char *reprise_deterministic(bool on) {
    return guarded([&] {
        at::globalContext().setDeterministicAlgorithms(on, false);
        at::globalContext().setDeterministicFillUninitializedMemory(false); // costs time and hides nothing here
        at::globalContext().setDeterministicCuDNN(on);
        at::globalContext().setBenchmarkCuDNN(!on);
    });
}

char *reprise_switches(bool *values) {
    return guarded([&] {
        const auto &context = at::globalContext();
        values[0] = context.deterministicAlgorithms();
        values[1] = context.deterministicCuDNN();
        values[2] = context.benchmarkCuDNN();
        values[3] = context.allowTF32CuBLAS();
        values[4] = context.allowTF32CuDNN();
    });
}

char *reprise_flush_denormal(bool on, bool *done) {
    return guarded([&] { *done = at::globalContext().setFlushDenormal(on); });
}

// Large pieces of memory go back to the system when they are freed, and come back as pages to be cleared: a training step frees and asks for
// gigabytes. From here on this process keeps what it has.
void reprise_keep_memory() {
#ifdef __GLIBC__
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
    mallopt(M_TOP_PAD, 64 << 20);
#endif
}

// Half precision for what autocast covers, or not; what was cast before is forgotten where asked.
char *reprise_autocast(bool on_cuda, bool on, bool forget, bool *before) {
    return guarded([&] {
        const auto device = on_cuda ? at::kCUDA : at::kCPU;
        *before = at::autocast::is_autocast_enabled(device);
        at::autocast::set_autocast_dtype(device, at::kBFloat16);
        at::autocast::set_autocast_enabled(device, on);
        if (forget) at::autocast::clear_cache();
    });
}

bool reprise_autocasts(bool on_cuda) { return at::autocast::is_autocast_enabled(on_cuda ? at::kCUDA : at::kCPU); }

// Takes the gradients away, so that the next ones are written and not added.
char *reprise_clear_gradients(at::Tensor *const *tensors, size_t count) {
    return guarded([&] {
        for (size_t i = 0; i < count; i++) tensors[i]->mutable_grad() = at::Tensor();
    });
}

char *reprise_draw_key(uint64_t *key) {
    return guarded([&] { *key = reprise::draw_key(); });
}

char *reprise_dropout(at::Tensor *x, at::Tensor *residual, double p, uint64_t key, at::Tensor **out) {
    return guarded([&] { *out = new at::Tensor(reprise::dropout(*x, optional(residual), p, key)); });
}

char *reprise_attention(at::Tensor *query, at::Tensor *key, at::Tensor *value, at::Tensor *keys, double p, uint64_t random_key, at::Tensor **out) {
    return guarded([&] {
        *out = new at::Tensor(reprise::attention(lowered(*query), lowered(*key), lowered(*value), optional(keys), p, random_key));
    });
}

char *reprise_feed_forward_block(
    at::Tensor *residual, at::Tensor *x, at::Tensor *const *weights, const double *p, const uint64_t *keys, at::Tensor **out
) {
    return guarded([&] {
        *out = new at::Tensor(
            reprise::feed_forward_block(*residual, *x, list(weights, 4), reprise::Keep(keys[0], p[0]), reprise::Keep(keys[1], p[1]))
        );
    });
}

char *reprise_attention_block(
    at::Tensor *residual, at::Tensor *x, at::Tensor *queries, at::Tensor *kept, at::Tensor *const *weights, at::Tensor *seen, int64_t heads,
    const double *p, const uint64_t *keys, at::Tensor **out
) {
    return guarded([&] {
        *out = new at::Tensor(reprise::attention_block(
            *residual, *x, {optional(queries), optional(kept)}, list(weights, 8), optional(seen), heads, reprise::Keep(keys[0], p[0]),
            reprise::Keep(keys[1], p[1])
        ));
    });
}

char *reprise_convolution(at::Tensor *x, at::Tensor *weight, at::Tensor *bias, int64_t stride, at::Tensor **out) {
    return guarded([&] {
        const auto added = bias != nullptr ? std::optional(lowered(*bias)) : std::nullopt;
        *out = new at::Tensor(reprise::convolution(lowered(*x), lowered(*weight), added, stride));
    });
}

char *reprise_group_norm_gelu(at::Tensor *x, at::Tensor *weight, at::Tensor *bias, double epsilon, at::Tensor **out) {
    return guarded([&] { *out = new at::Tensor(reprise::group_norm_gelu(*x, *weight, *bias, epsilon)); });
}

char *reprise_positional(at::Tensor *x, at::Tensor *weight, at::Tensor *bias, int64_t groups, at::Tensor **out) {
    return guarded([&] { *out = new at::Tensor(reprise::positional(*x, *weight, *bias, groups)); });
}

char *reprise_recomputed(
    at::Tensor *x, at::Tensor *more, void *state, char *(*run)(void *, at::Tensor *, at::Tensor *, at::Tensor **), void (*drop)(void *),
    at::Tensor **out
) {
    return guarded([&] { *out = new at::Tensor(reprise::recomputed(*x, optional(more), {state, run, drop})); });
}

char *reprise_adamw(
    at::Tensor *const *parameters, at::Tensor *const *gradients, at::Tensor *const *first, at::Tensor *const *second,
    at::Tensor *const *steps, size_t count, double rate, double beta1, double beta2, double decay, double epsilon
) {
    return guarded([&] {
        at::NoGradGuard no_grad;
        at::_fused_adamw_(
            list(parameters, count), list(gradients, count), list(first, count), list(second, count),
            /*max_exp_avg_sqs=*/{}, list(steps, count), rate, beta1, beta2, decay, epsilon, /*amsgrad=*/false,
            /*maximize=*/false
        );
    });
}
}
