// Loops on libtorch's own threads.
//
// ATen's `parallel_for` is a template that needs OpenMP where it is compiled, and a second OpenMP beside the one that comes with libtorch
// would run twice as many threads. So the runtime that libtorch has loaded is asked for by name; without it, loops run on one thread.

#pragma once

#include <ATen/Parallel.h>

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>

namespace reprise {

struct OpenMP {
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    int (*thread)();
    int (*team)();
    int (*inside)();

    static const OpenMP &loaded() {
        static const OpenMP found = {
            reinterpret_cast<void (*)(void (*)(void *), void *, unsigned, unsigned)>(dlsym(RTLD_DEFAULT, "GOMP_parallel")),
            reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_thread_num")),
            reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_num_threads")),
            reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_in_parallel")),
        };
        return found;
    }

    bool there() const { return parallel != nullptr && thread != nullptr && team != nullptr && inside != nullptr; }
};

// Calls `body(begin, end)` for pieces of [0, count), each a multiple of `grain` long but for the last. `body` must not throw.
template <typename F> void parallel(int64_t count, int64_t grain, const F &body) {
    struct Job {
        const F *body;
        int64_t count, piece, pieces;
    };
    const auto &openmp = OpenMP::loaded();
    const int64_t grains = (count + grain - 1) / grain;
    const int64_t threads = std::min<int64_t>(at::get_num_threads(), grains);
    if (threads <= 1 || !openmp.there() || openmp.inside()) {
        if (count > 0) body(int64_t{0}, count);
        return;
    }
    const int64_t piece = (grains + threads - 1) / threads * grain;
    Job job = {&body, count, piece, (count + piece - 1) / piece};
    auto run = [](void *data) {
        const Job &job = *static_cast<Job *>(data);
        const auto &openmp = OpenMP::loaded();
        for (int64_t index = openmp.thread(); index < job.pieces; index += openmp.team()) {
            (*job.body)(index * job.piece, std::min(job.count, (index + 1) * job.piece));
        }
    };
    openmp.parallel(run, &job, static_cast<unsigned>(threads), 0);
}

} // namespace reprise
