// What tch lacks, in plain C: every function returns null, or the text of an exception that the caller frees.
// Headers are narrow on purpose: the whole of ATen takes minutes to compile.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>

#include <dlfcn.h>

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
